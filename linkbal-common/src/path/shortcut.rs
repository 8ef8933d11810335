//! Shortcuts of established flows, past the kernel's forwarding.
//!
//! ```text
//! up     LAN ingress: shortcut alive? -------------yes--> change, send out by the uplink
//!                                  | no, or the first packet of a second
//!                                  +-> conntrack, nft, routes, NAT -> uplink egress: store it
//!
//! down   uplink ingress: shortcut alive? ----------yes--> change, send out to the LAN
//!                                  | no, or the first packet of a second
//!                                  +-> NAT, conntrack, nft, routes -> LAN egress: store it
//! ```
//!
//! A shortcut changes a packet as the kernel changed an earlier one of the flow, which is seen when it
//! leaves. One packet a second and way is left to the kernel: it keeps the tracked
//! connection alive, passes the administrator's firewall, and renews the shortcut. A connection that
//! the kernel would not forward any more loses its shortcut within [`LIFE_S`] seconds.

use network_types::{eth::EtherType, ip::IpProto};

pub use crate::maps::shortcut::{
    LIFE_S, SHORTCUTS, Shortcut, ShortcutCounters, Target, Way, counted, hash, slot,
};
use crate::{
    maps::{
        counter::network,
        flow::{Address, FlowKey, INBOUND, Proposal},
        uplink::{Family, epoch_index},
    },
    mark::MarkMask,
    packet::{
        EthernetHeader, Ipv4Header, Ipv6Header, Packet, Ports, TcpHeader,
        parse::{Tcp, parse},
    },
    path::{
        egress::{SETTLED_MS, answer, lasted_ms},
        session::is_current,
        tables::{SHARED, Tables},
    },
};

/// Ports of flows that are read: DNS, by the datapath itself, and control connections for which the
/// kernel has helpers: FTP, TFTP, H.323, PPTP, SIP, SANE, IRC, Amanda (net/netfilter/nf_conntrack_*.c).
const HELPED: [u16; 10] = [21, 53, 69, 1720, 1723, 5060, 5061, 6566, 6667, 10_080];

/// The changes to a packet that takes a shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Family of the addresses.
    pub family: Family,
    /// Set for UDP; TCP otherwise.
    pub udp: bool,
    /// New source port (up) or destination port (down), network byte order.
    pub port: u16,
    /// New source (up) or destination (down).
    pub address: Address,
    /// Destination and source of the link-layer header; zero without one.
    pub mac: [u16; 6],
    /// Index of the interface to leave by.
    pub ifindex: u32,
}

/// Returns the EtherType of a family, in network byte order.
#[inline(always)]
pub const fn ether_type(family: Family) -> u16 {
    match family {
        Family::Ipv4 => EtherType::Ipv4 as u16,
        Family::Ipv6 => EtherType::Ipv6 as u16,
    }
}

/// Returns whether the packets of a flow are read, so that they take no shortcut.
#[inline(always)]
fn is_helped(key: &FlowKey) -> bool {
    let helped = |port: u16| HELPED.iter().any(|helped| helped.to_be() == port);
    helped(key.destination_port) || helped(key.source_port)
}

/// A packet that takes a shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The fwmark that the packet gets: that of its uplink; of an answer, with the proposal bit, which
    /// tells the program at the egress to the LAN that nothing is to be done.
    pub fwmark: u32,
    /// The changes.
    pub rewrite: Rewrite,
}

/// Returns what becomes of a packet that comes in from the LAN (`UP`) or from an uplink, if it takes a
/// shortcut, and counts it.
#[inline(always)]
pub fn take<const UP: bool, const V6: bool, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
) -> Option<Taken> {
    let way = if UP { Way::Up } else { Way::Down };
    let family = if V6 { Family::Ipv6 } else { Family::Ipv4 };
    let settings = tables.settings()?;
    let mask = MarkMask(settings.fwmark_mask);
    if settings.shortcuts == 0 || packet.fwmark() & mask.0 != 0 || packet.vlan() != 0 {
        return None;
    }
    let offset = network_offset(packet);
    let key = if V6 { plain_ipv6(packet, offset)? } else { plain_ipv4(packet, offset)? };
    let now_s = tables.now_s();
    let hash = hash(settings.seed, &key);
    let found = tables.with_shortcut(way, hash, |shortcut| {
        if !is_same::<V6>(&shortcut.key, &key) {
            return None;
        }
        if shortcut.sampled_s != now_s {
            shortcut.sampled_s = now_s;
            return None;
        }
        // The other way is known, too.
        if now_s.wrapping_sub(shortcut.renewed_s) >= LIFE_S || UP && shortcut.answered_s == 0 {
            return None;
        }
        let mut target = shortcut.target;
        if !V6 {
            (target.address[1], target.address[2], target.address[3]) = (0, 0, 0);
        }
        let whole = target.check(family, hash) == shortcut.check;
        whole.then_some((target, shortcut.counted))
    });
    let (target, counted) = found??;
    let uplink = target.uplink;
    let lives = settings.takes_shortcuts(uplink)
        && tables.up_mask().contains(uplink, family)
        && is_current(tables, uplink, family, target.epoch);
    if !lives
        || target.ingress_ifindex != packet.ifindex()
        || !fits(packet, family, key.protocol, target.mtu)
    {
        return None;
    }
    let answers = (way == Way::Down).then_some((counted, network(family, &key.source)));
    tables.count_shortcut(uplink, packet.length(), answers);
    let fwmark = match way {
        Way::Up => mask.replace(packet.fwmark(), uplink),
        Way::Down => mask.propose(packet.fwmark(), uplink),
    };
    let Target { address, port, mac, ifindex, .. } = target;
    let udp = key.protocol == IpProto::Udp as u8;
    Some(Taken { fwmark, rewrite: Rewrite { family, udp, port, address, mac, ifindex } })
}

