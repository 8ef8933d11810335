//! The pace of observations of the kernel: at once while little happens, and seldom in a storm.

use std::time::Duration;

/// Most observations that may follow each other without a pause.
const BURST: u32 = 16;

/// Time after which one more observation is allowed.
const REFILL: Duration = Duration::from_millis(200);

/// A bucket of tokens, one for each observation.
#[derive(Debug, Default)]
pub struct Pace {
    /// Time at which the bucket would be full: each token that is taken adds `REFILL`.
    full_at: Duration,
    /// Number of observations so far.
    count: u64,
}

impl Pace {
    /// Returns the first time from `wanted` on at which an observation may be made.
    pub fn next(&self, wanted: Duration) -> Duration {
        wanted.max(self.full_at.saturating_sub(REFILL * (BURST - 1)))
    }

    /// Takes a token for an observation.
    pub fn made(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now) + REFILL;
        self.count += 1;
    }

    /// Returns the number of observations so far.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_made_at_once_and_many_in_their_time() {
        let mut pace = Pace::default();
        let mut now = Duration::from_secs(1);
        let mut times = Vec::new();
        for _ in 0..30 {
            now = pace.next(now);
            pace.made(now);
            times.push(now);
        }
        assert_eq!(times[BURST as usize - 1], times[0]);
        assert_eq!(times[29] - times[0], REFILL * (30 - BURST));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.next(later), later);
    }
}
