//! The egress of an uplink: the entries of flows, with the uplink by which they really left.
//!
//! The flow table is a cache of the uplinks of connections. A packet whose flow was not in it
//! carries the proposal bit, and the hash of its flow's key, which forwarding and address
//! translation keep. The proposal in the slot of that hash becomes the flow's entry, with the
//! uplink that the packet leaves by: the connection's own if it had one, or else the proposed one.
//! A packet that is dropped on its way leaves no entry.

use crate::{
    maps::{
        counter::Counter,
        flow::{INBOUND, Proposal, Reason, reason},
        uplink::{NO_UPLINK, epoch_index},
    },
    mark::MarkMask,
    packet::Packet,
    path::{
        session::is_current,
        slow::moved_from,
        tables::{SHARED, Tables},
    },
};

/// Stores the flow of a packet that leaves by an uplink, if it carries the proposal bit. A function
/// of its own, whose stack is free when the packet is changed.
#[inline(never)]
pub fn learn_flow<P: Packet, T: Tables>(packet: &P, tables: &T) {
    let Some(settings) = tables.settings() else { return };
    let mask = MarkMask(settings.fwmark_mask);
    let fwmark = packet.fwmark();
    if fwmark & mask.proposal() == 0 {
        return;
    }
    // A packet that the main table routed has no number; its connection may have one the next time.
    let Some(marked) = mask.decode(fwmark) else { return };
    let uplink = match tables.uplink_on(packet.ifindex()) {
        Some(SHARED) => marked,
        Some(uplink) => uplink,
        None => return,
    };
    if let Some(proposal) = tables.proposal(packet.hash())
        && proposal.check == Proposal::check(&proposal.key, packet.hash())
    {
        let inbound = fwmark & mask.inbound() != 0;
        store(packet, tables, proposal, uplink, inbound);
    }
}

#[inline(always)]
fn store<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    mut proposal: Proposal,
    uplink: u32,
    inbound: bool,
) {
    // A flow that was not in the table a moment ago is new.
    if (proposal.former != NO_UPLINK || inbound)
        && let Some((flow, _)) = tables.flow(&proposal.key)
    {
        if flow.uplink == uplink
            && (flow.sticky_class == INBOUND) == inbound
            && is_current(tables, uplink, proposal.key.family(), flow.epoch)
        {
            // The packet only asked whether the flow still has that uplink.
            return;
        }
        proposal.flow.replied = flow.replied;
    }
    let outcome = if inbound {
        Counter::FlowInbound
    } else if proposal.flow.uplink != uplink {
        Counter::FlowAdopted
    } else if proposal.former == NO_UPLINK {
        Counter::FlowNew
    } else {
        Counter::FlowMoved
    };
    let flow = &mut proposal.flow;
    flow.uplink = uplink;
    flow.epoch = tables.epoch(epoch_index(uplink, proposal.key.family()));
    if inbound {
        flow.sticky_class = INBOUND;
        flow.reason = Reason { kind: reason::INBOUND, rule: reason::NO_LOOKUP };
    } else if matches!(outcome, Counter::FlowAdopted) {
        flow.reason = Reason { kind: reason::CONNECTION, rule: reason::NO_LOOKUP };
    } else {
        flow.moved_from = moved_from(proposal.former);
    }
    if !tables.store_flow(&proposal.key, flow) {
        tables.count(Counter::StoreFailed);
        return;
    }
    tables.count(outcome);
    tables.count_uplink(uplink, packet.length(), outcome);
    tables.count_rule(proposal.flow.reason.rule);
    if proposal.connects != 0 && !inbound {
        tables.count_connect(uplink);
    }
}

#[cfg(test)]
mod tests;
