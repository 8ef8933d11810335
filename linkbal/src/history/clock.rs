//! The time by which history is kept, whatever the clock of the machine does.
//!
//! Kept time only goes forward. A clock that is behind it is not believed at first, and what happens
//! meanwhile is not recorded: a machine without a battery begins somewhere in the past until NTP has
//! the time. A clock that goes on so for ten minutes is believed: it was wrong before, and what is
//! dated later than it now goes away. So is one that has jumped forward by more than a day.

use std::time::Duration;

use super::series::DAY;

/// 1 January 2026: no linkbal ran before that time.
const EARLIEST: u64 = 1_767_225_600;

/// Time for which a clock that jumped must go on before it is believed.
const PROBATION: Duration = Duration::from_secs(600);

/// Longest step forward, in seconds, that needs no proof.
const MAX_STEP: u64 = DAY;

/// The kept time. All times are seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The last believed time of this run.
    last: Option<u64>,
    /// The monotonic time since which the clock is not believed.
    doubted: Option<Duration>,
}

/// The meaning of a reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockReading {
    /// The clock is believed.
    Believed {
        /// The believed time before; `None` at first.
        before: Option<u64>,
        /// Set if the clock was set back.
        set_back: bool,
    },
    /// The clock is not believed yet.
    Doubted,
}

impl Clock {
    /// Judges a reading of the clock at a monotonic time; `newest` is the latest time that something
    /// is recorded for.
    pub fn read(&mut self, wall: u64, now: Duration, newest: Option<u64>) -> ClockReading {
        if wall < EARLIEST {
            return ClockReading::Doubted;
        }
        let behind = newest.max(self.last).is_some_and(|newest| wall < newest);
        let last = self.last.unwrap_or(wall);
        let far = wall.saturating_sub(last) > MAX_STEP;
        if behind || far {
            let since = *self.doubted.get_or_insert(now);
            if now.saturating_sub(since) < PROBATION {
                return ClockReading::Doubted;
            }
        }
        self.doubted = None;
        let before = self.last.replace(wall);
        ClockReading::Believed { before: before.filter(|before| *before <= wall), set_back: behind }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = EARLIEST + 1000;

    fn believed(before: Option<u64>) -> ClockReading {
        ClockReading::Believed { before, set_back: false }
    }

    #[test]
    fn a_clock_without_a_battery_is_waited_for() {
        let mut clock = Clock::default();
        let kept = Some(START);
        let mut read = |wall, s| clock.read(wall, Duration::from_secs(s), kept);
        assert_eq!([read(17, 1), read(START - 300, 20)], [ClockReading::Doubted; 2]);
        assert_eq!(read(START + 5, 30), believed(None));
        assert_eq!(read(START + 6, 31), believed(Some(START + 5)));
        // Nothing is forgotten in the year 1970, however long that takes.
        assert_eq!(read(17, 10_000), ClockReading::Doubted);
    }

    #[test]
    fn a_clock_that_was_wrong_for_long_is_set_back() {
        let mut clock = Clock::default();
        let mut read = |wall, s| clock.read(wall, Duration::from_secs(s), Some(START + 3600));
        assert_eq!([read(START, 1), read(START + 599, 600)], [ClockReading::Doubted; 2]);
        let back = ClockReading::Believed { before: None, set_back: true };
        assert_eq!(read(START + 600, 601), back);
    }

    #[test]
    fn a_jump_of_years_is_not_believed_at_once() {
        let mut clock = Clock::default();
        let mut read = |wall, s| clock.read(wall, Duration::from_secs(s), None);
        assert_eq!(read(START, 1), believed(None));
        assert_eq!(read(START * 2, 2), ClockReading::Doubted);
        assert_eq!(read(START + 2, 3), believed(Some(START)));
        assert_eq!(read(START * 2, 4), ClockReading::Doubted);
        assert_eq!(read(START * 2 + 600, 604), believed(Some(START + 2)));
    }

    proptest! {
        #[test]
        fn believed_times_ascend_unless_the_clock_is_set_back(
            readings in prop::collection::vec((0u64..1 << 33, 0u64..700), 1..60),
        ) {
            let (mut clock, mut now, mut last) = (Clock::default(), Duration::ZERO, None);
            for (wall, passed) in readings {
                now += Duration::from_secs(passed);
                let ClockReading::Believed { before, set_back } = clock.read(wall, now, last) else { continue };
                prop_assert!(wall >= EARLIEST);
                prop_assert!(set_back || last.is_none_or(|last| last <= wall));
                prop_assert!(before.is_none_or(|before| before <= wall));
                last = Some(wall);
            }
        }
    }
}
