//! Passive evidence on an uplink, besides answers in time: late ones, and its traffic.
//!
//! - A bad round is excused if the quorum was heard since it began, though late. A configured
//!   timeout says that late answers are worth nothing, so they excuse nothing then.
//! - A bad round is excused, for a while, if answers to traffic came since it began: a line that is
//!   full loses probes. But it seldom loses all of them, while on one that is cut off behind the
//!   provider's own hosts none comes through, though these answer. So answers of few networks
//!   excuse lost probes only for as long as it takes to ask often ([`DOUBT`] rounds), if no quorum
//!   is heard in that time. Answers of many networks excuse them for longer, but not without limit:
//!   an attacker at the line can forge them, but not answers to probes that do not get there.
//! - Lost probes alone are excused: an answer that says that something is wrong, like that of a
//!   captive portal, is not outweighed.
//! - Traffic that is not answered brings suspicion: then rounds follow each other fast and do not
//!   wait for long, until one of them is good, traffic is answered, or the verdict is "down".

use std::time::Duration;

use super::{
    Health, State,
    reason::Reason,
    round::{TargetState, quorum_of},
    window::TIMEOUT_CEILING,
};

/// Time between two rounds under suspicion.
const FAST: Duration = Duration::from_millis(20);

/// Time after which a suspicion that nothing settled is given up; regular rounds go on.
const SUSPICION: Duration = Duration::from_secs(2);

/// Time for which answers of few networks excuse lost probes.
const BRIEFLY: Duration = Duration::from_secs(1);
/// Time for which any answers excuse lost probes.
const MAX_EXCUSED: Duration = Duration::from_secs(60);

/// Number of rounds that are sent while only few networks answer.
const DOUBT: u32 = 50;
/// Number of probes of any kind that are lost before answers of few networks no longer count: a
/// line that loses three of four still lets one of them through, but for once in three hundred
/// times.
const LOST: u32 = 20;

/// Answers to traffic, by the number of networks that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answers {
    /// Too few networks to say that the internet is there.
    Few,
    /// Many networks, each in a flow that has settled.
    Many,
}

/// A time in which no quorum was heard.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// Time at which its first round was sent.
    since: Duration,
    /// Number of its rounds.
    rounds: u32,
    /// Number of probes that were lost in them.
    lost: u32,
    /// Set if rounds are sent more often, since few networks answer.
    doubted: bool,
}

/// Passive evidence on one uplink and family.
#[derive(Clone, Debug, Default)]
pub(super) struct Passive {
    /// Time at which its traffic was last seen to be answered.
    answered_at: Option<Duration>,
    /// Time at which many networks were last seen to answer it.
    many_at: Option<Duration>,
    /// Time at which the suspicion ends by itself.
    suspected_until: Option<Duration>,
    /// Set if the last round was bad and excused.
    excused: bool,
    silence: Option<Silence>,
    /// Answers that no longer excused anything.
    unheeded: Option<Answers>,
}

impl Passive {
    /// Notes that the traffic is answered.
    pub(super) fn traffic_answered(&mut self, answers: Answers, now: Duration) {
        self.answered_at = Some(now);
        if answers == Answers::Many {
            self.many_at = Some(now);
        }
        self.suspected_until = None;
    }

    /// Settles what was suspected.
    pub(super) const fn trust(&mut self) {
        self.suspected_until = None;
        self.excused = false;
        self.silence = None;
        self.unheeded = None;
    }

    /// Returns the answers to traffic since `since`.
    fn answers(&self, since: Duration) -> Option<Answers> {
        let was = |at: Option<Duration>| at.is_some_and(|at| at >= since);
        let few = was(self.answered_at).then_some(Answers::Few);
        if was(self.many_at) { Some(Answers::Many) } else { few }
    }

    /// Takes in a round that was sent at `sent_at`, and in which no quorum was heard.
    fn note_silence(&mut self, sent_at: Duration, lost: u32) -> &mut Silence {
        let new = Silence { since: sent_at, rounds: 0, lost: 0, doubted: false };
        let silence = self.silence.get_or_insert(new);
        silence.since = silence.since.min(sent_at);
        silence.rounds = silence.rounds.saturating_add(1);
        silence.lost = silence.lost.saturating_add(lost);
        silence
    }

    /// Returns why answers do not count in a verdict, if there are some.
    pub(super) fn unheeded(&self) -> Option<Reason> {
        self.unheeded.map(|answers| match answers {
            Answers::Few => Reason::FewNetworks,
            Answers::Many => Reason::ExcusedLongEnough,
        })
    }
}

impl Health {
    /// Returns the time since which no quorum was heard, if it is not heard.
    pub(in crate::engine) fn silent_since(&self) -> Option<Duration> {
        self.passive.silence.map(|silence| silence.since)
    }

    /// Suspects the uplink: its traffic is not answered, though it should be by now.
    pub(super) fn suspect(&mut self, now: Duration) {
        if self.state == State::Up && self.ready && !self.is_suspected() {
            self.passive.suspected_until = Some(now + SUSPICION);
            self.schedule.hurry(now);
        }
    }

