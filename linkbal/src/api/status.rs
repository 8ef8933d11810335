//! The status, as `linkbal status --json` prints it.
//!
//! The schema is stable: fields are added, but neither removed nor changed in their meaning
//! without a new `version`.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::{
    bucket::Bucket,
    counter::{Counter, UplinkCounters},
    mark::MarkMask,
    pick::pick,
    uplink::{Family, MAX_UPLINKS, UpMask},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Ipv6},
    engine::{
        Engine, UplinkState,
        bond::{self, BondStatus},
        conflict::Conflict,
        desired,
        health::{Health, State},
        names::{NameState, Names},
    },
    sys::datapath::memory::MapMemory,
};

/// Version of the schema.
pub const VERSION: u32 = 1;

/// The whole status.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Process id of the daemon.
    pub pid: u32,
    /// Time at which the daemon started, RFC 3339, UTC.
    pub started: String,
    /// The LAN interfaces, in the order of their names.
    pub lan: Vec<Lan>,
    /// The bonds, in the order of their names.
    #[serde(default)]
    pub bonds: Vec<Bond>,
    /// The uplinks, in the order of their names.
    pub uplinks: Vec<Uplink>,
    /// The domains of rules; null without any.
    pub domains: Option<Domains>,
    /// Packets from the LAN by outcome, since the datapath was created; `local_*`: local sockets
    /// that connected or sent.
    pub counters: BTreeMap<String, u64>,
    /// Number of times that the kernel's state was compared with the desired one.
    #[serde(default)]
    pub observations: u64,
    /// Settings of others that clash with linkbal, or work beside it.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
    /// Settings that others undo again and again, and that are repaired slowly.
    #[serde(default)]
    pub contested: Vec<ContestedStatus>,
    /// Settings that the kernel refuses, with the reason and what to do.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// Hosts that begin more than their share, at most eight.
    #[serde(default)]
    pub limited_hosts: Vec<LimitedHost>,
    /// Kernel memory of the maps.
    pub memory: Memory,
    /// Events for which the hook was not run, since too many waited; null without a hook.
    pub events_not_hooked: Option<u64>,
    /// Name of the uplink that passes no packets for a drill; null without one.
    pub drill: Option<String>,
    /// Seconds until the previous configuration comes back; null without a trial.
    pub confirm_within_s: Option<u64>,
}

/// A setting that is undone again and again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ContestedStatus {
    /// The setting.
    pub what: String,
    /// Time at which that began, RFC 3339, UTC.
    pub since: String,
    /// The program that undid it last; null if the kernel does not tell.
    pub by: Option<String>,
    /// Number of repairs since then.
    pub repairs: u32,
}

/// A host that begins more than its share of flows and sessions.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Memory {
    /// Bytes of all maps together.
    pub bytes: u64,
    /// Bytes by map.
    pub maps: MapMemory,
}

/// One bond.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bond {
    /// Network interface.
    pub interface: String,
    /// Name of the mode, as in the kernel.
    pub mode: String,
    /// `up`, `down`, `missing`, or `foreign` if another device has its name.
    pub state: String,
    /// The active member; null in modes without one.
    pub active: Option<String>,
    /// The members, in the order of the configuration.
    pub members: Vec<BondMember>,
}

/// One member of a bond.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BondMember {
    /// Network interface.
    pub interface: String,
    /// `active`, `standby`, `down`, `outside` (of the bond) or `missing`.
    pub state: String,
}

/// One LAN interface.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Lan {
    /// Network interface.
    pub interface: String,
    /// Set if the interface exists.
    pub exists: bool,
}

/// The domains of rules, and the state of their resolution.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Domains {
    /// Number of domains.
    pub configured: usize,
    /// Number of those with addresses that were looked up and have not expired.
    pub resolved: usize,
    /// Domains whose last lookup failed, with the reason.
    pub failing: BTreeMap<String, String>,
}

/// One uplink.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    pub state: String,
    /// Administrative state: `enabled`, `disabled` or `drained`.
    pub admin: String,
    /// Share of the new flows without a rule that it should get now, from 0 to 1.
    pub share_wanted: f64,
    /// Share of all flows so far that it got, from 0 to 1.
    pub share_had: f64,
    /// Flows that began on it since the datapath was made.
    pub flows: u64,
    /// Flows that moved to it from a dead uplink.
    pub flows_moved_in: u64,
    /// Packets from the LAN sent to it.
    pub packets: u64,
    /// Bytes of these packets, with their link-layer headers.
    pub bytes: u64,
    /// The load.
    pub load: Load,
    /// Health for IPv4; null if the uplink only has IPv6.
    pub ipv4: Option<FamilyStatus>,
    /// Mode of IPv6: `masquerade`, `prefix`, `routed` or `off`.
    pub ipv6_mode: String,
    /// Health for IPv6; null if the uplink only has IPv4, or IPv6 is off.
    pub ipv6: Option<FamilyStatus>,
}

