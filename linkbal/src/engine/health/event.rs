//! The events that the health of an uplink follows from.

use std::{net::IpAddr, time::Duration};

use super::{failure::FailureKind, passive::Answers, state::State};
use crate::{config::Target, engine::kernel::unready::Unready};

/// The reason for which no target could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The uplink has lost its address for a moment.
    NoAddress,
    /// Something that linkbal set up is undone, or an address has just gone. Rounds that failed before
    /// that was known do not count.
    Drift,
}

/// An event that may change the health of an uplink in one family.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthEvent<'a> {
    /// Interface, carrier, address and gateway are there.
    Ready,
    /// One of them is missing, with the reason.
    NotReady(&'a Unready),
    /// Another gateway has its address, with the reason: it is not ready, but has not failed, and
    /// comes back at once.
    Standby(&'a Unready),
    /// The administrator disables it, or not. Once it is enabled again, it must be told anew
    /// whether it is ready.
    Disabled(bool),
    /// The administrator wants it up with its first good round, or at once if the last was good.
    Admitted,
    /// A drill blocks it, or no longer does.
    Blocked(bool),
    /// A target answered the probe of a round. Unknown rounds and targets and repeated answers do
    /// not count.
    ProbeAnswered(&'a Target, u64),
    /// The probe of a round failed before its time was over, with the reason, and its kind if the
    /// target answered.
    ProbeFailed(&'a Target, u64, &'a str, Option<FailureKind>),
    /// The probe of a round could not be sent by this machine, with the reason.
    ProbeUnsent(&'a Target, u64, &'a str),
    /// The target of a round has no address in this family: it does not count.
    ProbeSkipped(&'a Target, u64),
    /// The kernel does not find the link-layer address of its gateway.
    GatewayFailed(IpAddr),
    /// The state in the other family, which decides if this one has no targets of its own; `None`:
    /// the uplink does not have the other family.
    OtherFamily(Option<State>),
    /// The traffic of the uplink is answered.
    TrafficAnswered(Answers),
    /// The traffic of the uplink is not answered, though it should be by now.
    Suspected,
    /// No target could answer until a time, which says nothing. Pending probes are void.
    Paused(Pause, Duration),
    /// Targets can answer again.
    Resumed(Pause),
    /// Time has passed.
    Tick,
}
