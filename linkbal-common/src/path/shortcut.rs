//! Shortcuts of established flows, past the kernel's forwarding.
//!
//! ```text
//! up     LAN ingress: shortcut alive? -------------yes--> change, send out by the uplink
//!                                  | no, or a packet for the kernel
//!                                  +-> conntrack, nft, routes, NAT -> uplink egress: store it
//!
//! down   uplink ingress: shortcut alive? ----------yes--> change, send out to the LAN
//!                                  | no, or a packet for the kernel
//!                                  +-> NAT, conntrack, nft, routes -> LAN egress: store it
//! ```
//!
//! A shortcut changes a packet as the kernel changed an earlier one of the flow, which is seen when it
//! leaves. Once a second and way a packet is left to the kernel, with those that came together with it
//! ([`REORDER_JIFFIES`]), so that none overtakes another: it keeps the tracked connection alive, passes the
//! administrator's firewall, and renews the shortcut. A connection that the kernel would not forward any
//! more loses its shortcut within [`LIFE`] windows. Each flow has windows of its own, from its last such
//! packet on, so that the packets for the kernel do not come all at a time.

use network_types::{eth::EtherType, ip::IpProto};

pub use crate::maps::shortcut::{
    DRIVER_SLOTS, DriverAddress, LIFE, REORDER_JIFFIES, SHORTCUTS, Shortcut, ShortcutCounters,
    Target, Tuple, Way, XDP_DEVICES, answer_kind, driver_slot, slot,
};
use crate::{
    maps::{
        counter::network,
        flow::{Address, FlowKey, Proposal},
        seed::Seed,
        settings::Settings,
        uplink::{FAMILY_SLOTS, Family, family_slot, slot_uplink},
    },
    mark::MarkMask,
    packet::{ETHERNET_LENGTH, EthernetHeader, Packet, Ports, TcpHeader, parse::parse},
    path::{
        egress::{answer, kind_of_answers},
        plain::{ip_header, network_offset, plain_ipv4, plain_ipv6},
        tables::{SHARED, Tables},
    },
};

/// Ports of flows whose packets are inspected: DNS by linkbal's programs, and control connections by the
/// kernel's helpers: FTP, TFTP, SNMP, H.323, PPTP, SIP, SANE, IRC, Amanda (net/netfilter/nf_conntrack_*.c).
const INSPECTED_PORTS: [u16; 12] =
    [21, 53, 69, 161, 162, 1720, 1723, 5060, 5061, 6566, 6667, 10_080];

/// Returns the EtherType of a family, in network byte order.
#[inline(always)]
pub const fn ether_type(family: Family) -> u16 {
    match family {
        Family::Ipv4 => EtherType::Ipv4 as u16,
        Family::Ipv6 => EtherType::Ipv6 as u16,
    }
}

/// Returns whether the packets of a flow are inspected, so that they take no shortcut.
#[inline(always)]
fn is_inspected(key: &FlowKey) -> bool {
    let inspected = |port: u16| INSPECTED_PORTS.iter().any(|each| each.to_be() == port);
    inspected(key.destination_port) || inspected(key.source_port)
}

/// The changes to a packet that takes a shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Set for UDP; TCP otherwise.
    pub udp: bool,
    /// The fwmark that the packet gets.
    pub fwmark: u32,
    /// The other changes.
    pub target: Target,
}

