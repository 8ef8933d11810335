//! The measures of one uplink over time, at falling resolution.
//!
//! Each sample counts at once in the bucket of its ten seconds, of its minute and of its hour, so that
//! a coarse bucket never lags behind the fine ones that it is the sum of.

use super::{
    bucket::{Bucket, Tally},
    ring::Ring,
};

/// Steps in seconds, and how many are kept: an hour, a day, and 31 days.
pub const RESOLUTIONS: [(u64, usize); 3] = [(10, 360), (60, 1440), (HOUR, 744)];

/// An hour in seconds.
pub const HOUR: u64 = 3600;

/// A day in seconds.
pub const DAY: u64 = 24 * HOUR;

/// Days for which it is known how long an uplink was up: more than a year, for its last month to
/// compare with.
pub const DAYS: u64 = 396;

/// Buckets and tallies of an uplink.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    rings: [Ring<Bucket>; RESOLUTIONS.len()],
    /// Seconds up and down of each hour.
    tallies: Ring<Tally>,
}

impl Default for Series {
    fn default() -> Series {
        let hours = usize::try_from(DAYS.saturating_mul(24)).unwrap_or(usize::MAX);
        Series {
            rings: RESOLUTIONS.map(|(step, length)| Ring::new(step, length)),
            tallies: Ring::new(HOUR, hours),
        }
    }
}

impl Series {
    /// Adds the measures of a moment.
    pub fn add(&mut self, at: u64, measured: &Bucket) {
        for ring in &mut self.rings {
            if let Some(bucket) = ring.at(at) {
                bucket.add(measured);
            }
        }
        let hour = self.rings.last_mut().and_then(|hours| hours.at(at));
        if let Some(tally) = hour.map(|hour| hour.tally()) {
            self.set_tally(at, tally);
        }
    }

    /// Sets a bucket, as the file has it; returns false if there is no such step, or the bucket cannot
    /// be of one.
    pub fn set(&mut self, step: u64, at: u64, bucket: Bucket) -> bool {
        let ring = self.rings.iter_mut().find(|ring| ring.step() == step);
        let Some(ring) = ring.filter(|_| bucket.fits(step)) else { return false };
        if let Some(kept) = ring.at(at) {
            *kept = bucket;
        }
        if step == HOUR {
            self.set_tally(at, bucket.tally());
        }
        true
    }

    /// Sets the seconds up and down of an hour.
    pub fn set_tally(&mut self, at: u64, tally: Tally) {
        if let Some(kept) = self.tallies.at(at) {
            *kept = tally;
        }
    }

    /// Returns the known buckets of a step that end after `since`, with the times at which they begin.
    pub fn buckets(&self, step: u64, since: u64) -> impl Iterator<Item = (u64, &Bucket)> {
        let ring = self.rings.iter().filter(move |ring| ring.step() == step);
        ring.flat_map(move |ring| ring.since(since))
    }

    /// Returns the known hours that end after `since`, with the seconds up and down.
    pub fn tallies(&self, since: u64) -> impl Iterator<Item = (u64, &Tally)> {
        self.tallies.since(since)
    }

    /// Removes everything from a time on.
    pub fn truncate(&mut self, end: u64) {
        self.rings.iter_mut().for_each(|ring| ring.truncate(end));
        self.tallies.truncate(end);
    }

    /// Removes what is too old at a time; returns whether anything is left.
    pub fn expire(&mut self, now: u64) -> bool {
        self.rings.iter_mut().for_each(|ring| ring.expire(now));
        self.tallies.expire(now);
        self.tallies.since(0).next().is_some()
    }
}

/// Returns the finest step that covers a span of so many seconds, or the coarsest one. A minute more
/// does not matter: clocks and requests take their time.
pub fn step_for(span: u64) -> u64 {
    let covers = |(step, length): &&(u64, usize)| {
        span <= step.saturating_mul(*length as u64).saturating_add(60)
    };
    RESOLUTIONS.iter().find(covers).map_or(HOUR, |(step, _)| *step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::per_family::PerFamily;

    /// Returns a moment with traffic, up or down.
    fn moment(bytes: u64, up: bool) -> Bucket {
        let mut bucket = Bucket::default();
        (bucket.traffic.bytes_up, bucket.traffic.seconds) = (bytes, 1);
        (bucket.families.ipv4.up_s, bucket.families.ipv4.down_s) = (up.into(), (!up).into());
        bucket
    }

    fn sum(series: &Series, step: u64) -> Bucket {
        let mut sum = Bucket::default();
        series.buckets(step, 0).for_each(|(_, bucket)| sum.add(bucket));
        sum
    }

    #[test]
    fn a_span_has_the_finest_steps_that_cover_it() {
        let spans = [0, 3600, 3660, 3661, 86_400, 90_000, u64::MAX];
        assert_eq!(spans.map(step_for), [10, 10, 10, 60, 60, 3600, 3600]);
    }

    #[test]
    fn hours_are_known_for_a_year_after_all_else_is_gone() {
        let mut series = Series::default();
        series.add(7200, &moment(7, true));
        series.add(7201, &moment(7, false));
        let tally = Tally { families: PerFamily { ipv4: (1, 1), ipv6: (0, 0) } };
        assert!(series.expire(7200 + 300 * DAY));
        assert_eq!(sum(&series, HOUR), Bucket::default());
        assert_eq!(Vec::from_iter(series.tallies(0)), [(7200, &tally)]);
        assert!(!series.expire(7200 + 397 * DAY));
    }

    #[test]
    fn what_cannot_be_of_a_step_is_refused() {
        let mut series = Series::default();
        let mut bucket = moment(1, true);
        assert!(series.set(10, 100, bucket) && !series.set(11, 100, bucket));
        bucket.families.ipv6.down_s = 11;
        assert!(!series.set(10, 200, bucket) && series.set(60, 200, bucket));
        bucket.families.ipv6.up_s = u32::MAX;
        assert!(!series.set(3600, 200, bucket));
        assert_eq!(sum(&series, 10), moment(1, true));
    }

    proptest! {
        #[test]
        fn coarse_buckets_are_the_sum_of_the_fine_ones(
            seconds in prop::collection::vec((1u64..400, 0u64..1 << 40, any::<bool>()), 0..200),
        ) {
            let mut series = Series::default();
            let (mut at, mut all) = (1_800_000_000, Bucket::default());
            for (later, bytes, up) in seconds {
                at += later;
                series.add(at, &moment(bytes, up));
                all.add(&moment(bytes, up));
            }
            prop_assert_eq!(sum(&series, HOUR), all);
            let day = at.saturating_sub(1440 * 60 - 60) / HOUR * HOUR + HOUR;
            for (hour, bucket) in series.buckets(HOUR, day) {
                let mut minutes = Bucket::default();
                let inside = |(at, _): &(u64, &Bucket)| (hour..hour + HOUR).contains(at);
                series.buckets(60, hour).filter(inside).for_each(|(_, each)| minutes.add(each));
                prop_assert_eq!(&minutes, bucket);
                prop_assert!(bucket.fits(HOUR));
            }
            let up: u32 = series.tallies(0).map(|(_, tally)| u32::from(tally.families.ipv4.0)).sum();
            prop_assert_eq!(up, all.families.ipv4.up_s);
        }
    }
}
