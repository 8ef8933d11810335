//! The status, as `linkbal status --json` prints it.
//!
//! The schema is stable: fields are added, but neither removed nor changed in their meaning
//! without a new `version`.

mod collect;
mod fallback;

use std::{collections::BTreeMap, fmt};

use axum::{Extension, Json, extract::State};
use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

pub use self::collect::Sources;
use super::{
    Request, call,
    error::ApiError,
    extract::{Asked, NoQuery},
    notify::ReceiverStatus,
    rules::RuleUse,
    tcp::WithoutToken,
};
use crate::{
    coded::{Args, CodedText},
    engine::{
        admin::AdminState,
        health,
        kernel::{
            bond::{BondState, MemberState},
            conflict::Conflict,
        },
    },
    sys::datapath::memory::MapMemory,
};

/// Version of the schema.
pub const VERSION: u32 = 1;

/// The whole status.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Process id of the daemon.
    pub pid: u32,
    /// Time at which the daemon started, RFC 3339, UTC.
    pub started: String,
    /// Set once the programs, routes, ip rules and the nft table of the configuration are in place.
    #[serde(default)]
    pub installed: bool,
    /// The LAN interfaces, in the order of their names.
    pub lan: Vec<Lan>,
    /// The bonds, in the order of their names.
    #[serde(default)]
    pub bonds: Vec<Bond>,
    /// The uplinks, in the order of their names.
    pub uplinks: Vec<Uplink>,
    /// The configuration in force.
    #[serde(default)]
    pub configuration: ConfigurationStatus,
    /// Tiers that new flows without a rule use, where they had to fall back: better ones have no usable
    /// uplink that is not drained or full.
    #[serde(default)]
    pub fallbacks: Vec<Fallback>,
    /// Length in seconds of the window of `actual_share`: 300 and a little more, or the time since the
    /// daemon started.
    #[serde(default)]
    pub recent_window_s: u64,
    /// The rules in the order in which they are asked, with how often each was used; last, the flows
    /// without a rule.
    #[serde(default)]
    pub rules: Vec<RuleUse>,
    /// The domains of rules; null without any.
    pub domains: Option<Domains>,
    /// Packets from the LAN by outcome, since the datapath was created; `local_*`: local sockets
    /// that connected or sent.
    pub counters: BTreeMap<String, u64>,
    /// Number of times that the kernel's state was compared with the desired one.
    #[serde(default)]
    pub observations: u64,
    /// Settings of others that conflict with linkbal, or work beside it.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
    /// Settings that others undo again and again, and that are repaired slowly.
    #[serde(default)]
    pub throttled: Vec<ThrottledStatus>,
    /// Settings that the kernel refuses, with the reason and what to do.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// Packets that took shortcuts since the datapath was created; null without shortcuts.
    #[serde(default)]
    pub shortcuts: Option<Shortcuts>,
    /// Interfaces at whose drivers no shortcuts begin or end, though they are to, with the reason: the
    /// programs of tc serve them.
    #[serde(default)]
    pub without_xdp: BTreeMap<String, String>,
    /// Connections in flowtables, those of others included; null if the mode is another one.
    #[serde(default)]
    pub flowtable_connections: Option<u64>,
    /// Hosts that begin more than their quota, at most eight.
    #[serde(default)]
    pub limited_hosts: Vec<LimitedHost>,
    /// Kernel memory of the maps.
    pub memory: Memory,
    /// Events for which the hook was not run, since too many waited or its start hung; null without a
    /// hook.
    pub events_not_hooked: Option<u64>,
    /// Receivers of messages.
    #[serde(default)]
    pub receivers: Vec<ReceiverStatus>,
    /// Name of the uplink that passes no packets for a drill; null without one.
    pub drill: Option<String>,
    /// Seconds until the previous configuration comes back; null without a trial.
    pub confirm_within_s: Option<u64>,
}

/// The last good configuration, which is in force in place of the file.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct LastGoodStatus {
    /// Time at which it was stored, RFC 3339, UTC.
    pub saved: String,
    /// Fault of the file; by TCP without the token, it only says where that is.
    pub reason: String,
    /// The same for everybody.
    #[serde(skip)]
    pub public: String,
}

/// The configuration in force, and the one that is to be.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct ConfigurationStatus {
    /// Path of the file that a reload reads; empty for an older daemon.
    pub file: String,
    /// Time since which the configuration is in force, RFC 3339, UTC.
    pub since: String,
    /// Set if the file could not be used at the start, so that the last good configuration is in
    /// force; null otherwise.
    pub last_good: Option<LastGoodStatus>,
    /// Refusal of what the file holds by now; null if it is in force, or was not asked for.
    pub refused: Option<RefusedConfiguration>,
}

/// A configuration that is not in force, though it is in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RefusedConfiguration {
    /// Time at which it was refused, RFC 3339, UTC.
    pub since: String,
    /// The reason, over one line or several; by TCP without the token, it only says where a fault of
    /// the file is.
    pub error: String,
    /// The same for everybody.
    #[serde(skip)]
    pub public: String,
}

