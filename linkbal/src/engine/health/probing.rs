//! Probes of the targets: rounds begin and end, and what they found is counted.

use std::time::Duration;

use super::{
    Health, State,
    event::Pause,
    failure::Failure,
    round::{End, Outcome, RoundResult, TargetState},
    transition::{Signal, Transition},
};
use crate::config::Target;

/// Probes to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundStart {
    /// Number of the round; answers must name it.
    pub round: u64,
    /// The targets to probe.
    pub targets: Vec<Target>,
    /// Time after which no answer is waited for.
    pub timeout: Duration,
}

/// The evidence that verdicts rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Targets that answer.
    Targets,
    /// The verdict on the other family, which has targets while this one has none.
    OtherFamily,
    /// Interface, carrier and gateway alone: no targets at all.
    Carrier,
}

impl Health {
    /// Returns the evidence that the verdict rests on.
    pub(super) fn basis(&self) -> Basis {
        if self.targets.iter().any(|asked| !asked.absent) {
            Basis::Targets
        } else if self.probe.targets.is_empty() {
            Basis::Carrier
        } else {
            Basis::OtherFamily
        }
    }

    /// Returns the time at which [`Self::start_round`] or [`super::HealthEvent::Tick`] has something to
    /// do.
    pub fn deadline(&self) -> Option<Duration> {
        let drill = self.drill.deadline();
        if !self.ready {
            return drill;
        }
        let own =
            if self.targets.is_empty() { self.held_at() } else { Some(self.schedule.deadline()) };
        own.into_iter().chain(drill).min()
    }

    /// Returns the time at which it has been ready for long enough, if that is all there is to know.
    fn held_at(&self) -> Option<Duration> {
        let waiting = self.basis() == Basis::Carrier && self.state == State::Down;
        self.streak.good_since.filter(|_| waiting).map(|since| since + self.hold())
    }

    /// Starts a round, and returns the probes that are due.
    pub fn start_round(&mut self, now: Duration) -> Option<RoundStart> {
        if !self.ready || self.targets.is_empty() || now < self.schedule.due_at() {
            return None;
        }
        let pace = self.pace();
        let timeout = self.timeout_for();
        self.schedule.start(now, pace, timeout, &mut self.targets)
    }

    /// Lets a round that is due pass, since nothing can be sent.
    pub(in crate::engine) fn skip_round(&mut self, now: Duration) {
        if self.schedule.next_at() <= now {
            let next_at = now + self.pace();
            self.schedule.begin_at(next_at);
        }
    }

    /// Makes no round begin until a time: no target could answer, which says nothing.
    pub(super) fn pause(&mut self, pause: Pause, until: Duration) {
        self.schedule.pause(pause, until);
        if pause == Pause::Drift {
            self.streak.bad = 0;
        }
        self.passive.trust();
        self.void_probes();
    }

    /// Forgets the pending probes, and what the last ones found.
    pub(super) fn void_probes(&mut self) {
        self.schedule.rounds.clear();
        self.targets.iter_mut().for_each(TargetState::forget);
    }

    /// Takes in an answer of a target. Unknown rounds and targets and repeated answers do not
    /// count.
    pub(super) fn answer(
        &mut self,
        target: &Target,
        number: u64,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        let outcome = self.schedule.rounds[round].answer(&mut self.targets, at, now)?;
        let latency = now.saturating_sub(self.schedule.rounds[round].sent_at);
        if self.tells_latency(target) {
            self.window.measure(latency);
        }
        if outcome == Outcome::Answered || self.may_be_late(latency) {
            self.targets[at].last_reply = Some(now);
        }
        if outcome != Outcome::Void {
            self.settle(outcome == Outcome::Answered);
        }
        self.judge(round, now)
    }

    /// Takes in that a probe failed before its time was over.
    pub(super) fn fail(
        &mut self,
        target: &Target,
        number: u64,
        failure: Failure,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        if !self.schedule.rounds[round].end(&mut self.targets, at, End::Failed(failure)) {
            return None;
        }
        self.settle(false);
        self.judge(round, now)
    }

    /// Notes that there is nothing to ask for a target in this family: it does not count.
    pub(super) fn skip(
        &mut self,
        target: &Target,
        number: u64,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        self.schedule.rounds[round].end(&mut self.targets, at, End::NothingToAsk);
        self.judge(round, now)
    }

    /// Ends the probes whose time is over.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Transition> {
        let mut transition = None;
        for at in 0..self.schedule.rounds.len() {
            for _ in 0..self.schedule.rounds[at].expire(&mut self.targets, now) {
                self.settle(false);
            }
            transition = self.judge(at, now).or(transition);
        }
        self.schedule.forget_old(now);
        let transition = self.trust_carrier(now).or(transition);
        // One that answers is only held back for its hold time.
        let is_silent = self.state != State::Down || self.streak.good_since.is_none();
        self.drill.end_grace(is_silent, now);
        transition
    }

    /// Returns the places of a target and of a round.
    pub(super) fn find(&self, target: &Target, number: u64) -> Option<(usize, usize)> {
        let at = self.targets.iter().position(|asked| asked.target == *target)?;
        Some((at, self.schedule.find(number)?))
    }

    /// Judges a round, as far as that is possible by now.
    pub(super) fn judge(&mut self, round: usize, now: Duration) -> Option<Transition> {
        let transition =
            match self.schedule.rounds[round].judge(&self.targets, self.probe.quorum)? {
                RoundResult::Good => {
                    let sent_at = self.schedule.rounds[round].sent_at;
                    if self.state == State::Up {
                        self.drill.heard(sent_at, now);
                    }
                    self.good_round(now)
                }
                RoundResult::Bad if self.excuses(round, now) => {
                    self.streak.bad = 0;
                    None
                }
                RoundResult::Bad => self.bad_round(now),
            };
        if self.state == State::Up {
            self.quality.look(&self.probe, &self.window, now);
        }
        transition
    }

    /// Returns whether a target tells the latency: echoes do, and others, which take several
    /// exchanges, only if there are no echoes.
    fn tells_latency(&self, target: &Target) -> bool {
        let is_echo = |target: &Target| matches!(target, Target::Echo(_));
        is_echo(target) || !self.targets.iter().any(|asked| is_echo(&asked.target))
    }

    /// Counts a probe that is over, unless it was lost in a drill, which says nothing of the line.
    fn settle(&mut self, answered: bool) {
        if answered || !self.is_drilled() {
            self.window.settle(answered);
        }
    }

    fn good_round(&mut self, now: Duration) -> Option<Transition> {
        self.passive.trust();
        self.streak.add_good(now);
        self.step(Signal::GoodRound, now)
    }

    fn bad_round(&mut self, now: Duration) -> Option<Transition> {
        self.streak.add_bad();
        if self.streak.bad < self.probe.failure_count {
            return None;
        }
        self.fresh = false;
        self.step(Signal::BadRounds, now)
    }
}
