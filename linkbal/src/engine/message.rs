//! What goes into the engine and what comes out.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};
use serde::{Deserialize, Serialize};

use super::{
    admin::Admin,
    adopt::Adoption,
    bond::{BondState, MemberState},
    conflict::{Conflict, path::Question, survey::Survey},
    desired::UplinkAddresses,
    health::{Transition, evidence::Evidence},
    load::Counts,
    names::Lifetime,
    network::{Change, Link, NetworkEvent, Role, Snapshot, family},
    repair::{Part, Process, Touch},
    traffic::Traffic,
};
use crate::config::Target;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Event {
    /// The kernel said something.
    Network(NetworkEvent),
    /// The answer to [`Command::Observe`].
    Observed(Snapshot),
    /// The other answer to [`Command::Observe`]: it failed.
    NotObserved,
    /// Of the changes of one [`Command::Apply`] these could not be made: what each would have put
    /// in force (see [`name`]), and why. Told before [`Event::Applied`].
    ///
    /// [`name`]: super::repair::name
    NotApplied(BTreeMap<String, String>),
    /// The answer to [`Command::Survey`].
    Surveyed(Survey),
    /// Parts of the datapath are missing.
    Damaged(Vec<Part>),
    /// The changes of one [`Command::Apply`] have been made, as far as they could be.
    Applied,
    /// A target answered a probe.
    ProbeAnswer {
        /// Index of the uplink that the probe left by.
        uplink: u32,
        /// The family that it judges.
        #[serde(with = "family")]
        family: Family,
        /// Who answered.
        target: Target,
        /// The round it answers.
        round: u64,
    },
    /// A probe failed before its time was over.
    ProbeFailed {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// The family that it judges.
        #[serde(with = "family")]
        family: Family,
        /// Who was asked.
        target: Target,
        /// The round it belongs to.
        round: u64,
        /// Why.
        reason: String,
    },
    /// This machine could not send a probe: that says nothing of the uplink.
    ProbeUnsent {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// The family that it judges.
        #[serde(with = "family")]
        family: Family,
        /// Who was to be asked.
        target: Target,
        /// The round it belongs to.
        round: u64,
        /// Why.
        reason: String,
    },
    /// A probe had nothing to ask: the name of its target has no address of the family.
    ProbeSkipped {
        /// Index of the uplink that the probe was to leave by.
        uplink: u32,
        /// The family that it judges.
        #[serde(with = "family")]
        family: Family,
        /// Who was to be asked.
        target: Target,
        /// The round it belongs to.
        round: u64,
    },
    /// The administrator wants something else of an uplink.
    Admin {
        /// Its index.
        uplink: u32,
        /// What is wanted now.
        admin: Admin,
    },
    /// The counters of traffic were read, which is due once a second.
    Counted(Counts),
    /// The datapath counted traffic.
    Traffic {
        /// By uplink; those whose counters did not change may be left out.
        counters: BTreeMap<u32, Traffic>,
        /// The networks that answered settled flows since it last counted, as bits, by uplink; IPv4,
        /// then IPv6.
        #[serde(default)]
        networks: BTreeMap<u32, [u32; 2]>,
    },
    /// An answer to [`Command::Resolve`].
    Resolved {
        /// The name.
        name: String,
        /// Its addresses with their TTLs; none if it exists without.
        addresses: Vec<Lifetime>,
    },
    /// The other answer to [`Command::Resolve`]: it failed.
    NotResolved {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Store the word that says which uplinks are usable.
    SetUpMask(UpMask),
    /// End the flows of one uplink and family: the next packet of each is decided anew, and TCP
    /// connections are reset.
    EndFlows {
        /// Index of the uplink.
        uplink: u32,
        /// The family.
        family: Family,
        /// The addresses that this machine's own connections by the uplink have.
        own: Vec<IpAddr>,
    },
    /// Let new flows avoid these uplinks as long as others are usable.
    SetAvoidMask(UpMask),
    /// Share new flows without a rule by these weights, by index of the uplink.
    SetWeights(BTreeMap<u32, u32>),
    /// Delete the conntrack entries of one uplink and family.
    ForgetConnections {
        /// The family.
        family: Family,
        /// The uplink's fwmark.
        fwmark: u32,
    },
    /// Drop what the flow table knows of a family; connections go on by their marks.
    ForgetFlows {
        /// The family.
        family: Family,
    },
    /// Look at the connections that have no mark, and give them one, or forget them.
    AdoptConnections(Adoption),
    /// Change bonds, routes, ip rules, sysctls and the nft table.
    Apply(Vec<Change>),
    /// Tell the datapath which destinations it does not balance, and who routes them: one of
    /// [`linkbal_common::tables::bypass`].
    SetBypass(BTreeMap<IpNet, u32>),
    /// Tell the datapath the addresses of the uplinks; those that are missing have none.
    SetUplinkAddresses(UplinkAddresses),
    /// Tell the datapath which uplink (by index, or [`SHARED`]) comes in by which interface.
    ///
    /// [`SHARED`]: linkbal_common::tables::SHARED
    SetUplinkInterfaces(BTreeMap<u32, u32>),
    /// Make the datapath run on exactly these interfaces.
    Attach(Vec<(Role, Link)>),
    /// Ask targets, by the uplink's device and table.
    SendProbes {
        /// Index of the uplink.
        uplink: u32,
        /// The family that the targets judge.
        family: Family,
        /// Its device.
        ifindex: u32,
        /// Its fwmark.
        fwmark: u32,
        /// Its gateway; none on point-to-point.
        gateway: Option<IpAddr>,
        /// The round; answers must name it.
        round: u64,
        /// Whom to ask.
        targets: Vec<Target>,
        /// After this time nobody waits for an answer of any of them.
        timeout: Duration,
    },
    /// Restore these parts of the datapath.
    Restore(Vec<Part>),
    /// Observe the kernel's state and answer with [`Event::Observed`].
    Observe,
    /// Look at the nft tables of others, ask the kernel where packets go, and answer with
    /// [`Event::Surveyed`].
    Survey(Vec<Question>),
    /// Look up the addresses of a name and answer with [`Event::Resolved`] or
    /// [`Event::NotResolved`].
    Resolve {
        /// The name.
        name: String,
    },
    /// Tell the datapath the addresses of a name.
    Learn {
        /// The name, one of those of rules.
        name: String,
        /// Its addresses, and for how long they are to be known.
        addresses: Vec<Lifetime>,
    },
    /// Tell people.
    Report(Report),
}

/// A change that people want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// An uplink changed its state.
    Uplink {
        /// Its name.
        uplink: String,
        /// Family.
        family: Family,
        /// The change.
        transition: Transition,
        /// Why.
        reason: String,
        /// What was seen.
        evidence: Evidence,
    },
    /// An uplink is worse than its limits allow, or no longer.
    Quality {
        /// Its name.
        uplink: String,
        /// Family.
        family: Family,
        /// Which limits it exceeds and by how much.
        degraded: Option<String>,
    },
    /// The administrator wants something else of an uplink.
    Admin {
        /// Its name.
        uplink: String,
        /// Before.
        from: Admin,
        /// After.
        to: Admin,
    },
    /// An uplink is full, or no longer.
    Load {
        /// Its name.
        uplink: String,
        /// Whether it is full.
        full: bool,
        /// How much of its capacity is used.
        percent: u32,
    },
    /// A drill began, or is over.
    Drill {
        /// Name of the uplink.
        uplink: String,
        /// Whether nothing passes it now.
        on: bool,
        /// For how long, or why no longer.
        reason: String,
    },
    /// An uplink has another address.
    Address {
        /// Its name.
        uplink: String,
        /// Family.
        family: Family,
        /// Before.
        from: IpAddr,
        /// Now.
        to: IpAddr,
        /// Whether the former one is gone, and with it the flows that had it.
        gone: bool,
    },
    /// A bond changed its state.
    Bond {
        /// Its name.
        bond: String,
        /// Before.
        from: BondState,
        /// After.
        to: BondState,
    },
    /// A member of a bond changed its state.
    Member {
        /// Name of the bond.
        bond: String,
        /// Its name.
        member: String,
        /// Before.
        from: MemberState,
        /// After.
        to: MemberState,
    },
    /// A LAN interface does not exist, or does again.
    Lan {
        /// Its name.
        interface: String,
        /// Whether it exists.
        exists: bool,
    },
    /// The domain of a rule cannot be resolved, or can again.
    Name {
        /// The domain.
        name: String,
        /// Why not.
        failure: Option<String>,
    },
    /// What somebody undid is in force again.
    Repair {
        /// What it is.
        kind: Touch,
        /// Some of it.
        what: Vec<String>,
        /// How much more there is.
        more: usize,
        /// Who undid it, as far as that is known.
        by: Option<Process>,
    },
    /// Something is undone again and again, or no longer.
    Contested {
        /// What.
        what: String,
        /// Who undid it last, as far as that is known.
        by: Option<Process>,
        /// How often it is repaired; `None`: it is left alone again.
        pace: Option<Duration>,
    },
    /// What others have set up clashes, or no longer.
    Conflict {
        /// What.
        conflict: Conflict,
        /// Whether it is there.
        there: bool,
    },
    /// The kernel refuses what linkbal needs, or no longer.
    Trouble {
        /// What.
        what: String,
        /// Why, and what to do; `None`: it is in force now.
        problem: Option<String>,
    },
    /// A host begins more than its share, or no longer.
    Host {
        /// Its address, or its network of IPv6.
        host: String,
        /// What of it was stored; `None`: it is within its share again.
        limited: Option<Host>,
    },
    /// Another configuration was to be put in force.
    Configuration {
        /// Its file.
        path: String,
        /// What became of it.
        fate: Fate,
    },
}

/// What a host has begun since the present window began, as far as it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Flows that were answered.
    pub flows: u32,
    /// Sticky sessions.
    pub sessions: u32,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It is in force.
    InForce {
        /// How many uplinks it has.
        uplinks: usize,
        /// How long that took.
        after: Duration,
        /// The time within which it must be confirmed.
        trial: Option<Duration>,
    },
    /// It stays after its trial.
    Confirmed,
    /// Nobody confirmed it: the one before is in force again.
    Lost,
    /// It is refused, and why: the one before stays in force.
    Refused(String),
}
