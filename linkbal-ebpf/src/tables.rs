//! The use of the maps by the packet path.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_loop},
};
use linkbal_common::{
    bucket::Bucket,
    classify::port_key,
    counter::{Counter, UplinkCounters},
    dns::{
        HostKey, QueryKey,
        asker::Asker,
        domain::{Domain, NameHash},
        reply::{Reply, STEPS},
    },
    flow::{Address, Flow, FlowKey, Proposal, Session, SessionKey, proposal_slot},
    local::udp_request::UdpRequest,
    quota::{Host, Quota},
    recent::{Recent, slot as slot_of_recent},
    rule::{RuleAction, RuleSet},
    select::Selection,
    settings::{Settings, StickyClass},
    shortcut::{Shortcut, ShortcutCounters, Way, slot},
    slow::{self, Request},
    tables::{Dimension, PREFIX_FAMILY_BITS, PrefixData, Tables, prefix_data},
    uplink::{Family, UpMask, family_slot},
};

use crate::maps::{
    ACTIONS, ASKERS, AVOID_MASK, BUCKETS, BYPASS, COUNTERS, DOMAIN_RULES, DOMAINS, EPOCHS, FLOWS,
    HOSTS, LOCAL_REQUEST, PROPOSALS, QUERIES, RECENT, REPLY, REQUEST, RESOLVERS, RULE_COUNTERS,
    RULES_DESTINATION, RULES_DESTINATION_PORT, RULES_DSCP, RULES_INTERFACE, RULES_MAC,
    RULES_PROTOCOL, RULES_SOURCE, RULES_SOURCE_PORT, RULES_VLAN, SESSIONS, SETTINGS,
    SHORTCUT_COUNTERS, SHORTCUTS_DOWN, SHORTCUTS_LEFT_OUT, SHORTCUTS_UP, SOURCE_UPLINKS,
    STICKY_CLASSES, STICKY_PORTS, UDP_REQUESTS, UNREPLIED, UP_MASK, UPLINK_ADDRESSES,
    UPLINK_COUNTERS, UPLINK_MTU, UPLINKS,
};

/// Returns the key that finds the longest prefix of an address.
#[inline(always)]
fn whole(family: Family, address: &[u32; 4]) -> Key<PrefixData> {
    Key::new(PREFIX_FAMILY_BITS + 128, prefix_data(family, address))
}

/// Runs the slow path, as a global function, which the verifier checks on its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn slow_path() -> u32 {
    match REQUEST.get_ptr_mut(0) {
        // SAFETY: this CPU's request is ours alone.
        Some(request) => slow::run(&Maps::<_, true>(&NoContext), unsafe { &mut *request }),
        None => Selection::NoneUsable.encode(),
    }
}

/// Runs the slow path as [`slow_path`], but for local traffic, which packets can interrupt. A
/// process that runs in between on the same CPU replaces the request: `linkbal_common::local`
/// notices.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn local_slow_path() -> u32 {
    match LOCAL_REQUEST.get_ptr_mut(0) {
        // SAFETY: an entry of the map, valid for any bit pattern.
        Some(request) => slow::run(&Maps::<_, true>(&NoContext), unsafe { &mut *request }),
        None => Selection::NoneUsable.encode(),
    }
}

/// Takes a step; returns 1 to end the loop. The verifier requires a static function.
#[inline(never)]
extern "C" fn reply_step(_number: u32, context: *mut *mut Reply) -> i64 {
    // SAFETY: `read_reply` passes a pointer to its reply.
    let reply = unsafe { &mut **context };
    i64::from(!reply.step(&Maps::<_, false>(&NoContext)))
}

/// A context for programs that log nothing.
struct NoContext;

impl EbpfContext for NoContext {
    fn as_ptr(&self) -> *mut c_void {
        core::ptr::null_mut()
    }
}

/// All maps, for the program that runs in this context; `LOCAL` ones are for local traffic.
///
/// Entries that other CPUs, or user space, write at the same time are lent as plain references all the
/// same. Rust's memory model has no place for such writes; what holds is less: a program makes no two
/// references to an entry at a time, so that the compiler sees no alias, and all that it may do with a
/// plain load is to repeat, split or move it. So whatever is read of these entries is valid for any bit
/// pattern and may be torn, and each of their readers says why that does no harm.
pub(crate) struct Maps<'a, C: EbpfContext, const LOCAL: bool>(pub(crate) &'a C);

