//! Limits of what one host adds to the tables of queries and addresses, so that entries of others
//! stay.

use super::{Datagram, Packet, Settings};
use crate::{
    classify::{MacKey, destination_mac, source_mac},
    flow::Address,
    hash::asker_hash,
    map_struct,
    uplink::Family,
};

/// Maximum number of queries of a host that are stored in one second. Within the time in which a
/// reply counts, these do not fill the table.
pub const MAX_QUERIES: u32 = 1000;

/// Maximum number of new addresses of a host in one minute.
pub const MAX_ADDRESSES: u32 = 512;

/// Number of slots for hosts; a power of two. Two hosts may share one, but cannot choose each
/// other.
pub const ASKERS: usize = 1024;

/// Counts of a host. CPUs that count at the same time may lose some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Asker {
    /// The second of `queries`, since boot.
    pub second: u32,
    /// Number of queries in that second.
    pub queries: u32,
    /// The minute of `addresses`, since boot.
    pub minute: u32,
    /// Number of addresses in that minute.
    pub addresses: u32,
}
map_struct!(Asker, 16);

impl Asker {
    /// Counts a query; returns false if it is above the limit.
    #[inline(always)]
    pub(super) fn may_ask(&mut self, now_s: u32) -> bool {
        if self.second != now_s {
            (self.second, self.queries) = (now_s, 0);
        }
        let may = self.queries < MAX_QUERIES;
        self.queries += u32::from(may);
        may
    }

    /// Returns the number of addresses that the host may still add.
    #[inline(always)]
    pub(super) fn room(&mut self, now_s: u32) -> u32 {
        let minute = now_s / 60;
        if self.minute != minute {
            (self.minute, self.addresses) = (minute, 0);
        }
        MAX_ADDRESSES.saturating_sub(self.addresses)
    }

    /// Counts added addresses.
    #[inline(always)]
    pub(super) fn add(&mut self, addresses: u32) {
        self.addresses = self.addresses.saturating_add(addresses);
    }
}

/// Returns the slot of the host that sends a query.
#[inline(always)]
pub(super) fn of_source<P: Packet>(packet: &P, settings: &Settings, datagram: &Datagram) -> u32 {
    slot(settings, source_mac(packet), datagram.family, &datagram.source)
}

/// Returns the slot of the host that gets a reply.
#[inline(always)]
pub(super) fn of_destination<P: Packet>(
    packet: &P,
    settings: &Settings,
    datagram: &Datagram,
) -> u32 {
    slot(settings, destination_mac(packet), datagram.family, &datagram.destination)
}

/// Returns the slot of a host by its MAC address and its network (/24, or /64 for IPv6): it could
/// make up thousands of IP addresses. Behind a router, each network has a slot of its own.
#[inline(always)]
fn slot(settings: &Settings, mac: MacKey, family: Family, address: &Address) -> u32 {
    let network = match family {
        Family::Ipv4 => [address[0] & 0xffff_ff00_u32.to_be(), 0],
        Family::Ipv6 => [address[0], address[1]],
    };
    let network = u64::from(network[0]) | u64::from(network[1]) << 32;
    asker_hash(&settings.seed, u64::from_ne_bytes(mac), network) & (ASKERS as u32 - 1)
}
