//! Probe pauses while what linkbal set up is undone, or an address of an uplink is gone.
//!
//! A probe that is under way meanwhile may be lost for that, which says nothing of its uplink. Only
//! few pauses are made: somebody who undoes things for ever is no reason to keep a dead uplink.

use std::{collections::VecDeque, time::Duration};

use crate::engine::health::{HealthEvent, Pause};

/// Most pauses within `WINDOW`.
const MAX_PAUSES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Time after which a pause ends in any case: a repair takes milliseconds, and seconds on a busy
/// machine.
const MAX_LENGTH: Duration = Duration::from_secs(5);

/// A change for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PauseChange {
    /// Probes are paused, until a time at most.
    Begins(Duration),
    /// Probes go on.
    Ends,
}

impl PauseChange {
    /// Returns the event for the health of uplinks.
    pub(super) const fn event(self) -> HealthEvent<'static> {
        match self {
            PauseChange::Begins(until) => HealthEvent::Paused(Pause::Drift, until),
            PauseChange::Ends => HealthEvent::Resumed(Pause::Drift),
        }
    }
}

/// The pauses.
#[derive(Debug, Default)]
pub(super) struct ProbePauses {
    started: VecDeque<Duration>,
    /// Time at which something was last undone, until it is repaired.
    undone_at: Option<Duration>,
    change: Option<PauseChange>,
}

impl ProbePauses {
    /// Notes that something was undone, at that time or before.
    pub(super) fn begin(&mut self, undone_at: Duration, now: Duration) {
        let lasts = self.undone_at.is_some();
        self.undone_at = self.undone_at.max(Some(undone_at));
        if lasts {
            return;
        }
        self.started.retain(|start| now < *start + WINDOW);
        if self.started.len() > MAX_PAUSES {
            self.started.pop_front();
        }
        // Those that are not made count, too: it must be left alone first.
        self.started.push_back(now);
        self.change =
            (self.started.len() <= MAX_PAUSES).then_some(PauseChange::Begins(now + MAX_LENGTH));
    }

    /// Notes that everything is in place, by an observation that began at `observed_from`: it does not
    /// show what was undone later.
    pub(super) fn end(&mut self, observed_from: Duration) {
        if self.undone_at.take_if(|at| *at <= observed_from).is_some() {
            self.change = Some(PauseChange::Ends);
        }
    }

    /// Returns what changed since the last call.
    pub(super) const fn change(&mut self) -> Option<PauseChange> {
        self.change.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns whether something that is undone at `now`, and again later, makes a pause.
    fn pauses(pauses: &mut ProbePauses, now: Duration) -> bool {
        pauses.begin(now, now);
        let change = pauses.change();
        let later = now + Duration::from_millis(1);
        pauses.begin(later, later);
        assert_eq!(pauses.change(), None, "it has begun");
        pauses.end(now);
        assert_eq!(pauses.change(), None, "the observation is too old");
        pauses.end(later);
        assert_eq!(pauses.change(), Some(PauseChange::Ends));
        pauses.end(later);
        assert_eq!(pauses.change(), None);
        change == Some(PauseChange::Begins(now + MAX_LENGTH))
    }

    #[test]
    fn few_pauses_are_made_and_more_when_it_was_left_alone() {
        let mut all = ProbePauses::default();
        let made = |all: &mut ProbePauses, from: u64, to: u64, step: usize| {
            (from..to).step_by(step).filter(|now| pauses(all, s(*now))).count()
        };
        assert_eq!(made(&mut all, 0, 600, 2), MAX_PAUSES);
        assert!(all.started.len() <= MAX_PAUSES + 1);
        assert_eq!(made(&mut all, 700, 1300, 20), 30, "now and then is no war");
    }
}
