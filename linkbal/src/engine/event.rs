//! The input of the engine.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use super::{
    admin::AdminState,
    balance::load::Counts,
    health::{HealthEvent, failure::FailureKind, traffic::Traffic},
    kernel::{
        conflict::survey::Survey,
        network::{NetworkEvent, Snapshot, family},
        refusal::KernelRefusal,
        resource::Part,
    },
    obstacles::Obstacles,
};
use crate::{config::Target, per_family::PerFamily};

/// An address, and the time for which it may be believed.
pub type Lifetime = (IpAddr, Duration);

/// An event that happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Event {
    /// A message of the kernel.
    Network(NetworkEvent),
    /// The answer to [`super::Command::Observe`].
    Observed(Snapshot),
    /// The failure of [`super::Command::Observe`].
    NotObserved,
    /// The changes of one [`super::Command::Apply`] that could not be made. Sent before
    /// [`Event::Applied`].
    NotApplied(Vec<KernelRefusal>),
    /// The answer to [`super::Command::Survey`].
    Surveyed(Survey),
    /// Obstacles to shortcuts came or went.
    Obstacles(Obstacles),
    /// Parts of the datapath are missing.
    #[serde(alias = "Damaged")]
    DatapathPartsMissing(Vec<Part>),
    /// The interfaces that the programs could not be attached to at the last attempt, with the reason.
    NotAttached(BTreeMap<String, String>),
    /// The changes of one [`super::Command::Apply`] have been made, as far as possible.
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
        /// Kind of the failure, if the target answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<FailureKind>,
    },
    /// A gateway was asked; the answer to [`super::Command::AskGateway`].
    GatewayAsked {
        /// Index of the uplink.
        uplink: u32,
        /// Family of the gateway.
        #[serde(with = "family")]
        family: Family,
        /// Set if it answered.
        answers: bool,
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
    /// The requested state of an uplink changed.
    Admin {
        /// Index of the uplink.
        uplink: u32,
        /// The state that the administrator requests from now on.
        admin: AdminState,
    },
    /// The administrator wants an uplink used again without waiting for `hold`.
    #[serde(alias = "Admit")]
    EnableNow {
        /// Index of the uplink.
        uplink: u32,
    },
    /// A drill blocks an uplink, or no longer does. What follows has to be found out all the same, but is
    /// no outage.
    Drill {
        /// Index of the uplink.
        uplink: u32,
        /// Set if it is blocked from now on.
        on: bool,
    },
    /// The counters of the load were read, about once a second.
    #[serde(alias = "Counted")]
    LoadCounted(Counts),
    /// The datapath counted packets and answers, which tell of the health of uplinks.
    #[serde(alias = "Traffic")]
    DatapathTraffic {
        /// Counters by uplink; those that did not change may be left out.
        counters: BTreeMap<u32, Traffic>,
        /// The networks that have answered settled flows since the last count, as bits, by uplink:
        /// IPv4, then IPv6.
        #[serde(default)]
        networks: BTreeMap<u32, PerFamily<u32>>,
    },
    /// An answer to [`super::Command::Resolve`].
    Resolved {
        /// The name.
        name: String,
        /// Addresses with their TTLs; empty if the name exists without any.
        addresses: Vec<Lifetime>,
    },
    /// The failure of [`super::Command::Resolve`].
    NotResolved {
        /// The name.
        name: String,
        /// Reason for the failure.
        reason: String,
    },
}

impl Event {
    /// Returns what became of a probe, with the uplink and the family that it judges; `None` for an event
    /// of another kind.
    pub(super) fn of_probe(&self) -> Option<(u32, Family, HealthEvent<'_>)> {
        match self {
            Event::ProbeAnswer { uplink, family, target, round } => {
                Some((*uplink, *family, HealthEvent::ProbeAnswered(target, *round)))
            }
            Event::ProbeFailed { uplink, family, target, round, reason, kind } => {
                Some((*uplink, *family, HealthEvent::ProbeFailed(target, *round, reason, *kind)))
            }
            Event::ProbeUnsent { uplink, family, target, round, reason } => {
                Some((*uplink, *family, HealthEvent::ProbeUnsent(target, *round, reason)))
            }
            Event::ProbeSkipped { uplink, family, target, round } => {
                Some((*uplink, *family, HealthEvent::ProbeSkipped(target, *round)))
            }
            _ => None,
        }
    }
}
