//! The way of a packet from the LAN.
//!
//! ```text
//! parse -> flow known, uplink up? --yes--> refresh, mark
//!               +-> a connection that was on another one? reset it
//!               | no
//!               +-> source of a provider? ---yes---> its uplink ----+
//!               | no                                                |
//!               +-> first rule that matches: its group, its         |
//!                        | stickiness                               |
//!                        +-> session alive? --yes--> its uplink ----+
//!                        |                                          +-> store flow, mark
//!                        +-> bucket = hash -> first usable rank ----+
//! ```

use crate::{
    classify::Origin,
    counter::Counter,
    dns::{self, note_query},
    egress::still_inbound,
    flow::{Flow, FlowKey, INBOUND, tcp_state},
    mark::{BLOCKED, MarkMask, RESET},
    packet::Packet,
    parse::{Tcp, parse},
    settings::Settings,
    slow::{Begun, Request, is_current, task},
    tables::Tables,
    verdict::{Reason, Verdict},
};

/// Decides about one packet and counts it.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let routed = tables.with_request(|request| route(packet, tables, request));
    match routed.unwrap_or(Err(Reason::Off)) {
        Ok(fwmark) => Verdict::Mark(fwmark),
        Err(reason) => {
            tables.count(reason.counter());
            Verdict::Skip(reason)
        }
    }
}

#[inline(always)]
fn route<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    request: &mut Request,
) -> Result<u32, Reason> {
    let settings = tables.settings().ok_or(Reason::Off)?;
    let mask = MarkMask(settings.fwmark_mask);
    if mask.0 == 0 {
        return Err(Reason::Off);
    }
    let old_fwmark = packet.fwmark();
    if old_fwmark & mask.0 != 0 {
        return Err(Reason::AlreadyMarked);
    }
    let (extra, tcp) = match parse(packet, &mut request.key) {
        Ok(parsed) => parsed,
        Err(reason) => {
            // The gateway is often asked by its link-local address.
            if settings.domains != 0 && matches!(reason, Reason::LinkLocal) {
                note_query(packet, tables);
            }
            return Err(reason);
        }
    };
    if settings.domains != 0 && request.key.destination_port == dns::PORT {
        note_query(packet, tables);
    }
    let (known, fate) = known(tables, settings, request, &tcp);
    match fate {
        Fate::Stays(outcome) => {
            tables.count(outcome);
            tables.count_uplink(known, packet.length(), outcome);
            return Ok(mask.replace(old_fwmark, known));
        }
        Fate::Reset => {
            tables.count(Counter::FlowReset);
            return Ok(mask.replace(old_fwmark, RESET));
        }
        Fate::Open => {}
    }
    let connects = packet.opaque(u32::from(tcp.is_connect())) != 0;
    let origin = Origin::of(packet, extra);
    let (uplink, outcome) = match request.choose(task::BEGIN, &origin, tables) {
        Begun::On(uplink) if known == UNKNOWN => (uplink, Counter::FlowNew),
        Begun::On(uplink) => (uplink, Counter::FlowMoved),
        Begun::Blocked(number) => {
            let dropped = number == BLOCKED[0];
            tables.count(if dropped { Counter::RuleDropped } else { Counter::RuleRejected });
            return Ok(mask.replace(old_fwmark, number));
        }
        Begun::Bypassed => return Err(Reason::Bypass),
        Begun::Nowhere if known == UNKNOWN => return Err(Reason::NoUplink),
        Begun::Refused if known == UNKNOWN => {
            tables.count(Counter::SourceRejected);
            return Ok(mask.replace(old_fwmark, BLOCKED[1]));
        }
        // With every uplink down, staying is what breaks least: the verdict may be wrong.
        Begun::Nowhere | Begun::Refused => (known, Counter::FlowStranded),
    };
    tables.count(outcome);
    tables.count_uplink(uplink, packet.length(), outcome);
    if connects {
        tables.count_connect(uplink);
    }
    Ok(mask.replace(old_fwmark, uplink))
}

/// The uplink of a flow that the gateway itself sends, one of [`BLOCKED`], or [`UNKNOWN`]; it is
/// stored like one of the LAN.
#[inline(always)]
pub(crate) fn follow<T: Tables>(tables: &T, settings: &Settings, request: &mut Request) -> u32 {
    let (known, fate) = known(tables, settings, request, &Tcp::default());
    if matches!(fate, Fate::Stays(_)) {
        return known;
    }
    match request.choose(task::BEGIN, &Origin::LOCAL, tables) {
        Begun::On(number) | Begun::Blocked(number) => number,
        Begun::Nowhere => known,
        Begun::Refused | Begun::Bypassed => UNKNOWN,
    }
}

/// The uplink of a flow that is not in the table.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// What is to become of the packet of a flow.
enum Fate {
    /// It uses the flow's uplink, and is counted so.
    Stays(Counter),
    /// It is answered with a reset: its connection is over with its uplink.
    Reset,
    /// Its uplink is yet to be chosen, maybe anew.
    Open,
}

/// The uplink of a flow, or [`UNKNOWN`], and what is to become of its packet.
#[inline(always)]
fn known<T: Tables>(
    tables: &T,
    settings: &Settings,
    request: &mut Request,
    tcp: &Tcp,
) -> (u32, Fate) {
    let key = &request.key;
    let Some((flow, slot)) = tables.flow(key) else {
        return (UNKNOWN, Fate::Open);
    };
    let now_s = tables.now_s();
    let usable = tables.up_mask().contains(flow.uplink, key.family());
    let stays = if usable && is_current(tables, flow.uplink, key.family(), flow.epoch) {
        Counter::FlowKnown
    } else if still_inbound(&flow, now_s) || !usable && settings.keeps(flow.uplink) {
        Counter::FlowStranded
    } else {
        return (flow.uplink, over(tables, settings, key, &flow, tcp));
    };
    if tcp.is_established() {
        tables.touch_tcp(slot, tcp.ack, tcp.end);
    }
    if tcp.is_close() {
        tables.touch_state(slot, tcp_state::CLOSING);
    } else if tcp.is_connect() {
        // Another connection of the same ends.
        tables.touch_state(slot, tcp_state::OPENING);
    }
    if flow.last_seen_s != now_s {
        tables.touch_flow(slot, now_s);
        // At most once a second, to keep known flows cheap.
        if flow.sticky_class < INBOUND {
            request.keep(&flow, tables);
        }
    }
    (flow.uplink, Fate::Stays(stays))
}

/// What becomes of a packet whose flow is over with its uplink. Half a connection moves: nobody
/// knows the client by another address yet. With nowhere to go nothing is reset: the verdict may be
/// wrong.
#[inline(always)]
fn over<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey, flow: &Flow, tcp: &Tcp) -> Fate {
    if !settings.resets(flow.uplink) || tables.up_mask().family(key.family()) == 0 {
        return Fate::Open;
    }
    if tcp.is_reset() {
        // The client has heard it. Nobody else needs to: a reset is not answered.
        tables.forget_flow(key);
        return Fate::Reset;
    }
    if tcp.is_established() { Fate::Reset } else { Fate::Open }
}

#[cfg(test)]
mod tests;
