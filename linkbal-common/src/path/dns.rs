//! DNS replies, from which the addresses of the names in rules are learned.
//!
//! A reply is read on its way to the host that asked, before the connection that it leads to can
//! begin.
//!
//! Only the first reply to a query that was seen (`note_query`) is used, and only if the gateway
//! itself or a trusted server sends it: then it must have come in by the interface that leads to
//! that server (`learn` and its callers). Hosts of the LAN can send from any address, but not by
//! that interface. [`reply`] reads it.

pub mod asker;
pub mod reply;

use network_types::{eth::EtherType, ip::IpProto};

pub use crate::maps::domain;
pub use crate::maps::key::{HostKey, QueryKey};
use crate::{
    maps::{counter::Counter, settings::Settings, uplink::Family},
    packet::{
        EthernetHeader, Header, Ipv4Header, Ipv6Header, Packet, PlainIpv4, PlainIpv6,
        parse::{Datagram, datagram},
    },
    path::tables::{Tables, bypass},
};

/// The port of DNS servers, in network byte order.
pub(crate) const PORT: u16 = 53u16.to_be();

/// Maximum age of a query in seconds when its reply comes; resolvers wait less.
const QUERY_TIMEOUT_S: u32 = 10;

/// Index of the loopback device in every network namespace (`LOOPBACK_IFINDEX`,
/// include/net/flow.h).
const LOOPBACK: u32 = 1;

/// Senders of a reply.
pub(crate) mod sender {
    /// A program on the gateway, asked by another program there.
    pub(crate) const LOCAL: u32 = 0;
    /// The gateway itself.
    pub(crate) const GATEWAY: u32 = 1;
    /// The host at the end of the route to the sender's address.
    pub(crate) const SERVER: u32 = 2;
    /// A host elsewhere.
    pub(crate) const STRANGER: u32 = 3;
}

/// The header of a DNS message (RFC 1035 section 4.1.1); all fields are in network byte order.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct DnsHeader {
    /// Identifier.
    pub id: u16,
    /// Flags, operation and result.
    pub flags: u16,
    /// Number of entries in the question section.
    pub questions: u16,
    /// Number of records in the answer section.
    pub answers: u16,
    /// Numbers of records in the authority and the additional section.
    pub others: [u16; 2],
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for DnsHeader {}

/// Flag of replies.
const FLAG_REPLY: u16 = 0x8000;
/// Bits of the operation, 0 for a standard query, and of the result, 0 for success. The bit of
/// truncation is not among them: the records that did fit are valid.
const FLAGS_OTHER_THAN_SUCCESS: u16 = 0x7800 | 0x000f;

/// The ten words of an IPv4 header without options.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4Words([u16; 10]);
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for Ipv4Words {}

/// Stores a query of the LAN, if the packet is one, whatever its destination: it may be redirected
/// to the gateway. Has a stack frame of its own, so that its callers need not hold it.
#[inline(never)]
pub(crate) fn note_query<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if let Some(datagram) = query(packet)
        && is_forwarded(packet, &datagram)
    {
        note(packet, tables, settings, &datagram);
    }
}

/// Stores a query of the gateway itself, if it goes to a trusted server.
#[inline(never)]
pub fn note_local_query<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if let Some(datagram) = query(packet)
        && tables.is_resolver(datagram.family, &datagram.destination)
    {
        note(packet, tables, settings, &datagram);
    }
}

/// Returns the datagram of a packet, if it goes to the port of DNS servers.
#[inline(always)]
fn query<P: Packet>(packet: &P) -> Option<Datagram> {
    datagram(packet).filter(|datagram| datagram.destination_port == PORT)
}

