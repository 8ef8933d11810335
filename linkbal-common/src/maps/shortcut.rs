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
        seed::{FACTOR, Seed},
        uplink::Family,
    },
};

/// Number of slots for each way; a power of two.
pub const SHORTCUTS: usize = 65_536;

/// Windows for which a shortcut is used after the kernel itself has forwarded a packet of the flow.
///
/// A window is about a second: the largest power of two of the kernel's `jiffies` that is not longer, or
/// but a few percent.
pub const LIFE: u32 = 2;

/// Jiffies for which the packets of a flow and way go by the kernel once one of them does. Those that
/// came in together with it (`netif_receive_skb_list` in net/core/dev.c, backlogs of other CPUs) would
/// overtake it: the kernel forwards it after it has seen them all.
pub const REORDER_JIFFIES: u32 = 2;

/// Maximum number of interfaces whose drivers send frames of others.
pub const XDP_DEVICES: usize = 256;

/// Number of slots for interfaces whose drivers run programs; a power of two.
pub const DRIVER_SLOTS: usize = 4096;

/// The MAC address of an interface whose driver runs a program; all zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DriverAddress {
    /// Index of the interface: others have the same [`driver_slot`].
    pub ifindex: u32,
    /// The first four bytes, as they are in the packet.
    pub head: u32,
    /// The other two, likewise.
    pub tail: u32,
}
map_struct!(DriverAddress, 12);

impl DriverAddress {
    /// Creates the entry of an interface with an address.
    pub const fn new(ifindex: u32, address: [u8; 6]) -> DriverAddress {
        let [a, b, c, d, e, f] = address;
        let head = u32::from_ne_bytes([a, b, c, d]);
        DriverAddress { ifindex, head, tail: u16::from_ne_bytes([e, f]) as u32 }
    }
}

/// Returns the slot of an interface among those whose drivers take part.
#[inline(always)]
pub const fn driver_slot(ifindex: u32) -> u32 {
    ifindex & (DRIVER_SLOTS as u32 - 1)
}

/// A way of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the LAN to the uplink.
    Up,
    /// From the uplink to the LAN.
    Down,
}

/// The tuple of packets, in words that are quick to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tuple {
    /// Source address, network byte order.
    pub source: Address,
    /// Destination address, network byte order.
    pub destination: Address,
    /// Both ports as they are in the packet, then the protocol and the family, a byte each.
    pub kind: u64,
}
map_struct!(Tuple, 40);

impl Tuple {
    /// Returns the word of both ports, as they are in the packet, the protocol and the family.
    #[inline(always)]
    pub const fn kind(ports: u32, protocol: u8, family: Family) -> u64 {
        pair(ports, protocol as u32 | (family as u32) << 8)
    }

    /// Returns the tuple of a flow's key.
    #[inline(always)]
    pub fn of(key: &FlowKey) -> Tuple {
        let ports = u32::from(key.source_port) | u32::from(key.destination_port) << 16;
        let kind = Tuple::kind(ports, key.protocol, key.family());
        Tuple { source: key.source, destination: key.destination, kind }
    }

    /// Returns whether two tuples of a family are the same.
    #[inline(always)]
    pub fn same_as<const V6: bool>(&self, other: &Tuple) -> bool {
        let differs = |at: usize| {
            u64::from(
                (self.source[at] ^ other.source[at])
                    | (self.destination[at] ^ other.destination[at]),
            )
        };
        let addresses =
            if V6 { differs(0) | differs(1) | differs(2) | differs(3) } else { differs(0) };
        addresses | (self.kind ^ other.kind) == 0
    }

    /// Returns the hash of a tuple: its low bits are the slot. Nobody without the seed can choose flows
    /// that share a slot.
    #[inline(always)]
    pub fn hash<const V6: bool>(&self, seed: Seed) -> u32 {
        let words = if V6 { 4 } else { 1 };
        let mut sum = seed[0];
        for (source, destination) in self.source.iter().zip(&self.destination).take(words) {
            sum = mix(sum, *source, *destination);
            sum ^= sum >> 32;
        }
        ((sum ^ seed[1] ^ self.kind).wrapping_mul(FACTOR) >> 32) as u32
    }
}

/// The shortcut of the packets of one flow and way.
///
/// Other CPUs write here at the same time. A reader computes [`PackedTarget::check`] again: what is torn
/// between two flows has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Shortcut {
    /// The tuple of the packets as they come in.
    pub tuple: Tuple,
    /// Changes to the packets.
    pub target: PackedTarget,
    /// [`PackedTarget::check`] of the target.
    pub check: u32,
    /// Jiffy in which the kernel last forwarded a packet.
    pub renewed: u32,
    /// Jiffy in which a packet was last left to the kernel to renew the shortcut.
    pub sampled: u32,
    /// Up: jiffy in which the shortcut of answers was last stored; 0 before that.
    pub answered: u32,
    /// Down: the kind of answers that the packets count as, one of [`answer_kind`].
    pub answer_kind: u32,
    /// Down: the [`network`](crate::maps::counter::network) that the packets come from.
    pub network: u32,
}
map_struct!(Shortcut, 128);

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
    /// Counts a packet of `bytes` bytes from the LAN.
    #[inline(always)]
    pub fn count_up(&mut self, bytes: u32) {
        self.traffic.packets += 1;
        self.traffic.bytes += u64::from(bytes);
    }

    /// Counts a packet of `bytes` bytes to the LAN, one of [`answer_kind`], from a
    /// [`network`](crate::maps::counter::network).
    #[inline(always)]
    pub fn count_down(&mut self, bytes: u32, ipv6: bool, kind: u32, network: u32) {
        let traffic = &mut self.traffic;
        self.down += 1;
        if kind != answer_kind::NONE {
            traffic.answers += 1;
            traffic.answers_ipv6 += u64::from(ipv6);
            traffic.answer_bytes += u64::from(bytes);
        }
        if kind == answer_kind::SETTLED
            && let Some(place) = traffic.networks[usize::from(ipv6)].get_mut(network as usize)
        {
            *place = place.wrapping_add(1);
        }
    }
}

