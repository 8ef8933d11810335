//! The path of a packet that leaves by an uplink: its flow is learned if it is not known yet, a SYN
//! gets an MSS that fits, and the DNS queries of this machine are noted.
//!
//! Packets of known flows pass at once: a SYN is never among them.

use network_types::ip::IpProto;

use crate::{
    maps::uplink::NO_UPLINK,
    mark::MarkMask,
    packet::Packet,
    path::{
        dns::note_local_query,
        learn::{Proposed, learn_flow},
        mss::{self, MssChange},
        tables::{SHARED, Tables},
    },
};

/// The changes to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The fwmark that it gets.
    pub fwmark: Option<u32>,
    /// The hash that it gets back; 0 for none, so that the kernel computes it.
    pub hash: Option<u32>,
    /// The MSS that it gets.
    pub mss: Option<MssChange>,
}

/// Returns the changes to a packet that leaves by an uplink or the loopback device, and came in by
/// the interface `ingress_ifindex`, 0 for local traffic.
#[inline(always)]
pub fn wan_egress<P: Packet, T: Tables>(packet: &P, tables: &T, ingress_ifindex: u32) -> Changes {
    let Some(settings) = tables.settings() else { return Changes::default() };
    let mask = MarkMask(settings.fwmark_mask);
    let (fwmark, local) = (packet.fwmark(), ingress_ifindex == 0);
    if mask.is_final(fwmark) && !local {
        return Changes::default();
    }
    let asks = fwmark & mask.proposal() != 0;
    let marked = mask.decode(fwmark).unwrap_or(NO_UPLINK);
    let uplink = match tables.uplink_on(packet.ifindex()) {
        Some(SHARED) => marked,
        other => other.unwrap_or(NO_UPLINK),
    };
    // A packet that the main table routed has no number; its connection may have one the next time.
    let learns = asks && marked != NO_UPLINK && uplink != NO_UPLINK;
    let proposed = if learns {
        learn_flow(packet, tables, uplink, fwmark & mask.inbound() != 0)
    } else {
        Proposed::UNKNOWN
    };
    let without_mss = uplink == NO_UPLINK || proposed.protocol() == IpProto::Udp as u8;
    let mss = if without_mss { None } else { mss::clamp(packet, tables, uplink) };
    if local && settings.domains != 0 {
        note_local_query(packet, tables, settings);
    }
    let answered = fwmark & !(mask.proposal() | mask.inbound());
    // Queues that tell flows apart by that hash would let the packet overtake its flow.
    let hash = asks.then(|| proposed.packet_hash());
    Changes { fwmark: asks.then_some(answered), hash, mss }
}