#[inline(always)]
fn note<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings, datagram: &Datagram) {
    let Some(header) = packet.load_cold::<DnsHeader>(datagram.payload) else { return };
    if u16::from_be(header.flags) & FLAG_REPLY != 0 {
        return;
    }
    let now_s = tables.now_s();
    let asker = asker::of_source(packet, settings, datagram);
    if tables.with_asker(asker, |asker| asker.may_ask(now_s)) != Some(true) {
        tables.count(Counter::DnsIgnored);
        return;
    }
    // Built in place, since the stack has no room for the key; likewise below.
    let stored = tables.with_reply(|reply| {
        let key = &mut reply.query;
        (key.client, key.server) = (datagram.source, datagram.destination);
        (key.port, key.id, key.ifindex) = (datagram.source_port, header.id, packet.ifindex());
        key.family = datagram.family as u32;
        tables.store_query(key, now_s)
    });
    if stored != Some(true) {
        tables.count(Counter::StoreFailed);
    }
}

/// Returns whether the kernel does not drop a datagram at once: a dropped query is never answered,
/// and its sender could forge the reply undisturbed. UDP checksums are left to the server: on
/// virtual devices they are not complete here.
#[inline(always)]
fn is_forwarded<P: Packet>(packet: &P, datagram: &Datagram) -> bool {
    let start = datagram.network;
    let (length, hop_limit) = match datagram.family {
        Family::Ipv4 => {
            let header = packet.load_cold::<Ipv4Header>(start);
            let words = packet.load_cold::<Ipv4Words>(start);
            let (Some(header), Some(words)) = (header, words) else { return false };
            // No query has options.
            if header.version_ihl != 0x45 || !is_sum_complete(&words) {
                return false;
            }
            (u32::from(u16::from_be(header.total_length)), header.ttl)
        }
        Family::Ipv6 => {
            let Some(header) = packet.load_cold::<Ipv6Header>(start) else { return false };
            let payload = u32::from(u16::from_be(header.payload_length));
            (payload + size_of::<Ipv6Header>() as u32, header.hop_limit)
        }
    };
    let end = start + length;
    let least = datagram.payload + size_of::<DnsHeader>() as u32;
    hop_limit > 1 && end >= least && end <= packet.length()
}

/// Returns whether the ones' complement sum of an IPv4 header is right (RFC 1071).
#[inline(always)]
fn is_sum_complete(words: &Ipv4Words) -> bool {
    let mut sum = 0;
    for word in words.0 {
        sum += u32::from(word);
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Learns from a packet to the LAN, if it is a reply that did not come in by an uplink, but by the
/// interface `ingress_ifindex`, 0 for local traffic.
#[inline(always)]
pub(crate) fn learn_near<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    ingress_ifindex: u32,
) {
    let Some(datagram) = datagram(packet).filter(is_from_server) else { return };
    let sender = if ingress_ifindex == 0 {
        sender::GATEWAY
    } else if is_reached_by(tables, &datagram, packet.ifindex(), ingress_ifindex) {
        sender::SERVER
    } else {
        sender::STRANGER
    };
    learn(packet, tables, settings, sender);
}

/// Learns from a packet that comes in by an uplink or the loopback device, if it is a reply to a
/// program of the gateway.
#[inline(always)]
pub fn learn_local<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if is_plain_other(packet) {
        return;
    }
    if datagram(packet).is_some_and(|datagram| is_from_server(&datagram)) {
        let local = packet.ifindex() == LOOPBACK;
        learn(packet, tables, settings, if local { sender::LOCAL } else { sender::SERVER });
    }
}