impl ConfigurationStatus {
    /// Leaves out what quotes the file, which may have secrets.
    fn leave_out_quotes(&mut self) {
        if let Some(last_good) = &mut self.last_good {
            last_good.reason.clone_from(&last_good.public);
        }
        if let Some(refused) = &mut self.refused {
            refused.error.clone_from(&refused.public);
        }
    }
}

/// A fall back to another tier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Fallback {
    /// The families, `ipv4` and `ipv6`.
    pub families: Vec<String>,
    /// The tier that new flows use; null if there is none.
    pub tier: Option<u32>,
    /// The uplinks of better tiers, in the order of tiers.
    pub instead_of: Vec<Missing>,
}

/// An uplink that new flows would use, if they could.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = MissingUplink)]
pub struct Missing {
    /// Name.
    pub uplink: String,
    /// Tier.
    pub tier: u32,
    /// `init`, `down`, `admin-down`, `draining`, or `avoided` for its load or quality.
    #[schema(value_type = String)]
    pub state: Unused,
}

/// The reason for which new flows do not use an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unused {
    /// The administrator has drained it.
    Draining,
    /// New flows avoid it for its load or quality.
    Avoided,
    /// State in which it is not usable.
    #[serde(untagged)]
    NotUp(health::State),
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unused::Draining => f.write_str("draining"),
            Unused::Avoided => f.write_str("avoided"),
            Unused::NotUp(state) => state.fmt(f),
        }
    }
}

/// A setting that is undone again and again.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ThrottledStatus {
    /// The setting.
    pub what: String,
    /// Time at which that began, RFC 3339, UTC.
    pub since: String,
    /// The program that undid it last; null if the kernel does not tell.
    pub by: Option<String>,
    /// Number of repairs since then.
    pub repairs: u32,
}

/// Packets that took shortcuts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Shortcuts {
    /// From the LAN to an uplink.
    pub up: u64,
    /// From an uplink to the LAN.
    pub down: u64,
}

/// Shortcuts of the flows of an uplink.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct UplinkShortcuts {
    /// Packets that took shortcuts since the datapath was created.
    #[serde(flatten)]
    pub taken: Shortcuts,
    /// Reason for which its flows take none; null if they do.
    pub none_because: Option<String>,
}

/// A host that begins more than its quota of flows and sessions.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct LimitedHost {
    /// Address of the host, or its /64 network for IPv6.
    pub host: String,
    /// Number of answered flows that were stored in the present window.
    pub flows: u32,
    /// Number of sticky sessions that were stored in the present window.
    pub sessions: u32,
    /// Number of flows and sessions that were not stored.
    pub not_stored: u32,
}

/// Kernel memory of the maps, as [`crate::sys::datapath::memory`] measures it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Memory {
    /// Bytes of all maps together.
    pub bytes: u64,
    /// Bytes by map.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub maps: MapMemory,
}

/// One bond.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Bond {
    /// Network interface.
    pub interface: String,
    /// Name of the mode, as in the kernel.
    pub mode: String,
    /// `up`, `down`, `missing`, or `foreign` if another device has its name.
    #[schema(value_type = String)]
    pub state: BondState,
    /// The active member; null in modes without one.
    pub active: Option<String>,
    /// The members, in the order of the configuration.
    pub members: Vec<BondMember>,
}

/// One member of a bond.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct BondMember {
    /// Network interface.
    pub interface: String,
    /// `active`, `standby`, `down`, `outside` (of the bond) or `missing`.
    #[schema(value_type = String)]
    pub state: MemberState,
}

/// One LAN interface.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Lan {
    /// Network interface.
    pub interface: String,
    /// Set if the interface exists.
    pub exists: bool,
    /// Reason for which its packets take no shortcuts; null if they do, and without shortcuts.
    #[serde(default)]
    pub no_shortcuts: Option<String>,
}

/// The domains of rules, and the state of their resolution.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Domains {
    /// Number of domains.
    pub configured: usize,
    /// Number of those with addresses that were looked up and have not expired.
    pub resolved: usize,
    /// Domains whose last lookup failed, with the reason.
    pub failing: BTreeMap<String, String>,
}