/// Returns whether two tuples of a family are the same.
#[inline(always)]
fn is_same<const V6: bool>(a: &FlowKey, b: &FlowKey) -> bool {
    if V6 {
        return a.is(b);
    }
    let ends = (a.source[0] ^ b.source[0]) | (a.destination[0] ^ b.destination[0]);
    let ports = (a.source_port ^ b.source_port) | (a.destination_port ^ b.destination_port);
    let kind = (a.protocol ^ b.protocol) | (a.family ^ b.family);
    ends | u32::from(ports) | u32::from(kind) == 0
}

/// Returns the EtherType of a packet, in network byte order, and the offset of what follows.
#[inline(always)]
fn link_layer<P: Packet>(packet: &P) -> Option<(u16, u32)> {
    match packet.l3_ether_type() {
        Some(ether_type) => Some((ether_type, 0)),
        None => {
            let ethernet: EthernetHeader = packet.load(0)?;
            Some((ethernet.ether_type, size_of::<EthernetHeader>() as u32))
        }
    }
}

/// Returns the tuple of an IPv4 packet that may take a shortcut.
#[inline(always)]
fn plain_ipv4<P: Packet>(packet: &P, network: u32) -> Option<FlowKey> {
    let header: Ipv4Header = packet.load(network)?;
    let whole = u16::from_be(header.fragment) & 0x3fff == 0;
    if header.version_ihl != 0x45 || !whole || header.ttl <= 1 {
        return None;
    }
    let ports = plain_ports(packet, header.protocol, network + ip_header(Family::Ipv4))?;
    Some(FlowKey {
        source: [header.source, 0, 0, 0],
        destination: [header.destination, 0, 0, 0],
        source_port: ports.source,
        destination_port: ports.destination,
        protocol: header.protocol,
        family: Family::Ipv4 as u8,
        reserved: 0,
    })
}

/// Returns the tuple of an IPv6 packet that may take a shortcut.
#[inline(always)]
fn plain_ipv6<P: Packet>(packet: &P, network: u32) -> Option<FlowKey> {
    let header: Ipv6Header = packet.load(network)?;
    if header.hop_limit <= 1 {
        return None;
    }
    let ports = plain_ports(packet, header.next_header, network + ip_header(Family::Ipv6))?;
    Some(FlowKey {
        source: header.source,
        destination: header.destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol: header.next_header,
        family: Family::Ipv6 as u8,
        reserved: 0,
    })
}

/// Returns the ports of a packet that may take a shortcut: UDP, or TCP but for the packets that open
/// or end a connection.
#[inline(always)]
fn plain_ports<P: Packet>(packet: &P, protocol: u8, transport: u32) -> Option<Ports> {
    if protocol == IpProto::Tcp as u8 {
        let tcp: TcpHeader = packet.load(transport + size_of::<Ports>() as u32)?;
        if (Tcp { flags: tcp.flags, ack: 0, end: 0 }).opens_or_ends() {
            return None;
        }
    } else if protocol != IpProto::Udp as u8 {
        return None;
    }
    packet.load(transport)
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

/// Returns the length of an IP header without options or extensions.
#[inline(always)]
const fn ip_header(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    }
}

/// Returns the offset of the IP header in a plain packet.
#[inline(always)]
fn network_offset<P: Packet>(packet: &P) -> u32 {
    if packet.l3_ether_type().is_some() { 0 } else { size_of::<EthernetHeader>() as u32 }
}

