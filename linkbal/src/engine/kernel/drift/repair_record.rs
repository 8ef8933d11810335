//! The repairs of one thing, and whether it may be repaired again.

use std::{collections::VecDeque, time::Duration};

use super::super::resource::Process;

/// Most repairs of a thing within `WINDOW`: after that it is throttled.
pub(super) const MAX_REPAIRS: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// Time between two repairs of a throttled thing.
pub(super) const SLOW: Duration = Duration::from_secs(10);

/// Time for which a throttled thing must be left alone until it is no longer throttled.
const CALM: Duration = Duration::from_secs(60);

/// A thing that is undone again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Time since which it is throttled.
    pub since: Duration,
    /// Number of repairs since then.
    pub repairs: u32,
    /// The process that undid it last, if known.
    pub by: Option<Process>,
}

/// The repairs of a thing.
#[derive(Debug, Default)]
pub(super) struct RepairRecord {
    times: VecDeque<Duration>,
    throttled: Option<Throttled>,
    next: Duration,
}

/// A decision on the repair of a thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A repair at once, with a report.
    Repair,
    /// A repair at the slow pace, without a report.
    Again,
    /// No repair yet.
    Wait,
    /// No repair yet, with a report that the thing is throttled.
    Throttle,
}

impl RepairRecord {
    /// Returns since when, and by whom, if it is throttled.
    pub(super) const fn throttled(&self) -> Option<&Throttled> {
        self.throttled.as_ref()
    }

    /// Returns the time of the next repair, if it is throttled.
    pub(super) fn next(&self) -> Option<Duration> {
        self.throttled.is_some().then_some(self.next)
    }

    /// Returns whether it is not yet long past.
    pub(super) fn is_recent(&self, now: Duration) -> bool {
        let quiet = if self.throttled.is_some() { CALM } else { WINDOW };
        self.times.back().is_some_and(|last| now < *last + quiet)
    }

    /// Decides on a repair that is due, and notes it.
    pub(super) fn judge(&mut self, by: Option<&Process>, now: Duration) -> Decision {
        if let Some(throttled) = &mut self.throttled {
            throttled.by = by.cloned().or(throttled.by.take());
            if now < self.next {
                return Decision::Wait;
            }
            throttled.repairs += 1;
            self.next = now + SLOW;
            self.times = [now].into();
            return Decision::Again;
        }
        self.times.retain(|time| now < *time + WINDOW);
        if self.times.len() < MAX_REPAIRS {
            self.times.push_back(now);
            return Decision::Repair;
        }
        self.throttled = Some(Throttled { since: now, repairs: 0, by: by.cloned() });
        self.next = now + SLOW;
        Decision::Throttle
    }
}
