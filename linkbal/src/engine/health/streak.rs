//! The rounds in a row that were good, or bad: a verdict takes several of them.

use std::time::Duration;

/// The number of good or bad rounds in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    pub(super) good: u32,
    pub(super) bad: u32,
    /// Time since which all is well: that of the first good round, or of being ready without targets.
    pub(super) good_since: Option<Duration>,
}

impl Streak {
    /// Counts a good round.
    pub(super) fn add_good(&mut self, now: Duration) {
        self.bad = 0;
        self.good += 1;
        self.good_since.get_or_insert(now);
    }

    /// Counts a bad round.
    pub(super) const fn add_bad(&mut self) {
        self.good = 0;
        self.good_since = None;
        self.bad += 1;
    }

    /// Returns the time for which all has been well.
    pub(super) fn good_for(self, now: Duration) -> Duration {
        self.good_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Returns whether all has been well for the hold time.
    pub(super) fn is_held(self, hold: Duration, now: Duration) -> bool {
        self.good_since.is_some_and(|since| now >= since + hold)
    }
}
