//! The packet path on the host: packets are byte slices and the maps plain collections.
//!
//! Tests run it beside the loaded eBPF program and compare.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    vec::Vec,
};

pub use crate::packet::model::ModelPacket;
use crate::{
    maps::{
        bucket::Bucket,
        counter::{Counter, RuleCounters, UplinkCounters},
        domain::{Domain, NameHash},
        flow::{Address, Flow, FlowKey, Proposal, Session, SessionKey, proposal_slot},
        quota::{Host, Quota},
        recent::{self, Recent},
        rule::{ACTIONS, RuleAction, RuleSet},
        settings::{Settings, StickyClass},
        shortcut::{Shortcut, ShortcutCounters, Way, slot},
        uplink::{FAMILY_SLOTS, Family, MAX_UPLINKS, UpMask, family_slot},
    },
    mark::MarkMask,
    path::{
        classify::{MacKey, PortKey, port_key},
        dns::{
            HostKey, QueryKey,
            asker::Asker,
            reply::{Reply, STEPS},
        },
        ingress::ingress,
        local::udp_request::UdpRequest,
        slow::{self, Request},
        tables::{Dimension, Tables},
        verdict::Verdict,
        wan_egress::wan_egress,
    },
};

/// The ingress interface of a packet that is forwarded; it is 0 for one of this machine.
pub const FORWARDED: u32 = 1;

/// Forwards a packet of the LAN, as if its connection had no uplink yet: it leaves by the proposed
/// one, which must be in [`ModelTables::uplinks`], and its flow is learned there.
pub fn forward(packet: &ModelPacket<'_>, tables: &ModelTables) -> Verdict {
    let verdict = ingress(packet, tables);
    if let Verdict::Propose { fwmark, hash } = verdict
        && let Some(uplink) = MarkMask(tables.settings.fwmark_mask).decode(fwmark)
        && let Some((ifindex, _)) = tables.uplinks.iter().find(|(_, other)| **other == uplink)
    {
        let leaving = ModelPacket { fwmark, hash, ifindex: *ifindex, ..*packet };
        let _ = wan_egress(&leaving, tables, FORWARDED);
    }
    verdict
}

/// Family, address as in [`FlowKey`] and length of a prefix, and the rules that it satisfies.
pub type PrefixRules = (Family, [u32; 4], u32, RuleSet);

/// The maps in memory.
#[derive(Clone, Debug, Default)]
pub struct ModelTables {
    /// `SETTINGS`.
    pub settings: Settings,
    /// `UP_MASK`.
    pub up_mask: UpMask,
    /// `AVOID_MASK`.
    pub avoid_mask: UpMask,
    /// `EPOCHS`.
    pub epochs: [u32; FAMILY_SLOTS],
    /// `BUCKETS`.
    pub buckets: Vec<Bucket>,
    /// `STICKY_PORTS`.
    pub sticky_ports: HashMap<PortKey, u32>,
    /// `STICKY_CLASSES`.
    pub sticky_classes: Vec<StickyClass>,
    /// `ACTIONS`; a missing action is that of flows without a rule.
    pub actions: Vec<RuleAction>,
    /// `RULES_SOURCE` and `RULES_DESTINATION`: family, address as in [`FlowKey`], prefix length,
    /// and rules, of which those of the longest prefix that matches count.
    pub rules_address: [Vec<PrefixRules>; 2],
    /// `RULES_PROTOCOL`.
    pub rules_protocol: Vec<RuleSet>,
    /// `RULES_SOURCE_PORT` and `RULES_DESTINATION_PORT`.
    pub rules_port: [Vec<RuleSet>; 2],
    /// `RULES_DSCP`.
    pub rules_dscp: Vec<RuleSet>,
    /// `RULES_INTERFACE`.
    pub rules_interface: HashMap<u32, RuleSet>,
    /// `RULES_VLAN`.
    pub rules_vlan: HashMap<u32, RuleSet>,
    /// `RULES_MAC`.
    pub rules_mac: HashMap<MacKey, RuleSet>,
    /// `BYPASS`: family, address as in [`FlowKey`], prefix length, one of
    /// [`crate::path::tables::bypass`]; none overlap.
    pub bypass: Vec<(Family, [u32; 4], u32, u32)>,
    /// `SOURCE_UPLINKS`: family, address as in [`FlowKey`], prefix length, uplink; none overlap.
    pub source_uplinks: Vec<(Family, [u32; 4], u32, u32)>,
    /// `UPLINK_ADDRESSES`.
    pub uplink_addresses: [Address; FAMILY_SLOTS],
    /// `UPLINK_MTU`.
    pub uplink_mtu: [u32; FAMILY_SLOTS],
    /// `UPLINKS`.
    pub uplinks: HashMap<u32, u32>,
    /// `DOMAIN_RULES`.
    pub domain_rules: HashMap<NameHash, RuleSet>,
    /// `DOMAINS`.
    pub domains: RefCell<HashMap<HostKey, Domain>>,
    /// `QUERIES`.
    pub queries: RefCell<HashMap<QueryKey, u32>>,
    /// `ASKERS`, by slot.
    pub askers: RefCell<HashMap<u32, Asker>>,
    /// `RESOLVERS`.
    pub resolvers: HashSet<HostKey>,
    /// `PROPOSALS`, by slot.
    pub proposals: RefCell<HashMap<u32, Proposal>>,
    /// `SHORTCUTS_UP` and `SHORTCUTS_DOWN`, by slot.
    pub shortcuts: RefCell<HashMap<(Way, u32), Shortcut>>,
    /// `SHORTCUTS_LEFT_OUT`.
    pub shortcuts_left_out: HashSet<u32>,
    /// `SHORTCUT_COUNTERS`.
    pub shortcut_counters: RefCell<[ShortcutCounters; MAX_UPLINKS]>,
    /// Set if flows of the present window are remembered.
    pub remembers: bool,
    /// `RECENT`, by slot.
    pub recent: RefCell<HashMap<u32, Recent>>,
    /// `FLOWS` and `UNREPLIED`, told apart by [`Flow::replied`].
    pub flows: RefCell<HashMap<FlowKey, Flow>>,
    /// `HOSTS`.
    pub hosts: RefCell<HashMap<Host, Quota>>,
    /// `SESSIONS`.
    pub sessions: RefCell<HashMap<SessionKey, Session>>,
    /// `UDP_REQUESTS`.
    pub udp_requests: RefCell<HashMap<FlowKey, UdpRequest>>,
    /// `COUNTERS`.
    pub counters: RefCell<[u64; Counter::ALL.len()]>,
    /// `UPLINK_COUNTERS`.
    pub uplink_counters: RefCell<[UplinkCounters; MAX_UPLINKS]>,
    /// `RULE_COUNTERS`.
    pub rule_counters: RefCell<HashMap<u8, RuleCounters>>,
    /// The clock, in seconds since boot.
    pub now_s: u32,
    /// Jiffies since then.
    pub jiffies: u32,
}

