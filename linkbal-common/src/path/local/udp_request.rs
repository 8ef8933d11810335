//! Addresses at which clients asked the gateway's own UDP servers.
//!
//! A UDP server at all addresses (0.0.0.0 or ::) lets the kernel choose the source of an answer,
//! and clients accept only the address that they asked. So the destination of each datagram that is
//! delivered to a socket without a connection is noted here, and the answer takes its source from
//! it.
//!
//! Flows that the gateway itself began are left out: a flow in the table stands as long as
//! connection tracking would hold it, whatever comes in meanwhile. The entry belongs to the socket
//! that was asked, so that no host can make one for a port before a server listens there.

use network_types::ip::IpProto;

use super::LocalSocket;
pub use crate::maps::udp_request::{UDP_REQUEST_ENTRIES, UdpRequest};
use crate::{
    maps::{
        flow::FlowKey,
        uplink::{Family, NO_UPLINK},
    },
    mark::MarkMask,
    packet::{
        Packet,
        parse::{Datagram, datagram, ipv4_routable, ipv6_routable},
    },
    path::{continuity::FORGOTTEN_S, egress::came_in_by, tables::Tables},
};

impl UdpRequest {
    /// Notes that an answer is sent.
    #[inline(always)]
    pub(super) fn answer<T: Tables>(&self, key: &FlowKey, tables: &T) {
        let last_seen_s = tables.now_s();
        if last_seen_s != self.last_seen_s {
            tables.store_udp_request(key, &UdpRequest { last_seen_s, ..*self });
        }
    }

    /// Returns a socket's fwmark with linkbal's bits for the uplink of the request, or without
    /// them.
    #[inline(always)]
    pub(super) const fn fwmark(&self, fwmark: u32, mask: MarkMask) -> u32 {
        match self.uplink {
            NO_UPLINK => fwmark & !mask.0,
            uplink => mask.replace(fwmark, uplink),
        }
    }
}

/// Returns the last request of the peer of a UDP socket without a source address, if it is recent.
#[inline(always)]
pub(super) fn of<T: Tables>(socket: &LocalSocket, tables: &T) -> Option<UdpRequest> {
    let key = &socket.key;
    // A socket without a port cannot have been asked.
    let server = key.source == [0; 4] && key.source_port != 0;
    if !server || key.protocol != IpProto::Udp as u8 {
        return None;
    }
    let request = tables.udp_request(key)?;
    if is_over(request.last_seen_s, tables.now_s()) { None } else { Some(request) }
}

/// Notes the destination of a packet that is delivered to a socket without a connection.
#[inline(always)]
pub fn note<P: Packet, T: Tables>(packet: &P, tables: &T, socket: u64) {
    let Some(settings) = tables.settings() else { return };
    if settings.fwmark_mask == 0 {
        return;
    }
    let Some(datagram) = datagram(packet) else { return };
    let (key, address, now_s) = (answer(&datagram), datagram.destination, tables.now_s());
    match tables.udp_request(&key) {
        Some(request) if request.address == address && request.socket == socket => {
            if request.last_seen_s == now_s {
                return;
            }
        }
        _ => {
            if !is_unicast(&datagram) || began_here(&key, tables, now_s) {
                return;
            }
        }
    }
    let uplink = came_in_by(tables, packet.ifindex()).unwrap_or(NO_UPLINK);
    tables.store_udp_request(&key, &UdpRequest { address, socket, uplink, last_seen_s: now_s });
}

/// Returns the key of the answer as [`LocalSocket`] has it: the source is yet to be found.
#[inline(always)]
fn answer(datagram: &Datagram) -> FlowKey {
    FlowKey {
        source: [0; 4],
        destination: datagram.source,
        source_port: datagram.destination_port,
        destination_port: datagram.source_port,
        protocol: IpProto::Udp as u8,
        family: datagram.family as u8,
        reserved: 0,
    }
}

/// Returns whether an answer can have the datagram's destination as its source; link-local
/// addresses are left to the kernel.
#[inline(always)]
fn is_unicast(datagram: &Datagram) -> bool {
    let (source, destination) = (&datagram.source, &datagram.destination);
    match datagram.family {
        Family::Ipv4 => ipv4_routable(source[0], destination[0]).is_ok(),
        Family::Ipv6 => ipv6_routable(source, destination).is_ok(),
    }
}

/// Returns whether the gateway itself began the flow that a datagram would be answered by.
#[inline(always)]
fn began_here<T: Tables>(key: &FlowKey, tables: &T, now_s: u32) -> bool {
    tables.flow(key).is_some_and(|(flow, _)| !is_over(flow.last_seen_s, now_s))
}

/// Returns whether connection tracking would have forgotten the flow by now.
#[inline(always)]
const fn is_over(last_seen_s: u32, now_s: u32) -> bool {
    now_s.saturating_sub(last_seen_s) > FORGOTTEN_S
}

#[cfg(test)]
mod tests;
