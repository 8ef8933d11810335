//! The path of a packet from the LAN.
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
//!                        |                                          +-> propose it
//!                        +-> bucket = hash -> first usable rank ----+
//! ```
//!
//! A proposal is not final: the connection may have an uplink already. After this, nft replaces the
//! proposal by the connection's mark, and [`crate::path::learn`] stores the uplink that the packet left
//! by.

use crate::{
    maps::{
        counter::Counter,
        flow::{Flow, FlowKey, INBOUND, Proposal, tcp_state},
        settings::Settings,
        uplink::NO_UPLINK,
    },
    mark::{DROP, MarkMask, REJECT, RESET},
    packet::{
        Packet,
        parse::{Tcp, parse},
    },
    path::{
        classify::Origin,
        continuity::{RECHECK_S, begins_anew, goes_on},
        dns::{self, note_query},
        recent,
        select::Selection,
        session::is_current,
        slow::{Request, task},
        tables::Tables,
        verdict::{SkipReason, Verdict},
    },
};

/// Decides about one packet and counts it.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let routed = tables.with_request(|request| route(packet, tables, request));
    match routed.unwrap_or(Err(SkipReason::Off)) {
        Ok(verdict) => verdict,
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
) -> Result<Verdict, SkipReason> {
    let settings = tables.settings().ok_or(SkipReason::Off)?;
    let mask = MarkMask(settings.fwmark_mask);
    if mask.0 == 0 {
        return Err(SkipReason::Off);
    }
    let old_fwmark = packet.fwmark();
    let is_marked = old_fwmark & mask.0 != 0;
    if is_marked && mask.decode(old_fwmark).is_none() {
        return Err(SkipReason::AlreadyMarked);
    }
    let (extra, tcp) = match parse(packet, &mut request.key) {
        Ok(parsed) => parsed,
        Err(reason) => {
            // The gateway is often asked at its link-local address.
            if settings.domains != 0 && matches!(reason, SkipReason::LinkLocal) {
                note_query(packet, tables, settings);
            }
            return Err(reason);
        }
    };
    if settings.domains != 0 && request.key.destination_port == dns::PORT {
        note_query(packet, tables, settings);
    }
    let (uplink, action) = look_up(tables, settings, request, &tcp, !is_marked);
    if is_marked {
        // Bridged packets may have passed nft before, and then carry their connection's uplink.
        let lives = matches!(action, FlowAction::Keep(_) | FlowAction::Recheck(_));
        if !lives || mask.decode(old_fwmark) != Some(uplink) {
            return Err(SkipReason::AlreadyMarked);
        }
        tables.count(Counter::FlowKnown);
        tables.count_uplink(uplink, packet.length(), Counter::FlowKnown);
        // One that asks still does: it comes in by a card before it does by the card's VLAN.
        let asks = old_fwmark & mask.proposal();
        return Ok(Verdict::Mark(mask.replace(old_fwmark, uplink) | asks));
    }
    match action {
        FlowAction::Keep(outcome) => {
            tables.count(outcome);
            tables.count_uplink(uplink, packet.length(), outcome);
            return Ok(Verdict::Mark(mask.replace(old_fwmark, uplink)));
        }
        FlowAction::Reset => {
            tables.count(Counter::FlowReset);
            // Nothing is learned from it: no flow is expected to have this hash.
            return Ok(Verdict::Propose { fwmark: mask.propose(old_fwmark, RESET), hash: 0 });
        }
        FlowAction::Recheck(flow) => {
            let usable = tables.up_mask().contains(uplink, request.key.family());
            let outcome = if usable { Counter::FlowKnown } else { Counter::FlowStranded };
            tables.count(outcome);
            tables.count_uplink(uplink, packet.length(), outcome);
            request.packet_hash = packet.hash();
            request.recheck(&flow, tables);
            let (fwmark, hash) = (mask.propose(old_fwmark, uplink), request.hash);
            if settings.shortcuts != 0 {
                // Compared where it leaves.
                tables.write_proposal(hash, |Proposal { flow, .. }| {
                    (flow.tcp_ack, flow.tcp_end) = (tcp.ack, tcp.end);
                });
            }
            return Ok(Verdict::Propose { fwmark, hash });
        }
        FlowAction::Reselect => {}
    }
    request.connects = packet.opaque(u32::from(tcp.is_connect())) as u8;
    let origin = Origin::of(packet, extra);
    // The sender of an error need not be the host of the flow that it quotes: nothing is learned.
    let task = packet.opaque(if tcp.is_quoted() { task::CHOOSE } else { task::PROPOSE });
    request.hash = 0;
    request.packet_hash = packet.hash();
    let selection = request.choose(task, uplink, &origin, tables);
    let (outcome, fwmark) = match selection {
        Selection::Uplink(chosen) => (Counter::FlowProposed, mask.propose(old_fwmark, chosen)),
        Selection::Blocked(number) => {
            let dropped = number == DROP;
            let outcome = if dropped { Counter::RuleDropped } else { Counter::RuleRejected };
            (outcome, mask.propose(old_fwmark, number))
        }
        Selection::Bypassed => return Err(SkipReason::Bypass),
        // With every uplink down, staying breaks least: the verdict may be wrong. The same ends may
        // have another connection by now, which came in by another uplink.
        Selection::NoneUsable | Selection::Rejected if uplink != NO_UPLINK => {
            tables.count_uplink(uplink, packet.length(), Counter::FlowStranded);
            (Counter::FlowStranded, mask.propose(old_fwmark, uplink))
        }
        Selection::Rejected => (Counter::SourceRejected, mask.propose(old_fwmark, REJECT)),
        Selection::OnLink => (Counter::Bypass, mask.ask(old_fwmark)),
        Selection::NoneUsable => (Counter::NoUplink, mask.ask(old_fwmark)),
    };
    tables.count(outcome);
    Ok(Verdict::Propose { fwmark, hash: request.hash })
}