    /// Returns whether it is probed fast because its traffic is not answered.
    pub const fn is_suspected(&self) -> bool {
        self.passive.suspected_until.is_some()
    }

    /// Returns whether its last probes were lost while its traffic was answered.
    pub const fn is_excused(&self) -> bool {
        self.passive.excused
    }

    /// Returns the time until the next round.
    pub(super) fn pace(&mut self) -> Duration {
        let over =
            self.passive.suspected_until.is_some_and(|until| until <= self.schedule.next_at());
        if over {
            self.passive.suspected_until = None;
        }
        let pace = if self.is_suspected() {
            FAST
        } else if self.passive.silence.is_some_and(|silence| silence.doubted) {
            self.few() / DOUBT
        } else {
            self.probe.interval
        };
        pace.min(self.probe.interval)
    }

    /// Returns the time that the verdict takes if there are no answers at all.
    fn usual(&self, rounds: u32) -> Duration {
        self.probe.interval.saturating_mul(rounds)
    }

    /// Returns the time for which answers of few networks excuse lost probes: they never speed a
    /// verdict up.
    fn few(&self) -> Duration {
        BRIEFLY.max(self.usual(self.probe.failure_count))
    }

    /// Returns the timeout of a target's probes, as a function of the target.
    pub(super) fn timeout_for(&self) -> impl Fn(&TargetState) -> Duration + use<> {
        let (fixed, suspected) = (self.probe.timeout, self.is_suspected());
        move |asked| {
            let derived = if suspected { asked.tight_timeout() } else { asked.timeout() };
            match fixed {
                Some(fixed) if suspected => fixed.min(derived),
                Some(fixed) => fixed,
                None => derived,
            }
        }
    }

    /// Returns whether an answer with this latency still shows that the uplink works.
    pub(super) fn may_be_late(&self, latency: Duration) -> bool {
        self.probe.timeout.is_none() && latency <= TIMEOUT_CEILING
    }

    /// Returns whether as many targets as must answer have been heard since `since`.
    fn is_heard_since(&self, since: Duration) -> bool {
        let heard = |asked: &&TargetState| asked.last_reply.is_some_and(|at| at >= since);
        let count = self.targets.iter().filter(heard).count();
        count >= quorum_of(&self.targets, self.probe.quorum)
    }

    /// Returns whether a bad round does not count.
    pub(super) fn excuses(&mut self, round: usize, now: Duration) -> bool {
        let round = &self.schedule.rounds[round];
        let (sent_at, lost) = (round.sent_at, round.lost());
        let only_lost = round.is_only_lost(&self.targets, self.probe.quorum);
        (self.passive.excused, self.passive.unheeded) = (false, None);
        if self.state != State::Up || !only_lost {
            return false;
        }
        let answers = self.passive.answers(sent_at);
        if self.is_heard_since(sent_at) {
            self.passive.silence = None;
            self.passive.excused = answers.is_some();
            return true;
        }
        if self.passive.silence.is_some_and(|silence| self.is_heard_since(silence.since)) {
            self.passive.silence = None;
        }
        self.passive.note_silence(sent_at, lost);
        let excused = self.is_excused_by(answers, sent_at);
        self.passive.excused = excused && answers.is_some();
        self.doubt(answers, excused, now);
        excused
    }

    /// Returns whether answers to traffic excuse the silence up to the round that was sent at
    /// `sent_at`.
    fn is_excused_by(&self, answers: Option<Answers>, sent_at: Duration) -> bool {
        let Some(silence) = self.passive.silence else { return true };
        let silent = sent_at.saturating_sub(silence.since);
        let most = MAX_EXCUSED.max(self.few());
        match answers {
            Some(Answers::Many) => silent < most,
            Some(Answers::Few) => {
                let since = silence.since.max(self.passive.many_at.unwrap_or_default());
                let few = sent_at.saturating_sub(since) < self.few();
                silent < most && (few || silence.lost < LOST)
            }
            // Rounds that follow each other fast do not speed the verdict up, either.
            None if silence.doubted && !self.is_suspected() => {
                silent < self.usual(self.probe.failure_count.saturating_sub(1))
            }
            None => false,
        }
    }

    /// Probes the uplink more often if only few networks answer; or, once answers no longer excuse
    /// anything, counts all rounds that they have excused.
    fn doubt(&mut self, answers: Option<Answers>, excused: bool, now: Duration) {
        let Some(silence) = &mut self.passive.silence else { return };
        if !excused {
            if answers.is_some() || silence.doubted {
                self.streak.bad = self.streak.bad.max(silence.rounds.saturating_sub(1));
            }
            self.passive.unheeded = answers;
            return;
        }
        let was = silence.doubted;
        silence.doubted = answers.map_or(was, |answers| answers == Answers::Few);
        if silence.doubted && !was {
            self.schedule.hurry(now);
        }
    }
}

#[cfg(test)]
mod tests;
