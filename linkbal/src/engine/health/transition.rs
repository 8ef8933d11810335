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

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Health, quality::Quality};
use crate::words::measured;

/// Reason of an uplink that is down since it was disabled before.
pub(super) const ENABLED: &str = "enabled by the administrator, to be proved good";

/// The state of an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No verdict yet.
    Init,
    /// The uplink is usable.
    Up,
    /// The uplink is not usable.
    Down,
    /// The uplink is disabled by the administrator, and not probed.
    AdminDown,
}

impl State {
    /// Returns whether the uplink is usable.
    pub const fn is_up(self) -> bool {
        matches!(self, State::Up)
    }

    /// Returns the name, as in `status`, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::Init => "init",
            State::Up => "up",
            State::Down => "down",
            State::AdminDown => "admin-down",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

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
    NotReady(&'a str),
    /// Another gateway has its address, with the reason.
    Standby(&'a str),
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
    fn next(&self, signal: Signal<'_>, now: Duration) -> Option<(State, String)> {
        use State::{AdminDown, Down, Init, Up};
        let fresh = self.fresh;
        let held = self.streak.is_held(self.hold(), now);
        let (state, reason) = match (self.state, signal) {
            // The administrator comes first.
            (AdminDown, Signal::Enabled) => (Down, ENABLED.into()),
            (AdminDown, _) | (_, Signal::Enabled) => return None,
            (_, Signal::Disabled) => (AdminDown, "disabled by the administrator".into()),

            // Down, or down for another reason than before.
            (_, Signal::NotReady(reason)) => (Down, reason.into()),
            (_, Signal::Standby(reason)) => (Down, format!("standby: {reason}")),
            (_, Signal::BadRounds) => (Down, self.describe_outage()),

            // Without a bad round the address of the gateway may just have been forgotten.
            (Up, Signal::GatewayMissing(gateway)) if self.streak.bad > 0 => (
                Down,
                format!("the gateway {gateway} is not found on the link, and probes are lost"),
            ),

            // Up: at once for the first time and without a failure, else after a proof.
            (Init, Signal::GoodRound) => (Up, "targets answer".into()),
            (Down, Signal::GoodRound) if fresh => (Up, "targets answer".into()),
            (Down, Signal::GoodRound) if held && self.streak.good >= self.probe.success_count => {
                let held = measured(self.streak.good_for(now));
                (Up, format!("{} good rounds in {held}", self.streak.good))
            }
            (Down, Signal::Admitted) if self.streak.good > 0 => {
                (Up, "targets answer, and it was enabled without the hold time".into())
            }
            (Down, Signal::AddressBack) if fresh => (Up, "the virtual address is here".into()),

            // Without targets of its own.
            (Init, Signal::Carrier) => (Up, "ready; no targets to ask".into()),
            (Down, Signal::Carrier) if fresh || held => (Up, "ready; no targets to ask".into()),
            (Init | Down, Signal::OtherFamily(None)) => {
                (Up, "ready; no targets of this family".into())
            }
            (state, Signal::OtherFamily(Some(other))) if state != other => {
                (other, format!("as the other family: {other}"))
            }

            (Init | Up | Down, _) => return None,
        };
        Some((state, reason))
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
