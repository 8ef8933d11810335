//! Loss, latency and jitter of an uplink over its last probes.

use std::time::Duration;

use super::latencies::Latencies;

/// Number of probes that the loss is taken over: about 7 s at five rounds a second and three
/// targets.
const SIZE: u64 = 100;

/// Bounds of a timeout derived from the latency. The floor lets a queue build up for a moment; the
/// ceiling is beyond any satellite link.
const TIMEOUT_FLOOR: Duration = Duration::from_millis(200);
pub(in crate::engine) const TIMEOUT_CEILING: Duration = Duration::from_secs(3);
/// The floor while the uplink is under suspicion: a verdict is wanted soon.
const TIMEOUT_FLOOR_SUSPECTED: Duration = Duration::from_millis(60);
/// Timeout before the first answer.
const TIMEOUT_UNKNOWN: Duration = Duration::from_secs(1);

/// The last probes of one uplink and family.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// A bit for each probe, set if it was not answered in time; the newest one is the lowest.
    lost: u128,
    /// Number of probes in all, and of the lost ones among them.
    settled: u64,
    lost_in_all: u64,
    /// The latencies in all.
    latencies: Latencies,
    /// Smoothed latency and its variation.
    latency: Option<(Duration, Duration)>,
}

impl Window {
    /// Records a probe that has ended, answered or not.
    pub fn settle(&mut self, answered: bool) {
        self.lost = (self.lost << 1) | u128::from(!answered);
        self.settled += 1;
        self.lost_in_all += u64::from(!answered);
    }

    /// Records the latency of an answer, also of a late one, smoothed as in RFC 6298 section 2.
    pub fn measure(&mut self, sample: Duration) {
        self.latencies.count(sample);
        self.latency = Some(match self.latency {
            None => (sample, sample / 2),
            Some((smooth, variation)) => {
                ((smooth * 7 + sample) / 8, (variation * 3 + smooth.abs_diff(sample)) / 4)
            }
        });
    }

    /// Returns the share of lost probes, 0 to 1; 0 before the first one.
    pub fn loss(&self) -> f64 {
        self.loss_of_newest(SIZE)
    }

    /// Returns the share of lost ones among the newest `count` of the probes that are remembered.
    pub fn loss_of_newest(&self, count: u64) -> f64 {
        let count = count.min(self.settled).min(SIZE);
        let lost = self.lost & ((1 << count) - 1);
        f64::from(lost.count_ones()) / count.max(1) as f64
    }

    /// Returns the number of probes that were ever recorded.
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// Returns how many of the probes that were ever recorded were lost.
    pub const fn lost_in_all(&self) -> u64 {
        self.lost_in_all
    }

    /// Returns the latencies that were ever recorded.
    pub const fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Returns the smoothed latency of the answers.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.map(|(smooth, _)| smooth)
    }

    /// Returns the jitter: the smoothed mean deviation of the latency, RTTVAR of RFC 6298.
    pub fn jitter(&self) -> Option<Duration> {
        self.latency.map(|(_, variation)| variation)
    }

    /// Returns the time after which an answer is no longer waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout_from(TIMEOUT_FLOOR)
    }

    /// Returns the timeout for an uplink that is probably dead, like [`Self::timeout`].
    pub fn tight_timeout(&self) -> Duration {
        self.timeout_from(TIMEOUT_FLOOR_SUSPECTED)
    }

    fn timeout_from(&self, floor: Duration) -> Duration {
        self.latency.map_or(TIMEOUT_UNKNOWN, |(smooth, variation)| {
            (smooth + variation * 4).clamp(floor, TIMEOUT_CEILING)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn loss_counts_the_last_hundred() {
        let mut window = Window::default();
        assert_eq!(window.loss(), 0.0);
        (0..50).for_each(|_| window.settle(false));
        assert_eq!(window.loss(), 1.0);
        (0..100).for_each(|n| window.settle(n % 4 != 0));
        assert_eq!(window.loss(), 0.25);
    }

    #[test]
    fn timeout_follows_the_latency_between_its_bounds() {
        let mut window = Window::default();
        assert_eq!(window.timeout(), TIMEOUT_UNKNOWN);
        (0..50).for_each(|_| window.measure(ms(1)));
        assert_eq!((window.timeout(), window.tight_timeout()), (TIMEOUT_FLOOR, ms(60)));
        (0..50).for_each(|n| window.measure(ms(if n % 2 == 0 { 550 } else { 850 })));
        assert!(window.timeout() > ms(1000) && window.timeout() < ms(1800));
        assert_eq!(window.timeout(), window.tight_timeout());
        let jitter = window.jitter().expect("measured");
        assert!(jitter > ms(120) && jitter < ms(180), "{jitter:?}");
        (0..50).for_each(|_| window.measure(ms(60_000)));
        assert_eq!(window.timeout(), TIMEOUT_CEILING);
    }
}