/// One uplink.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Uplink {
    /// Name.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// Index: the bit in `UP_MASK` and the place in the buckets.
    pub index: u32,
    /// Configured weight.
    pub weight: u32,
    /// Configured tier.
    pub tier: u32,
    /// The fwmark, a part of the configured mask.
    pub fwmark: u32,
    /// The routing table.
    pub table: u32,
    /// `init`, `up`, `down` or `admin-down`; up if one family is.
    #[schema(value_type = String)]
    pub state: health::State,
    /// Administrative state: `enabled`, `disabled` or `drained`.
    #[schema(value_type = String)]
    pub admin: AdminState,
    /// Share of the new flows without a rule that it should get now, from 0 to 1: of IPv4, or of IPv6 if
    /// it has that alone.
    pub target_share: f64,
    /// Share of all flows so far that it got, from 0 to 1.
    pub lifetime_share: f64,
    /// Flows that began on it since the datapath was made.
    pub flows: u64,
    /// Live flows on it, at most some seconds ago; null if they could not be counted.
    #[serde(default)]
    pub live_flows: Option<u64>,
    /// Share of the flows that began in the last `recent_window_s`, from 0 to 1; null if none did.
    #[serde(default)]
    pub actual_share: Option<f64>,
    /// Flows that moved to it from a dead uplink.
    pub flows_moved_in: u64,
    /// Packets from the LAN sent to it.
    pub packets: u64,
    /// Bytes of these packets, with their link-layer headers.
    pub bytes: u64,
    /// The load.
    pub load: Load,
    /// Shortcuts of its flows; null without shortcuts.
    #[serde(default)]
    pub shortcuts: Option<UplinkShortcuts>,
    /// Health for IPv4; null if the uplink only has IPv6.
    pub ipv4: Option<FamilyStatus>,
    /// Mode of IPv6: `masquerade`, `prefix`, `routed` or `off`.
    #[schema(value_type = String)]
    pub ipv6_mode: Ipv6Mode,
    /// Health for IPv6; null if the uplink only has IPv4, or IPv6 is off.
    pub ipv6: Option<FamilyStatus>,
}

impl Uplink {
    /// Returns the health in a family; `None` if the uplink does not have it.
    pub const fn family(&self, family: Family) -> Option<&FamilyStatus> {
        match family {
            Family::Ipv4 => self.ipv4.as_ref(),
            Family::Ipv6 => self.ipv6.as_ref(),
        }
    }

    /// Returns the families that the uplink has, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = (Family, &FamilyStatus)> {
        Family::ALL.into_iter().filter_map(|family| Some((family, self.family(family)?)))
    }
}

/// The mode of IPv6 on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6Mode {
    /// Addresses are translated to that of the uplink.
    Masquerade,
    /// Prefixes are translated.
    Prefix,
    /// Nothing is translated.
    Routed,
    /// The uplink has no IPv6.
    Off,
}

/// The load of an uplink: all bytes of its interface, or those of the LAN's packets if several
/// uplinks share it; smoothed over three seconds.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Load {
    /// Bits per second from the provider.
    pub down: u64,
    /// Bits per second to the provider.
    pub up: u64,
    /// The configured capacity; null without one.
    pub capacity: Option<CapacityStatus>,
    /// Set if new flows avoid the uplink for its load, as long as other uplinks are not full.
    pub full: bool,
}

/// The capacity of an uplink.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct CapacityStatus {
    /// Bits per second from the provider.
    pub down: u64,
    /// Bits per second to the provider.
    pub up: u64,
    /// Share in use, of the busier direction: from 0 to 1 and a little more.
    pub used: f64,
}

/// The health of an uplink in one family.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct FamilyStatus {
    /// `init`, `up`, `down` or `admin-down`.
    #[schema(value_type = String)]
    pub state: health::State,
    /// Time at which it entered that state, RFC 3339, UTC.
    pub since: String,
    /// The reason for that state.
    pub reason: String,
    /// Code of the reason, which stays the same when its words change; null from an older version.
    #[serde(default)]
    pub reason_code: Option<String>,
    /// Arguments of the reason, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub reason_args: Args,
    /// Further parts of the reason, in the order of its words.
    #[serde(default)]
    pub reason_more: Vec<CodedText>,
    /// Set if the uplink is down for nothing but its virtual addresses, which another gateway has.
    #[serde(default)]
    pub standby: bool,
    /// Set from the begin of a drill that blocks it until it is up again: that is no outage.
    #[serde(default)]
    pub drilled: bool,
    /// Advice for an administrator; null if there is nothing, or the reason says so.
    #[serde(default)]
    pub remedy: Option<String>,
    /// The advice as its code and arguments.
    #[serde(default)]
    pub remedy_coded: Option<CodedText>,
    /// Address of the gateway; null without one.
    pub gateway: Option<String>,
    /// Share of the new flows of the family without a rule that the uplink should get now, from 0 to 1.
    #[serde(default)]
    pub target_share: f64,
    /// Share of the last hundred probes that were lost, from 0 to 1.
    pub loss: f64,
    /// Smoothed latency of the answers in milliseconds; null before the first one.
    pub latency_ms: Option<f64>,
    /// Set if the quality is worse than its limits allow.
    pub degraded: bool,
    /// Time since which this machine cannot send probes to some targets, RFC 3339, UTC; null if it
    /// can send all.
    #[serde(default)]
    pub not_probed_since: Option<String>,
    /// Jitter of the answers in milliseconds, the smoothed mean deviation of RFC 6298; null before
    /// the first one.
    pub jitter_ms: Option<f64>,
}

/// Returns the whole status.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The status", body = Status)),
)]
pub(super) async fn status(
    _: Asked<NoQuery>,
    without_token: Option<Extension<WithoutToken>>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Status>, ApiError> {
    let mut status = call(&daemon, Request::Status).await?;
    if without_token.is_some() {
        status.configuration.leave_out_quotes();
        // They are people's addresses, with a server's words.
        status.receivers.iter_mut().for_each(|receiver| receiver.refused.clear());
    }
    Ok(Json(status))
}