/// Returns whether a plain packet, or each segment that it is to be cut into, is no larger than the
/// MTU.
#[inline(always)]
fn fits<P: Packet>(packet: &P, family: Family, protocol: u8, mtu: u32) -> bool {
    let network = network_offset(packet);
    if packet.length() <= network + mtu {
        return true;
    }
    let segment = packet.gso_size();
    if segment == 0 {
        return false;
    }
    let header = ip_header(family);
    let transport = if protocol == IpProto::Tcp as u8 {
        let offset = network + header + size_of::<Ports>() as u32;
        let Some(tcp) = packet.load::<TcpHeader>(offset) else { return false };
        u32::from(tcp.length >> 4) * 4
    } else {
        size_of::<[u16; 4]>() as u32
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
    if !settings.takes_shortcuts(uplink) || !is_plain(packet) {
        return;
    }
    let Some(proposal) = tables.proposal(packet.hash()) else { return };
    let flow = &proposal.key;
    if proposal.check != Proposal::check(flow, packet.hash()) || is_helped(flow) {
        return;
    }
    let stored = tables.with_request(|request| {
        if parse(packet, &mut request.key).is_err() {
            return;
        }
        let key = &request.key;
        let same = key.destination == flow.destination
            && key.destination_port == flow.destination_port
            && (key.protocol, key.family) == (flow.protocol, flow.family);
        if !same {
            return;
        }
        let target = Target {
            address: key.source,
            port: key.source_port,
            epoch: tables.epoch(epoch_index(uplink, key.family())),
            ..leaving(packet, uplink, ingress_ifindex)
        };
        store(tables, Way::Up, hash(settings.seed, flow), flow, target, |_| {});
    });
    stored.unwrap_or_default();
}

/// Returns whether a packet that is about to leave to the LAN took a shortcut, and is counted: no other
/// one from an uplink carries the proposal bit there.
#[inline(always)]
pub fn is_taken<P: Packet, T: Tables>(packet: &P, tables: &T, ingress_ifindex: u32) -> bool {
    let mask = tables.settings().map_or(0, |settings| settings.fwmark_mask);
    ingress_ifindex != 0 && packet.fwmark() & MarkMask(mask).proposal() != 0
}

/// Stores the shortcut to the LAN of the flow of an answer, which is about to leave to the LAN as the
/// kernel has changed it; at most once a second.
#[inline(always)]
pub fn store_down<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    key: &FlowKey,
    ingress_ifindex: u32,
) {
    let Some(settings) = tables.settings() else { return };
    if !is_plain(packet) {
        return;
    }
    let now_s = tables.now_s();
    let lan = answer(key);
    let up_hash = hash(settings.seed, &lan);
    let up = tables.with_shortcut(Way::Up, up_hash, |up| {
        if !up.key.is(&lan)
            || up.answered_s == now_s
            || up.target.ifindex != ingress_ifindex
            || now_s.wrapping_sub(up.renewed_s) >= LIFE_S
        {
            return None;
        }
        up.answered_s = now_s;
        Some((up.target.address, up.target.port, up.target.uplink))
    });
    let Some(Some((address, port, uplink))) = up else { return };
    let Some((flow, _)) = tables.flow(&lan) else { return };
    if flow.uplink != uplink || !settings.takes_shortcuts(uplink) {
        return;
    }
    let outside = FlowKey { destination: address, destination_port: port, ..*key };
    let target = Target {
        address: key.destination,
        port: key.destination_port,
        epoch: flow.epoch,
        ..leaving(packet, uplink, ingress_ifindex)
    };
    let counted = if flow.sticky_class == INBOUND {
        counted::NOT
    } else if lasted_ms(&flow) >= SETTLED_MS {
        counted::SETTLED
    } else {
        counted::ANSWER
    };
    store(tables, Way::Down, hash(settings.seed, &outside), &outside, target, |shortcut| {
        shortcut.counted = counted;
    });
}

/// Returns where a packet that is about to leave goes.
#[inline(always)]
fn leaving<P: Packet>(packet: &P, uplink: u32, ingress_ifindex: u32) -> Target {
    let mac = match packet.l3_ether_type() {
        Some(_) => [0; 6],
        None => packet.load(0).map_or([0; 6], |ethernet: EthernetHeader| ethernet.addresses),
    };
    let ifindex = packet.ifindex();
    Target { mac, ingress_ifindex, ifindex, mtu: packet.mtu(), uplink, ..Target::default() }
}

#[inline(always)]
fn store<T: Tables>(
    tables: &T,
    way: Way,
    hash: u32,
    key: &FlowKey,
    target: Target,
    complete: impl FnOnce(&mut Shortcut),
) {
    let check = target.check(key.family(), hash);
    let stored = tables.with_shortcut(way, hash, |shortcut| {
        if !shortcut.key.is(key) || shortcut.check != check {
            shortcut.check = !check;
            shortcut.key.set(key);
            shortcut.target = target;
            (shortcut.check, shortcut.answered_s) = (check, 0);
        }
        let now_s = tables.now_s();
        (shortcut.renewed_s, shortcut.sampled_s) = (now_s, now_s);
        complete(shortcut);
    });
    stored.unwrap_or_default();
}

/// Returns the difference of the sums of two addresses, as the checksums of RFC 1071 have it; 0 only
/// if they are the same.
#[inline(always)]
pub fn changed_sum<const WORDS: usize>(before: &[u32; WORDS], after: &[u32; WORDS]) -> u32 {
    let (mut sum, mut changed) = (0u64, 0);
    for (before, after) in before.iter().zip(after) {
        sum += u64::from(!before) + u64::from(*after);
        changed |= before ^ after;
    }
    if changed == 0 {
        return 0;
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Returns a checksum after a change of what it is over (RFC 1624, equation 3).
#[inline(always)]
pub const fn adjusted(checksum: u16, changed: u32) -> u16 {
    let sum = (!checksum) as u64 + changed as u64;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests;
