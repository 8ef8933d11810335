//! Health of uplinks: a state machine for each uplink and family tells whether it is usable.
//!
//! [`Health::handle`] passes each event to the part that it concerns. What may change the state becomes
//! a signal, and `transition` is the table of what follows from that. Each part has a state of its own:
//! `schedule` and `round` ask the targets, `streak` counts good and bad rounds, `damping` says how long
//! an uplink must be well before it comes back, `passive` weighs late answers and traffic, which excuse a
//! bad round or speed the verdict up, `quality` compares with limits, and `drill` knows what is down on
//! purpose.
//!
//! A round asks targets; it is good as soon as `quorum` of them answered in time, and bad when its
//! time is over without that; `round` has the details. "Not ready" (no interface, no carrier, no
//! address, no gateway) is known from the kernel and counts at once.

pub mod evidence;
pub mod failure;
pub mod latencies;
pub mod reason;
pub(in crate::engine) mod suspicion;
pub mod traffic;
pub(in crate::engine) mod verdicts;
pub mod window;

mod cause;
mod damping;
mod drill;
mod event;
mod explain;
mod outage;
mod passive;
mod probing;
mod quality;
mod round;
mod schedule;
#[cfg(test)]
mod simulation;
mod state;
mod streak;
mod transition;
mod unsent;

