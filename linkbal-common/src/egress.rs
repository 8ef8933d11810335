//! The way of a packet to the LAN: by which uplink did it come in?
//!
//! Who answers a connection that came in by an uplink must answer by the same one, since the client
//! knows the connection by that uplink's address. So its first packet to the LAN stores the entry
//! that the answers will find. Answers to what the LAN began find an entry: for them it ends there.

use crate::{
    counter::Counter,
    dns::learn,
    flow::{Flow, FlowKey, INBOUND, tcp_state},
    mark::MarkMask,
    packet::Packet,
    parse::{Tcp, has_ports, parse},
    tables::{SHARED, Tables},
    uplink::epoch_index,
};

/// A LAN host silent for less than this still has a tracked connection, whatever its protocol and
/// state (the shortest timeout is that of a TCP reset, `nf_conntrack_tcp_timeout_close`).
const TRACKED_S: u32 = 10;

/// A LAN host silent for longer than this has no tracked UDP flow any more
/// (`nf_conntrack_udp_timeout_stream`), and TCP does not wait longer between its retries.
pub(crate) const FORGOTTEN_S: u32 = 120;

/// Learns the uplink of a packet that is about to leave for the LAN and came in by the interface
/// `ingress_ifindex`, 0 for the gateway's own.
#[inline(always)]
pub fn egress<P: Packet, T: Tables>(packet: &P, tables: &T, ingress_ifindex: u32) {
    if let Some(settings) = tables.settings()
        && settings.domains != 0
    {
        learn(packet, tables, settings, ingress_ifindex);
    }
    let Some(uplink) = came_in_by(packet, tables, ingress_ifindex) else { return };
    // What cannot be read here is counted when its answer is read.
    let mut key = FlowKey::default();
    let Ok((_, tcp)) = parse(packet, &mut key) else { return };
    let key = answer(&key);
    if let Some((flow, slot)) = tables.flow(&key) {
        if flow.uplink == uplink {
            count_answer(packet, tables, &flow, slot, &tcp);
            return;
        }
        if holds(tables, &flow, &key) {
            return;
        }
    }
    if tables.bypasses(key.family(), &key.destination) {
        return;
    }
    let flow = Flow {
        uplink,
        sticky_class: INBOUND,
        first_seen_ms: tables.now_ms(),
        last_seen_s: tables.now_s(),
        epoch: tables.epoch(epoch_index(uplink, key.family())),
        ..Flow::default()
    };
    let stored = tables.store_flow(&key, &flow);
    tables.count(if stored { Counter::FlowInbound } else { Counter::StoreFailed });
}

/// Counts an answer to what the LAN began: it proves that the uplink works. What someone outside
/// began proves only half of it.
#[inline(always)]
fn count_answer<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    flow: &Flow,
    slot: T::FlowSlot,
    tcp: &Tcp,
) {
    if flow.sticky_class == INBOUND {
        return;
    }
    tables.count_answer(flow.uplink, packet.length());
    if tcp.is_accept() && flow.tcp_state == tcp_state::OPENING {
        tables.touch_state(slot, tcp_state::ANSWERED);
        tables.count_connected(flow.uplink, tables.now_ms().wrapping_sub(flow.first_seen_ms));
    }
}

/// The uplink of a packet that came in by an interface, unless that leads to no provider.
#[inline(always)]
pub(crate) fn came_in_by<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ifindex: u32,
) -> Option<u32> {
    if ifindex == 0 {
        return None;
    }
    match tables.uplink_on(ifindex)? {
        SHARED => MarkMask(tables.settings()?.fwmark_mask).decode(packet.fwmark()),
        uplink => Some(uplink),
    }
}

/// The key of the answer to a packet. The identifier of an echo is no port: it stays where it is.
#[inline(always)]
fn answer(key: &FlowKey) -> FlowKey {
    let (source_port, destination_port) = if has_ports(key.protocol) {
        (key.destination_port, key.source_port)
    } else {
        (key.source_port, key.destination_port)
    };
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port,
        destination_port,
        ..*key
    }
}

/// Whether the entry of a flow stands, though a packet to it came in by another uplink. While its
/// connection is tracked, such a packet is none of it, or someone's who wants to divert it; a new
/// connection of the same ends would have got another port.
#[inline(always)]
fn holds<T: Tables>(tables: &T, flow: &Flow, key: &FlowKey) -> bool {
    tables.up_mask().contains(flow.uplink, key.family())
        && tables.now_s().saturating_sub(flow.last_seen_s) < TRACKED_S
}

/// Whether a flow whose uplink is down must stay there: its packets carry that uplink's address for
/// as long as it is tracked. The verdict may be wrong, or the uplink soon be back.
#[inline(always)]
pub(crate) fn still_inbound(flow: &Flow, now_s: u32) -> bool {
    flow.sticky_class == INBOUND && now_s.saturating_sub(flow.last_seen_s) <= FORGOTTEN_S
}

#[cfg(test)]
mod tests;
