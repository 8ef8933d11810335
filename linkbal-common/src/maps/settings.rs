//! Settings of the datapath, beside its tables.

use crate::{
    map_struct,
    maps::{
        limits::MAX_RULES,
        seed::Seed,
        uplink::{MAX_UPLINKS, slot_uplink},
    },
};

/// Version of what a datapath leaves to the next one. Raised when the key or value of a map that outlives a
/// reload (lifetimes `Shared` and `Tables`), or a [`Bucket`](crate::maps::bucket::Bucket), changes its size
/// or meaning, and when a field of [`Settings`] changes its place or meaning. A new map needs no new version,
/// nor does a new field at the end of the settings: of settings of another size, the next datapath reads
/// the version, the mask and the seed alone.
pub const LAYOUT: u32 = 7;

/// Maximum number of classes of sticky sessions by port.
pub const MAX_PORT_CLASSES: usize = 8;

/// Number of classes of sticky sessions: those by port, then one for each rule.
pub const CLASSES: usize = MAX_PORT_CLASSES + MAX_RULES;

/// A class of sticky sessions: which flows share an uplink, and for how long.
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

/// The settings of the datapath. All zero (an unset map): the datapath touches nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`LAYOUT`] of the program that wrote the settings.
    pub layout: u32,
    /// linkbal's bits of the fwmark; 0 turns the datapath off.
    pub fwmark_mask: u32,
    /// Secret of the bucket hash.
    pub seed: Seed,
    /// Number of rules; with 0 nothing is classified.
    pub rules: u32,
    /// The uplinks whose TCP connections are reset when they end, bit `i` for uplink `i`; and in
    /// the high half the uplinks whose flows stay while it is down. The flows of all others move.
    pub on_down: u32,
    /// Number by which user space recognises the configuration.
    pub configuration: u32,
    /// Number of domains that rules name; with 0 DNS is not looked at.
    pub domains: u32,
    /// Cookie of the network namespace whose local traffic is balanced, or 0 for none.
    pub netns_cookie: u64,
    /// Number of source prefixes that belong to an uplink; with 0 none is looked up.
    pub source_prefixes: u32,
    /// The dimensions that some rule asks for, of [`dimension`](crate::maps::rule::dimension): a flow
    /// satisfies all rules in the others.
    pub dimensions: u32,
    /// Maximum number of answered flows that one host stores in a window (see [`crate::maps::quota`]), or
    /// 0 for any number; likewise below.
    pub host_flows: u32,
    /// Maximum number of sessions that one host stores in a window.
    pub host_sessions: u32,
    /// Maximum number of sessions that all hosts together store in a window.
    pub sessions: u32,
    /// The uplinks whose flows take shortcuts (see [`crate::maps::shortcut`]), bit `i` for uplink `i`;
    /// and [`LEFT_OUT`]. With 0 there are no shortcuts.
    pub shortcuts: u32,
}
map_struct!(Settings, 72);

/// Bit of [`Settings::shortcuts`]: some interfaces of the LAN are left out.
pub const LEFT_OUT: u32 = 1 << MAX_UPLINKS;

impl Settings {
    /// Returns whether the TCP connections of an uplink are reset when they end.
    #[inline(always)]
    pub const fn resets(&self, uplink: u32) -> bool {
        self.on_down >> slot_uplink(uplink) & 1 == 1
    }

    /// Returns whether the flows of an uplink take shortcuts.
    #[inline(always)]
    pub const fn takes_shortcuts(&self, uplink: u32) -> bool {
        self.shortcuts >> slot_uplink(uplink) & 1 == 1
    }

    /// Returns whether some interfaces of the LAN have no shortcuts.
    #[inline(always)]
    pub const fn leaves_out(&self) -> bool {
        self.shortcuts & LEFT_OUT != 0
    }

    /// Returns whether the flows of an uplink stay while it is down.
    #[inline(always)]
    pub const fn keeps(&self, uplink: u32) -> bool {
        self.on_down >> (MAX_UPLINKS as u32 + slot_uplink(uplink)) & 1 == 1
    }
}
