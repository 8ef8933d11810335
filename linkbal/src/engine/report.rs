//! The news that the engine has for log, journal and hooks.

use std::{net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;

use super::{
    admin::AdminState,
    health::{
        Cause, Transition,
        evidence::Evidence,
        reason::{Exceeded, Reasons},
    },
    kernel::{
        bond::{BondState, MemberState},
        conflict::Conflict,
        resource::{Process, ResourceKind},
    },
    obstacles::Obstacle,
};

/// A change that people want to know of.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// An uplink changed its state.
    Uplink {
        /// Name of the uplink.
        uplink: String,
        /// Family.
        family: Family,
        /// The change.
        transition: Transition,
        /// Reason for the change.
        reason: Reasons,
        /// Evidence for the change.
        evidence: Evidence,
    },
    /// More is known of the outage of an uplink.
    Diagnosis {
        /// Name of the uplink.
        uplink: String,
        /// Family.
        family: Family,
        /// The probable cause.
        cause: Cause,
        /// Reason for its state, with the cause.
        reason: Reasons,
    },
    /// An uplink exceeds its limits, or no longer does.
    Quality {
        /// Name of the uplink.
        uplink: String,
        /// Family.
        family: Family,
        /// The limits that it exceeds, and by how much; `None` if none.
        degraded: Option<Vec<Exceeded>>,
    },
    /// The requested state of an uplink changed.
    Admin {
        /// Name of the uplink.
        uplink: String,
        /// Requested state before.
        from: AdminState,
        /// Requested state after.
        to: AdminState,
    },
    /// An uplink is full, or no longer.
    Load {
        /// Name of the uplink.
        uplink: String,
        /// Set if the uplink is full.
        full: bool,
        /// Used part of its capacity, in percent.
        percent: u32,
    },
    /// A drill began, or is over.
    Drill {
        /// Name of the uplink.
        uplink: String,
        /// Set if the drill began: nothing passes the uplink.
        on: bool,
        /// Time limit of the drill, or reason for its end.
        reason: String,
    },
    /// An uplink has a new address.
    Address {
        /// Name of the uplink.
        uplink: String,
        /// Family.
        family: Family,
        /// Address before.
        from: IpAddr,
        /// Address now.
        to: IpAddr,
        /// Set if the former address is gone, and with it the flows that had it.
        gone: bool,
    },
    /// A bond changed its state.
    Bond {
        /// Name of the bond.
        bond: String,
        /// State before.
        from: BondState,
        /// State after.
        to: BondState,
    },
    /// A member of a bond changed its state.
    Member {
        /// Name of the bond.
        bond: String,
        /// Name of the member.
        member: String,
        /// State before.
        from: MemberState,
        /// State after.
        to: MemberState,
    },
    /// A LAN interface does not exist, or does again.
    Lan {
        /// Name of the interface.
        interface: String,
        /// Set if the interface exists.
        exists: bool,
    },
    /// The domain of a rule cannot be resolved, or can be again.
    Domain {
        /// The domain.
        domain: String,
        /// Reason for the failure; `None` if it can be resolved again.
        failure: Option<String>,
    },
    /// Something that others undid was repaired.
    Repair {
        /// Kind of thing.
        kind: ResourceKind,
        /// The first few things, by name.
        what: Vec<String>,
        /// Number of further things.
        more: usize,
        /// The process that undid it, if known.
        by: Option<Process>,
    },
    /// Something is undone again and again, or no longer.
    Throttled {
        /// Name of the thing.
        what: String,
        /// The process that undid it last, if known.
        by: Option<Process>,
        /// Time between two repairs; `None` if it is left alone again.
        pace: Option<Duration>,
    },
    /// A conflict with what others have set up began, or is over.
    Conflict {
        /// The conflict.
        conflict: Conflict,
        /// Set if the conflict is there.
        there: bool,
    },
    /// Something that packets would pass by keeps them from taking shortcuts, or no longer.
    Shortcuts {
        /// The obstacle.
        obstacle: Obstacle,
        /// Set if the obstacle is there.
        there: bool,
    },
    /// The kernel refuses something that linkbal needs, or no longer does.
    Refused {
        /// Name of the thing.
        what: String,
        /// Reason, and what to do; `None` if it is in force now.
        problem: Option<String>,
    },
    /// A host begins more than its quota, or no longer does.
    Host {
        /// Address of the host, or its network in IPv6.
        host: String,
        /// The part that was stored; `None` if the host is within its quota again.
        limited: Option<Host>,
    },
    /// Messages to a receiver fail, or arrive again.
    Receiver {
        /// Name of the receiver.
        name: String,
        /// Reason for the failure; `None` if they arrive again.
        failure: Option<String>,
    },
    /// A new configuration was to be put in force.
    Configuration {
        /// File of the configuration.
        path: String,
        /// Result.
        outcome: ReloadOutcome,
    },
}

/// The flows and sessions that a host has begun in the present window, as far as they were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Number of flows that were answered.
    pub flows: u32,
    /// Number of sticky sessions.
    pub sessions: u32,
}

/// The result for a new configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ReloadOutcome {
    /// The configuration is in force.
    InForce {
        /// Number of uplinks.
        uplinks: usize,
        /// Time that it took.
        after: Duration,
        /// The time within which it must be confirmed.
        trial: Option<Duration>,
    },
    /// The configuration stays after its trial.
    Confirmed,
    /// The configuration was not confirmed: the one before is in force again.
    Lost,
    /// The trial was ended by the administrator: the one before is in force again.
    Undone,
    /// The configuration is refused, with the reason: the one before stays in force.
    Refused(String),
    /// The file could not be used at the start: the last good configuration is in force.
    LastGood {
        /// Time at which that was stored, RFC 3339, UTC.
        saved: String,
        /// Fault of the file.
        reason: String,
    },
}
