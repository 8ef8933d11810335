//! The input and output of the engine.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};
use serde::{Deserialize, Serialize};

use super::{
    admin::AdminState,
    adopt::Adoption,
    bond::{BondState, MemberState},
    conflict::{Conflict, path::Question, survey::Survey},
    desired::UplinkAddresses,
    domains::Lifetime,
    health::{Transition, evidence::Evidence},
    load::Counts,
    network::{Change, Link, NetworkEvent, Role, Snapshot, family},
    per_family::PerFamily,
    refusal::Refusal,
    resource::{Part, Process, ResourceKind},
    traffic::Traffic,
};
use crate::config::Target;

/// An event that happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Event {
    /// A message of the kernel.
    Network(NetworkEvent),
    /// The answer to [`Command::Observe`].
    Observed(Snapshot),
    /// The failure of [`Command::Observe`].
    NotObserved,
    /// The changes of one [`Command::Apply`] that could not be made. Sent before
    /// [`Event::Applied`].
    NotApplied(Vec<Refusal>),
    /// The answer to [`Command::Survey`].
    Surveyed(Survey),
    /// Parts of the datapath are missing.
    Damaged(Vec<Part>),
    /// The changes of one [`Command::Apply`] have been made, as far as possible.
    Applied,
    /// A target answered a probe.
    ProbeAnswer {
        /// Index of the uplink that the probe left by.
        uplink: u32,
        /// Family that the probe judges.
        #[serde(with = "family")]
        family: Family,
        /// The target that answered.
        target: Target,
        /// Round of the probe.
        round: u64,
    },
    /// A probe failed before its time was over.
    ProbeFailed {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// Family that the probe judges.
        #[serde(with = "family")]
        family: Family,
        /// The target that was asked.
        target: Target,
        /// Round of the probe.
        round: u64,
        /// Reason for the failure.
        reason: String,
    },
    /// A probe could not be sent by this machine: that says nothing of the uplink.
    ProbeUnsent {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// Family that the probe judges.
        #[serde(with = "family")]
        family: Family,
        /// The target that was to be asked.
        target: Target,
        /// Round of the probe.
        round: u64,
        /// Reason for the failure.
        reason: String,
    },
    /// A probe had no address to ask: the name of its target has none of the family.
    ProbeSkipped {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// Family that the probe judges.
        #[serde(with = "family")]
        family: Family,
        /// The target that was to be asked.
        target: Target,
        /// Round of the probe.
        round: u64,
    },
    /// The administrator's wish for an uplink changed.
    Admin {
        /// Index of the uplink.
        uplink: u32,
        /// The new wish.
        admin: AdminState,
    },
    /// The traffic counters were read, about once a second.
    Counted(Counts),
    /// The datapath counted traffic.
    Traffic {
        /// Counters by uplink; those that did not change may be left out.
        counters: BTreeMap<u32, Traffic>,
        /// The networks that have answered settled flows since the last count, as bits, by uplink:
        /// IPv4, then IPv6.
        #[serde(default)]
        networks: BTreeMap<u32, PerFamily<u32>>,
    },
    /// An answer to [`Command::Resolve`].
    Resolved {
        /// The name.
        name: String,
        /// Addresses with their TTLs; empty if the name exists without any.
        addresses: Vec<Lifetime>,
    },
    /// The failure of [`Command::Resolve`].
    NotResolved {
        /// The name.
        name: String,
        /// Reason for the failure.
        reason: String,
    },
}

