//! From a packet to the key of its flow.

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    flow::{Address, FlowKey},
    packet::{EchoHeader, EthernetHeader, Ipv4Header, Ipv6Header, Packet, Ports},
    uplink::Family,
    verdict::Reason,
};

const ETHERNET_LENGTH: u32 = size_of::<EthernetHeader>() as u32;
const IPV6_LENGTH: u32 = size_of::<Ipv6Header>() as u32;
const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_ECHO_REQUEST: u8 = 8;
const ICMPV6_ECHO_REQUEST: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// Reads the headers of a packet.
///
/// # Errors
///
/// The reason to leave the packet alone: it is not IP, cut short, a later fragment, or goes to or
/// comes from an address that is never routed to an uplink.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<FlowKey, Reason> {
    let ethernet: EthernetHeader = packet.load(0).ok_or(Reason::Malformed)?;
    if ethernet.ether_type == EtherType::Ipv4 as u16 {
        parse_ipv4(packet)
    } else if ethernet.ether_type == EtherType::Ipv6 as u16 {
        parse_ipv6(packet)
    } else {
        Err(Reason::NotIp)
    }
}

#[inline(always)]
fn parse_ipv4<P: Packet>(packet: &P) -> Result<FlowKey, Reason> {
    let header: Ipv4Header = packet.load(ETHERNET_LENGTH).ok_or(Reason::Malformed)?;
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    let total_length = u32::from(u16::from_be(header.total_length));
    if header.version_ihl >> 4 != 4 || header_length < 20 || total_length < header_length {
        return Err(Reason::Malformed);
    }
    if packet.length() < ETHERNET_LENGTH + header_length {
        return Err(Reason::Malformed);
    }
    ipv4_routable(header.source, header.destination)?;
    if u16::from_be(header.fragment) & 0x1fff != 0 {
        return Err(Reason::Fragment);
    }
    let key = FlowKey {
        source: [header.source, 0, 0, 0],
        destination: [header.destination, 0, 0, 0],
        protocol: header.protocol,
        family: Family::Ipv4 as u8,
        ..FlowKey::default()
    };
    let end = ETHERNET_LENGTH + total_length;
    with_ports(packet, key, ETHERNET_LENGTH + header_length, end)
}

#[inline(always)]
fn parse_ipv6<P: Packet>(packet: &P) -> Result<FlowKey, Reason> {
    let header: Ipv6Header = packet.load(ETHERNET_LENGTH).ok_or(Reason::Malformed)?;
    if u32::from_be(header.version_class_label) >> 28 != 6 {
        return Err(Reason::Malformed);
    }
    ipv6_routable(&header.source, &header.destination)?;
    let key = FlowKey {
        source: header.source,
        destination: header.destination,
        protocol: header.next_header,
        family: Family::Ipv6 as u8,
        ..FlowKey::default()
    };
    let start = ETHERNET_LENGTH + IPV6_LENGTH;
    // A payload length of zero announces a jumbogram (RFC 2675), whose length is elsewhere.
    let payload_length = u32::from(u16::from_be(header.payload_length));
    let end = if payload_length == 0 { packet.length() } else { start + payload_length };
    with_ports(packet, key, start, end)
}

/// Completes a key from the transport header at `offset`; the packet says it ends at `end`.
#[inline(always)]
fn with_ports<P: Packet>(
    packet: &P,
    key: FlowKey,
    offset: u32,
    end: u32,
) -> Result<FlowKey, Reason> {
    let fits = |length: usize| end >= offset + length as u32;
    if key.protocol == IpProto::Tcp as u8 || key.protocol == IpProto::Udp as u8 {
        if !fits(size_of::<Ports>()) {
            return Err(Reason::Malformed);
        }
        let ports: Ports = packet.load(offset).ok_or(Reason::Malformed)?;
        Ok(FlowKey { source_port: ports.source, destination_port: ports.destination, ..key })
    } else if is_icmp(&key) {
        if !fits(size_of::<EchoHeader>()) {
            return Err(Reason::Malformed);
        }
        let echo: EchoHeader = packet.load(offset).ok_or(Reason::Malformed)?;
        Ok(if is_echo(&key, echo.kind) { FlowKey { source_port: echo.id, ..key } } else { key })
    } else {
        Ok(key)
    }
}

#[inline(always)]
const fn is_icmp(key: &FlowKey) -> bool {
    match key.family() {
        Family::Ipv4 => key.protocol == IpProto::Icmp as u8,
        Family::Ipv6 => key.protocol == IpProto::Ipv6Icmp as u8,
    }
}

#[inline(always)]
const fn is_echo(key: &FlowKey, kind: u8) -> bool {
    match key.family() {
        Family::Ipv4 => kind == ICMP_ECHO_REQUEST || kind == ICMP_ECHO_REPLY,
        Family::Ipv6 => kind == ICMPV6_ECHO_REQUEST || kind == ICMPV6_ECHO_REPLY,
    }
}

/// Refuses what never leaves by an uplink: RFC 1122 section 3.2.1.3, RFC 3927, RFC 5771.
#[inline(always)]
fn ipv4_routable(source: u32, destination: u32) -> Result<(), Reason> {
    let destination = u32::from_be(destination);
    if destination >> 28 == 0xe || destination == u32::MAX {
        return Err(Reason::Multicast);
    }
    let local = |address: u32| {
        let first = address >> 24;
        first == 127 || first == 0 || address >> 16 == 0xa9fe
    };
    if local(destination) || local(u32::from_be(source)) {
        return Err(Reason::LinkLocal);
    }
    Ok(())
}

/// Refuses what never leaves by an uplink: RFC 4291 sections 2.5 and 2.7.
#[inline(always)]
fn ipv6_routable(source: &Address, destination: &Address) -> Result<(), Reason> {
    if u32::from_be(destination[0]) >> 24 == 0xff {
        return Err(Reason::Multicast);
    }
    let local = |address: &Address| {
        let loopback_or_unspecified =
            address[0] | address[1] | address[2] == 0 && u32::from_be(address[3]) <= 1;
        u32::from_be(address[0]) >> 22 == 0xfe80 >> 6 || loopback_or_unspecified
    };
    if local(destination) || local(source) {
        return Err(Reason::LinkLocal);
    }
    Ok(())
}
