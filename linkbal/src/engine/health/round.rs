//! Rounds of probes, and the state of each target in between.
//!
//! A round asks the targets that are due: some kinds of probes cost too much to be sent as often as
//! an echo. A target that is not asked counts with its last outcome, but that alone proves nothing:
//! a round is good if its quorum is reached and a target answered in it, bad if the quorum is
//! missed and a target failed in it, and otherwise says nothing. So a verdict takes as many
//! failures of an HTTP target as of an echo target, however often others are asked in the meantime.

use std::time::Duration;

use super::{
    failure::{Failure, FailureKind},
    reason::Reason,
    window::Window,
};
use crate::config::Target;

/// Time after a probe in which a late answer still tells the latency.
pub(super) const REMEMBER: Duration = Duration::from_secs(5);

/// Lateness in noticing the end of a probe from which it says more about us than about the uplink.
const LATENESS: Duration = Duration::from_millis(250);

/// A target of one uplink and family.
#[derive(Clone, Debug)]
pub(super) struct TargetState {
    pub(super) target: Target,
    /// Set if the last probe that is over was answered; `None` if none is over.
    pub(super) last: Option<bool>,
    /// Set if there is nothing to ask: a name without an address of the family.
    pub(super) absent: bool,
    /// The failure of the last probe, if more is known than silence.
    pub(super) failure: Option<Failure>,
    /// Time since which this machine could not probe it, and the last reason.
    pub(super) unsent: Option<(Duration, String)>,
    /// Time of its last answer, late ones included.
    pub(super) last_reply: Option<Duration>,
    /// Time before which it is not asked.
    next_at: Duration,
    /// Latency of this target alone, for the timeout.
    window: Window,
}

impl TargetState {
    pub(super) fn new(target: Target) -> TargetState {
        TargetState {
            target,
            last: None,
            absent: false,
            failure: None,
            unsent: None,
            last_reply: None,
            next_at: Duration::ZERO,
            window: Window::default(),
        }
    }

    /// Forgets the last outcome, which is of no use after a time without a way.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.failure = None;
        self.unsent = None;
    }

    /// Returns the kind of its last failure.
    pub(super) fn failure_kind(&self) -> Option<FailureKind> {
        self.failure.as_ref()?.kind
    }

    /// Returns the time after which an answer is not worth waiting for, if no timeout is
    /// configured.
    pub(super) fn timeout(&self) -> Duration {
        self.window.timeout().max(self.target.profile().least_timeout)
    }

    /// Returns the same while the uplink is under suspicion. Only echoes come back without delay.
    pub(super) fn tight_timeout(&self) -> Duration {
        if self.target.profile().overlaps {
            return self.window.tight_timeout();
        }
        self.timeout()
    }

    /// Returns the least time between two probes. A probe is only sent when the one before is over,
    /// except echoes, of which several may be on their way.
    pub(super) const fn spacing(&self) -> Duration {
        self.target.profile().spacing
    }

    fn settle(&mut self, outcome: Outcome, failure: Option<Failure>) {
        match outcome {
            Outcome::Answered => self.last = Some(true),
            Outcome::Failed | Outcome::Expired | Outcome::Late => self.last = Some(false),
            Outcome::Pending | Outcome::Void => return,
        }
        self.absent = false;
        self.unsent = None;
        self.failure = failure;
    }
}

/// The outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Answered,
    /// The probe failed before its time was over.
    Failed,
    /// The time of the probe is over.
    Expired,
    /// The probe was answered after that.
    Late,
    /// The probe says nothing: we were too late, could not ask, or there was nothing to ask.
    Void,
}

/// The end of a probe without an answer, before its time was over.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The probe failed.
    Failed(Failure),
    /// Nothing was there to ask.
    NothingToAsk,
    /// The probe could not be sent by this machine at that time, with the reason.
    Unsent(Duration, String),
}

#[derive(Clone, Debug)]
struct Probe {
    /// Index of the target.
    at: usize,
    deadline: Duration,
    outcome: Outcome,
}

/// The result of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundResult {
    Good,
    Bad,
}

/// A round of probes.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) sent_at: Duration,
    probes: Vec<Probe>,
    /// Time at which its next probe is over; `None` if all are.
    due: Option<Duration>,
    judged: bool,
}

