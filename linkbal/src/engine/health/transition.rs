//! The state machine: which state follows which, and upon what.
//!
//! ```text
//!            one good round                  failure_count bad rounds, or not ready
//!   Init ---------------------------> Up ---------------------------------------> Down
//!     \                                ^                                           |
//!      \-- as Up --> Down              +-- success_count good rounds and hold -----+
//! ```
//!
//! An uplink that the administrator disables is AdminDown from any state, until it is enabled; then it
//! is Down, and comes back like any other. A *fresh* uplink, which has not failed since it was last up,
//! or ever, comes back with its first good round.

use std::{net::IpAddr, time::Duration};

use super::{
    Health,
    quality::Quality,
    reason::{Reason, Reasons},
    state::State,
};
use crate::engine::kernel::unready::Unready;

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The former state.
    pub from: State,
    /// The new state.
    pub to: State,
    /// Time for which the former state lasted.
    pub lasted: Duration,
}

/// The part of an event that may change the state, once what is known was updated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal<'a> {
    /// The administrator disables it.
    Disabled,
    /// The administrator enables it again.
    Enabled,
    /// The administrator wants it up without a proof.
    Admitted,
    /// Interface, carrier, address or gateway is missing, with the reason.
    NotReady(&'a Unready),
    /// Another gateway has its address, with the reason.
    Standby(&'a Unready),
    /// The address that another gateway had is here.
    AddressBack,
    /// Being ready is all there is to know: no targets are configured.
    Carrier,
    /// A round was good.
    GoodRound,
    /// Enough rounds in a row were bad for a verdict.
    BadRounds,
    /// The kernel does not find the link-layer address of the gateway.
    GatewayMissing(IpAddr),
    /// The state in the other family, which decides for this one; `None` if the uplink has only this one.
    OtherFamily(Option<State>),
}

impl Health {
    /// Returns the state that a signal leads to, with the reason; `None` if nothing changes. If it is the
    /// present state, that stays for another reason.
    fn next(&self, signal: Signal<'_>, now: Duration) -> Option<(State, Reasons)> {
        use State::{AdminDown, Down, Init, Up};
        let fresh = self.fresh;
        let held = self.streak.is_held(self.hold(), now);
        let (state, reason) = match (self.state, signal) {
            // The administrator comes first.
            (AdminDown, Signal::Enabled) => (Down, Reason::Reenabled),
            (AdminDown, _) | (_, Signal::Enabled) => return None,
            (_, Signal::Disabled) => (AdminDown, Reason::Disabled),

            // Down, or down for another reason than before.
            (_, Signal::NotReady(lacks)) => (Down, Reason::NotReady(lacks.clone())),
            (_, Signal::Standby(lacks)) => (Down, Reason::Standby(lacks.clone())),
            (_, Signal::BadRounds) => return Some((Down, self.describe_outage())),

            // Without a bad round the address of the gateway may just have been forgotten.
            (Up, Signal::GatewayMissing(gateway)) if self.streak.bad > 0 => {
                (Down, Reason::GatewayMissing(gateway))
            }

            // Up: at once for the first time and without a failure, else after a proof.
            (Init, Signal::GoodRound) => (Up, Reason::TargetsAnswer),
            (Down, Signal::GoodRound) if fresh => (Up, Reason::TargetsAnswer),
            (Down, Signal::GoodRound) if held && self.streak.good >= self.probe.success_count => {
                let rounds = self.streak.good;
                (Up, Reason::GoodRounds { rounds, lasted: self.streak.good_for(now) })
            }
            (Down, Signal::Admitted) if self.streak.good > 0 => (Up, Reason::Admitted),
            (Down, Signal::AddressBack) if fresh => (Up, Reason::AddressBack),

            // Without targets of its own.
            (Init, Signal::Carrier) => (Up, Reason::NoTargets),
            (Down, Signal::Carrier) if fresh || held => (Up, Reason::NoTargets),
            (Init | Down, Signal::OtherFamily(None)) => (Up, Reason::NoTargetsOfFamily),
            (state, Signal::OtherFamily(Some(other))) if state != other => {
                (other, Reason::OtherFamily(other))
            }

            (Init | Up | Down, _) => return None,
        };
        Some((state, reason.into()))
    }

    /// Enters the state that a signal leads to.
    pub(super) fn step(&mut self, signal: Signal<'_>, now: Duration) -> Option<Transition> {
        let (state, reason) = self.next(signal, now)?;
        let reason = if state == State::Down { self.drill.explain(reason) } else { reason };
        self.reason = reason;
        if state == self.state {
            return None;
        }
        let lasted = now.saturating_sub(self.since);
        let transition = Transition { from: self.state, to: state, lasted };
        self.state = state;
        self.since = now;
        self.passive.trust();
        self.quality = Quality::new(&self.window);
        let is_failure = !self.is_drilled() && !matches!(signal, Signal::Standby(_));
        if (transition.from, state) == (State::Up, State::Down) && is_failure {
            self.damping.went_down(now);
        }
        // Not being ready says nothing about a line that was never probed.
        self.fresh &= state == State::Down && !self.ready;
        self.drill.entered(state, now);
        Some(transition)
    }
}
