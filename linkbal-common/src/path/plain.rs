//! Packets that are plain enough for the short ways of established flows: UDP, or TCP but for what opens or
//! ends a connection, without IP options, extension headers or fragmentation.

use network_types::ip::IpProto;

use crate::{
    maps::{shortcut::Tuple, uplink::Family},
    packet::{ETHERNET_LENGTH, Packet, PlainIpv4, PlainIpv6, Ports, TcpHeader, parse::Tcp},
};

/// Returns the offset of the IP header in a plain packet.
#[inline(always)]
pub(super) fn network_offset<P: Packet>(packet: &P) -> u32 {
    if packet.l3_ether_type().is_some() { 0 } else { ETHERNET_LENGTH as u32 }
}

/// Returns the tuple of an IPv4 packet that is plain, and not at the end of its TTL.
#[inline(always)]
pub(super) fn plain_ipv4<P: Packet>(packet: &P, network: u32) -> Option<Tuple> {
    let PlainIpv4 { ip, ports } = packet.load_linear(network)?;
    let whole = ip.fragment & u16::to_be(0x3fff) == 0;
    if ip.version_ihl != 0x45 || !whole || ip.ttl <= 1 {
        return None;
    }
    is_plain_transport(packet, ip.protocol, network + ip_header(Family::Ipv4)).then_some(Tuple {
        source: [ip.source, 0, 0, 0],
        destination: [ip.destination, 0, 0, 0],
        kind: Tuple::kind(ports, ip.protocol, Family::Ipv4),
    })
}

/// Returns the tuple of an IPv6 packet that is plain, and not at the end of its TTL.
#[inline(always)]
pub(super) fn plain_ipv6<P: Packet>(packet: &P, network: u32) -> Option<Tuple> {
    let PlainIpv6 { ip, ports } = packet.load_linear(network)?;
    if ip.hop_limit <= 1 {
        return None;
    }
    let transport = network + ip_header(Family::Ipv6);
    is_plain_transport(packet, ip.next_header, transport).then_some(Tuple {
        source: ip.source,
        destination: ip.destination,
        kind: Tuple::kind(ports, ip.next_header, Family::Ipv6),
    })
}

/// Returns whether the transport of a packet is plain: UDP, or TCP but for the packets that open or end a
/// connection.
#[inline(always)]
fn is_plain_transport<P: Packet>(packet: &P, protocol: u8, transport: u32) -> bool {
    if protocol == IpProto::Udp as u8 {
        return true;
    }
    let offset = transport + size_of::<Ports>() as u32;
    protocol == IpProto::Tcp as u8
        && packet
            .load_linear(offset)
            .is_some_and(|tcp: TcpHeader| !Tcp { flags: tcp.flags, ack: 0, end: 0 }.opens_or_ends())
}

/// Returns the length of an IP header without options or extensions.
#[inline(always)]
pub(super) const fn ip_header(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    }
}
