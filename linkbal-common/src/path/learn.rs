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
        uplink::{NO_UPLINK, family_slot},
    },
    packet::Packet,
    path::{continuity::begins_anew, session::is_current, slow::moved_from, tables::Tables},
};

/// Facts of a packet that its proposal says, in one word: functions of programs return no more.
#[derive(Clone, Copy)]
pub(crate) struct Proposed(u64);

impl Proposed {
    /// A packet without a proposal.
    pub(crate) const UNKNOWN: Proposed = Proposed(0);

    #[inline(always)]
    const fn new(proposal: &Proposal) -> Proposed {
        Proposed(proposal.key.protocol as u64 | (proposal.packet_hash as u64) << 32)
    }

    /// Returns the protocol; 0 if it is unknown.
    #[inline(always)]
    pub(crate) const fn protocol(self) -> u8 {
        self.0 as u8
    }

    /// Returns the hash that the packet came in with; 0 if it had none.
    #[inline(always)]
    pub(crate) const fn packet_hash(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Stores the flow of a packet with the proposal bit that leaves by an uplink; its connection may be
/// an `inbound` one. A function of its own, whose stack is free when the packet is changed.
#[inline(never)]
pub(crate) fn learn_flow<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    uplink: u32,
    inbound: bool,
) -> Proposed {
    if let Some(mut proposal) = tables.proposal(packet.hash())
        && proposal.check == Proposal::check(&proposal.key, packet.hash())
    {
        store(packet, tables, &mut proposal, uplink, inbound);
        return Proposed::new(&proposal);
    }
    Proposed::UNKNOWN
}

#[inline(always)]
fn store<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    proposal: &mut Proposal,
    uplink: u32,
    inbound: bool,
) {
    // A flow that was not in the table a moment ago is new.
    let unknown = proposal.former == NO_UPLINK && !inbound;
    if !unknown && let Some((flow, _)) = tables.flow(&proposal.key) {
        let silent_s = proposal.flow.last_seen_s.saturating_sub(flow.last_seen_s);
        if begins_anew(&flow, silent_s, proposal.key.protocol, proposal.connects != 0) {
            proposal.former = NO_UPLINK;
        } else if flow.uplink == uplink && (flow.sticky_class == INBOUND) == inbound {
            // The packet only asked whether the flow still has that uplink; or the flow is to leave it,
            // and the kernel is yet to forget the connection.
            let leaves = ![NO_UPLINK, uplink].contains(&proposal.flow.uplink) && !inbound;
            if leaves || is_current(tables, uplink, proposal.key.family(), flow.epoch) {
                return;
            }
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
    flow.epoch = tables.epoch(family_slot(uplink, proposal.key.family()));
    if inbound {
        flow.sticky_class = INBOUND;
        flow.reason = Reason { kind: reason::INBOUND, rule: reason::NO_LOOKUP };
    } else if matches!(outcome, Counter::FlowAdopted) {
        flow.reason = Reason { kind: reason::CONNECTION, rule: reason::NO_LOOKUP };
    } else {
        flow.moved_from = moved_from(proposal.former);
    }
    let stored = if unknown {
        tables.store_new_flow(&proposal.key, flow)
    } else {
        tables.store_flow(&proposal.key, flow)
    };
    if !stored {
        // Packets of a flow may come together: the first one to leave has stored it.
        if !unknown || tables.flow(&proposal.key).is_none() {
            tables.count(Counter::StoreFailed);
        }
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
