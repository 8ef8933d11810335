//! What one host may add to the tables of queries and addresses, so that others keep their place there.

use super::{Datagram, Packet, Settings};
use crate::{
    classify::{MacKey, destination_mac, source_mac},
    flow::Address,
    hash::asker_hash,
    map_struct,
    uplink::Family,
};

/// Most queries in one second that are remembered. In the time that a reply counts, these do not fill
/// the table.
pub const MAX_QUERIES: u32 = 1000;

/// Most addresses in one minute that nobody knew before.
pub const MAX_ADDRESSES: u32 = 512;

/// Slots for hosts; a power of two. Two hosts may share one, but nobody can choose with whom.
pub const ASKERS: usize = 1024;

/// What a host has had. CPUs that count at the same time may lose some of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Asker {
    /// In seconds since boot.
    pub second: u32,
    /// Queries in that second.
    pub queries: u32,
    /// In minutes since boot.
    pub minute: u32,
    /// Addresses in that minute.
    pub addresses: u32,
}
map_struct!(Asker, 16);

impl Asker {
    /// Counts a query; false if it is one too many.
    #[inline(always)]
    pub(super) fn may_ask(&mut self, now_s: u32) -> bool {
        if self.second != now_s {
            (self.second, self.queries) = (now_s, 0);
        }
        let may = self.queries < MAX_QUERIES;
        self.queries += u32::from(may);
        may
    }

    /// How many addresses it may add.
    #[inline(always)]
    pub(super) fn room(&mut self, now_s: u32) -> u32 {
        let minute = now_s / 60;
        if self.minute != minute {
            (self.minute, self.addresses) = (minute, 0);
        }
        MAX_ADDRESSES.saturating_sub(self.addresses)
    }

    /// Counts addresses.
    #[inline(always)]
    pub(super) fn add(&mut self, addresses: u32) {
        self.addresses = self.addresses.saturating_add(addresses);
    }
}

/// The slot of who sends a query.
#[inline(always)]
pub(super) fn of_source<P: Packet>(packet: &P, settings: &Settings, datagram: &Datagram) -> u32 {
    slot(settings, source_mac(packet), datagram.family, &datagram.source)
}

/// The slot of who gets a reply.
#[inline(always)]
pub(super) fn of_destination<P: Packet>(
    packet: &P,
    settings: &Settings,
    datagram: &Datagram,
) -> u32 {
    slot(settings, destination_mac(packet), datagram.family, &datagram.destination)
}

/// A host is known by its MAC address: others it could make up by the thousand. Behind a router, each
/// network counts for itself.
#[inline(always)]
fn slot(settings: &Settings, mac: MacKey, family: Family, address: &Address) -> u32 {
    let network = match family {
        Family::Ipv4 => [address[0] & 0xffff_ff00_u32.to_be(), 0],
        Family::Ipv6 => [address[0], address[1]],
    };
    let network = u64::from(network[0]) | u64::from(network[1]) << 32;
    asker_hash(&settings.seed, u64::from_ne_bytes(mac), network) & (ASKERS as u32 - 1)
}
