//! Flows and sticky sessions: their keys and entries.

pub use crate::maps::key::Address;
use crate::{
    map_struct,
    maps::{key::MacKey, seed::FACTOR, uplink::Family},
};

/// The exact tuple of a flow as the LAN host sends it. Aligned, so that it is copied by words of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, or the identifier of an ICMP echo, in network byte order; else 0.
    pub source_port: u16,
    /// Destination port in network byte order; else 0.
    pub destination_port: u16,
    /// IP protocol number (IPv6: of the upper layer).
    pub protocol: u8,
    /// Address family: 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u16,
}
map_struct!(FlowKey, 40);

impl FlowKey {
    /// Sets all fields at once: a compiler that puts it off until paths meet has to hold each field
    /// of each path until then, and eBPF programs have little room for that.
    #[inline(always)]
    pub(crate) fn set(&mut self, key: &FlowKey) {
        let words = |address: &mut Address, value: &Address| {
            for (word, value) in address.iter_mut().zip(value) {
                // SAFETY: a reference is valid for writes; so below.
                unsafe { (&raw mut *word).write_volatile(*value) };
            }
        };
        words(&mut self.source, &key.source);
        words(&mut self.destination, &key.destination);
        // SAFETY: as above.
        unsafe {
            (&raw mut self.source_port).write_volatile(key.source_port);
            (&raw mut self.destination_port).write_volatile(key.destination_port);
            (&raw mut self.protocol).write_volatile(key.protocol);
            (&raw mut self.family).write_volatile(key.family);
            (&raw mut self.reserved).write_volatile(0);
        }
    }

    /// Returns the family of the addresses.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.family == Family::Ipv6 as u8 { Family::Ipv6 } else { Family::Ipv4 }
    }
}

/// Value for a flow outside every sticky class.
pub const NOT_STICKY: u32 = u32::MAX;

/// Value in place of a sticky class for a flow that came in by its uplink, and has no class,
/// either.
pub const INBOUND: u32 = u32::MAX - 1;
/// Combines a sticky class and the rule (or [`crate::maps::rule::NO_RULE`]) by which a flow came to it in
/// one word: flows of different rules use different uplinks and share no session.
#[inline(always)]
pub const fn sticky_index(class: u32, rule: u32) -> u32 {
    class | rule << 16
}

/// Returns the class in a [`sticky_index`]; none of them for [`NOT_STICKY`].
#[inline(always)]
pub const fn class_of(index: u32) -> u32 {
    index & 0xffff
}

/// The entry of a flow. Its epoch is that of its uplink when the uplink was chosen: in another
/// epoch the flow is over, even if the uplink is usable again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Flow {
    /// The uplink of the flow.
    pub uplink: u32,
    /// The sticky class with the rule that led to it (see [`sticky_index`]), [`NOT_STICKY`] or
    /// [`INBOUND`].
    pub sticky_class: u32,
    /// Time of the first packet, in milliseconds since boot, modulo 2^32.
    pub first_seen_ms: u32,
    /// Time of the last packet from the LAN, in seconds since boot.
    pub last_seen_s: u32,
    /// Epoch of the uplink.
    pub epoch: u32,
    /// Index of the LAN interface that the flow came in by, or 0.
    pub ifindex: u32,
    /// MAC address of the LAN host, or zero.
    pub mac: MacKey,
    /// Last acknowledgment number that the LAN host sent; 0 before the first one, and if not TCP.
    pub tcp_ack: u32,
    /// Sequence number behind the last data that the LAN host sent.
    pub tcp_end: u32,
    /// State of a TCP connection, one of [`tcp_state`].
    pub tcp_state: u32,
    /// 1 if the flow is in the table of answered flows, 0 if it is in the other one.
    pub replied: u8,
    /// The uplink that ended under the flow, plus one, if it moved from there; else 0.
    pub moved_from: u8,
    /// Reason for its uplink.
    pub reason: Reason,
}
map_struct!(Flow, 48);

/// The reason why a flow has its uplink, as it was when the uplink was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(2))]
pub struct Reason {
    /// Kind, one of [`reason`].
    pub kind: u8,
    /// The rule that the flow matched, [`crate::maps::rule::NO_RULE`], or [`reason::NO_LOOKUP`].
    pub rule: u8,
}
map_struct!(Reason, 2);

/// Kinds of [`Reason`].
pub mod reason {
    /// The reason is lost: the entry is of a version that kept none, or was replaced while its flow
    /// was checked.
    pub const UNKNOWN: u8 = 0;
    /// The source address belongs to the uplink.
    pub const SOURCE: u8 = 1;
    /// The flow is in no session: a bucket has the uplink.
    pub const BUCKET: u8 = 2;
    /// The flow began a sticky session: the bucket of the session has the uplink.
    pub const SESSION_NEW: u8 = 3;
    /// The flow joined a living sticky session.
    pub const SESSION: u8 = 4;
    /// The flow joined the living session of connections that agreed on it.
    pub const RELATED: u8 = 5;
    /// The connection had the uplink already.
    pub const CONNECTION: u8 = 6;
    /// The connection came in by the uplink.
    pub const INBOUND: u8 = 7;

