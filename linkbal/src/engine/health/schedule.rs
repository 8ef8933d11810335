//! The rounds of probes: when the next one is due, and which still wait for answers.

use std::{collections::VecDeque, time::Duration};

use super::{
    event::Pause,
    probing::RoundStart,
    round::{REMEMBER, Round, TargetState},
};

/// The rounds that are under way or not yet forgotten, and the next one.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// The rounds, in the order of their numbers.
    pub(super) rounds: VecDeque<Round>,
    next_number: u64,
    next_at: Duration,
    /// Times before which no target is asked, by [`Pause`].
    paused_until: [Duration; 2],
}

impl Schedule {
    /// Creates the schedule of an uplink that is asked from `now` on.
    pub(super) const fn new(now: Duration) -> Schedule {
        Schedule {
            rounds: VecDeque::new(),
            next_number: 0,
            next_at: now,
            paused_until: [Duration::ZERO; 2],
        }
    }

    /// Returns the time at which the next round was meant to begin.
    pub(super) const fn next_at(&self) -> Duration {
        self.next_at
    }

    /// Returns the time at which the next round may begin.
    pub(super) fn due_at(&self) -> Duration {
        self.paused_until.into_iter().fold(self.next_at, Duration::max)
    }

    /// Returns the time at which a round begins or a probe is over.
    pub(super) fn deadline(&self) -> Duration {
        let pending = self.rounds.iter().filter_map(Round::deadline);
        pending.fold(self.due_at(), Duration::min)
    }

    /// Makes the next round begin at a time.
    pub(super) const fn begin_at(&mut self, at: Duration) {
        self.next_at = at;
    }

    /// Makes the next round begin at a time, if it was meant to be later.
    pub(super) fn hurry(&mut self, at: Duration) {
        self.next_at = self.next_at.min(at);
    }

    /// Makes no round begin before a time.
    pub(super) const fn pause(&mut self, pause: Pause, until: Duration) {
        self.paused_until[pause as usize] = until;
    }

    /// Ends a pause.
    pub(super) const fn resume(&mut self, pause: Pause) {
        self.pause(pause, Duration::ZERO);
    }

    /// Starts a round, `pace` before the next one; `None` if no target is due.
    pub(super) fn start(
        &mut self,
        now: Duration,
        pace: Duration,
        timeout: impl Fn(&TargetState) -> Duration,
        targets: &mut [TargetState],
    ) -> Option<RoundStart> {
        // Missed rounds are not made up for: a burst of probes would prove nothing.
        let missed = self.next_at + pace <= now;
        let planned = if missed { now } else { self.next_at };
        self.next_at = planned + pace;
        let number = self.next_number;
        let pending = |at| self.rounds.iter().any(|round| round.waits_for(at));
        let round = Round::start(number, planned, now, timeout, targets, pending)?;
        self.next_number += 1;
        let asked = round.asks().map(|at| targets[at].target.clone()).collect();
        let start = RoundStart { round: number, targets: asked, timeout: round.timeout() };
        self.rounds.push_back(round);
        Some(start)
    }

    /// Returns the place of a round; `None` if it is forgotten or never was.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        self.rounds.iter().position(|round| round.number == number)
    }

    /// Forgets the rounds of which no late answer is of use.
    pub(super) fn forget_old(&mut self, now: Duration) {
        self.rounds.retain(|round| round.deadline().is_some() || round.sent_at + REMEMBER > now);
    }
}