/// Returns what becomes of a packet that comes in from the LAN (`UP`) or from an uplink, if it takes a
/// shortcut, and counts it.
#[inline(always)]
pub fn take<const UP: bool, const V6: bool, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
) -> Option<Taken> {
    let way = if UP { Way::Up } else { Way::Down };
    let settings = tables.settings()?;
    let old_fwmark = packet.fwmark();
    if settings.shortcuts == 0 || old_fwmark & settings.fwmark_mask != 0 || packet.vlan() != 0 {
        return None;
    }
    let offset = network_offset(packet);
    let tuple = if V6 { plain_ipv6(packet, offset)? } else { plain_ipv4(packet, offset)? };
    let up = tables.up_mask();
    let now = tables.jiffies();
    let window = tables.window_jiffies();
    let hash = tuple.hash::<V6>(settings.seed);
    let udp = (tuple.kind >> 32) as u8 == IpProto::Udp as u8;
    let taken = tables.with_shortcut(way, hash, |shortcut| {
        if !shortcut.tuple.same_as::<V6>(&tuple) {
            return None;
        }
        let since_sample = now.wrapping_sub(shortcut.sampled);
        if since_sample >= window {
            if !packet.is_seen_again() {
                shortcut.sampled = now;
            }
            return None;
        }
        let lasts = now.wrapping_sub(shortcut.renewed) < LIFE * window;
        // The other way is known, too.
        if since_sample < REORDER_JIFFIES || !lasts || UP && shortcut.answered == 0 {
            return None;
        }
        // Calls come first: what follows need not be kept on the stack meanwhile.
        let slot = shortcut.target.slot();
        let epoch = tables.epoch(slot);
        // Both by one test: two of them cost instructions.
        let lives =
            settings.shortcuts >> slot_uplink(slot) & up.0 >> (slot % FAMILY_SLOTS as u32) & 1 == 1;
        let taken = tables.with_shortcut_counters(slot_uplink(slot), |counters| {
            let mut packed = shortcut.target;
            packed.set_slot(slot, epoch);
            let target = packed.unpack::<V6>();
            if !lives
                || packed.check::<V6>(hash) != shortcut.check
                || target.ingress_ifindex != packet.ifindex()
                || !fits::<V6, P>(packet, udp, target.mtu.into())
                || !packet.can_leave_by(target.ifindex)
            {
                return None;
            }
            if UP {
                counters.count_up(packet.length());
            } else {
                counters.count_down(packet.length(), V6, shortcut.answer_kind, shortcut.network);
            }
            Some(Taken { udp, fwmark: target.fwmark, target })
        });
        taken?
    });
    taken?
}

/// Returns the EtherType of a packet, in network byte order, and the offset of what follows.
#[inline(always)]
fn link_layer<P: Packet>(packet: &P) -> Option<(u16, u32)> {
    match packet.l3_ether_type() {
        Some(ether_type) => Some((ether_type, 0)),
        None => {
            let ethernet: EthernetHeader = packet.load_linear(0)?;
            Some((ethernet.ether_type, ETHERNET_LENGTH as u32))
        }
    }
}

/// Returns whether a packet may take a shortcut: TCP but for the packets that open or end a
/// connection, or UDP; with a TTL above 1, and without VLAN tags, IP options, extension headers or
/// fragmentation.
#[inline(always)]
fn is_plain<P: Packet>(packet: &P) -> bool {
    match link_layer(packet) {
        _ if packet.vlan() != 0 => false,
        Some((ether_type, network)) if ether_type == EtherType::Ipv4 as u16 => {
            plain_ipv4(packet, network).is_some()
        }
        Some((ether_type, network)) if ether_type == EtherType::Ipv6 as u16 => {
            plain_ipv6(packet, network).is_some()
        }
        _ => false,
    }
}

/// Returns whether a plain packet, or each segment that it is to be cut into, is no larger than the
/// MTU.
#[inline(always)]
fn fits<const V6: bool, P: Packet>(packet: &P, udp: bool, mtu: u32) -> bool {
    let network = network_offset(packet);
    if packet.length() <= network + mtu {
        return true;
    }
    let segment = packet.gso_size();
    if segment == 0 {
        return false;
    }
    let header = ip_header(if V6 { Family::Ipv6 } else { Family::Ipv4 });
    let transport = if udp {
        size_of::<[u16; 4]>() as u32
    } else {
        let offset = network + header + size_of::<Ports>() as u32;
        let Some(tcp) = packet.load_linear::<TcpHeader>(offset) else { return false };
        u32::from(tcp.length >> 4) * 4
    };
    header + transport + segment <= mtu
}

