//! The maps, and what the packet path asks of them.

use aya_ebpf::{
    bindings::BPF_ANY,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::btf_map,
    programs::TcContext,
};
use linkbal_common::{
    bucket::{BUCKETS as BUCKET_COUNT, Bucket},
    classify::{PortKey, port_key},
    counter::{Counter, Counters, UplinkCounters},
    flow::{Flow, FlowKey, Session, SessionKey},
    settings::Settings,
    tables::{PREFIX_FAMILY_BITS, Tables, prefix_data},
    uplink::{Family, MAX_UPLINKS, UpMask},
};

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static UP_MASK: Array<u32, 1> = Array::new();
#[btf_map]
static BUCKETS: Array<Bucket, { BUCKET_COUNT as usize }> = Array::new();
#[btf_map]
static FLOWS: LruHashMap<FlowKey, Flow, 262_144> = LruHashMap::new();
#[btf_map]
static SESSIONS: LruHashMap<SessionKey, Session, 65_536> = LruHashMap::new();
#[btf_map]
static STICKY_PORTS: HashMap<PortKey, u32, 4096> = HashMap::new();
#[btf_map]
static BYPASS: LpmTrie<[u32; 5], u32, 16_384> = LpmTrie::new();
#[btf_map]
static UPLINKS: HashMap<u32, u32, 256> = HashMap::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map]
static UPLINK_COUNTERS: PerCpuArray<UplinkCounters, MAX_UPLINKS> = PerCpuArray::new();

/// One word for each CPU; what is read from a map, the verifier does not know.
#[btf_map]
static SCRATCH: PerCpuArray<u32, 1> = PerCpuArray::new();

/// `value`, made unknown to the verifier.
#[inline(always)]
pub(crate) fn opaque(value: u32) -> u32 {
    // The verifier does not know either that the look-up cannot fail; no packet is that long.
    let Some(word) = SCRATCH.get_ptr_mut(0) else { return u32::MAX };
    // SAFETY: this CPU's word is ours alone.
    unsafe {
        word.write_volatile(value);
        word.read_volatile()
    }
}

/// All maps, for the program that runs in this context.
pub(crate) struct Maps<'a>(pub(crate) &'a TcContext);

impl Tables for Maps<'_> {
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
    fn bucket(&self, number: u32) -> Bucket {
        BUCKETS.get(number).copied().unwrap_or(Bucket::EMPTY)
    }

    #[inline(always)]
    fn sticky_port(&self, protocol: u8, port: u16) -> Option<u32> {
        // SAFETY: entries are only written whole, by user space.
        unsafe { STICKY_PORTS.get(port_key(protocol, port)) }.copied()
    }

    #[inline(always)]
    fn bypasses(&self, family: Family, destination: &[u32; 4]) -> bool {
        let key = Key::new(PREFIX_FAMILY_BITS + 128, prefix_data(family, destination));
        BYPASS.get(&key).is_some()
    }

    #[inline(always)]
    fn uplink_on(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: entries are only written whole, by user space.
        unsafe { UPLINKS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<(Flow, *mut Flow)> {
        let slot = FLOWS.get_ptr_mut(key)?;
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
    fn store_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, u64::from(BPF_ANY)).is_ok()
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
    fn now_s(&self) -> u32 {
        // SAFETY: the helper has no preconditions.
        (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
        // SAFETY: the counter is a field of the struct, and this CPU's copy is ours alone.
        let value = unsafe { &mut *counters.cast::<u64>().add(counter as usize) };
        *value += 1;
        // Twice as rare each time: a log that floods helps nobody.
        if counter as u32 == Counter::StoreFailed as u32 && value.is_power_of_two() {
            aya_log_ebpf::warn!(self.0, "{} flows could not be stored on this CPU", *value);
        }
    }

    #[inline(always)]
    fn count_uplink(&self, uplink: u32, bytes: u32, counter: Counter) {
        let Some(counters) = UPLINK_COUNTERS.get_ptr_mut(uplink) else { return };
        // SAFETY: this CPU's copy is ours alone.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += u64::from(bytes);
        match counter {
            Counter::FlowNew => counters.flows_new += 1,
            Counter::FlowMoved => counters.flows_moved_in += 1,
            _ => {}
        }
    }
}
