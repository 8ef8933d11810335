//! The status from the state of engine, datapath and daemon.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::{
    bucket::Bucket,
    counter::{Counter, UplinkCounters},
    mark::MarkMask,
    pick::pick,
    uplink::{Family, MAX_UPLINKS, UpMask},
};

use super::{
    Bond, BondMember, CapacityStatus, ConfigurationStatus, Domains, FamilyStatus, Ipv6Mode, Lan,
    LimitedHost, Load, Memory, Shortcuts, Status, ThrottledStatus, Uplink, UplinkShortcuts,
    VERSION, fallback,
};
use crate::{
    api::{notify::ReceiverStatus, rules::RuleUse},
    coded::{CodedText, Codes, Parts as _},
    config::{Config, Ipv6},
    engine::{
        Engine,
        domains::{DomainState, Domains as RuleDomains},
        health::{Cause, Health, State, reason::Reason},
        kernel::{
            bond::{self, BondStatus},
            nexthop,
            unready::{Remedy, Unready},
        },
        uplinks::UplinkState,
    },
    flows::recent::Growth,
    sys::datapath::memory::MapMemory,
};

/// The data that the status is made of.
pub struct Sources<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Time of the engine.
    pub now: Duration,
    /// The configuration in force.
    pub config: &'a Config,
    /// Origin of the configuration.
    pub configuration: ConfigurationStatus,
    /// The buckets of flows without a rule.
    pub buckets: &'a [Bucket],
    /// Packets by outcome.
    pub counters: Vec<(Counter, u64)>,
    /// Traffic by uplink index.
    pub uplink_counters: [UplinkCounters; MAX_UPLINKS],
    /// Flows that began of late, by uplink index.
    pub recent: Growth<MAX_UPLINKS>,
    /// Packets that took shortcuts, by uplink index; `None` without shortcuts.
    pub shortcuts: Option<[Shortcuts; MAX_UPLINKS]>,
    /// Interfaces at whose drivers there are no shortcuts, with the reason.
    pub without_xdp: BTreeMap<String, String>,
    /// Hosts that begin more than their quota.
    pub limited_hosts: Vec<LimitedHost>,
    /// Kernel memory by map.
    pub memory: MapMemory,
    /// Events for which the hook was not run.
    pub events_not_hooked: Option<u64>,
    /// Receivers of messages.
    pub receivers: Vec<ReceiverStatus>,
    /// Name of the uplink of the drill under way.
    pub drill: Option<&'a str>,
    /// The rules, with how often each was used.
    pub rules: Vec<RuleUse>,
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
            installed: sources.engine.is_installed(),
            lan: sources.engine.lan().iter().map(|lan| Lan::new(sources, lan)).collect(),
            bonds: bonds(sources),
            uplinks: uplinks.iter().map(|uplink| Uplink::new(sources, uplink)).collect(),
            configuration: sources.configuration.clone(),
            fallbacks: fallback::fallbacks(uplinks, sources.engine.avoided()),
            recent_window_s: sources.recent.window.as_secs(),
            rules: sources.rules.clone(),
            domains: Domains::new(sources.engine.domains(), sources.now),
            counters: counters.map(|(counter, value)| (counter.name().into(), *value)).collect(),
            observations: sources.engine.observations(),
            conflicts: sources.engine.conflicts().iter().cloned().collect(),
            throttled: throttled(sources),
            refused: refused(sources.engine),
            shortcuts: sources.shortcuts.map(all_shortcuts),
            without_xdp: sources.without_xdp.clone(),
            flowtable_connections: None,
            limited_hosts: sources.limited_hosts.clone(),
            memory: Memory { bytes: sources.memory.values().sum(), maps: sources.memory.clone() },
            events_not_hooked: sources.events_not_hooked,
            receivers: sources.receivers.clone(),
            drill: sources.drill.map(str::to_owned),
            confirm_within_s: sources.trial.map(|left| left.as_secs()),
        }
    }

    /// Sets the numbers of live flows, by uplink index.
    pub fn set_live_flows(&mut self, counts: &[u64; MAX_UPLINKS]) {
        for uplink in &mut self.uplinks {
            uplink.live_flows = counts.get(uplink.index as usize).copied();
        }
    }
}