/// Stores the shortcut from the LAN of a flow, whose packet is about to leave by its uplink as the
/// kernel has changed it, and still carries the proposal bit.
#[inline(always)]
pub fn store_up<P: Packet, T: Tables>(packet: &P, tables: &T, ingress_ifindex: u32) {
    let Some(settings) = tables.settings() else { return };
    if settings.shortcuts == 0 {
        return;
    }
    let Some(marked) = MarkMask(settings.fwmark_mask).decode(packet.fwmark()) else { return };
    let uplink = match tables.uplink_on(packet.ifindex()) {
        Some(SHARED) => marked,
        Some(uplink) => uplink,
        None => return,
    };
    if !settings.takes_shortcuts(uplink)
        || settings.leaves_out() && tables.is_left_out(ingress_ifindex)
    {
        return;
    }
    let Some(proposal) = tables.proposal(packet.hash()) else { return };
    let flow = &proposal.key;
    if proposal.check != Proposal::check(flow, packet.hash()) || is_inspected(flow) {
        return;
    }
    let stored = tables.with_request(|request| {
        let Ok((_, tcp)) = parse(packet, &mut request.key) else { return };
        if tcp.is_syn() {
            // The connection that had these ends may have been translated otherwise.
            end_up(tables, settings.seed, flow);
        }
        if !is_plain(packet) {
            return;
        }
        let key = &request.key;
        // The kernel changes the numbers of some connections (synproxy, helpers that change what they read).
        let same = key.destination == flow.destination
            && key.destination_port == flow.destination_port
            && (key.protocol, key.family) == (flow.protocol, flow.family)
            && (tcp.ack, tcp.end) == (proposal.flow.tcp_ack, proposal.flow.tcp_end);
        if !same {
            return;
        }
        let slot = family_slot(uplink, key.family());
        let leaving = leaving(packet, ingress_ifindex);
        // The route may be narrower than the interface.
        let mtu = match tables.uplink_mtu(uplink, key.family()) {
            0 => leaving.mtu,
            mtu => leaving.mtu.min(mtu.min(u16::MAX.into()) as u16),
        };
        let target = Target {
            address: key.source,
            port: key.source_port,
            mtu,
            fwmark: foreign(packet, settings) | MarkMask(settings.fwmark_mask).encode(uplink),
            slot,
            epoch: tables.epoch(slot),
            ..leaving
        };
        store(tables, settings.seed, Way::Up, flow, &flow.source, target, |_| {});
    });
    stored.unwrap_or_default();
}

/// Ends the shortcut from the LAN of a flow until it is answered again.
#[inline(always)]
fn end_up<T: Tables>(tables: &T, seed: Seed, flow: &FlowKey) {
    let tuple = Tuple::of(flow);
    let ended = tables.with_shortcut(Way::Up, hash(&tuple, flow.family(), seed), |shortcut| {
        if shortcut.tuple == tuple {
            shortcut.answered = 0;
        }
    });
    ended.unwrap_or_default();
}

/// Returns the mark of a packet that is about to leave to the LAN if it took a shortcut, and so is
/// counted: no other one from an uplink carries the proposal bit there. It is that of the answers that
/// the kernel forwards: a tunnel, or a filter of the administrator, sees no difference.
#[inline(always)]
pub fn taken_mark<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ingress_ifindex: u32,
) -> Option<u32> {
    let mask = tables.settings().map_or(0, |settings| settings.fwmark_mask);
    let fwmark = packet.fwmark();
    let taken = ingress_ifindex != 0 && fwmark & MarkMask(mask).proposal() != 0;
    taken.then_some(fwmark & !mask)
}

/// Stores the shortcut to the LAN of the flow of an answer, which is about to leave to the LAN as the
/// kernel has changed it; at most once a second, and when the other way was renewed.
#[inline(always)]
pub fn store_down<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    key: &FlowKey,
    ingress_ifindex: u32,
) {
    let Some(settings) = tables.settings() else { return };
    if settings.shortcuts == 0
        || settings.leaves_out() && tables.is_left_out(packet.ifindex())
        || !is_plain(packet)
    {
        return;
    }
    let now = tables.jiffies();
    let window = tables.window_jiffies();
    let lan = answer(key);
    let tuple = Tuple::of(&lan);
    let up = tables.with_shortcut(Way::Up, hash(&tuple, key.family(), settings.seed), |up| {
        let target = up.target.unpack::<true>();
        let is_renewed = now.wrapping_sub(up.renewed) < now.wrapping_sub(up.answered);
        if up.tuple != tuple
            || up.answered != 0 && now.wrapping_sub(up.answered) < window && !is_renewed
            || target.ifindex != ingress_ifindex
            || now.wrapping_sub(up.renewed) >= LIFE * window
        {
            return None;
        }
        up.answered = now.max(1);
        Some((target.address, target.port, target.slot, up.renewed))
    });
    let Some(Some((address, port, slot, renewed))) = up else { return };
    let Some((flow, _)) = tables.flow(&lan) else { return };
    if family_slot(flow.uplink, key.family()) != slot || !settings.takes_shortcuts(flow.uplink) {
        return;
    }
    let outside = FlowKey { destination: address, destination_port: port, ..*key };
    let target = Target {
        address: key.destination,
        port: key.destination_port,
        fwmark: foreign(packet, settings) | MarkMask(settings.fwmark_mask).propose(0, flow.uplink),
        slot,
        epoch: flow.epoch,
        ..leaving(packet, ingress_ifindex)
    };
    let kind = kind_of_answers(&flow);
    let (_, network) = network(key.family(), &key.source);
    store(tables, settings.seed, Way::Down, &outside, &address, target, |shortcut| {
        (shortcut.answer_kind, shortcut.network) = (kind, network as u32);
        // Where the answer came in is known from the other way alone: it lasts as long as that.
        shortcut.renewed = renewed;
    });
}

