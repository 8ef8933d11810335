//! The parser, from a packet to the key of its flow.
//!
//! ```text
//! Ethernet -> up to two VLAN tags -> PPPoE -> IPv4 with options ----> TCP, UDP, SCTP: ports
//!                                          -> IPv6 with extensions -> ICMP echo: identifier
//!                                                                  -> ICMP error: inner flow
//!                                                                  -> other: protocol alone
//! ```

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    maps::{
        flow::{Address, FlowKey},
        uplink::Family,
    },
    packet::{
        EthernetHeader, Ipv4Header, Ipv6Header, Packet, Ports, PppoeHeader, TcpHeader, VlanTag,
        extension::transport, has_ports, icmp,
    },
    path::verdict::SkipReason,
};

const VLAN_TAGS: usize = 2;

/// The bits of a tag's control word that are the VLAN.
pub const VLAN_BITS: u16 = 0xfff;

/// EtherType of PPPoE session frames (RFC 2516 section 4), network byte order.
const PPPOE_SESSION: u16 = 0x8864u16.to_be();
const PPPOE_VERSION_TYPE: u8 = 0x11;
const PPPOE_SESSION_DATA: u8 = 0;
/// PPP protocol numbers (RFC 1332, RFC 5072).
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// Length of a UDP header (RFC 768).
const UDP_HEADER: u32 = 8;

/// Reads the headers of a packet, and sets the key of its flow.
///
/// # Errors
///
/// The reason to leave the packet alone: it is not IP, cut short, a later fragment, or goes to or
/// comes from an address that is never routed to an uplink.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, key: &mut FlowKey) -> Result<(Extra, Tcp), SkipReason> {
    let network = network(packet)?;
    let (dscp, tcp) = match network.family {
        Family::Ipv4 => parse_ipv4(packet, key, network.offset)?,
        Family::Ipv6 => parse_ipv6(packet, key, network.offset)?,
    };
    Ok((Extra { vlan: network.vlan, dscp }, tcp))
}

/// Properties of a packet that rules may match, beside its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Outermost VLAN, or 0.
    pub vlan: u16,
    /// DSCP (RFC 2474), 0 to 63.
    pub dscp: u8,
}

/// The state of a TCP connection in a packet (RFC 9293 section 3.1); all zero for packets of
/// anything else, but for ICMP errors (see [`Tcp::is_quoted`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Control bits.
    pub flags: u8,
    /// Acknowledgment number.
    pub ack: u32,
    /// Sequence number behind the packet.
    pub end: u32,
}

impl Tcp {
    const FIN: u8 = 0x01;
    /// Control bit of the first packet of a connection.
    pub const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    /// Control bit of every other packet.
    pub const ACK: u8 = 0x10;
    /// Value for an ICMP error whose key is that of the flow that it quotes. Valid TCP packets have
    /// at least one control bit. A field of its own would need stack, which is scarce.
    const QUOTED: Tcp = Tcp { flags: 0, ack: u32::MAX, end: 0 };

    /// Returns whether the packet is an ICMP error that quotes the flow: its sender may be any
    /// host.
    #[inline(always)]
    pub const fn is_quoted(&self) -> bool {
        self.flags == 0 && self.ack == Self::QUOTED.ack
    }