impl<C: EbpfContext, const LOCAL: bool> Tables for Maps<'_, C, LOCAL> {
    type FlowSlot = *mut Flow;
    type SessionSlot = *mut Session;

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn up_mask(&self) -> UpMask {
        match UP_MASK.get_ptr(0) {
            // SAFETY: the map's entry lives as long as the program; user space stores whole words.
            Some(word) => UpMask(unsafe { word.read_volatile() }),
            None => UpMask(0),
        }
    }

    #[inline(always)]
    fn avoid_mask(&self) -> UpMask {
        match AVOID_MASK.get_ptr(0) {
            // SAFETY: as above.
            Some(word) => UpMask(unsafe { word.read_volatile() }),
            None => UpMask(0),
        }
    }

    #[inline(always)]
    fn epoch(&self, slot: u32) -> u32 {
        match EPOCHS.get_ptr(slot) {
            // SAFETY: as above.
            Some(word) => unsafe { word.read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> Bucket {
        BUCKETS.get(number).copied().unwrap_or(Bucket::EMPTY)
    }

    #[inline(always)]
    fn sticky_class(&self, index: u32) -> Option<StickyClass> {
        STICKY_CLASSES.get(index).copied()
    }

    #[inline(always)]
    fn action(&self, rule: u32) -> RuleAction {
        ACTIONS.get(rule).copied().unwrap_or(RuleAction::NO_RULE)
    }

    #[inline(always)]
    fn rules(&self, dimension: Dimension<'_>) -> RuleSet {
        let set = match dimension {
            Dimension::Source(family, address) => RULES_SOURCE.get(&whole(family, address)),
            Dimension::Destination(family, address) => {
                RULES_DESTINATION.get(&whole(family, address))
            }
            Dimension::Protocol(protocol) => RULES_PROTOCOL.get(protocol.into()),
            Dimension::SourcePort(port) => RULES_SOURCE_PORT.get(port.into()),
            Dimension::DestinationPort(port) => RULES_DESTINATION_PORT.get(port.into()),
            Dimension::Dscp(dscp) => RULES_DSCP.get(dscp.into()),
            // SAFETY: here and below, entries are only written whole, by user space.
            Dimension::Interface(ifindex) => unsafe {
                RULES_INTERFACE.get(ifindex).or_else(|| RULES_INTERFACE.get(0))
            },
            // SAFETY: as above.
            Dimension::Vlan(vlan) => unsafe {
                RULES_VLAN.get(u32::from(vlan)).or_else(|| RULES_VLAN.get(0))
            },
            // SAFETY: as above.
            Dimension::Mac(mac) => unsafe { RULES_MAC.get(mac).or_else(|| RULES_MAC.get([0; 8])) },
        };
        set.copied().unwrap_or(RuleSet::NONE)
    }

    #[inline(always)]
    fn sticky_port(&self, protocol: u8, port: u16) -> Option<u32> {
        // SAFETY: entries are only written whole, by user space.
        unsafe { STICKY_PORTS.get(port_key(protocol, port)) }.copied()
    }

    #[inline(always)]
    fn bypass(&self, family: Family, destination: &[u32; 4]) -> Option<u32> {
        BYPASS.get(&whole(family, destination)).copied()
    }

    #[inline(always)]
    fn source_uplink(&self, family: Family, source: &[u32; 4]) -> Option<u32> {
        SOURCE_UPLINKS.get(&whole(family, source)).copied()
    }

    #[inline(always)]
    fn uplink_on(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: entries are only written whole, by user space.
        unsafe { UPLINKS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn uplink_address(&self, uplink: u32, family: Family) -> Address {
        UPLINK_ADDRESSES.get(family_slot(uplink, family)).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn uplink_mtu(&self, uplink: u32, family: Family) -> u32 {
        UPLINK_MTU.get(family_slot(uplink, family)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<(Flow, *mut Flow)> {
        let slot = match FLOWS.get_ptr_mut(key) {
            Some(slot) => slot,
            None => UNREPLIED.get_ptr_mut(key)?,
        };
        // SAFETY: the entry stays readable while the program runs; at worst it already belongs to
        // another flow, which costs one wrong mark at the moment of an eviction.
        Some((unsafe { *slot }, slot))
    }

    #[inline(always)]
    fn touch_flow(&self, slot: *mut Flow, now_s: u32) {
        // SAFETY: `slot` came from `flow` in this run of the program; an aligned 32-bit store.
        unsafe { (&raw mut (*slot).last_seen_s).write_volatile(now_s) }
    }

    #[inline(always)]
    fn touch_tcp(&self, slot: *mut Flow, ack: u32, end: u32) {
        // SAFETY: as above; aligned 32-bit stores.
        unsafe {
            (&raw mut (*slot).tcp_ack).write_volatile(ack);
            (&raw mut (*slot).tcp_end).write_volatile(end);
        }
    }

    #[inline(always)]
    fn touch_state(&self, slot: *mut Flow, state: u32) {
        // SAFETY: as above; an aligned 32-bit store.
        unsafe { (&raw mut (*slot).tcp_state).write_volatile(state) }
    }

    #[inline(always)]
    fn forget_flow(&self, key: &FlowKey) {
        // An entry that has gone already is as good.
        let _ = FLOWS.remove(key);
        let _ = UNREPLIED.remove(key);
    }

    #[inline(always)]
    fn store_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        if flow.replied == 0 {
            UNREPLIED.insert(key, flow, u64::from(BPF_ANY)).is_ok()
        } else {
            FLOWS.insert(key, flow, u64::from(BPF_ANY)).is_ok()
        }
    }

    #[inline(always)]
    fn store_new_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        UNREPLIED.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn settle_flow(&self, key: &FlowKey, slot: *mut Flow) {
        // SAFETY: `slot` came from `flow` in this run of the program. Written in place, since the
        // map copies it from there.
        unsafe { (&raw mut (*slot).replied).write_volatile(1) };
        // SAFETY: as above.
        let flow = unsafe { &*slot };
        if FLOWS.insert(key, flow, u64::from(BPF_ANY)).is_ok() {
            let _ = UNREPLIED.remove(key);
        }
    }

    #[inline(always)]
    fn with_quota<R>(&self, host: Host, with: impl FnOnce(&mut Quota) -> R) -> Option<R> {
        let slot = match HOSTS.get_ptr_mut(host) {
            Some(slot) => slot,
            None => {
                let none = Quota { since_s: 0, flows: 0, sessions: 0, refused: 0 };
                HOSTS.insert(host, none, u64::from(BPF_ANY)).ok()?;
                HOSTS.get_ptr_mut(host)?
            }
        };
        // SAFETY: an entry of the map, valid for any bit pattern, and the only reference of this program
        // to it; where two CPUs change it at a time, one of them is not counted.
        Some(with(unsafe { &mut *slot }))
    }

    #[inline(always)]
    fn write_proposal(&self, hash: u32, write: impl FnOnce(&mut Proposal)) {
        let Some(slot) = PROPOSALS.get_ptr_mut(proposal_slot(hash)) else { return };
        // SAFETY: an entry of the map, valid for any bit pattern, and the only reference of this program
        // to it; a reader on another CPU finds a torn key by `Proposal::check`.
        write(unsafe { &mut *slot });
    }

    #[inline(always)]
    fn proposal(&self, hash: u32) -> Option<Proposal> {
        let slot = PROPOSALS.get_ptr(proposal_slot(hash))?;
        // SAFETY: an entry of the map, valid for any bit pattern; copied, so that what is checked is used.
        Some(unsafe { *slot })
    }

    #[inline(always)]
    fn with_shortcut<R>(
        &self,
        way: Way,
        hash: u32,
        with: impl FnOnce(&mut Shortcut) -> R,
    ) -> Option<R> {
        let place = match way {
            Way::Up => SHORTCUTS_UP.get_ptr_mut(slot(hash))?,
            Way::Down => SHORTCUTS_DOWN.get_ptr_mut(slot(hash))?,
        };
        // SAFETY: an entry of the map, valid for any bit pattern, and the only reference of this program
        // to it; a reader on another CPU finds a torn target by its check.
        Some(with(unsafe { &mut *place }))
    }

    #[inline(always)]
    fn is_left_out(&self, ifindex: u32) -> bool {
        // SAFETY: the entry itself is not read.
        unsafe { SHORTCUTS_LEFT_OUT.get(ifindex) }.is_some()
    }

    #[inline(always)]
    fn with_shortcut_counters<R>(
        &self,
        uplink: u32,
        with: impl FnOnce(&mut ShortcutCounters) -> R,
    ) -> Option<R> {
        let counters = SHORTCUT_COUNTERS.get_ptr_mut(uplink)?;
        // SAFETY: this CPU's copy is ours alone.
        Some(with(unsafe { &mut *counters }))
    }

    #[inline(always)]
    fn remembers(&self) -> bool {
        !LOCAL && recent_flows()
    }

    #[inline(always)]
    fn with_recent<R>(&self, hash: u32, with: impl FnOnce(&mut Recent) -> R) -> Option<R> {
        let place = RECENT.get_ptr_mut(slot_of_recent(hash))?;
        // SAFETY: an entry of the map, valid for any bit pattern, and the only reference of this program
        // to it; a reader on another CPU finds the state of another flow by its hash.
        Some(with(unsafe { &mut *place }))
    }

    #[inline(always)]
    fn session(&self, key: &SessionKey) -> Option<(Session, *mut Session)> {
        let slot = SESSIONS.get_ptr_mut(key)?;
        // SAFETY: as for flows.
        Some((unsafe { *slot }, slot))
    }

    #[inline(always)]
    fn touch_session(&self, slot: *mut Session, now_s: u32) {
        // SAFETY: as for flows.
        unsafe { (&raw mut (*slot).last_seen_s).write_volatile(now_s) }
    }

    #[inline(always)]
    fn store_session(&self, key: &SessionKey, session: &Session) -> bool {
        SESSIONS.insert(key, session, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn store_query(&self, key: &QueryKey, now_s: u32) -> bool {
        QUERIES.insert(key, now_s, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn query(&self, key: &QueryKey) -> Option<u32> {
        // SAFETY: an aligned word; at worst it already belongs to another query.
        unsafe { QUERIES.get(key) }.copied()
    }

    #[inline(always)]
    fn forget_query(&self, key: &QueryKey) {
        // An entry that has gone already is as good.
        let _ = QUERIES.remove(key);
    }

    #[inline(always)]
    fn with_asker<R>(&self, index: u32, change: impl FnOnce(&mut Asker) -> R) -> Option<R> {
        let asker = ASKERS.get_ptr_mut(index)?;
        // SAFETY: an entry of the map, valid for any bit pattern, and the only reference of this program
        // to it; CPUs that count at the same time lose some of it.
        Some(change(unsafe { &mut *asker }))
    }

    #[inline(always)]
    fn is_resolver(&self, family: Family, server: &Address) -> bool {
        // SAFETY: the entry itself is not read.
        unsafe { RESOLVERS.get(HostKey::new(family, server)) }.is_some()
    }

    #[inline(always)]
    fn domain_rules(&self, name: NameHash) -> Option<RuleSet> {
        // SAFETY: entries are only written whole, by user space.
        unsafe { DOMAIN_RULES.get(name) }.copied()
    }

    #[inline(always)]
    fn domain(&self, key: &HostKey) -> Option<Domain> {
        // SAFETY: entries are only written whole; at worst it already belongs to another address.
        unsafe { DOMAINS.get(key) }.copied()
    }

    #[inline(always)]
    fn store_domain(&self, key: &HostKey, domain: &Domain) -> bool {
        DOMAINS.insert(key, domain, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn udp_request(&self, key: &FlowKey) -> Option<UdpRequest> {
        // SAFETY: entries are only written whole; at worst it already belongs to another flow.
        unsafe { UDP_REQUESTS.get(key) }.copied()
    }

    #[inline(always)]
    fn store_udp_request(&self, key: &FlowKey, request: &UdpRequest) {
        // The next packet stores it.
        let _ = UDP_REQUESTS.insert(key, request, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn with_request<R>(&self, make: impl FnOnce(&mut Request) -> R) -> Option<R> {
        let place = if LOCAL { LOCAL_REQUEST.get_ptr_mut(0)? } else { REQUEST.get_ptr_mut(0)? };
        // SAFETY: this CPU's request is ours alone: programs of interfaces do not interrupt each
        // other. Those of sockets may be interrupted by others of their kind, and check the request
        // when they are done; it is valid for any bit pattern.
        Some(make(unsafe { &mut *place }))
    }

    #[inline(always)]
    fn run(&self, _request: &mut Request) -> u32 {
        if LOCAL { local_slow_path() } else { slow_path() }
    }

    #[inline(always)]
    fn with_reply<R>(&self, read: impl FnOnce(&mut Reply) -> R) -> Option<R> {
        let reply = REPLY.get_ptr_mut(0)?;
        // SAFETY: this CPU's reply is ours alone: programs of interfaces do not interrupt each
        // other.
        Some(read(unsafe { &mut *reply }))
    }

    #[inline(always)]
    fn read_reply(&self, reply: &mut Reply) {
        let mut context: *mut Reply = reply;
        // SAFETY: the callback gets the context, which lives until the loop is over.
        unsafe {
            bpf_loop(STEPS, reply_step as *const () as *mut c_void, (&raw mut context).cast(), 0)
        };
    }

    #[inline(always)]
    fn jiffies(&self) -> u32 {
        jiffies() as u32
    }

    #[inline(always)]
    fn window_jiffies(&self) -> u32 {
        1 << window_shift()
    }

    #[inline(always)]
    fn window(&self) -> u32 {
        (jiffies() >> window_shift()) as u32
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
        // SAFETY: the counter is a field of the struct, and no other CPU has this copy. Where a
        // packet interrupts a program for local sockets, at worst one of them is not counted.
        let value = unsafe { &mut *counters.cast::<u64>().add(counter as usize) };
        *value += 1;
        // Logged half as often each time, so that the log is not flooded.
        if !LOCAL && counter as u32 == Counter::StoreFailed as u32 && value.is_power_of_two() {
            // Flows, sessions, DNS queries and addresses; their names would cost the verifier.
            aya_log_ebpf::warn!(self.0, "{} entries could not be stored on this CPU", *value);
        }
    }

    #[inline(always)]
    fn count_uplink(&self, uplink: u32, bytes: u32, counter: Counter) {
        let Some(counters) = uplink_counters(uplink) else { return };
        counters.packets += 1;
        counters.bytes += u64::from(bytes);
        match counter {
            Counter::FlowNew => counters.flows_new += 1,
            Counter::FlowMoved => counters.flows_moved_in += 1,
            _ => {}
        }
    }

    #[inline(always)]
    fn count_rule(&self, rule: u8) {
        let Some(counters) = RULE_COUNTERS.get_ptr_mut(rule.into()) else { return };
        // SAFETY: this CPU's copy is ours alone.
        unsafe { (*counters).flows += 1 }
    }

    #[inline(always)]
    fn count_blocked(&self, rule: u8) {
        let Some(counters) = RULE_COUNTERS.get_ptr_mut(rule.into()) else { return };
        // SAFETY: as above.
        unsafe { (*counters).blocked += 1 }
    }

    #[inline(always)]
    fn count_connect(&self, uplink: u32) {
        let Some(counters) = uplink_counters(uplink) else { return };
        counters.connects += 1;
    }

    #[inline(always)]
    fn count_answer(&self, uplink: u32, bytes: u32, network: (usize, usize), settled: bool) {
        let Some(counters) = uplink_counters(uplink) else { return };
        counters.answers += 1;
        counters.answers_ipv6 += network.0 as u64;
        counters.answer_bytes += u64::from(bytes);
        if settled && let Some(place) = counters.networks[network.0 & 1].get_mut(network.1) {
            *place = place.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn count_connected(&self, uplink: u32, after_ms: u32) {
        let Some(counters) = uplink_counters(uplink) else { return };
        counters.connects_answered += 1;
        counters.handshake_ms += u64::from(after_ms);
    }
}

/// 1 if flows of the present window are remembered. User space sets it before the programs are loaded, and
/// the verifier leaves out what is not needed then.
#[unsafe(no_mangle)]
static RECENT_FLOWS: u32 = 0;

/// Returns whether flows of the present window are remembered.
#[inline(always)]
pub(crate) fn recent_flows() -> bool {
    // SAFETY: a static; volatile, since the compiler would take its value for final.
    unsafe { (&raw const RECENT_FLOWS).read_volatile() != 0 }
}

/// Returns the kernel's `jiffies`.
#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: the helper has no preconditions; the verifier makes one load of it.
    unsafe { bpf_jiffies64() }
}

/// Bits of `jiffies` below a window, which is about a second; user space sets it before the programs are
/// loaded.
#[unsafe(no_mangle)]
static WINDOW_SHIFT: u32 = 8;

#[inline(always)]
fn window_shift() -> u32 {
    // SAFETY: a static; volatile, since the compiler would take its value for final.
    unsafe { (&raw const WINDOW_SHIFT).read_volatile() & 31 }
}

/// Returns the counters of an uplink on this CPU.
#[inline(always)]
fn uplink_counters<'a>(uplink: u32) -> Option<&'a mut UplinkCounters> {
    let counters = UPLINK_COUNTERS.get_ptr_mut(uplink)?;
    // SAFETY: this CPU's copy is ours alone.
    Some(unsafe { &mut *counters })
}