/// A task for the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Sets the mask of the usable uplinks.
    SetUpMask(UpMask),
    /// Ends the flows of one uplink and family: the next packet of each is decided anew, and TCP
    /// connections are reset.
    EndFlows {
        /// Index of the uplink.
        uplink: u32,
        /// The family.
        family: Family,
        /// Source addresses of local connections by the uplink.
        own: Vec<IpAddr>,
    },
    /// Sets the mask of the uplinks that new flows avoid as long as others are usable.
    SetAvoidMask(UpMask),
    /// Sets the weights that share new flows without a rule, by index of the uplink.
    SetWeights(BTreeMap<u32, u32>),
    /// Deletes the conntrack entries of one uplink and family.
    ForgetConnections {
        /// The family.
        family: Family,
        /// Fwmark of the uplink.
        fwmark: u32,
    },
    /// Drops what the flow table knows of a family; connections go on by their marks.
    ForgetFlows {
        /// The family.
        family: Family,
    },
    /// Gives a mark to connections that have none, or forgets them.
    AdoptConnections(Adoption),
    /// Changes bonds, routes, ip rules, sysctls and the nft table.
    Apply(Vec<Change>),
    /// Sets the destinations that the datapath does not balance, each with who routes it: one of
    /// [`linkbal_common::tables::bypass`].
    SetBypass(BTreeMap<IpNet, u32>),
    /// Sets the addresses of the uplinks in the datapath; those that are missing have none.
    SetUplinkAddresses(UplinkAddresses),
    /// Sets the uplink (by index, or [`SHARED`]) of each interface in the datapath.
    ///
    /// [`SHARED`]: linkbal_common::tables::SHARED
    SetUplinkInterfaces(BTreeMap<u32, u32>),
    /// Makes the datapath run on exactly these interfaces.
    Attach(Vec<(Role, Link)>),
    /// Sends probes to targets, by the uplink's device and table.
    SendProbes {
        /// Index of the uplink.
        uplink: u32,
        /// The family that the targets judge.
        family: Family,
        /// Interface index of the uplink's device.
        ifindex: u32,
        /// Fwmark of the uplink.
        fwmark: u32,
        /// Gateway of the uplink; `None` on a point-to-point link.
        gateway: Option<IpAddr>,
        /// The round; answers must name it.
        round: u64,
        /// The targets to ask.
        targets: Vec<Target>,
        /// Time after which no answer is waited for.
        timeout: Duration,
    },
    /// Restores missing parts of the datapath.
    Restore(Vec<Part>),
    /// Observes the kernel's state; answered with [`Event::Observed`].
    Observe,
    /// Looks at the nft tables of others, and asks the kernel where packets go; answered with
    /// [`Event::Surveyed`].
    Survey(Vec<Question>),
    /// Looks up the addresses of a name; answered with [`Event::Resolved`] or
    /// [`Event::NotResolved`].
    Resolve {
        /// The name.
        name: String,
    },
    /// Tells the datapath the addresses of a name.
    Learn {
        /// The name, one of those in rules.
        name: String,
        /// Addresses, and the time for which each is to be known.
        addresses: Vec<Lifetime>,
    },
    /// Reports a change to people.
    Report(Report),
}

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
        reason: String,
        /// Evidence for the change.
        evidence: Evidence,
    },
    /// An uplink exceeds its limits, or no longer does.
    Quality {
        /// Name of the uplink.
        uplink: String,
        /// Family.
        family: Family,
        /// The limits that it exceeds, and by how much; `None` if none.
        degraded: Option<String>,
    },
    /// The administrator's wish for an uplink changed.
    Admin {
        /// Name of the uplink.
        uplink: String,
        /// Wish before.
        from: AdminState,
        /// Wish after.
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
    Name {
        /// The domain.
        name: String,
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
    /// The kernel refuses something that linkbal needs, or no longer does.
    Trouble {
        /// Name of the thing.
        what: String,
        /// Reason, and what to do; `None` if it is in force now.
        problem: Option<String>,
    },
    /// A host begins more than its share, or no longer does.
    Host {
        /// Address of the host, or its network in IPv6.
        host: String,
        /// The part that was stored; `None` if the host is within its share again.
        limited: Option<Host>,
    },
    /// A new configuration was to be put in force.
    Configuration {
        /// File of the configuration.
        path: String,
        /// Result.
        fate: Fate,
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
pub enum Fate {
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
    /// The configuration is refused, with the reason: the one before stays in force.
    Refused(String),
}