impl Round {
    /// Asks the targets that are due at `planned`, the time that the round was meant to begin at;
    /// `None` if none is. `pending` says which of them still wait for an earlier answer.
    pub(super) fn start(
        number: u64,
        planned: Duration,
        now: Duration,
        timeout: impl Fn(&TargetState) -> Duration,
        targets: &mut [TargetState],
        pending: impl Fn(usize) -> bool,
    ) -> Option<Round> {
        let mut probes = Vec::new();
        for (at, asked) in targets.iter_mut().enumerate() {
            let spacing = asked.spacing();
            if asked.next_at > planned || (!spacing.is_zero() && pending(at)) {
                continue;
            }
            asked.next_at = planned + spacing;
            let deadline = now + timeout(asked);
            probes.push(Probe { at, deadline, outcome: Outcome::Pending });
        }
        let mut round = Round { number, sent_at: now, probes, due: None, judged: false };
        round.look_for_due();
        round.due.is_some().then_some(round)
    }

    /// Returns the targets that it asks.
    pub(super) fn asks(&self) -> impl Iterator<Item = usize> {
        self.probes.iter().map(|sent| sent.at)
    }

    /// Returns the longest timeout of its probes.
    pub(super) fn timeout(&self) -> Duration {
        let last = self.probes.iter().map(|sent| sent.deadline).max();
        last.unwrap_or(self.sent_at) - self.sent_at
    }

    /// Returns the outcome of the probe to a target; `None` if it was not asked.
    pub(super) fn outcome(&self, at: usize) -> Option<Outcome> {
        self.probes.iter().find(|sent| sent.at == at).map(|sent| sent.outcome)
    }

    /// Returns whether [`Self::judge`] has told the result, or that there is none.
    pub(super) const fn is_judged(&self) -> bool {
        self.judged
    }

    /// Returns whether it waits for an answer of a target.
    pub(super) fn waits_for(&self, at: usize) -> bool {
        self.probes.iter().any(|sent| sent.at == at && sent.outcome == Outcome::Pending)
    }

    /// Returns the time at which its next probe is over; `None` if all are.
    pub(super) const fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Updates the deadline after a change of an outcome: it is asked for far more often.
    fn look_for_due(&mut self) {
        let pending = self.probes.iter().filter(|sent| sent.outcome == Outcome::Pending);
        self.due = pending.map(|sent| sent.deadline).min();
    }

    /// Takes in the answer of a target. Returns whether it was in time, [`Outcome::Void`] if only
    /// the latency is news, or `None` if it does not count.
    pub(super) fn answer(
        &mut self,
        targets: &mut [TargetState],
        at: usize,
        now: Duration,
    ) -> Option<Outcome> {
        let sent = self.probes.iter_mut().find(|sent| sent.at == at)?;
        let outcome = match sent.outcome {
            Outcome::Pending if now <= sent.deadline => Outcome::Answered,
            Outcome::Pending => overdue(sent.deadline, now),
            // Only its latency is news.
            Outcome::Expired if now <= self.sent_at + REMEMBER => Outcome::Void,
            Outcome::Expired => return None,
            Outcome::Answered | Outcome::Failed | Outcome::Late | Outcome::Void => return None,
        };
        let news = sent.outcome == Outcome::Pending;
        // What was answered late must not be measured twice.
        let late = sent.outcome == Outcome::Expired || outcome == Outcome::Expired;
        sent.outcome = if late { Outcome::Late } else { outcome };
        self.look_for_due();
        if news && outcome == Outcome::Void {
            // It waited for us, for an unknown time.
            return None;
        }
        targets[at].window.measure(now.saturating_sub(self.sent_at));
        if news {
            targets[at].settle(outcome, None);
        }
        Some(outcome)
    }

    /// Ends a probe without an answer. Returns whether it was still pending.
    pub(super) fn end(&mut self, targets: &mut [TargetState], at: usize, end: End) -> bool {
        let mut probes = self.probes.iter_mut();
        let pending = probes.find(|sent| sent.at == at && sent.outcome == Outcome::Pending);
        let Some(sent) = pending else { return false };
        sent.outcome = match end {
            End::Failed(_) => Outcome::Failed,
            End::NothingToAsk | End::Unsent(..) => Outcome::Void,
        };
        match end {
            End::Failed(failure) => targets[at].settle(Outcome::Failed, Some(failure)),
            End::NothingToAsk => {
                targets[at].absent = true;
                targets[at].unsent = None;
            }
            End::Unsent(now, reason) => {
                let since = targets[at].unsent.as_ref().map_or(now, |(since, _)| *since);
                targets[at].unsent = Some((since, reason));
            }
        }
        self.look_for_due();
        true
    }