/// Kinds of answers, by what they prove of their uplink.
pub mod answer_kind {
    /// No answers: the connection came in by its uplink.
    pub const NONE: u32 = 0;
    /// Answers to a flow that has just begun.
    pub const FRESH: u32 = 1;
    /// Answers to a flow that lasts for some time.
    pub const SETTLED: u32 = 2;
}

/// The changes to the packets of a shortcut, and the interface that they leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// New source (up) or destination (down).
    pub address: Address,
    /// New source port (up) or destination port (down), network byte order.
    pub port: u16,
    /// MTU of the interface that the packets leave by, in bytes; 65,535 if it is larger.
    pub mtu: u16,
    /// Addresses of the link-layer header as they are in the packet: destination, then source; zero
    /// without one.
    pub mac: [u32; 3],
    /// The fwmark that the packets get: that of their uplink; that of answers, with the proposal bit,
    /// which tells the program at the egress to the LAN that nothing is to be done.
    pub fwmark: u32,
    /// Index of the interface that the packets come in by.
    pub ingress_ifindex: u32,
    /// Index of the interface that they leave by.
    pub ifindex: u32,
    /// The [`family_slot`](crate::maps::uplink::family_slot) of the flow.
    pub slot: u32,
    /// Epoch of the uplink when the shortcut was stored.
    pub epoch: u32,
    /// Difference of the sums of the address before and after, as the checksums of RFC 1071 have it;
    /// 0 only if it stays the same.
    pub address_change: u16,
    /// Difference of the sums of the IP header, without its checksum: its TTL is one lower, too.
    pub header_change: u16,
    /// Priority of the packets for queues (`skb->priority`), as the kernel set it.
    pub priority: u32,
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[inline(always)]
const fn mix(sum: u64, low: u32, high: u32) -> u64 {
    (sum ^ pair(low, high)).wrapping_mul(FACTOR)
}

/// Returns the slot of a [`Tuple::hash`].
#[inline(always)]
pub const fn slot(hash: u32) -> u32 {
    hash & (SHORTCUTS as u32 - 1)
}

impl Target {
    /// Returns the words of the map.
    #[inline(always)]
    pub fn pack(&self) -> PackedTarget {
        let both = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        PackedTarget([
            pair(self.address[0], both(self.port, self.mtu)),
            pair(self.mac[0], self.mac[1]),
            pair(self.mac[2], self.fwmark),
            pair(self.ingress_ifindex, self.ifindex),
            pair(self.slot, self.epoch),
            pair(both(self.address_change, self.header_change), self.priority),
            pair(self.address[1], self.address[2]),
            pair(self.address[3], 0),
        ])
    }
}

/// A [`Target`] in words, which are quick to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PackedTarget(pub [u64; 8]);
map_struct!(PackedTarget, 64);

/// Number of words of an IPv4 target; the rest of an IPv6 address follows.
const IPV4_WORDS: usize = 6;

/// The word of slot and epoch.
const SLOT: usize = 4;

impl PackedTarget {
    /// Returns [`Target::slot`].
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.0[SLOT] as u32
    }

    /// Sets slot and epoch.
    #[inline(always)]
    pub const fn set_slot(&mut self, slot: u32, epoch: u32) {
        self.0[SLOT] = pair(slot, epoch);
    }

    /// Returns a word that says that the target is whole, and belongs to a tuple with this
    /// [`Tuple::hash`].
    #[inline(always)]
    pub fn check<const V6: bool>(&self, hash: u32) -> u32 {
        let words = if V6 { self.0.len() } else { IPV4_WORDS };
        let sum =
            self.0.iter().take(words).fold(FACTOR, |sum, word| (sum ^ word).wrapping_mul(FACTOR));
        (sum >> 32) as u32 ^ hash
    }

    /// Returns the target; the last words of an IPv4 address are zero.
    #[inline(always)]
    pub fn unpack<const V6: bool>(&self) -> Target {
        let (low, high) = (|at: usize| self.0[at] as u32, |at: usize| (self.0[at] >> 32) as u32);
        let rest = |word: u32| if V6 { word } else { 0 };
        Target {
            address: [low(0), rest(low(6)), rest(high(6)), rest(low(7))],
            port: high(0) as u16,
            mtu: (high(0) >> 16) as u16,
            mac: [low(1), high(1), low(2)],
            fwmark: high(2),
            ingress_ifindex: low(3),
            ifindex: high(3),
            slot: low(4),
            epoch: high(4),
            address_change: low(5) as u16,
            header_change: (low(5) >> 16) as u16,
            priority: high(5),
        }
    }
}