/// Returns the bits of others in the mark of a packet: the flow's next packets have them at the queue of
/// the interface, too.
#[inline(always)]
fn foreign<P: Packet>(packet: &P, settings: &Settings) -> u32 {
    packet.fwmark() & !settings.fwmark_mask
}

/// Returns where a packet that is about to leave goes.
#[inline(always)]
fn leaving<P: Packet>(packet: &P, ingress_ifindex: u32) -> Target {
    let mac = match packet.l3_ether_type() {
        Some(_) => [0; 6],
        None => packet.load(0).map_or([0; 6], |ethernet: EthernetHeader| ethernet.addresses),
    };
    let word = |at: usize| u32::from(mac[at]) | u32::from(mac[at + 1]) << 16;
    Target {
        mac: [word(0), word(2), word(4)],
        ingress_ifindex,
        ifindex: packet.ifindex(),
        mtu: packet.mtu().min(u16::MAX.into()) as u16,
        priority: packet.priority(),
        ..Target::default()
    }
}

/// Stores the shortcut of packets that come in with `key`, and have the address `before` that changes
/// to that of the target.
#[inline(always)]
fn store<T: Tables>(
    tables: &T,
    seed: Seed,
    way: Way,
    key: &FlowKey,
    before: &Address,
    target: Target,
    complete: impl FnOnce(&mut Shortcut),
) {
    let (tuple, change) = (Tuple::of(key), changed_sum(before, &target.address));
    let header_change = header_change(key.family(), change);
    let target = Target { address_change: change, header_change, ..target }.pack();
    let hash = hash(&tuple, key.family(), seed);
    let check = match key.family() {
        Family::Ipv4 => target.check::<false>(hash),
        Family::Ipv6 => target.check::<true>(hash),
    };
    let stored = tables.with_shortcut(way, hash, |shortcut| {
        if shortcut.tuple != tuple || shortcut.check != check {
            // SAFETY: a reference is valid for writes; volatile, since it is written again below.
            unsafe { (&raw mut shortcut.check).write_volatile(!check) };
            shortcut.tuple = tuple;
            shortcut.target = target;
            shortcut.answered = 0;
            // SAFETY: as above.
            unsafe { (&raw mut shortcut.check).write_volatile(check) };
        }
        let now = tables.jiffies();
        (shortcut.renewed, shortcut.sampled) = (now, now);
        complete(shortcut);
    });
    stored.unwrap_or_default();
}

/// Returns the hash of a tuple of a family.
#[inline(always)]
fn hash(tuple: &Tuple, family: Family, seed: Seed) -> u32 {
    match family {
        Family::Ipv4 => tuple.hash::<false>(seed),
        Family::Ipv6 => tuple.hash::<true>(seed),
    }
}

/// Returns the difference of the sums of an IP header with an address changed, and a TTL one lower: that is
/// the first byte of its word (RFC 791), the hop limit the second one of its own (RFC 8200).
#[inline(always)]
const fn header_change(family: Family, address_change: u16) -> u16 {
    let ttl = match family {
        Family::Ipv4 => u16::from_ne_bytes([1, 0]),
        Family::Ipv6 => u16::from_ne_bytes([0, 1]),
    };
    folded(address_change as u32 + !ttl as u32)
}

/// Returns the difference of the sums of two addresses, as the checksums of RFC 1071 have it; 0 only
/// if they are the same.
#[inline(always)]
pub fn changed_sum(before: &Address, after: &Address) -> u16 {
    let (mut sum, mut changed) = (0u64, 0);
    for (before, after) in before.iter().zip(after) {
        sum += u64::from(!before) + u64::from(*after);
        changed |= before ^ after;
    }
    if changed == 0 {
        return 0;
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    folded((sum & 0xffff) as u32 + (sum >> 16) as u32)
}

/// Returns a sum in 16 bits; 0 only for 0.
#[inline(always)]
const fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Returns a checksum after a change of what it is over (RFC 1624, equation 3).
#[inline(always)]
pub const fn adjusted(checksum: u16, change: u16) -> u16 {
    let sum = (!checksum) as u32 + change as u32;
    !((sum + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests;