/// Returns what the kernel refuses, probes included.
fn refused(engine: &Engine) -> BTreeMap<String, String> {
    engine.refused().into_iter().chain(engine.unsent_probes()).collect()
}

fn throttled(sources: &Sources<'_>) -> Vec<ThrottledStatus> {
    let each = sources.engine.drift().throttled().map(|(what, throttled)| ThrottledStatus {
        what: sources.engine.named(&what.to_string()),
        since: (sources.wall_clock)(throttled.since),
        by: throttled.by.as_ref().map(ToString::to_string),
        repairs: throttled.repairs,
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
            .map(|member| BondMember { interface: member.name, state: member.state });
        Bond {
            interface: bond.name,
            mode: bond.mode.into(),
            state: bond.state,
            active: bond.active,
            members: members.collect(),
        }
    }
}

impl Lan {
    fn new(sources: &Sources<'_>, (interface, exists): (&String, &bool)) -> Lan {
        let on = sources.shortcuts.is_some() && *exists;
        let no_shortcuts = on.then(|| sources.engine.obstacle_of_lan(interface)).flatten();
        let no_shortcuts = no_shortcuts.as_ref().map(ToString::to_string);
        Lan { interface: interface.clone(), exists: *exists, no_shortcuts }
    }
}

/// Returns the packets of all uplinks together.
fn all_shortcuts(by_uplink: [Shortcuts; MAX_UPLINKS]) -> Shortcuts {
    by_uplink.iter().fold(Shortcuts::default(), |sum, taken| Shortcuts {
        up: sum.up.saturating_add(taken.up),
        down: sum.down.saturating_add(taken.down),
    })
}

impl UplinkShortcuts {
    fn new(sources: &Sources<'_>, state: &UplinkState) -> Option<UplinkShortcuts> {
        let obstacle = sources.engine.obstacle_of_uplink(state);
        Some(UplinkShortcuts {
            taken: sources.shortcuts?[state.index as usize],
            none_because: obstacle.as_ref().map(ToString::to_string),
        })
    }
}

impl Domains {
    fn new(names: &RuleDomains, now: Duration) -> Option<Domains> {
        let states = names.states();
        let reason = |state: &DomainState| state.failure().map(str::to_owned);
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
        let index = state.index;
        let uplink = &state.config;
        let kernel = &sources.config.kernel;
        let counters = sources.uplink_counters[index as usize];
        let has_ipv4 = state.family(Family::Ipv4).is_some();
        let first = if has_ipv4 { Family::Ipv4 } else { Family::Ipv6 };
        let all_flows: u64 = sources.uplink_counters.iter().map(|each| each.flows_new).sum();
        Uplink {
            name: uplink.name.clone(),
            interface: uplink.interface.clone(),
            index,
            weight: uplink.weight,
            tier: uplink.tier,
            fwmark: MarkMask(kernel.fwmark_mask).encode(index),
            table: kernel.table(index),
            state: state.state(),
            admin: state.admin,
            target_share: target_share(sources, index, first),
            lifetime_share: counters.flows_new as f64 / all_flows.max(1) as f64,
            flows: counters.flows_new,
            live_flows: None,
            actual_share: sources.recent.share(index as usize),
            flows_moved_in: counters.flows_moved_in,
            packets: counters.packets,
            bytes: counters.bytes,
            load: Load::new(state),
            shortcuts: UplinkShortcuts::new(sources, state),
            ipv4: FamilyStatus::of(sources, state, Family::Ipv4),
            ipv6_mode: Ipv6Mode::from(&uplink.ipv6),
            ipv6: FamilyStatus::of(sources, state, Family::Ipv6),
        }
    }
}

impl Load {
    fn new(state: &UplinkState) -> Load {
        let load = &state.load;
        let capacity = state.config.capacity.map(|capacity| CapacityStatus {
            down: capacity.down,
            up: capacity.up,
            used: load.share(capacity),
        });
        let (down, up) = (load.down().round() as u64, load.up().round() as u64);
        Load { down, up, capacity, full: load.is_full() }
    }
}

impl From<&Ipv6> for Ipv6Mode {
    fn from(ipv6: &Ipv6) -> Ipv6Mode {
        match ipv6 {
            Ipv6::Masquerade => Ipv6Mode::Masquerade,
            Ipv6::Prefix { .. } => Ipv6Mode::Prefix,
            Ipv6::Routed => Ipv6Mode::Routed,
            Ipv6::Off => Ipv6Mode::Off,
        }
    }
}

/// Returns the share of the buckets that lead to an uplink now, for a family.
fn target_share(sources: &Sources<'_>, index: u32, family: Family) -> f64 {
    let is_up = |uplink: &UplinkState| {
        uplink.family(family).is_some_and(|health| health.state() == State::Up)
    };
    let up = sources
        .engine
        .uplinks()
        .iter()
        .fold(UpMask::default(), |mask, uplink| mask.with(uplink.index, family, is_up(uplink)));
    let chosen = up.without(sources.engine.avoided());
    let up = if chosen.0 == 0 { up } else { chosen };
    let picked = sources.buckets.iter().map(|bucket| pick(bucket, up, family));
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
        let nexthop = snapshot.map(|snapshot| nexthop::nexthop(snapshot, &state.config, family));
        let lacks = nexthop.as_ref().and_then(|nexthop| nexthop.as_ref().err());
        let remedy = match health.state() {
            State::AdminDown => Some(Remedy::Enable(state.config.name.clone())),
            State::Down if !health.is_ready() && !health.stands_by() => {
                let lost = || sources.engine.lost_route(state, family);
                match lacks {
                    Some(Unready::NoGateway(..)) => lost().map(Remedy::Run),
                    lacks => lacks.and_then(Unready::remedy),
                }
            }
            _ => None,
        };
        let nexthop = nexthop.and_then(Result::ok);
        let closed = match health.state() {
            State::Down if health.is_ready() => sources.engine.closed(),
            _ => Vec::new(),
        };
        let mut reasons = health.explain(sources.now);
        if !closed.is_empty() {
            // The line may not be to blame for silence behind the gateway.
            let fact = Some(&Reason::NothingBehindGateway);
            reasons = reasons.replace(&Reason::Cause(Cause::Internet), fact);
        }
        let gap = sources.engine.gap(state, family).filter(|_| health.state().is_up());
        reasons.more.extend(gap.map(Reason::Gap));
        let remedy = remedy.or_else(|| own_firewall(&closed));
        let codes = Codes::from(reasons.parts());
        FamilyStatus {
            state: health.state(),
            since: (sources.wall_clock)(health.since()),
            reason: reasons.to_string(),
            reason_code: codes.code,
            reason_args: codes.args,
            reason_more: codes.more,
            standby: health.stands_by(),
            drilled: health.is_drilled(),
            remedy: remedy.as_ref().map(ToString::to_string),
            remedy_coded: remedy.as_ref().map(CodedText::from),
            degraded: health.degraded().is_some(),
            gateway: nexthop.and_then(|nexthop| nexthop.gateway).map(|gateway| gateway.to_string()),
            target_share: target_share(sources, state.index, family),
            loss: health.window().loss(),
            latency_ms: health.window().latency().map(millis),
            jitter_ms: health.window().jitter().map(millis),
            not_probed_since: health
                .unsent_probes(sources.now)
                .map(|unasked| (sources.wall_clock)(unasked.since)),
        }
    }
}

/// Says that a firewall of others may be what keeps answers away.
fn own_firewall(closed: &[String]) -> Option<Remedy> {
    (!closed.is_empty()).then(|| Remedy::OwnFirewall(closed.join(", ")))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