    /// Returns whether the packet begins a connection.
    #[inline(always)]
    pub const fn is_connect(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Returns whether the packet is the answer to the beginning of a connection.
    #[inline(always)]
    pub const fn is_accept(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    /// Returns whether the packet is one of the first two of a connection, which tell the MSS.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        self.flags & (Self::SYN | Self::RST) == Self::SYN
    }

    /// Returns whether the packet ends a connection at once.
    #[inline(always)]
    pub const fn is_reset(&self) -> bool {
        self.flags & Self::RST != 0
    }

    /// Returns whether the sender closes the connection.
    #[inline(always)]
    pub const fn is_close(&self) -> bool {
        self.flags & (Self::FIN | Self::RST) != 0
    }

    /// Returns whether the packet opens, closes or ends a connection.
    #[inline(always)]
    pub const fn opens_or_ends(&self) -> bool {
        self.flags & (Self::SYN | Self::FIN | Self::RST) != 0
    }

    /// Returns whether the packet belongs to a connection that exists.
    #[inline(always)]
    pub const fn is_established(&self) -> bool {
        self.flags & (Self::SYN | Self::RST | Self::ACK) == Self::ACK
    }

    /// Reads the TCP header at `offset` of a packet that ends at `end`, as the packet itself says.
    #[inline(always)]
    fn read<P: Packet>(packet: &P, offset: u32, end: u32) -> Tcp {
        let Some(header) = packet.load::<TcpHeader>(offset + size_of::<Ports>() as u32) else {
            return Tcp::default();
        };
        let payload = end.saturating_sub(offset + u32::from(header.length >> 4) * 4);
        let flags = header.flags;
        let controls = u32::from(flags & Self::SYN != 0) + u32::from(flags & Self::FIN != 0);
        let sequence = u32::from_be(header.sequence);
        Tcp {
            flags,
            ack: u32::from_be(header.ack),
            end: sequence.wrapping_add(payload).wrapping_add(controls),
        }
    }
}

/// The offset and the version of the IP header, and the VLAN of the packet.
struct Network {
    family: Family,
    offset: u32,
    vlan: u16,
}

#[inline(always)]
fn network<P: Packet>(packet: &P) -> Result<Network, SkipReason> {
    let (mut ether_type, mut offset) = match packet.l3_ether_type() {
        Some(ether_type) => (ether_type, 0),
        None => {
            let ethernet: EthernetHeader = packet.load(0).ok_or(SkipReason::Malformed)?;
            (ethernet.ether_type, size_of::<EthernetHeader>() as u32)
        }
    };
    let mut vlan = packet.vlan();
    if is_vlan(ether_type) {
        for _ in 0..VLAN_TAGS {
            if is_vlan(ether_type) {
                let tag: VlanTag = packet.load_cold(offset).ok_or(SkipReason::Malformed)?;
                ether_type = tag.ether_type;
                if vlan == 0 {
                    vlan = u16::from_be(tag.control) & VLAN_BITS;
                }
                offset += size_of::<VlanTag>() as u32;
            }
        }
        offset = packet.opaque(offset);
    }
    let (family, offset) = if ether_type == EtherType::Ipv4 as u16 {
        (Family::Ipv4, offset)
    } else if ether_type == EtherType::Ipv6 as u16 {
        (Family::Ipv6, offset)
    } else if ether_type == PPPOE_SESSION {
        pppoe(packet, offset)?
    } else {
        return Err(SkipReason::NotIp);
    };
    Ok(Network { family, offset, vlan })
}

#[inline(always)]
const fn is_vlan(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16 || ether_type == EtherType::Ieee8021ad as u16
}

#[inline(always)]
fn pppoe<P: Packet>(packet: &P, offset: u32) -> Result<(Family, u32), SkipReason> {
    let header: PppoeHeader = packet.load_cold(offset).ok_or(SkipReason::Malformed)?;
    if header.version_type != PPPOE_VERSION_TYPE || header.code != PPPOE_SESSION_DATA {
        return Err(SkipReason::NotIp);
    }
    let offset = packet.opaque(offset + size_of::<PppoeHeader>() as u32);
    match u16::from_be(header.protocol) {
        PPP_IPV4 => Ok((Family::Ipv4, offset)),
        PPP_IPV6 => Ok((Family::Ipv6, offset)),
        _ => Err(SkipReason::NotIp),
    }
}

#[inline(always)]
fn parse_ipv4<P: Packet>(
    packet: &P,
    key: &mut FlowKey,
    start: u32,
) -> Result<(u8, Tcp), SkipReason> {
    let header: Ipv4Header = packet.load(start).ok_or(SkipReason::Malformed)?;
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    // A length of zero is that of a packet of more than 64 KiB, as GRO may make one (Linux 6.3).
    let total_length = match u32::from(u16::from_be(header.total_length)) {
        0 => packet.length().saturating_sub(start),
        length => length,
    };
    if header.version_ihl >> 4 != 4 || header_length < 20 || total_length < header_length {
        return Err(SkipReason::Malformed);
    }
    if packet.length() < start + header_length {
        return Err(SkipReason::Malformed);
    }
    ipv4_routable(header.source, header.destination)?;
    if u16::from_be(header.fragment) & 0x1fff != 0 {
        return Err(SkipReason::Fragment);
    }
    let ends = FlowKey {
        source: [header.source, 0, 0, 0],
        destination: [header.destination, 0, 0, 0],
        protocol: header.protocol,
        family: Family::Ipv4 as u8,
        ..FlowKey::default()
    };
    let tcp = complete(packet, key, &ends, start + header_length, start + total_length)?;
    Ok((header.tos >> 2, tcp))
}

#[inline(always)]
fn parse_ipv6<P: Packet>(
    packet: &P,
    key: &mut FlowKey,
    start: u32,
) -> Result<(u8, Tcp), SkipReason> {
    let header: Ipv6Header = packet.load(start).ok_or(SkipReason::Malformed)?;
    if u32::from_be(header.version_class_label) >> 28 != 6 {
        return Err(SkipReason::Malformed);
    }
    ipv6_routable(&header.source, &header.destination)?;
    let payload = start + size_of::<Ipv6Header>() as u32;
    let (protocol, offset) = transport(packet, header.next_header, payload)?;
    let ends = FlowKey {
        source: header.source,
        destination: header.destination,
        protocol,
        family: Family::Ipv6 as u8,
        ..FlowKey::default()
    };
    // A payload length of zero announces a jumbogram (RFC 2675), whose length is elsewhere.
    let payload_length = u32::from(u16::from_be(header.payload_length));
    let end = if payload_length == 0 { packet.length() } else { payload + payload_length };
    let tcp = complete(packet, key, &ends, offset, end)?;
    Ok(((u32::from_be(header.version_class_label) >> 22) as u8 & 0x3f, tcp))
}

/// A UDP datagram from and to any address.
#[derive(Clone, Copy)]
pub(crate) struct Datagram {
    pub(crate) family: Family,
    /// Offset of the IP header.
    pub(crate) network: u32,
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// Source port, in network byte order.
    pub(crate) source_port: u16,
    /// Destination port, in network byte order.
    pub(crate) destination_port: u16,
    /// Offset of the payload.
    pub(crate) payload: u32,
}

/// Returns the datagram that a packet holds, or whose first fragment it is.
#[inline(always)]
pub(crate) fn datagram<P: Packet>(packet: &P) -> Option<Datagram> {
    let Network { family, offset: network, .. } = network(packet).ok()?;
    let (source, destination, offset) = payload(packet, family, network, IpProto::Udp)?;
    let ports: Ports = packet.load(offset)?;
    Some(Datagram {
        family,
        network,
        source,
        destination,
        source_port: ports.source,
        destination_port: ports.destination,
        payload: offset + UDP_HEADER,
    })
}

/// Returns the family of the TCP segment that a packet holds, and the offset of its header.
#[inline(always)]
pub(crate) fn segment<P: Packet>(packet: &P) -> Option<(Family, u32)> {
    let Network { family, offset, .. } = network(packet).ok()?;
    let (_, _, offset) = payload(packet, family, offset, IpProto::Tcp)?;
    Some((family, offset))
}

/// Returns source and destination of a packet whose IP header is at `offset`, and the offset of
/// its payload, if that is of this protocol and begins with its header.
#[inline(always)]
fn payload<P: Packet>(
    packet: &P,
    family: Family,
    offset: u32,
    wanted: IpProto,
) -> Option<(Address, Address, u32)> {
    let (source, destination, protocol, offset) = match family {
        Family::Ipv4 => {
            let header: Ipv4Header = packet.load(offset)?;
            let later_fragment = u16::from_be(header.fragment) & 0x1fff != 0;
            let protocol = if later_fragment { 0 } else { header.protocol };
            let end = offset + u32::from(header.version_ihl & 0xf) * 4;
            ([header.source, 0, 0, 0], [header.destination, 0, 0, 0], protocol, end)
        }
        Family::Ipv6 => {
            let header: Ipv6Header = packet.load(offset)?;
            let start = offset + size_of::<Ipv6Header>() as u32;
            let (protocol, end) = transport(packet, header.next_header, start).ok()?;
            (header.source, header.destination, protocol, end)
        }
    };
    (protocol == wanted as u8).then(|| (source, destination, packet.opaque(offset)))
}

/// Sets the key of a flow from its ends and the transport header at `offset`, of a packet that ends
/// at `end`, as the packet itself says.
#[inline(always)]
fn complete<P: Packet>(
    packet: &P,
    key: &mut FlowKey,
    ends: &FlowKey,
    offset: u32,
    end: u32,
) -> Result<Tcp, SkipReason> {
    if has_ports(ends.protocol) {
        if end < offset + size_of::<Ports>() as u32 {
            return Err(SkipReason::Malformed);
        }
        let ports: Ports = packet.load(offset).ok_or(SkipReason::Malformed)?;
        let (source_port, destination_port) = (ports.source, ports.destination);
        key.set(&FlowKey { source_port, destination_port, ..*ends });
        if ends.protocol == IpProto::Tcp as u8 {
            return Ok(Tcp::read(packet, offset, end));
        }
    } else if icmp::is_icmp(ends) {
        if icmp::complete(packet, key, ends, offset, end)? {
            return Ok(Tcp::QUOTED);
        }
    } else {
        key.set(ends);
    }
    Ok(Tcp::default())
}

/// Refuses packets that never leave by an uplink: RFC 1122 section 3.2.1.3, RFC 3927, RFC 5771.
#[inline(always)]
pub(crate) fn ipv4_routable(source: u32, destination: u32) -> Result<(), SkipReason> {
    let destination = u32::from_be(destination);
    if destination >> 28 == 0xe || destination == u32::MAX {
        return Err(SkipReason::Multicast);
    }
    let local = |address: u32| {
        let first = address >> 24;
        first == 127 || first == 0 || address >> 16 == 0xa9fe
    };
    if local(destination) || local(u32::from_be(source)) {
        return Err(SkipReason::LinkLocal);
    }
    Ok(())
}

/// Refuses packets that never leave by an uplink: RFC 4291 sections 2.5 and 2.7.
#[inline(always)]
pub(crate) fn ipv6_routable(source: &Address, destination: &Address) -> Result<(), SkipReason> {
    if u32::from_be(destination[0]) >> 24 == 0xff {
        return Err(SkipReason::Multicast);
    }
    let local = |address: &Address| {
        let loopback_or_unspecified =
            address[0] | address[1] | address[2] == 0 && u32::from_be(address[3]) <= 1;
        u32::from_be(address[0]) >> 22 == 0xfe80 >> 6 || loopback_or_unspecified
    };
    if local(destination) || local(source) {
        return Err(SkipReason::LinkLocal);
    }
    Ok(())
}