/// The load of an uplink: all bytes of its interface, or those of the LAN's packets if several
/// uplinks share it; smoothed over three seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CapacityStatus {
    /// Bits per second from the provider.
    pub down: u64,
    /// Bits per second to the provider.
    pub up: u64,
    /// Share in use, of the busier direction: from 0 to 1 and a little more.
    pub used: f64,
}

/// The health of an uplink in one family.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FamilyStatus {
    /// `init`, `up`, `down` or `admin-down`.
    pub state: String,
    /// Time at which it entered that state, RFC 3339, UTC.
    pub since: String,
    /// The reason for that state.
    pub reason: String,
    /// Address of the gateway; null without one.
    pub gateway: Option<String>,
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

/// The data that the status is made of.
pub struct Sources<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Time of the engine.
    pub now: Duration,
    /// The configuration in force.
    pub config: &'a Config,
    /// The buckets of flows without a rule.
    pub buckets: &'a [Bucket],
    /// Packets by outcome.
    pub counters: Vec<(Counter, u64)>,
    /// Traffic by uplink index.
    pub uplink_counters: [UplinkCounters; MAX_UPLINKS],
    /// Hosts that begin more than their share.
    pub limited_hosts: Vec<LimitedHost>,
    /// Kernel memory by map.
    pub memory: MapMemory,
    /// Events for which the hook was not run.
    pub events_not_hooked: Option<u64>,
    /// Name of the uplink of the drill under way.
    pub drill: Option<&'a str>,
    /// Time left to confirm the configuration.
    pub trial: Option<Duration>,
    /// Time at which the daemon started, RFC 3339.
    pub started: String,
    /// A function that converts times of the engine to RFC 3339.
    pub wall_clock: &'a dyn Fn(Duration) -> String,
}

impl Status {
    /// Creates the status.
    pub fn new(sources: &Sources<'_>) -> Status {
        let uplinks = sources.engine.uplinks();
        let counters = sources.counters.iter();
        Status {
            version: VERSION,
            pid: std::process::id(),
            started: sources.started.clone(),
            lan: sources.engine.lan().iter().map(Lan::new).collect(),
            bonds: bonds(sources),
            uplinks: uplinks.iter().map(|uplink| Uplink::new(sources, uplink)).collect(),
            domains: Domains::new(sources.engine.names(), sources.now),
            counters: counters.map(|(counter, value)| (counter.name().into(), *value)).collect(),
            observations: sources.engine.observations(),
            conflicts: sources.engine.conflicts().iter().cloned().collect(),
            contested: contested(sources),
            refused: refused(sources.engine),
            limited_hosts: sources.limited_hosts.clone(),
            memory: Memory { bytes: sources.memory.values().sum(), maps: sources.memory.clone() },
            events_not_hooked: sources.events_not_hooked,
            drill: sources.drill.map(str::to_owned),
            confirm_within_s: sources.trial.map(|left| left.as_secs()),
        }
    }
}

/// Returns what the kernel refuses, probes included.
fn refused(engine: &Engine) -> BTreeMap<String, String> {
    let all = engine.refused().iter().chain(engine.unasked());
    all.map(|(what, why)| (what.clone(), why.clone())).collect()
}

fn contested(sources: &Sources<'_>) -> Vec<ContestedStatus> {
    let each = sources.engine.repairs().contested().map(|(what, contested)| ContestedStatus {
        what: what.to_owned(),
        since: (sources.wall_clock)(contested.since),
        by: contested.by.as_ref().map(ToString::to_string),
        repairs: contested.repairs,
    });
    each.collect()
}

fn bonds(sources: &Sources<'_>) -> Vec<Bond> {
    let Some(snapshot) = sources.engine.snapshot() else { return Vec::new() };
    let bonds = bond::status(&sources.config.bonds, snapshot).into_iter();
    bonds.map(Bond::from).collect()
}

impl From<BondStatus> for Bond {
    fn from(bond: BondStatus) -> Bond {
        let members = bond
            .members
            .into_iter()
            .map(|member| BondMember { interface: member.name, state: member.state.name().into() });
        Bond {
            interface: bond.name,
            mode: bond.mode.into(),
            state: bond.state.name().into(),
            active: bond.active,
            members: members.collect(),
        }
    }
}

