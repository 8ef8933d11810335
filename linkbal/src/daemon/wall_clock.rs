//! Times of the engine by the clock of this machine, which may be set long after the start: routers
//! without a battery learn the time from the network.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

/// Difference from which on the clock was set. A smaller one is left: times that are told twice shall
/// be the same.
const STEP: Duration = Duration::from_millis(500);

/// The time at which the engine's began, by the clock as it is set now.
#[derive(Debug)]
pub(super) struct WallClock {
    began: Cell<SystemTime>,
}

impl WallClock {
    /// Creates it: the engine's time begins now.
    pub(super) fn new() -> WallClock {
        WallClock { began: Cell::new(SystemTime::now()) }
    }

    /// Returns the time at which the engine's began; its time is `now`, and that of the clock `wall`.
    pub(super) fn began(&self, wall: SystemTime, now: Duration) -> SystemTime {
        let known = self.began.get();
        // A clock that is set back to 1970 would have it begin before.
        let Some(began) = wall.checked_sub(now).filter(|began| *began >= SystemTime::UNIX_EPOCH)
        else {
            return known;
        };
        let off = began.duration_since(known).unwrap_or_else(|earlier| earlier.duration());
        if off >= STEP {
            self.began.set(began);
        }
        self.began.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_a_clock_that_is_set_and_are_otherwise_told_alike() {
        let seconds = Duration::from_secs;
        let clock = WallClock { began: Cell::new(SystemTime::UNIX_EPOCH + seconds(100)) };
        let began = |wall, now| clock.began(SystemTime::UNIX_EPOCH + wall, now);
        let at = |secs| SystemTime::UNIX_EPOCH + seconds(secs);
        assert_eq!(began(seconds(160), seconds(60)), at(100));
        assert_eq!(began(seconds(160) + Duration::from_millis(300), seconds(60)), at(100));
        assert_eq!(began(seconds(1_000_061), seconds(61)), at(1_000_000));
        assert_eq!(began(seconds(562), seconds(62)), at(500));
        assert_eq!(began(seconds(562), Duration::MAX), at(500), "no such time");
        assert_eq!(began(seconds(5), seconds(70)), at(500), "before 1970");
    }
}