/// Returns the uplink of a flow of local traffic, one of [`BLOCKED`](crate::mark::BLOCKED), or [`NO_UPLINK`]; an uplink
/// that is chosen is stored at once.
#[inline(always)]
pub(crate) fn choose_local<T: Tables>(
    tables: &T,
    settings: &Settings,
    request: &mut Request,
) -> u32 {
    let (uplink, action) = look_up(tables, settings, request, &Tcp::default(), false);
    if matches!(action, FlowAction::Keep(_) | FlowAction::Recheck(_)) {
        return uplink;
    }
    match request.choose(task::STORE, uplink, &Origin::LOCAL, tables) {
        Selection::Uplink(number) | Selection::Blocked(number) => number,
        Selection::NoneUsable => uplink,
        Selection::Rejected | Selection::Bypassed | Selection::OnLink => NO_UPLINK,
    }
}

/// The treatment of a flow's packet.
enum FlowAction {
    /// The packet uses the flow's uplink, and is counted by this counter.
    Keep(Counter),
    /// The packet uses the flow's uplink unless its connection has another one.
    Recheck(Flow),
    /// The packet is answered with a reset: its connection ended with its uplink.
    Reset,
    /// The uplink is yet to be chosen, maybe anew.
    Reselect,
}

/// Returns the uplink of a flow, or [`NO_UPLINK`], and the treatment of its packet. After long silence that
/// packet `may_begin` another flow, unless it carries the mark of its connection, or is local traffic.
#[inline(always)]
fn look_up<T: Tables>(
    tables: &T,
    settings: &Settings,
    request: &mut Request,
    tcp: &Tcp,
    may_begin: bool,
) -> (u32, FlowAction) {
    let key = &request.key;
    let Some((flow, slot)) = tables.flow(key) else {
        return (NO_UPLINK, FlowAction::Reselect);
    };
    let now_s = tables.now_s();
    let family = key.family();
    let current = || is_current(tables, flow.uplink, family, flow.epoch);
    let Some(outcome) = goes_on(&flow, family, now_s, settings, tables.up_mask(), current) else {
        return (flow.uplink, ended(tables, settings, key, &flow, tcp));
    };
    let silent_s = now_s.saturating_sub(flow.last_seen_s);
    if tcp.is_established() {
        tables.touch_tcp(slot, tcp.ack, tcp.end);
    }
    if tcp.is_close() {
        tables.touch_state(slot, tcp_state::CLOSING);
    } else if tcp.is_connect() {
        // Another connection of the same ends.
        tables.touch_state(slot, tcp_state::OPENING);
    }
    if flow.last_seen_s != now_s && !tcp.is_quoted() {
        if may_begin && begins_anew(&flow, silent_s, key.protocol, tcp.is_connect()) {
            return (flow.uplink, FlowAction::Reselect);
        }
        tables.touch_flow(slot, now_s);
        // At most once a second, to keep known flows cheap.
        if flow.sticky_class < INBOUND {
            request.keep(&flow, tables);
        }
    }
    // A shortcut is renewed where a packet leaves, if that asks for its mark.
    let renews = silent_s != 0 && settings.takes_shortcuts(flow.uplink);
    // The MSS of a SYN is clamped there, too.
    if (silent_s >= RECHECK_S || renews || tcp.is_syn()) && !tcp.is_quoted() {
        return (flow.uplink, FlowAction::Recheck(flow));
    }
    // Not for its first packet of a second: most flows have no other one, and would pay for nothing.
    if silent_s == 0 && tables.remembers() && matches!(outcome, Counter::FlowKnown) {
        recent::store_up(tables, &request.key, &flow, tcp);
    }
    (flow.uplink, FlowAction::Keep(outcome))
}

/// Decides about a packet whose flow ended with its uplink. A connection that is not established
/// moves: the server does not depend on the client's address yet. Without a usable uplink nothing
/// is reset: the verdict may be wrong.
#[inline(always)]
fn ended<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    flow: &Flow,
    tcp: &Tcp,
) -> FlowAction {
    if !settings.resets(flow.uplink) || tables.up_mask().family(key.family()) == 0 {
        return FlowAction::Reselect;
    }
    if tcp.is_reset() {
        // The client knows that the connection is over, and a reset is not answered.
        tables.forget_flow(key);
        return FlowAction::Reset;
    }
    if tcp.is_established() { FlowAction::Reset } else { FlowAction::Reselect }
}

#[cfg(test)]
mod tests;
