//! Shares of the uplinks in the flows that began of late.

use std::{collections::VecDeque, time::Duration};

/// Length of the window.
pub const WINDOW: Duration = Duration::from_secs(300);

/// Time between two values that are kept.
const STEP: Duration = Duration::from_secs(10);

/// Counts by place, each of which only grows, over the last [`WINDOW`] and up to a step more.
#[derive(Debug)]
pub struct RecentCounts<const N: usize> {
    kept: VecDeque<(Duration, [u64; N])>,
}

/// The growth of the counts in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth<const N: usize> {
    /// Length of the window: shorter than [`WINDOW`] after a start.
    pub window: Duration,
    /// Growth by place.
    pub counts: [u64; N],
}

impl<const N: usize> Default for RecentCounts<N> {
    fn default() -> RecentCounts<N> {
        RecentCounts { kept: VecDeque::new() }
    }
}

impl<const N: usize> RecentCounts<N> {
    /// Keeps the counts of a time, if the last ones are old enough.
    pub fn record(&mut self, now: Duration, counts: [u64; N]) {
        if self.kept.back().is_some_and(|(at, _)| now.saturating_sub(*at) < STEP) {
            return;
        }
        self.kept.push_back((now, counts));
        // The oldest one is that from which the window begins.
        while self.kept.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.kept.pop_front();
        }
    }

    /// Returns the growth up to these counts.
    pub fn growth(&self, now: Duration, counts: [u64; N]) -> Growth<N> {
        let (at, before) = self.kept.front().copied().unwrap_or((now, counts));
        let mut grown = [0; N];
        let pairs = counts.iter().zip(&before);
        grown.iter_mut().zip(pairs).for_each(|(grown, (count, before))| {
            *grown = count.saturating_sub(*before);
        });
        Growth { window: now.saturating_sub(at), counts: grown }
    }
}

impl<const N: usize> Growth<N> {
    /// Returns the share of a place, from 0 to 1; `None` if nothing grew.
    pub fn share(&self, place: usize) -> Option<f64> {
        let all = self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let own = *self.counts.get(place)?;
        (all > 0).then(|| own as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn shares_are_of_the_last_five_minutes() {
        let mut recent = RecentCounts::<2>::default();
        assert_eq!(recent.growth(SECOND, [7, 3]).share(0), None);
        (0u32..=600).for_each(|at| recent.record(at * SECOND, [u64::from(at), 1000]));
        let growth = recent.growth(605 * SECOND, [600, 1100]);
        assert_eq!(growth, Growth { window: 305 * SECOND, counts: [300, 100] });
        assert_eq!(growth.share(0), Some(0.75));
        assert_eq!(growth.share(2), None);
    }

    proptest! {
        #[test]
        fn the_window_is_full_as_soon_as_it_can_be(times in prop::collection::vec(0u32..30, 1..200)) {
            let mut recent = RecentCounts::<1>::default();
            let mut now = Duration::ZERO;
            for step in times {
                now += step * SECOND;
                recent.record(now, [now.as_secs()]);
                let Growth { window, counts: [grown] } = recent.growth(now, [now.as_secs()]);
                prop_assert_eq!(window.as_secs(), grown);
                // The test asks at intervals of up to 30 s.
                prop_assert!(window < WINDOW + 50 * SECOND);
                prop_assert!(window + SECOND * 30 >= WINDOW.min(now));
                prop_assert!(recent.kept.len() <= 32);
            }
        }
    }
}