impl ModelTables {
    fn longest(&self, which: usize, family: Family, address: &[u32; 4]) -> RuleSet {
        let prefixes = self.rules_address[which].iter();
        let matching = prefixes.filter(|(of, prefix, length, _)| {
            *of == family && same_prefix(prefix, address, *length)
        });
        matching.max_by_key(|prefix| prefix.2).map_or(RuleSet::NONE, |prefix| prefix.3)
    }

    fn change_flow(&self, key: FlowKey, change: impl FnOnce(&mut Flow)) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(&key) {
            change(flow);
        }
    }

    /// Returns the value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.borrow()[counter as usize]
    }
}

/// Returns the entry of `key`, or else that of `default`.
fn or_default<K: Copy + Eq + core::hash::Hash>(
    map: &HashMap<K, RuleSet>,
    key: K,
    default: K,
) -> RuleSet {
    map.get(&key).or_else(|| map.get(&default)).copied().unwrap_or(RuleSet::NONE)
}

/// Returns whether the first `length` bits of two addresses in network byte order agree.
fn same_prefix(a: &[u32; 4], b: &[u32; 4], length: u32) -> bool {
    let number = |words: &[u32; 4]| {
        words.iter().fold(0, |number: u128, word| number << 32 | u128::from(u32::from_be(*word)))
    };
    length == 0 || (number(a) ^ number(b)) >> (128 - length.min(128)) == 0
}

impl Tables for ModelTables {
    type FlowSlot = FlowKey;
    type SessionSlot = SessionKey;

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn up_mask(&self) -> UpMask {
        self.up_mask
    }

    fn avoid_mask(&self) -> UpMask {
        self.avoid_mask
    }

    fn epoch(&self, slot: u32) -> u32 {
        self.epochs.get(slot as usize).copied().unwrap_or_default()
    }

    fn bucket(&self, number: u32) -> Bucket {
        self.buckets.get(number as usize).copied().unwrap_or(Bucket::EMPTY)
    }

    fn sticky_class(&self, index: u32) -> Option<StickyClass> {
        self.sticky_classes.get(index as usize).copied()
    }

    fn action(&self, rule: u32) -> RuleAction {
        self.actions.get(rule as usize).copied().unwrap_or(RuleAction::NO_RULE)
    }

