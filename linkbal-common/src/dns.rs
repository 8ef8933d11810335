//! What DNS replies teach: which addresses have the names that rules are about.
//!
//! A reply is read on its way to whoever asked, before the connection that it leads to can begin.
//! Only a reply from a resolver that is believed, to a query that was seen, teaches anything
//! ([`note_query`], [`learn`]). [`reply`] reads it.

pub mod domain;
pub mod reply;

use crate::{
    counter::Counter,
    flow::Address,
    map_struct,
    packet::{Header, Packet},
    parse::{Datagram, datagram},
    settings::Settings,
    tables::Tables,
    uplink::Family,
};

/// The port of DNS servers, network byte order.
pub(crate) const PORT: u16 = 53u16.to_be();

/// A reply that comes later than this is not believed; resolvers wait less.
const PATIENCE_S: u32 = 10;

/// Index of the loopback device in every network namespace (`LOOPBACK_IFINDEX`,
/// include/net/flow.h).
const LOOPBACK: u32 = 1;

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
    /// 4 or 6.
    pub family: u32,
}
map_struct!(QueryKey, 40);

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

/// Remembers a query, if the packet is one. It has a stack frame of its own, which others then need
/// not hold.
#[inline(never)]
pub fn note_query<P: Packet, T: Tables>(packet: &P, tables: &T) {
    let Some(datagram) = datagram(packet) else { return };
    if datagram.destination_port != PORT {
        return;
    }
    let Some(header) = packet.load_cold::<DnsHeader>(datagram.payload) else { return };
    if u16::from_be(header.flags) & FLAG_REPLY != 0 {
        return;
    }
    let key = QueryKey {
        client: datagram.source,
        server: datagram.destination,
        port: datagram.source_port,
        id: header.id,
        family: datagram.family as u32,
    };
    if !tables.store_query(&key, tables.now_s()) {
        tables.count(Counter::StoreFailed);
    }
}

/// Learns from a packet, if it is a reply that is believed. It came in by the interface
/// `ingress_ifindex`, 0 for the gateway's own.
#[inline(always)]
pub fn learn<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    ingress_ifindex: u32,
) {
    let Some(datagram) = datagram(packet) else { return };
    if datagram.source_port != PORT {
        return;
    }
    let Some(header) = packet.load_cold::<DnsHeader>(datagram.payload) else { return };
    let flags = u16::from_be(header.flags);
    let nothing_to_learn = flags & FLAGS_OTHER_THAN_SUCCESS != 0 || header.answers == 0;
    if flags & FLAG_REPLY == 0 || nothing_to_learn {
        return;
    }
    let trusted = is_believed(tables, &datagram, ingress_ifindex);
    if !trusted || !was_asked(tables, &datagram, header.id) {
        tables.count(Counter::DnsIgnored);
        return;
    }
    let outcome = if reply::read(packet, tables, settings, datagram.payload) {
        Counter::DnsRead
    } else {
        Counter::DnsMalformed
    };
    tables.count(outcome);
}

/// Whether the sender of a reply is the gateway, or a resolver that the user or the gateway itself
/// chose. A resolver outside must answer from outside: else a LAN host could pose as it.
#[inline(always)]
fn is_believed<T: Tables>(tables: &T, datagram: &Datagram, ingress_ifindex: u32) -> bool {
    if ingress_ifindex == 0 || ingress_ifindex == LOOPBACK {
        return true;
    }
    tables.is_resolver(datagram.family, &datagram.source)
        && (tables.uplink_on(ingress_ifindex).is_some()
            || tables.bypass(datagram.family, &datagram.source).is_some())
}

#[inline(always)]
fn was_asked<T: Tables>(tables: &T, datagram: &Datagram, id: u16) -> bool {
    let key = QueryKey {
        client: datagram.destination,
        server: datagram.source,
        port: datagram.destination_port,
        id,
        family: datagram.family as u32,
    };
    tables.query(&key).is_some_and(|asked_s| tables.now_s().saturating_sub(asked_s) <= PATIENCE_S)
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
