//! Flows and sticky sessions: keys and what is remembered under them.

use crate::{map_struct, settings::StickyClass, uplink::Family};

/// An address in network byte order; IPv4 in the first word, the others zero.
pub type Address = [u32; 4];

/// The exact tuple of a flow as the LAN host sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
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
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u16,
}
map_struct!(FlowKey, 40);

impl FlowKey {
    /// The family of the addresses.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.family == Family::Ipv6 as u8 { Family::Ipv6 } else { Family::Ipv4 }
    }
}

/// Marks a flow outside every sticky class.
pub const NOT_STICKY: u32 = u32::MAX;

/// Marks, in the place of a sticky class, a flow that came in by its uplink: it has none, either.
pub const INBOUND: u32 = u32::MAX - 1;

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The uplink it uses.
    pub uplink: u32,
    /// Its sticky class, [`NOT_STICKY`] or [`INBOUND`].
    pub sticky_class: u32,
    /// When its first packet came, in seconds since boot.
    pub first_seen_s: u32,
    /// When its last packet came from the LAN, or else its first one to the LAN, in seconds since
    /// boot.
    pub last_seen_s: u32,
}
map_struct!(Flow, 16);

/// Who shares a sticky session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SessionKey {
    /// Source address.
    pub source: Address,
    /// Destination address; zero where the class sticks by source alone.
    pub destination: Address,
    /// Index of the sticky class.
    pub class: u32,
    /// 4 or 6.
    pub family: u32,
}
map_struct!(SessionKey, 40);

/// The uplink of a sticky session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// The uplink that every flow of the session uses.
    pub uplink: u32,
    /// When the last packet of any of its flows came, in seconds since boot.
    pub last_seen_s: u32,
}
map_struct!(Session, 8);

impl SessionKey {
    /// The session that `flow` belongs to in the sticky class at `index`.
    #[inline(always)]
    pub fn of(flow: &FlowKey, index: u32, class: &StickyClass) -> SessionKey {
        SessionKey {
            source: flow.source,
            destination: if class.by_destination != 0 { flow.destination } else { [0; 4] },
            class: index,
            family: u32::from(flow.family),
        }
    }

    /// The family of the addresses.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.family == Family::Ipv6 as u32 { Family::Ipv6 } else { Family::Ipv4 }
    }
}