    fn rules(&self, dimension: Dimension<'_>) -> RuleSet {
        let at = |sets: &[RuleSet], index: usize| sets.get(index).copied().unwrap_or(RuleSet::NONE);
        match dimension {
            Dimension::Source(family, address) => self.longest(0, family, address),
            Dimension::Destination(family, address) => self.longest(1, family, address),
            Dimension::Protocol(protocol) => at(&self.rules_protocol, protocol.into()),
            Dimension::SourcePort(port) => at(&self.rules_port[0], port.into()),
            Dimension::DestinationPort(port) => at(&self.rules_port[1], port.into()),
            Dimension::Dscp(dscp) => at(&self.rules_dscp, dscp.into()),
            Dimension::Interface(ifindex) => or_default(&self.rules_interface, ifindex, 0),
            Dimension::Vlan(vlan) => or_default(&self.rules_vlan, vlan.into(), 0),
            Dimension::Mac(mac) => or_default(&self.rules_mac, mac, [0; 8]),
        }
    }

    fn sticky_port(&self, protocol: u8, port: u16) -> Option<u32> {
        self.sticky_ports.get(&port_key(protocol, port)).copied()
    }

    fn bypass(&self, family: Family, destination: &[u32; 4]) -> Option<u32> {
        let mut prefixes = self.bypass.iter().filter(|prefix| prefix.0 == family);
        let found =
            prefixes.find(|(_, address, length, _)| same_prefix(address, destination, *length));
        found.map(|prefix| prefix.3)
    }

    fn source_uplink(&self, family: Family, source: &[u32; 4]) -> Option<u32> {
        let mut prefixes = self.source_uplinks.iter().filter(|prefix| prefix.0 == family);
        let found = prefixes.find(|(_, address, length, _)| same_prefix(address, source, *length));
        found.map(|prefix| prefix.3)
    }

    fn uplink_address(&self, uplink: u32, family: Family) -> Address {
        self.uplink_addresses[family_slot(uplink, family) as usize]
    }

    fn uplink_mtu(&self, uplink: u32, family: Family) -> u32 {
        self.uplink_mtu[family_slot(uplink, family) as usize]
    }

    fn uplink_on(&self, ifindex: u32) -> Option<u32> {
        self.uplinks.get(&ifindex).copied()
    }

    fn flow(&self, key: &FlowKey) -> Option<(Flow, FlowKey)> {
        self.flows.borrow().get(key).map(|flow| (*flow, *key))
    }

    fn touch_flow(&self, slot: FlowKey, now_s: u32) {
        self.change_flow(slot, |flow| flow.last_seen_s = now_s);
    }

    fn touch_tcp(&self, slot: FlowKey, ack: u32, end: u32) {
        self.change_flow(slot, |flow| (flow.tcp_ack, flow.tcp_end) = (ack, end));
    }

    fn touch_state(&self, slot: FlowKey, state: u32) {
        self.change_flow(slot, |flow| flow.tcp_state = state);
    }