    /// Returns the name of a reason, as it is told.
    pub const fn name(reason: u8) -> &'static str {
        match reason {
            SOURCE => "source",
            BUCKET => "bucket",
            SESSION_NEW => "session-new",
            SESSION => "session",
            RELATED => "related",
            CONNECTION => "connection",
            INBOUND => "inbound",
            _ => "unknown",
        }
    }

    /// Value in place of a rule: none was looked for, or it is gone.
    pub const NO_LOOKUP: u8 = u8::MAX;
}

/// The decision about a flow that is not in the table, or is checked again. Packets leave it here
/// for the program at the egress of the uplink, which finds it by the hash that the packet carries.
///
/// Other CPUs write here at the same time. A reader computes [`Proposal::check`] again: a key torn
/// between two flows has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Proposal {
    /// The key of the flow.
    pub key: FlowKey,
    /// The entry to be stored, with the uplink that was chosen, or
    /// [`NO_UPLINK`](crate::maps::uplink::NO_UPLINK).
    pub flow: Flow,
    /// The uplink that the flow had in the table, or [`NO_UPLINK`](crate::maps::uplink::NO_UPLINK).
    pub former: u32,
    /// 1 for the packet that begins a TCP connection, else 0.
    pub connects: u32,
    /// [`Proposal::check`] of the key and its hash.
    pub check: u32,
    /// Hash of the packet as it came in, 0 for none.
    pub packet_hash: u32,
}
map_struct!(Proposal, 104);

impl Proposal {
    /// Returns a word that says which hash the flow of a key has, and that the key is whole: it is
    /// quicker than the hash itself.
    #[inline(always)]
    pub fn check(key: &FlowKey, hash: u32) -> u32 {
        let mut sum = FACTOR;
        let ends = key.source.iter().zip(&key.destination);
        for (source, destination) in ends {
            sum = (sum ^ (u64::from(*source) | u64::from(*destination) << 32)).wrapping_mul(FACTOR);
        }
        let ports = u32::from(key.source_port) | u32::from(key.destination_port) << 16;
        let kind = u32::from(key.protocol) | u32::from(key.family) << 8;
        sum = (sum ^ (u64::from(ports) | u64::from(kind) << 32)).wrapping_mul(FACTOR);
        (sum >> 32) as u32 ^ hash
    }
}

/// Number of slots for proposals; a power of two. Packets that are between the two programs at the
/// same time rarely share one.
pub const PROPOSALS: usize = 65_536;

/// Returns the slot of a flow by the hash of its key.
#[inline(always)]
pub const fn proposal_slot(hash: u32) -> u32 {
    hash & (PROPOSALS as u32 - 1)
}

/// States of a TCP connection; flows of other protocols have none.
pub mod tcp_state {
    /// No answer was seen yet.
    pub const OPENING: u32 = 0;
    /// The first packet was answered.
    pub const ANSWERED: u32 = 1;
    /// The LAN host closes the connection, or has closed it.
    pub const CLOSING: u32 = 2;
}

/// The key of a sticky session, which all flows that share it have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SessionKey {
    /// Source address.
    pub source: Address,
    /// Destination address; zero where the class sticks by source alone.
    pub destination: Address,
    /// The sticky class with the rule that led to it (see [`sticky_index`]).
    pub class: u32,
    /// Address family: 4 or 6.
    pub family: u32,
}
map_struct!(SessionKey, 40);

/// The uplink of a sticky session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// The uplink that every flow of the session uses.
    pub uplink: u32,
    /// Time of the last packet of any of the session's flows, in seconds since boot.
    pub last_seen_s: u32,
    /// Epoch of the uplink, as in [`Flow`].
    pub epoch: u32,
}
map_struct!(Session, 12);

impl SessionKey {
    /// Returns the family of the addresses.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.family == Family::Ipv6 as u32 { Family::Ipv6 } else { Family::Ipv4 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(words: [u32; 8], ports: [u16; 2]) -> FlowKey {
        let [a, b, c, d, e, f, g, h] = words;
        let (source, destination) = ([a, b, c, d], [e, f, g, h]);
        let [source_port, destination_port] = ports;
        let (protocol, family) = (17, Family::Ipv6 as u8);
        FlowKey {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            family,
            ..FlowKey::default()
        }
    }

    proptest! {
        #[test]
        fn a_key_torn_between_two_flows_has_another_check(
            one: [u32; 8], other: [u32; 8], ports: [u16; 2], from: [bool; 8], hash: u32,
        ) {
            let torn = std::array::from_fn(|at| if from[at] { one[at] } else { other[at] });
            for whole in [one, other] {
                let same = Proposal::check(&key(torn, ports), hash) == Proposal::check(&key(whole, ports), hash);
                prop_assert_eq!(same, torn == whole);
            }
        }
    }
}
