//! Latencies of all answers, as a histogram.

use std::time::Duration;

/// Upper bounds of the histogram's buckets, inclusive: from a neighbour to a satellite.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Latencies by size, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Numbers by bucket; the last one is of those above all bounds.
    numbers: [u64; BOUNDS_MS.len() + 1],
    sum: Duration,
}

impl Latencies {
    /// Counts one.
    pub(super) fn count(&mut self, latency: Duration) {
        let fits = |bound: &u64| latency <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(fits).unwrap_or(BOUNDS_MS.len());
        self.numbers[bucket] = self.numbers[bucket].saturating_add(1);
        self.sum = self.sum.saturating_add(latency);
    }

    /// Returns the buckets: the upper bound in seconds, and the number in that bucket alone. The last
    /// one has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_MS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.numbers)
    }

    /// Returns the number of all.
    pub fn number(&self) -> u64 {
        self.numbers.iter().fold(0, |sum, number| sum.saturating_add(*number))
    }

    /// Returns the sum of all.
    pub const fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut latencies = Latencies::default();
        for micros in [1_000, 1_001, 5_000_000, 5_000_001] {
            latencies.count(Duration::from_micros(micros));
        }
        let filled: Vec<_> = latencies.buckets().filter(|(_, number)| *number > 0).collect();
        assert_eq!(filled, [(0.001, 1), (0.002, 1), (5.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(latencies.sum(), Duration::from_micros(10_002_002));
    }

    proptest! {
        #[test]
        fn each_is_in_the_first_bucket_that_it_fits(micros in any::<u32>()) {
            let mut latencies = Latencies::default();
            let latency = Duration::from_micros(micros.into());
            latencies.count(latency);
            let below = latencies.buckets().take_while(|(_, number)| *number == 0);
            prop_assert!(below.map(|(bound, _)| bound).all(|bound| bound < latency.as_secs_f64()));
            let (bound, _) = latencies.buckets().find(|(_, number)| *number == 1).expect("a bucket");
            prop_assert!(latency.as_secs_f64() <= bound);
            prop_assert_eq!(latencies.number(), 1);
        }
    }
}
