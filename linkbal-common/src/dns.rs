//! What DNS replies teach: which addresses have the names that rules are about.
//!
//! A reply is read on its way to whoever asked, before the connection that it leads to can begin.
//!
//! What the gateway itself sends from its port 53, it has found out itself: that counts. Any other
//! reply must be of a believed server, to a query that was seen ([`note_query`]), once, and must have
//! come in by the interface that leads to that server ([`learn`] and its callers): hosts of the LAN can
//! send under any address, but not from there. [`reply`] reads it.

pub mod asker;
pub mod domain;
pub mod reply;

use crate::{
    counter::Counter,
    flow::Address,
    map_struct,
    packet::{Header, Ipv4Header, Ipv6Header, Packet},
    parse::{Datagram, datagram},
    settings::Settings,
    tables::{Tables, bypass},
    uplink::Family,
};

/// The port of DNS servers, network byte order.
pub(crate) const PORT: u16 = 53u16.to_be();

/// A reply that comes later than this is not believed; resolvers wait less.
const PATIENCE_S: u32 = 10;

/// Index of the loopback device in every network namespace (`LOOPBACK_IFINDEX`,
/// include/net/flow.h).
const LOOPBACK: u32 = 1;

/// In the place of the interface that a query was seen on: the reply is the gateway's own, and needs
/// none.
pub(crate) const OWN: u32 = 0;

/// Likewise: the reply did not come by the way that leads to its sender.
const NOBODY: u32 = u32::MAX;

/// What tells the reply to a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct QueryKey {
    /// Address of who asks.
    pub client: Address,
    /// Address of who is asked.
    pub server: Address,
    /// The client's port, network byte order.
    pub port: u16,
    /// Identifier of the query, network byte order.
    pub id: u16,
    /// The interface that it was seen on, where its reply must be seen, too.
    pub ifindex: u32,
    /// 4 or 6.
    pub family: u32,
}
map_struct!(QueryKey, 44);

/// The front of a DNS message (RFC 1035 section 4.1.1): all fields in network byte order.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct DnsHeader {
    /// Identifier.
    pub id: u16,
    /// Flags, operation and result.
    pub flags: u16,
    /// Entries in the question section.
    pub questions: u16,
    /// Records in the answer section.
    pub answers: u16,
    /// Records in the authority and the additional section.
    pub others: [u16; 2],
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for DnsHeader {}

/// Set in replies.
const FLAG_REPLY: u16 = 0x8000;
/// The bits of the operation, 0 for a standard query, and of the result, 0 for success. The bit of
/// truncation is none of them: the records that did fit are as good as any.
const FLAGS_OTHER_THAN_SUCCESS: u16 = 0x7800 | 0x000f;

/// The ten words of an IPv4 header without options.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4Words([u16; 10]);
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for Ipv4Words {}

/// Remembers a query of the LAN to a believed server, if the packet is one. It has a stack frame of its
/// own, which others then need not hold.
#[inline(never)]
pub(crate) fn note_query<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if let Some(datagram) = query(packet)
        && is_forwarded(packet, &datagram)
    {
        note(packet, tables, settings, &datagram);
    }
}

/// The same for queries of the gateway itself.
#[inline(never)]
pub fn note_own_query<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if let Some(datagram) = query(packet) {
        note(packet, tables, settings, &datagram);
    }
}

/// What may be a query.
#[inline(always)]
fn query<P: Packet>(packet: &P) -> Option<Datagram> {
    datagram(packet).filter(|datagram| datagram.destination_port == PORT)
}

#[inline(always)]
fn note<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    datagram: &Datagram,
) {
    if !tables.is_resolver(datagram.family, &datagram.destination) {
        return;
    }
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
    // The stack has no room for the key; so below.
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

/// Whether the kernel does not drop a datagram at once: nobody would answer that, and whoever sent it
/// could in peace. Checksums of UDP are the server's to look at: on virtual devices they are not
/// complete here.
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

/// Whether the ones' complement sum of an IPv4 header is right (RFC 1071).
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
/// interface `ingress_ifindex`, 0 for the gateway's own.
#[inline(always)]
pub(crate) fn learn_near<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    ingress_ifindex: u32,
) {
    let Some(datagram) = datagram(packet).filter(is_from_server) else { return };
    let asked_on = if ingress_ifindex == 0 {
        OWN
    } else if is_reached_by(tables, &datagram, packet.ifindex(), ingress_ifindex) {
        packet.ifindex()
    } else {
        NOBODY
    };
    learn(packet, tables, settings, asked_on);
}

/// Learns from a packet that comes in by an uplink or the loopback device, if it is a reply to a program
/// of the gateway.
#[inline(always)]
pub fn learn_own<P: Packet, T: Tables>(packet: &P, tables: &T, settings: &Settings) {
    if datagram(packet).is_some_and(|datagram| is_from_server(&datagram)) {
        let ifindex = packet.ifindex();
        learn(packet, tables, settings, if ifindex == LOOPBACK { OWN } else { ifindex });
    }
}

#[inline(always)]
fn is_from_server(datagram: &Datagram) -> bool {
    datagram.source_port == PORT
}

/// Whether the interface that a datagram came in by is the one that leads to its sender, and not to its
/// receiver as well: between hosts of one segment nothing passes the gateway but what a third one sends.
///
/// An address of the gateway itself answers from a container on it, which forwarding leads to. No host
/// of that interface's network can send under it: the kernel takes that for a martian.
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

/// Learns from a packet, if it is a reply to a query that was seen on the interface `asked_on`, or
/// [`OWN`]. As [`note_query`] it has a frame of its own.
#[inline(never)]
pub(crate) fn learn<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    asked_on: u32,
) {
    let Some(datagram) = datagram(packet) else { return };
    let Some(header) = packet.load_cold::<DnsHeader>(datagram.payload) else { return };
    let flags = u16::from_be(header.flags);
    let nothing_to_learn = flags & FLAGS_OTHER_THAN_SUCCESS != 0 || header.answers == 0;
    if !is_from_server(&datagram) || flags & FLAG_REPLY == 0 || nothing_to_learn {
        return;
    }
    if asked_on != OWN && !was_asked(tables, &datagram, header.id, asked_on) {
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

/// Whether the query was seen; its reply counts once.
#[inline(always)]
fn was_asked<T: Tables>(tables: &T, datagram: &Datagram, id: u16, ifindex: u32) -> bool {
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
    tables.now_s().saturating_sub(asked_s) <= PATIENCE_S
}

/// Key of `RESOLVERS` and `DOMAINS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct HostKey {
    /// 4 or 6.
    pub family: u32,
    /// The address.
    pub address: Address,
}
map_struct!(HostKey, 20);

impl HostKey {
    /// The key of an address.
    #[inline(always)]
    pub const fn new(family: Family, address: &Address) -> HostKey {
        HostKey { family: family as u32, address: *address }
    }
}

#[cfg(test)]
mod tests;
