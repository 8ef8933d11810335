//! What the datapath must know of the configuration beside its tables.

use crate::{hash::Seed, map_struct, rule::MAX_RULES};

/// Version of the layout of all maps; raised when any map struct changes its meaning.
pub const LAYOUT: u32 = 6;

/// Most classes of sticky sessions by port.
pub const MAX_PORT_CLASSES: usize = 8;

/// Classes of sticky sessions: those by port, then one for each rule.
pub const CLASSES: usize = MAX_PORT_CLASSES + MAX_RULES;

/// A class of sticky sessions: who shares an uplink, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StickyClass {
    /// Seconds without a packet after which a session ends.
    pub idle_s: u32,
    /// 1: one session for each source and destination; 0: one for each source.
    pub by_destination: u32,
    /// Leading bits of an IPv4 source that count, 1 to 32.
    pub source_bits_ipv4: u32,
    /// Leading bits of an IPv6 source that count, 1 to 128.
    pub source_bits_ipv6: u32,
}
map_struct!(StickyClass, 16);

/// The settings of the datapath. All zero (an unset map) means: touch nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`LAYOUT`] of whoever wrote this.
    pub layout: u32,
    /// linkbal's bits of the fwmark; 0 turns the datapath off.
    pub fwmark_mask: u32,
    /// Secret of the bucket hash.
    pub seed: Seed,
    /// Number of rules; with 0 nothing is classified.
    pub rules: u32,
    /// The uplinks whose TCP connections are reset when they end, bit `i` for uplink `i`; and in the
    /// high half those whose flows stay although the uplink is down. The flows of all others move.
    pub on_down: u32,
    /// Number by which user space knows the configuration again.
    pub configuration: u32,
    /// Number of domains that rules name; with 0 DNS is not looked at.
    pub domains: u32,
    /// Cookie of the network namespace whose own traffic is spread; 0: of none.
    pub netns_cookie: u64,
    /// Number of source prefixes that belong to an uplink; with 0 nobody looks for one.
    pub source_prefixes: u64,
}
map_struct!(Settings, 56);

impl Settings {
    /// Whether the TCP connections of an uplink are reset when they end.
    #[inline(always)]
    pub const fn resets(&self, uplink: u32) -> bool {
        self.on_down >> (uplink & 15) & 1 == 1
    }

    /// Whether the flows of an uplink stay although it is down.
    #[inline(always)]
    pub const fn keeps(&self, uplink: u32) -> bool {
        self.on_down >> (16 + (uplink & 15)) & 1 == 1
    }
}
