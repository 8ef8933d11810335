//! The path of a packet to the LAN: it may be an answer, which proves that its uplink works.

use crate::{
    maps::{
        counter::network,
        flow::{Flow, FlowKey, INBOUND, tcp_state},
        shortcut::answer_kind,
    },
    packet::{
        Packet, has_ports,
        parse::{Tcp, parse},
    },
    path::{
        admission::admits_flow,
        dns, recent,
        tables::{SHARED, Tables, bypass},
    },
};

/// Counts a packet that is about to leave for the LAN if it is an answer, and reads it if it is a
/// DNS reply; it came in by the interface `ingress_ifindex`, 0 for local traffic. Returns whether its
/// flow is known, so that its shortcut may be stored (see
/// [`crate::path::shortcut::store_down`]).
#[inline(always)]
pub fn egress<P: Packet, T: Tables>(packet: &P, tables: &T, ingress_ifindex: u32) -> bool {
    let uplink = if ingress_ifindex == 0 { None } else { tables.uplink_on(ingress_ifindex) };
    let Some(uplink) = uplink else {
        if let Some(settings) = tables.settings()
            && settings.domains != 0
        {
            dns::learn_near(packet, tables, settings, ingress_ifindex);
        }
        return false;
    };
    let answered = answered(packet, tables, ingress_ifindex, uplink);
    if answered & MAY_BE_DNS != 0
        && let Some(settings) = tables.settings()
        && settings.domains != 0
    {
        dns::learn(packet, tables, settings, dns::sender::SERVER);
    }
    answered & IS_KNOWN != 0
}

/// Flag of a packet that may be a DNS reply that is to be read.
const MAY_BE_DNS: u32 = 1;
/// Flag of a packet whose flow is known.
const IS_KNOWN: u32 = 2;

/// Counts a packet from an uplink if it is an answer; returns its flags. A function of its own, whose stack is free when the reply is read.
#[inline(never)]
fn answered<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ingress_ifindex: u32,
    uplink: u32,
) -> u32 {
    let flags = tables.with_request(|request| {
        // A packet that cannot be parsed is not counted; the LAN's answer to it is, at ingress.
        let Ok((_, tcp)) = parse(packet, &mut request.key) else { return 0 };
        let key = answer(&request.key);
        let known = tables.flow(&key);
        let known = known.filter(|(flow, _)| flow.uplink == uplink || uplink == SHARED);
        if let Some((flow, slot)) = known {
            count_answer(packet, tables, &request.key, &flow, slot, &tcp);
            if tables.remembers() {
                let kind = kind_of_answers(&flow);
                recent::store_down(tables, &request.key, &flow, &tcp, kind, ingress_ifindex);
            }
            if flow.replied == 0 && !tcp.is_quoted() {
                settle(tables, &key, slot);
            }
        }
        let asks = request.key.source_port == dns::PORT
            && (known.is_some() || is_on_link(tables, &request.key, ingress_ifindex));
        (u32::from(asks) * MAY_BE_DNS) | (u32::from(known.is_some()) * IS_KNOWN)
    });
    flags.unwrap_or(0)
}

/// Moves a flow to the answered ones, if its host may have one more there.
#[inline(always)]
fn settle<T: Tables>(tables: &T, key: &FlowKey, slot: T::FlowSlot) {
    let Some(settings) = tables.settings() else { return };
    if admits_flow(tables, settings, key) {
        tables.settle_flow(key, slot);
    }
}

/// Returns whether a packet came in by the uplink whose network its sender is in. Flows to there
/// are not in the table: the main table routes them.
#[inline(always)]
fn is_on_link<T: Tables>(tables: &T, key: &FlowKey, ingress_ifindex: u32) -> bool {
    let routed = tables.bypass(key.family(), &key.source);
    routed == Some(bypass::by(bypass::UPLINK, ingress_ifindex)) || routed == Some(bypass::UPLINK)
}

/// Time in milliseconds that a LAN host must have sent packets until its flow is settled: a host
/// that answers in place of others, such as a captive portal, answers flows that have just begun.
const SETTLED_MS: u32 = 10_000;

/// Counts an answer to a flow that the LAN began: it proves that the uplink works. An answer to a
/// connection from outside proves only half of it, and an ICMP error may be of the nearest router.
#[inline(always)]
fn count_answer<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    key: &FlowKey,
    flow: &Flow,
    slot: T::FlowSlot,
    tcp: &Tcp,
) {
    if flow.sticky_class == INBOUND || tcp.is_quoted() {
        return;
    }
    let settled = lasted_ms(flow) >= SETTLED_MS && !tcp.is_reset() && !tcp.is_accept();
    tables.count_answer(flow.uplink, packet.length(), network(key.family(), &key.source), settled);
    if tcp.is_accept() && flow.tcp_state == tcp_state::OPENING {
        tables.touch_state(slot, tcp_state::ANSWERED);
        tables.count_connected(flow.uplink, tables.now_ms().wrapping_sub(flow.first_seen_ms));
    }
}

/// Returns the kind of answers to a flow, one of [`answer_kind`].
#[inline(always)]
pub(crate) const fn kind_of_answers(flow: &Flow) -> u32 {
    if flow.sticky_class == INBOUND {
        answer_kind::NONE
    } else if lasted_ms(flow) >= SETTLED_MS {
        answer_kind::SETTLED
    } else {
        answer_kind::FRESH
    }
}

/// Returns the time that a flow's LAN host has sent packets, in milliseconds and rounded up to a
/// second, so that the clock need not be read.
#[inline(always)]
const fn lasted_ms(flow: &Flow) -> u32 {
    flow.last_seen_s.wrapping_mul(1000).wrapping_add(999).wrapping_sub(flow.first_seen_ms)
}

/// Returns the uplink of a packet that came in by an interface, unless that leads to no provider,
/// or to several.
#[inline(always)]
pub(crate) fn came_in_by<T: Tables>(tables: &T, ifindex: u32) -> Option<u32> {
    tables.uplink_on(ifindex).filter(|uplink| *uplink != SHARED)
}

/// Returns the key of the answer to a packet. The identifier of an echo is no port: it stays in
/// place.
#[inline(always)]
pub(crate) fn answer(key: &FlowKey) -> FlowKey {
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

#[cfg(test)]
mod tests;