impl Lan {
    fn new((interface, exists): (&String, &bool)) -> Lan {
        Lan { interface: interface.clone(), exists: *exists }
    }
}

impl Domains {
    fn new(names: &Names, now: Duration) -> Option<Domains> {
        let states = names.states();
        let reason = |state: &NameState| state.failure().map(str::to_owned);
        let failing =
            states.iter().filter_map(|(name, state)| Some((name.clone(), reason(state)?)));
        (!states.is_empty()).then(|| Domains {
            configured: states.len(),
            resolved: states.values().filter(|state| state.is_resolved(now)).count(),
            failing: failing.collect(),
        })
    }
}

impl Uplink {
    fn new(sources: &Sources<'_>, state: &UplinkState) -> Uplink {
        let index = state.indexed.index;
        let uplink = &state.indexed.uplink;
        let kernel = &sources.config.kernel;
        let counters = sources.uplink_counters[index as usize];
        let all_flows: u64 = sources.uplink_counters.iter().map(|each| each.flows_new).sum();
        Uplink {
            name: uplink.name.clone(),
            interface: uplink.interface.clone(),
            index,
            weight: uplink.weight,
            tier: uplink.tier,
            fwmark: MarkMask(kernel.fwmark_mask).encode(index),
            table: kernel.table_base.saturating_add(1).saturating_add(index),
            state: state.state().name().into(),
            admin: state.admin.name().into(),
            share_wanted: share_wanted(sources, index),
            share_had: counters.flows_new as f64 / all_flows.max(1) as f64,
            flows: counters.flows_new,
            flows_moved_in: counters.flows_moved_in,
            packets: counters.packets,
            bytes: counters.bytes,
            load: Load::new(state),
            ipv4: FamilyStatus::of(sources, state, Family::Ipv4),
            ipv6_mode: mode(&uplink.ipv6).into(),
            ipv6: FamilyStatus::of(sources, state, Family::Ipv6),
        }
    }
}

impl Load {
    fn new(state: &UplinkState) -> Load {
        let load = &state.load;
        let capacity = state.indexed.uplink.capacity.map(|capacity| CapacityStatus {
            down: capacity.down,
            up: capacity.up,
            used: load.share(capacity),
        });
        let (down, up) = (load.down().round() as u64, load.up().round() as u64);
        Load { down, up, capacity, full: load.is_full() }
    }
}

const fn mode(ipv6: &Ipv6) -> &'static str {
    match ipv6 {
        Ipv6::Masquerade => "masquerade",
        Ipv6::Prefix { .. } => "prefix",
        Ipv6::Routed => "routed",
        Ipv6::Off => "off",
    }
}

/// Returns the share of the buckets that lead to an uplink now.
fn share_wanted(sources: &Sources<'_>, index: u32) -> f64 {
    let up = sources.engine.uplinks().iter().fold(UpMask::default(), |mask, uplink| {
        mask.with(uplink.indexed.index, Family::Ipv4, uplink.state() == State::Up)
    });
    let avoided = sources.engine.avoided();
    let chosen = UpMask(up.0 & !avoided.0);
    let up = if chosen.0 == 0 { up } else { chosen };
    let picked = sources.buckets.iter().map(|bucket| pick(bucket, up, Family::Ipv4));
    picked.filter(|uplink| *uplink == Some(index)).count() as f64
        / sources.buckets.len().max(1) as f64
}

impl FamilyStatus {
    fn of(sources: &Sources<'_>, state: &UplinkState, family: Family) -> Option<FamilyStatus> {
        state.family(family).map(|health| FamilyStatus::new(sources, state, family, health))
    }

    fn new(
        sources: &Sources<'_>,
        state: &UplinkState,
        family: Family,
        health: &Health,
    ) -> FamilyStatus {
        let snapshot = sources.engine.snapshot();
        let nexthop = snapshot
            .and_then(|snapshot| desired::nexthop(snapshot, &state.indexed.uplink, family).ok());
        FamilyStatus {
            state: health.state().name().into(),
            since: (sources.wall_clock)(health.since()),
            reason: health.explain(sources.now),
            degraded: health.degraded().is_some(),
            gateway: nexthop.and_then(|nexthop| nexthop.gateway).map(|gateway| gateway.to_string()),
            loss: health.window().loss(),
            latency_ms: health.window().latency().map(millis),
            jitter_ms: health.window().jitter().map(millis),
            not_probed_since: health
                .unasked(sources.now)
                .map(|unasked| (sources.wall_clock)(unasked.since())),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
