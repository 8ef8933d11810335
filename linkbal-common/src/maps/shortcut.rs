//! Shortcuts of flows: what the program at an interface changes of a packet so that it can leave at
//! once, past the kernel's forwarding.
//!
//! Each way of a flow has a shortcut of its own. They are slots of an array, by a hash of the
//! packets' tuple: of two flows in one slot the later one has it, and the other is forwarded.

use crate::{
    map_struct,
    maps::{
        counter::UplinkCounters,
        flow::{Address, FlowKey},
        seed::Seed,
        uplink::Family,
    },
};

/// Number of slots for each way; a power of two.
pub const SHORTCUTS: usize = 65_536;

/// Seconds for which a shortcut is used after the kernel itself has forwarded a packet of the flow.
pub const LIFE_S: u32 = 2;

/// A way of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the LAN to the uplink.
    Up,
    /// From the uplink to the LAN.
    Down,
}

/// The shortcut of the packets of one flow and way.
///
/// Other CPUs write here at the same time. A reader computes [`Target::check`] again: what is torn
/// between two flows has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Shortcut {
    /// The tuple of the packets as they come in.
    pub key: FlowKey,
    /// Changes to the packets.
    pub target: Target,
    /// [`Target::check`] of the target.
    pub check: u32,
    /// Time in seconds since boot at which the kernel last forwarded a packet.
    pub renewed_s: u32,
    /// Time in seconds since boot at which the last packet was left to the kernel.
    pub sampled_s: u32,
    /// Up: time in seconds since boot at which the kernel last forwarded an answer; 0 before that.
    pub answered_s: u32,
    /// Down: the way of counting the packets, one of [`counted`].
    pub counted: u32,
}
map_struct!(Shortcut, 112);

/// The traffic of one uplink that took shortcuts, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ShortcutCounters {
    /// The traffic, as that of packets without shortcuts is counted.
    pub traffic: UplinkCounters,
    /// Packets to the LAN.
    pub down: u64,
}
map_struct!(ShortcutCounters, size_of::<UplinkCounters>() + 8);

impl ShortcutCounters {
    /// Counts a packet of `bytes` bytes; of an answer, also how it is counted, one of [`counted`], and
    /// for which [`network`](crate::maps::counter::network).
    #[inline(always)]
    pub fn count(&mut self, bytes: u32, answer: Option<(u32, (usize, usize))>) {
        let traffic = &mut self.traffic;
        let Some((counted, (family, network))) = answer else {
            traffic.packets += 1;
            traffic.bytes += u64::from(bytes);
            return;
        };
        self.down += 1;
        if counted != counted::NOT {
            traffic.answers += 1;
            traffic.answers_ipv6 += family as u64;
            traffic.answer_bytes += u64::from(bytes);
        }
        if counted == counted::SETTLED
            && let Some(place) = traffic.networks[family & 1].get_mut(network)
        {
            *place = place.wrapping_add(1);
        }
    }
}

/// Ways of counting an answer.
pub mod counted {
    /// They are no answers: the connection came in by its uplink.
    pub const NOT: u32 = 0;
    /// They are answers.
    pub const ANSWER: u32 = 1;
    /// They are answers to a flow that lasts for some time.
    pub const SETTLED: u32 = 2;
}

/// The changes to the packets of a shortcut, and the interface that they leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Target {
    /// New source (up) or destination (down).
    pub address: Address,
    /// New source port (up) or destination port (down), network byte order.
    pub port: u16,
    /// Addresses of the link-layer header: destination, then source; zero without one.
    pub mac: [u16; 6],
    /// Zero.
    pub reserved: u16,
    /// Index of the interface that the packets come in by.
    pub ingress_ifindex: u32,
    /// Index of the interface that they leave by.
    pub ifindex: u32,
    /// MTU of that interface in bytes.
    pub mtu: u32,
    /// Uplink of the flow.
    pub uplink: u32,
    /// Epoch of the uplink when the shortcut was stored.
    pub epoch: u32,
}
map_struct!(Target, 52);

/// An odd number with bits everywhere: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn mix(sum: u64, low: u32, high: u32) -> u64 {
    (sum ^ (low as u64 | (high as u64) << 32)).wrapping_mul(FACTOR)
}

/// Returns the hash of a tuple: its low bits are the slot. Nobody without the seed can choose flows
/// that share a slot.
#[inline(always)]
pub fn hash(seed: Seed, key: &FlowKey) -> u32 {
    let words = match key.family() {
        Family::Ipv4 => 1,
        Family::Ipv6 => 4,
    };
    let mut sum = seed[0];
    for (source, destination) in key.source.iter().zip(&key.destination).take(words) {
        sum = mix(sum, *source, *destination);
        sum ^= sum >> 32;
    }
    let ports = u32::from(key.source_port) | u32::from(key.destination_port) << 16;
    let kind = u32::from(key.protocol) | u32::from(key.family) << 8;
    (mix(sum ^ seed[1], ports, kind) >> 32) as u32
}

/// Returns the slot of a [`hash`].
#[inline(always)]
pub const fn slot(hash: u32) -> u32 {
    hash & (SHORTCUTS as u32 - 1)
}

impl Target {
    /// Returns a word that says that the target is whole, and belongs to a tuple with this
    /// [`hash`]. The last words of an IPv4 address do not matter.
    #[inline(always)]
    pub fn check(&self, family: Family, hash: u32) -> u32 {
        let word = |at: usize| u32::from(self.mac[at]) | u32::from(self.mac[at + 1]) << 16;
        let mut sum = mix(FACTOR, self.address[0], u32::from(self.port));
        if matches!(family, Family::Ipv6) {
            sum = mix(sum, self.address[1], self.address[2]);
            sum = mix(sum, self.address[3], 0);
        }
        sum = mix(sum, word(0), word(2));
        sum = mix(sum, word(4), self.ingress_ifindex);
        sum = mix(sum, self.ifindex, self.mtu);
        sum = mix(sum, self.uplink, self.epoch);
        (sum >> 32) as u32 ^ hash
    }
}
