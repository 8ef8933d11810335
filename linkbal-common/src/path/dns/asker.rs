//! Limits of what one host adds to the tables of queries and addresses, so that entries of others
//! stay.

use super::{Datagram, Packet, Settings};
pub use crate::maps::asker::{ASKERS, Asker, MAX_ADDRESSES, MAX_QUERIES};
use crate::{
    maps::{flow::Address, uplink::Family},
    path::{
        classify::{MacKey, destination_mac, source_mac},
        hash::asker_hash,
    },
};

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
