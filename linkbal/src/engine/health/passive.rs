//! What is seen of an uplink beside the answers in time: late ones, and its traffic.
//!
//! - A bad round is excused if the uplink was heard since the round began: by late answers of the
//!   quorum, or by answers to traffic. It must be bad by lost probes alone: an answer that says that
//!   something is wrong, like that of a captive portal, is not outweighed. A configured timeout says
//!   that late answers are worth nothing, so they excuse nothing then.
//! - Traffic that is not answered brings suspicion: then rounds follow each other fast and do not
//!   wait for long, until one of them is good, traffic is answered, or the verdict is "down".

use std::{net::IpAddr, time::Duration};

use super::{
    Health, State, Transition,
    round::{Asked, quorum_of},
};
use crate::engine::window::TIMEOUT_CEILING;

/// Time between two rounds under suspicion.
const FAST: Duration = Duration::from_millis(20);

/// A suspicion that nothing settled is given up after this time; regular rounds go on.
const SUSPICION: Duration = Duration::from_secs(2);

/// What one uplink and family is known by beside its rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Passive {
    /// When its traffic was last seen to be answered.
    answered_at: Option<Duration>,
    /// When the suspicion ends by itself.
    suspected_until: Option<Duration>,
    /// The last round was bad and excused.
    excused: bool,
}

impl Health {
    /// Its traffic is answered.
    pub fn traffic_answered(&mut self, now: Duration) {
        self.passive.answered_at = Some(now);
        self.passive.suspected_until = None;
    }

    /// Its traffic is not answered, though it should be by now.
    pub fn suspect(&mut self, now: Duration) {
        if self.state == State::Up && self.ready && !self.is_suspected() {
            self.passive.suspected_until = Some(now + SUSPICION);
            self.next_round_at = self.next_round_at.min(now);
        }
    }

    /// The kernel does not find the link-layer address of its gateway, so that nothing leaves. Beside
    /// a lost round that is a verdict; without one the address may just have been forgotten.
    pub fn gateway_failed(&mut self, gateway: IpAddr, now: Duration) -> Option<Transition> {
        if self.state != State::Up || !self.ready {
            return None;
        }
        if self.bad_rounds == 0 {
            self.suspect(now);
            return None;
        }
        let reason = format!("the gateway {gateway} is not found on the link, and probes are lost");
        self.enter(State::Down, reason, now)
    }

    /// Whether it is asked fast because its traffic is not answered.
    pub const fn is_suspected(&self) -> bool {
        self.passive.suspected_until.is_some()
    }

    /// Whether its last probes were lost while its traffic was answered.
    pub const fn is_excused(&self) -> bool {
        self.passive.excused
    }

    /// The time until the next round.
    pub(super) fn pace(&mut self) -> Duration {
        let over = self.passive.suspected_until.is_some_and(|until| until <= self.next_round_at);
        if over {
            self.passive.suspected_until = None;
        }
        if self.is_suspected() { FAST.min(self.probe.interval) } else { self.probe.interval }
    }

    /// How long an answer of this target is waited for.
    pub(super) fn patience(&self) -> impl Fn(&Asked) -> Duration + use<> {
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

    /// The suspicion is settled.
    pub(super) const fn trust(&mut self) {
        self.passive.suspected_until = None;
        self.passive.excused = false;
    }

    /// Whether an answer that took so long still shows that the uplink works.
    pub(super) fn may_be_late(&self, latency: Duration) -> bool {
        self.probe.timeout.is_none() && latency <= TIMEOUT_CEILING
    }

    /// Whether a bad round does not count.
    pub(super) fn excuses(&mut self, round: usize) -> bool {
        let (round, quorum) = (&self.rounds[round], self.probe.quorum);
        let since = |heard: Option<Duration>| heard.is_some_and(|at| at >= round.sent_at);
        let heard = self.targets.iter().filter(|asked| since(asked.heard_at)).count();
        let by_traffic = since(self.passive.answered_at);
        let by_targets = heard >= quorum_of(&self.targets, quorum);
        let excused = self.state == State::Up
            && (by_traffic || by_targets)
            && round.is_only_lost(&self.targets, quorum);
        self.passive.excused = excused && by_traffic;
        excused
    }
}
