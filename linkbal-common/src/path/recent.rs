//! Fast path for flows whose full lookup succeeded in this window, which is about a second: the flow
//! lookup is most of the cost per packet.
//!
//! So where there are no shortcuts, the first packets of a window and way take the whole path, which keeps
//! the flow and its session alive, and what was found stands for the rest of the window. Each packet is
//! still counted, and each looks at the usable uplinks.

use network_types::ip::IpProto;

pub use crate::maps::recent::{RECENT, Recent, State, slot};
use crate::{
    maps::{
        counter::{NETWORKS, network},
        flow::{Flow, FlowKey},
        settings::Settings,
        shortcut::{Tuple, answer_kind},
        uplink::{Family, family_slot, slot_uplink},
    },
    mark::MarkMask,
    packet::{Packet, parse::Tcp},
    path::{
        dns,
        plain::{network_offset, plain_ipv4, plain_ipv6},
        tables::Tables,
    },
};

/// Returns the fwmark of a packet from the LAN whose flow is of the present window, and counts it.
#[inline(always)]
pub fn from_lan<const V6: bool, P: Packet, T: Tables>(packet: &P, tables: &T) -> Option<u32> {
    let settings = tables.settings()?;
    let mask = MarkMask(settings.fwmark_mask);
    let fwmark = packet.fwmark();
    if mask.0 == 0 || fwmark & mask.0 != 0 {
        return None;
    }
    let (state, _) = find::<V6, _, _>(packet, tables, settings, 0)?;
    let uplink = slot_uplink(state.slot.into());
    tables.with_shortcut_counters(uplink, |counters| counters.count_up(packet.length()))?;
    Some(mask.replace(fwmark, uplink))
}

/// Counts a packet that is about to leave to the LAN, having come in by `ingress_ifindex`, if its flow
/// is of the present window.
#[inline(always)]
pub fn to_lan<const V6: bool, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ingress_ifindex: u32,
) -> Option<()> {
    if ingress_ifindex == 0 {
        return None;
    }
    let settings = tables.settings()?;
    let (state, network) = find::<V6, _, _>(packet, tables, settings, ingress_ifindex)?;
    tables.with_shortcut_counters(slot_uplink(state.slot.into()), |counters| {
        counters.count_down(packet.length(), V6, state.answer_kind.into(), network);
    })
}

/// Returns the state of a packet's flow, if that is of the present window and its uplink is usable; and the
/// network that it comes from.
#[inline(always)]
fn find<const V6: bool, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    ingress_ifindex: u32,
) -> Option<(State, u32)> {
    if packet.vlan() != 0 {
        return None;
    }
    let offset = network_offset(packet);
    let tuple = if V6 { plain_ipv6(packet, offset)? } else { plain_ipv4(packet, offset)? };
    let hash = tuple.hash::<V6>(settings.seed);
    let (word, network) = tables.with_recent(hash, |recent| {
        let same = recent.tuple.same_as::<V6>(&tuple) && recent.ingress_ifindex == ingress_ifindex;
        // The verifier of Linux 6.1 keeps this limit over the calls below, but none that comes after.
        same.then_some((recent.state, recent.network & (NETWORKS as u32 - 1)))
    })??;
    let state = State::of(word);
    let lives = tables.up_mask().has_slot(state.slot.into())
        && state.hash == (hash >> 16) as u16
        && state.window == tables.window()
        && tables.epoch(state.slot.into()) as u8 == state.epoch;
    lives.then_some((state, network))
}

/// Stores what a full lookup found of the flow of a packet from the LAN.
#[inline(always)]
pub(crate) fn store_up<T: Tables>(tables: &T, key: &FlowKey, flow: &Flow, tcp: &Tcp) {
    store_down(tables, key, flow, tcp, answer_kind::NONE, 0);
}

/// Stores what a full lookup found of the flow of an answer, which came in by `ingress_ifindex` and is one
/// of [`answer_kind`].
#[inline(always)]
pub(crate) fn store_down<T: Tables>(
    tables: &T,
    key: &FlowKey,
    flow: &Flow,
    tcp: &Tcp,
    kind: u32,
    ingress_ifindex: u32,
) {
    if flow.replied == 0 || tcp.is_quoted() || tcp.opens_or_ends() {
        return;
    }
    let known = State {
        window: 0,
        hash: 0,
        epoch: flow.epoch as u8,
        slot: family_slot(flow.uplink, key.family()) as u8,
        answer_kind: kind as u8,
    };
    store(tables, key, known.word(), ingress_ifindex);
}

/// Stores a flow, unless its packets are read. A function of its own, whose stack is free when there is a
/// slow path.
#[inline(never)]
fn store<T: Tables>(tables: &T, key: &FlowKey, known: u64, ingress_ifindex: u32) {
    let plain = key.protocol == IpProto::Tcp as u8 || key.protocol == IpProto::Udp as u8;
    let dns = key.source_port == dns::PORT || key.destination_port == dns::PORT;
    let Some(settings) = tables.settings() else { return };
    if !plain || dns {
        return;
    }
    let tuple = Tuple::of(key);
    let hash = match key.family() {
        Family::Ipv4 => tuple.hash::<false>(settings.seed),
        Family::Ipv6 => tuple.hash::<true>(settings.seed),
    };
    let state = State { window: tables.window(), hash: (hash >> 16) as u16, ..State::of(known) };
    let (_, network) = network(key.family(), &key.source);
    let stored = tables.with_recent(hash, |recent| {
        // Of no window while the rest is written, where CPUs keep the order of stores. Where they do not,
        // a reader finds by the hash in the state, one word that is written at once, that the state is not
        // of the flow whose tuple it sees; at worst an answer counts for the network of another one.
        // SAFETY: a reference is valid for writes; volatile, since it is written again below.
        unsafe { (&raw mut recent.state).write_volatile(0) };
        recent.tuple = tuple;
        recent.ingress_ifindex = ingress_ifindex;
        recent.network = network as u32;
        // SAFETY: as above.
        unsafe { (&raw mut recent.state).write_volatile(state.word()) };
    });
    stored.unwrap_or_default();
}

#[cfg(test)]
mod tests;