use std::{net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;

pub use self::{
    cause::Cause,
    event::{HealthEvent, Pause},
    failure::FailureKind,
    outage::KnownOutage,
    passive::Answers,
    probing::RoundStart,
    state::State,
    transition::Transition,
};
use self::{
    damping::Damping,
    drill::DrillState,
    failure::Failure,
    outage::GatewayState,
    passive::Passive,
    probing::Basis,
    quality::Quality,
    reason::{Reason, Reasons},
    round::TargetState,
    schedule::Schedule,
    streak::Streak,
    transition::Signal,
    window::Window,
};
use super::kernel::unready::Unready;
use crate::config::Probe;

/// Reason for which an uplink that loses probes stays up.
static EXCUSED: Reasons = Reasons { main: Reason::ProbesLost, more: Vec::new() };

/// The health of one uplink in one family. Times are monotonic, from an epoch of the caller's.
#[derive(Clone, Debug)]
pub struct Health {
    probe: Probe,
    /// The targets of the family.
    targets: Vec<TargetState>,
    state: State,
    since: Duration,
    reason: Reasons,
    /// Set if interface, carrier, address and gateway are there.
    ready: bool,
    schedule: Schedule,
    streak: Streak,
    window: Window,
    passive: Passive,
    quality: Quality,
    damping: Damping,
    gateway: GatewayState,
    drill: DrillState,
    /// Set if it has not failed since it was last up, or ever: it need not prove anything.
    fresh: bool,
    /// Set if another gateway has its address.
    standing_by: bool,
}

impl Health {
    /// Creates a state machine for one family: it asks the targets of that family only. It starts
    /// Up if the uplink is known to be usable, as after a restart of the daemon.
    pub fn new(probe: Probe, family: Family, usable: bool, now: Duration) -> Health {
        let targets = probe.targets.iter().filter(|target| target.judges(family));
        Health {
            targets: targets.cloned().map(TargetState::new).collect(),
            probe,
            state: if usable { State::Up } else { State::Init },
            since: now,
            reason: if usable { Reason::FoundUsable } else { Reason::NoAnswerYet }.into(),
            ready: false,
            schedule: Schedule::new(now),
            streak: Streak::default(),
            window: Window::default(),
            passive: Passive::default(),
            quality: Quality::default(),
            damping: Damping::default(),
            gateway: GatewayState::default(),
            drill: DrillState::default(),
            fresh: !usable,
            standing_by: false,
        }
    }

    /// Returns the state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns the time at which the state was entered.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// Returns the time since which an uplink that is down answers well, or is ready if it has no targets:
    /// it is up again once that lasted for the hold time.
    pub fn answers_since(&self) -> Option<Duration> {
        self.streak.good_since.filter(|_| self.state == State::Down)
    }

    /// Returns the reason for which the state was entered, or is kept.
    pub fn reason(&self) -> &Reasons {
        if self.is_excused() { &EXCUSED } else { &self.reason }
    }

    /// Returns loss, latency and jitter.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Returns whether interface, carrier, address and gateway are there.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether it has targets of its own.
    pub const fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Returns the time between two rounds.
    pub const fn interval(&self) -> Duration {
        self.probe.interval
    }

    /// Returns whether another gateway has its address.
    pub const fn stands_by(&self) -> bool {
        self.standing_by
    }

    /// Returns whether it will come up as soon as its address is here: nothing speaks against it.
    pub const fn is_promised(&self) -> bool {
        self.standing_by && self.fresh
    }

    /// Replaces the probe settings. The state stays; with other targets, it must be told again
    /// whether it is ready, and rounds begin anew.
    pub fn set_probe(&mut self, probe: &Probe, family: Family, now: Duration) {
        let targets = probe.targets.iter().filter(|target| target.judges(family));
        let targets: Vec<TargetState> = targets.cloned().map(TargetState::new).collect();
        let same = |(old, new): (&TargetState, &TargetState)| old.target == new.target;
        let all_same =
            targets.len() == self.targets.len() && self.targets.iter().zip(&targets).all(same);
        if !all_same || probe.targets.is_empty() != self.probe.targets.is_empty() {
            self.targets = targets;
            self.end_readiness();
        }
        self.schedule.hurry(now + probe.interval);
        if probe.limits != self.probe.limits {
            self.quality = Quality::new(&self.window);
        }
        self.probe.clone_from(probe);
    }

    /// Handles an event; returns the change of state that follows.
    pub fn handle(&mut self, event: &HealthEvent<'_>, now: Duration) -> Option<Transition> {
        match *event {
            HealthEvent::Ready => return self.begin_readiness(now),
            HealthEvent::NotReady(lacks) => return self.lose_way(Signal::NotReady(lacks), now),
            HealthEvent::Standby(lacks) => return self.stand_by(lacks, now),
            HealthEvent::Disabled(disabled) => return self.set_disabled(disabled, now),
            HealthEvent::Admitted => return self.admit(now),
            HealthEvent::ProbeAnswered(target, round) => return self.answer(target, round, now),
            HealthEvent::ProbeFailed(target, round, reason, kind) => {
                return self.fail(target, round, Failure { reason: reason.into(), kind }, now);
            }
            HealthEvent::ProbeUnsent(target, round, reason) => {
                return self.unsent(target, round, reason.into(), now);
            }
            HealthEvent::ProbeSkipped(target, round) => return self.skip(target, round, now),
            HealthEvent::GatewayFailed(gateway) => return self.gateway_failed(gateway, now),
            HealthEvent::OtherFamily(other) => return self.follow(other, now),
            HealthEvent::Tick => return self.expire(now),
            HealthEvent::TrafficAnswered(answers) => self.passive.traffic_answered(answers, now),
            HealthEvent::Blocked(blocked) => self.set_blocked(blocked, now),
            HealthEvent::Suspected => self.suspect(now),
            HealthEvent::Paused(pause, until) => self.pause(pause, until),
            HealthEvent::Resumed(pause) => self.schedule.resume(pause),
        }
        None
    }

    /// Disables it, or lets it prove itself; it must then be told again whether it is ready.
    fn set_disabled(&mut self, disabled: bool, now: Duration) -> Option<Transition> {
        if disabled == (self.state == State::AdminDown) {
            return None;
        }
        self.end_readiness();
        self.fresh = false;
        self.step(if disabled { Signal::Disabled } else { Signal::Enabled }, now)
    }

    /// Lets it come up without the time and the rounds to prove itself.
    fn admit(&mut self, now: Duration) -> Option<Transition> {
        self.fresh |= self.state == State::Down;
        self.step(Signal::Admitted, now).or_else(|| self.trust_carrier(now))
    }

    /// Notes that interface, carrier, address and gateway are there.
    fn begin_readiness(&mut self, now: Duration) -> Option<Transition> {
        if self.ready || self.state == State::AdminDown {
            return None;
        }
        self.ready = true;
        self.schedule.begin_at(now);
        self.streak.good_since = (self.basis() == Basis::Carrier).then_some(now);
        let is_back = std::mem::take(&mut self.standing_by);
        let transition = is_back.then(|| self.step(Signal::AddressBack, now)).flatten();
        transition.or_else(|| self.trust_carrier(now))
    }

    /// Notes that one of them is missing, as the signal says.
    fn lose_way(&mut self, signal: Signal<'_>, now: Duration) -> Option<Transition> {
        if self.state == State::AdminDown {
            return None;
        }
        self.standing_by = false;
        self.end_readiness();
        self.step(signal, now)
    }

    /// Notes that another gateway has its address: it is not ready, but has not failed, and comes
    /// back at once.
    fn stand_by(&mut self, lacks: &Unready, now: Duration) -> Option<Transition> {
        let fresh = self.fresh || self.state == State::Up;
        let transition = self.lose_way(Signal::Standby(lacks), now);
        self.fresh = fresh;
        self.standing_by = self.state == State::Down;
        transition
    }

    /// Takes over the verdict on the other family, if this one has no targets of its own. `None`:
    /// the uplink does not have the other family.
    fn follow(&mut self, other: Option<State>, now: Duration) -> Option<Transition> {
        let follows = self.ready && self.basis() == Basis::OtherFamily;
        follows.then(|| self.step(Signal::OtherFamily(other), now)).flatten()
    }

    /// Takes in that the kernel does not find the link-layer address of its gateway, so that
    /// nothing leaves. With a lost round that is a verdict.
    fn gateway_failed(&mut self, gateway: IpAddr, now: Duration) -> Option<Transition> {
        let transition = self.step(Signal::GatewayMissing(gateway), now);
        match transition {
            Some(_) => self.gateway = GatewayState::silent(now),
            None => self.suspect(now),
        }
        transition
    }

    /// Lets it come up if being ready is all there is to know; coming back still takes the hold time.
    fn trust_carrier(&mut self, now: Duration) -> Option<Transition> {
        let enough = self.ready && self.basis() == Basis::Carrier;
        enough.then(|| self.step(Signal::Carrier, now)).flatten()
    }

    /// Forgets what was found out while it was ready.
    fn end_readiness(&mut self) {
        self.ready = false;
        self.void_probes();
        self.passive.trust();
        self.streak = Streak::default();
    }
}

#[cfg(test)]
mod tests;