    /// Ends the probes whose time is over; returns how many of them are losses.
    pub(super) fn expire(&mut self, targets: &mut [TargetState], now: Duration) -> usize {
        let mut lost = 0;
        for sent in &mut self.probes {
            if sent.outcome == Outcome::Pending && sent.deadline <= now {
                sent.outcome = overdue(sent.deadline, now);
                targets[sent.at].settle(sent.outcome, None);
                lost += usize::from(sent.outcome == Outcome::Expired);
            }
        }
        self.look_for_due();
        lost
    }

    /// Returns the result, once: as soon as it is good, or when all of its probes are over.
    pub(super) fn judge(&mut self, targets: &[TargetState], quorum: u32) -> Option<RoundResult> {
        if self.judged {
            return None;
        }
        let quorum = quorum_of(targets, quorum);
        let answered = self.count(&[Outcome::Answered]);
        let (known, unknown) = self.elsewhere(targets);
        if answered > 0 && answered + known >= quorum {
            self.judged = true;
            return Some(RoundResult::Good);
        }
        self.judged = self.count(&[Outcome::Pending]) == 0;
        let failed = self.count(&[Outcome::Failed, Outcome::Expired, Outcome::Late]) > 0;
        let missed = answered + known + unknown < quorum;
        (self.judged && failed && missed).then_some(RoundResult::Bad)
    }

    fn count(&self, wanted: &[Outcome]) -> usize {
        self.probes.iter().filter(|sent| wanted.contains(&sent.outcome)).count()
    }

    /// Returns the number of its probes that were not answered in time.
    pub(super) fn lost(&self) -> u32 {
        self.count(&[Outcome::Expired, Outcome::Late]).try_into().unwrap_or(u32::MAX)
    }

    /// Returns whether lost probes alone made it bad: no target said that something is wrong.
    pub(super) fn is_only_lost(&self, targets: &[TargetState], quorum: u32) -> bool {
        let lost = self.count(&[Outcome::Answered, Outcome::Expired, Outcome::Late]);
        lost + self.elsewhere(targets).0 >= quorum_of(targets, quorum)
    }

    /// Returns how many targets without an outcome in this round answered last, and how many may
    /// answer.
    fn elsewhere(&self, targets: &[TargetState]) -> (usize, usize) {
        let heard = |at: usize| {
            self.probes.iter().any(|sent| sent.at == at && sent.outcome != Outcome::Void)
        };
        let others = targets.iter().enumerate().filter(|(at, asked)| !asked.absent && !heard(*at));
        let (mut known, mut unknown) = (0, 0);
        for (at, asked) in others {
            let void = self.asks().any(|asks| asks == at);
            known += usize::from(!void && asked.last == Some(true));
            unknown += usize::from(void || asked.last.is_none());
        }
        (known, unknown)
    }
}

/// Returns how many of the targets that there are must answer.
pub(super) fn quorum_of(targets: &[TargetState], quorum: u32) -> usize {
    let present = targets.iter().filter(|asked| !asked.absent).count();
    present.min(quorum as usize)
}

/// Says how many targets answered when `rounds` rounds in a row were bad.
pub(super) fn missed(rounds: u32, targets: &[TargetState], quorum: u32) -> Reason {
    let present = targets.iter().filter(|asked| !asked.absent);
    Reason::RoundsFailed {
        rounds,
        answered: present.clone().filter(|asked| asked.last == Some(true)).count(),
        targets: present.count(),
        needed: quorum_of(targets, quorum),
    }
}

/// Returns the outcome of a probe whose time was over at `deadline`.
fn overdue(deadline: Duration, now: Duration) -> Outcome {
    if now - deadline > LATENESS { Outcome::Void } else { Outcome::Expired }
}

#[cfg(test)]
mod tests;