    fn forget_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn store_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.flows.borrow_mut().insert(*key, *flow);
        true
    }

    fn store_new_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        let known = self.flows.borrow().contains_key(key);
        !known && self.store_flow(key, flow)
    }

    fn settle_flow(&self, _key: &FlowKey, slot: FlowKey) {
        self.change_flow(slot, |flow| flow.replied = 1);
    }

    fn with_quota<R>(&self, host: Host, with: impl FnOnce(&mut Quota) -> R) -> Option<R> {
        Some(with(self.hosts.borrow_mut().entry(host).or_default()))
    }

    fn write_proposal(&self, hash: u32, write: impl FnOnce(&mut Proposal)) {
        write(self.proposals.borrow_mut().entry(proposal_slot(hash)).or_default());
    }

    fn proposal(&self, hash: u32) -> Option<Proposal> {
        self.proposals.borrow().get(&proposal_slot(hash)).copied()
    }

    fn with_shortcut<R>(
        &self,
        way: Way,
        hash: u32,
        with: impl FnOnce(&mut Shortcut) -> R,
    ) -> Option<R> {
        Some(with(self.shortcuts.borrow_mut().entry((way, slot(hash))).or_default()))
    }

    fn is_left_out(&self, ifindex: u32) -> bool {
        self.shortcuts_left_out.contains(&ifindex)
    }

    fn with_shortcut_counters<R>(
        &self,
        uplink: u32,
        with: impl FnOnce(&mut ShortcutCounters) -> R,
    ) -> Option<R> {
        self.shortcut_counters.borrow_mut().get_mut(uplink as usize).map(with)
    }

    fn remembers(&self) -> bool {
        self.remembers
    }

    fn with_recent<R>(&self, hash: u32, with: impl FnOnce(&mut Recent) -> R) -> Option<R> {
        Some(with(self.recent.borrow_mut().entry(recent::slot(hash)).or_default()))
    }

    fn session(&self, key: &SessionKey) -> Option<(Session, SessionKey)> {
        self.sessions.borrow().get(key).map(|session| (*session, *key))
    }

    fn touch_session(&self, slot: SessionKey, now_s: u32) {
        if let Some(session) = self.sessions.borrow_mut().get_mut(&slot) {
            session.last_seen_s = now_s;
        }
    }

    fn store_session(&self, key: &SessionKey, session: &Session) -> bool {
        self.sessions.borrow_mut().insert(*key, *session);
        true
    }

    fn store_query(&self, key: &QueryKey, now_s: u32) -> bool {
        self.queries.borrow_mut().insert(*key, now_s);
        true
    }

    fn query(&self, key: &QueryKey) -> Option<u32> {
        self.queries.borrow().get(key).copied()
    }

    fn forget_query(&self, key: &QueryKey) {
        self.queries.borrow_mut().remove(key);
    }

    fn with_asker<R>(&self, index: u32, change: impl FnOnce(&mut Asker) -> R) -> Option<R> {
        Some(change(self.askers.borrow_mut().entry(index).or_default()))
    }

    fn is_resolver(&self, family: Family, server: &Address) -> bool {
        self.resolvers.contains(&HostKey::new(family, server))
    }

    fn domain_rules(&self, name: NameHash) -> Option<RuleSet> {
        self.domain_rules.get(&name).copied()
    }

    fn domain(&self, key: &HostKey) -> Option<Domain> {
        self.domains.borrow().get(key).copied()
    }

    fn store_domain(&self, key: &HostKey, domain: &Domain) -> bool {
        self.domains.borrow_mut().insert(*key, *domain);
        true
    }

    fn udp_request(&self, key: &FlowKey) -> Option<UdpRequest> {
        self.udp_requests.borrow().get(key).copied()
    }

    fn store_udp_request(&self, key: &FlowKey, request: &UdpRequest) {
        self.udp_requests.borrow_mut().insert(*key, *request);
    }

    fn with_request<R>(&self, make: impl FnOnce(&mut Request) -> R) -> Option<R> {
        Some(make(&mut Request::default()))
    }

    fn run(&self, request: &mut Request) -> u32 {
        slow::run(self, request)
    }

    fn with_reply<R>(&self, read: impl FnOnce(&mut Reply) -> R) -> Option<R> {
        Some(read(&mut Reply::EMPTY.clone()))
    }

    fn read_reply(&self, reply: &mut Reply) {
        for _ in 0..STEPS {
            if !reply.step(self) {
                break;
            }
        }
    }

    fn jiffies(&self) -> u32 {
        self.now_s.wrapping_mul(self.window_jiffies()).wrapping_add(self.jiffies)
    }

    fn window_jiffies(&self) -> u32 {
        256
    }

    fn window(&self) -> u32 {
        self.now_s
    }

    fn now_ns(&self) -> u64 {
        u64::from(self.now_s) * 1_000_000_000
    }

    fn count(&self, counter: Counter) {
        self.counters.borrow_mut()[counter as usize] += 1;
    }

    fn count_uplink(&self, uplink: u32, bytes: u32, counter: Counter) {
        let mut all = self.uplink_counters.borrow_mut();
        let Some(counters) = all.get_mut(uplink as usize) else { return };
        counters.packets += 1;
        counters.bytes += u64::from(bytes);
        counters.flows_new += u64::from(counter == Counter::FlowNew);
        counters.flows_moved_in += u64::from(counter == Counter::FlowMoved);
    }

    fn count_rule(&self, rule: u8) {
        if usize::from(rule) < ACTIONS {
            self.rule_counters.borrow_mut().entry(rule).or_default().flows += 1;
        }
    }

    fn count_blocked(&self, rule: u8) {
        if usize::from(rule) < ACTIONS {
            self.rule_counters.borrow_mut().entry(rule).or_default().blocked += 1;
        }
    }

    fn count_connect(&self, uplink: u32) {
        if let Some(counters) = self.uplink_counters.borrow_mut().get_mut(uplink as usize) {
            counters.connects += 1;
        }
    }

    fn count_answer(&self, uplink: u32, bytes: u32, network: (usize, usize), settled: bool) {
        if let Some(counters) = self.uplink_counters.borrow_mut().get_mut(uplink as usize) {
            counters.answers += 1;
            counters.answers_ipv6 += network.0 as u64;
            counters.answer_bytes += u64::from(bytes);
            counters.networks[network.0][network.1] += u32::from(settled);
        }
    }

    fn count_connected(&self, uplink: u32, after_ms: u32) {
        if let Some(counters) = self.uplink_counters.borrow_mut().get_mut(uplink as usize) {
            counters.connects_answered += 1;
            counters.handshake_ms += u64::from(after_ms);
        }
    }
}