/// Returns whether a packet is plain, and not from the port of DNS servers: most that come in by an
/// uplink are, and need no further look.
#[inline(always)]
fn is_plain_other<P: Packet>(packet: &P) -> bool {
    let (ether_type, network) = match packet.l3_ether_type() {
        Some(ether_type) => (ether_type, 0),
        None => match packet.load_linear(0) {
            Some(EthernetHeader { ether_type, .. }) => (ether_type, size_of::<EthernetHeader>()),
            None => return false,
        },
    };
    let network = network as u32;
    let (protocol, ports) = if ether_type == EtherType::Ipv4 as u16 {
        let Some(PlainIpv4 { ip, ports }) = packet.load_linear(network) else { return false };
        let whole = ip.fragment & u16::to_be(0x3fff) == 0;
        if ip.version_ihl != 0x45 || !whole {
            return false;
        }
        (ip.protocol, ports)
    } else if ether_type == EtherType::Ipv6 as u16 {
        let Some(PlainIpv6 { ip, ports }) = packet.load_linear(network) else { return false };
        (ip.next_header, ports)
    } else {
        return false;
    };
    let [first, second, ..] = ports.to_ne_bytes();
    let from_server = u16::from_ne_bytes([first, second]) == PORT;
    protocol == IpProto::Tcp as u8 || protocol == IpProto::Udp as u8 && !from_server
}

#[inline(always)]
fn is_from_server(datagram: &Datagram) -> bool {
    datagram.source_port == PORT
}

/// Returns whether the interface that a datagram came in by leads to its sender, and not to its
/// receiver as well: between hosts of one segment, only packets of a third host pass the gateway.
///
/// A listed address of the gateway itself may be that of a container on it, to which a port is
/// forwarded: answers from there may come in by any interface.
#[inline(always)]
fn is_reached_by<T: Tables>(
    tables: &T,
    datagram: &Datagram,
    egress_ifindex: u32,
    ingress_ifindex: u32,
) -> bool {
    let Some(routed) = tables.bypass(datagram.family, &datagram.source) else { return false };
    let leads_there = routed == bypass::by(bypass::MAIN, ingress_ifindex) || routed == bypass::MAIN;
    leads_there && ingress_ifindex != egress_ifindex
}

/// Learns from a packet, if it is a valid reply of `sender`, one of [`sender`]. Has a stack frame
/// of its own, as [`note_query`].
#[inline(never)]
pub(crate) fn learn<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    sender: u32,
) {
    let Some(datagram) = datagram(packet) else { return };
    let Some(header) = packet.load_cold::<DnsHeader>(datagram.payload) else { return };
    let flags = u16::from_be(header.flags);
    let nothing_to_learn = flags & FLAGS_OTHER_THAN_SUCCESS != 0 || header.answers == 0;
    if !is_from_server(&datagram) || flags & FLAG_REPLY == 0 || nothing_to_learn {
        return;
    }
    let is_believed = match sender {
        sender::LOCAL => true,
        sender::GATEWAY => has_query(tables, &datagram, header.id, packet.ifindex()),
        sender::SERVER => {
            tables.is_resolver(datagram.family, &datagram.source)
                && has_query(tables, &datagram, header.id, packet.ifindex())
        }
        _ => false,
    };
    if !is_believed {
        tables.count(Counter::DnsIgnored);
        return;
    }
    let asker = asker::of_destination(packet, settings, &datagram);
    let outcome = if reply::read(packet, tables, settings, datagram.payload, asker) {
        Counter::DnsRead
    } else {
        Counter::DnsMalformed
    };
    tables.count(outcome);
}

/// Returns whether the query of a reply was seen in time, and removes it: its reply counts once.
#[inline(always)]
fn has_query<T: Tables>(tables: &T, datagram: &Datagram, id: u16, ifindex: u32) -> bool {
    let asked_s = tables.with_reply(|reply| {
        let key = &mut reply.query;
        (key.client, key.server) = (datagram.destination, datagram.source);
        (key.port, key.id, key.ifindex) = (datagram.destination_port, id, ifindex);
        key.family = datagram.family as u32;
        let asked_s = tables.query(key)?;
        tables.forget_query(key);
        Some(asked_s)
    });
    let Some(Some(asked_s)) = asked_s else { return false };
    tables.now_s().saturating_sub(asked_s) <= QUERY_TIMEOUT_S
}

#[cfg(test)]
mod tests;
