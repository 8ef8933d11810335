//! ICMP and ICMPv6: echoes by their identifier, errors by the flow that they quote.

use network_types::ip::IpProto;

use crate::{
    maps::{flow::FlowKey, uplink::Family},
    packet::{EchoHeader, Ipv4Header, Ipv6Header, Packet, Ports, has_ports},
    path::verdict::SkipReason,
};

/// Length of the header before an error's inner packet (RFC 792, RFC 4443 section 3).
const ERROR_HEADER: u32 = 8;

/// The kind of a message.
enum Kind {
    Echo,
    Error,
    Other,
}

/// Returns the kind of a message type (RFC 792, RFC 4443).
#[inline(always)]
const fn kind(family: Family, message_type: u8) -> Kind {
    match (family, message_type) {
        (Family::Ipv4, 0 | 8) | (Family::Ipv6, 128 | 129) => Kind::Echo,
        (Family::Ipv4, 3 | 4 | 11 | 12) | (Family::Ipv6, 1..=4) => Kind::Error,
        _ => Kind::Other,
    }
}

#[inline(always)]
pub(crate) const fn is_icmp(key: &FlowKey) -> bool {
    match key.family() {
        Family::Ipv4 => key.protocol == IpProto::Icmp as u8,
        Family::Ipv6 => key.protocol == IpProto::Ipv6Icmp as u8,
    }
}

/// Sets the key of an ICMP message at `offset`, of a packet that ends at `end`, as the packet
/// itself says.
///
/// An error takes the key of the flow that it is about, if it quotes enough of it; then returns
/// true.
///
/// # Errors
///
/// If the message is cut short.
#[inline(always)]
pub(crate) fn complete<P: Packet>(
    packet: &P,
    key: &mut FlowKey,
    ends: &FlowKey,
    offset: u32,
    end: u32,
) -> Result<bool, SkipReason> {
    if end < offset + size_of::<EchoHeader>() as u32 {
        return Err(SkipReason::Malformed);
    }
    let message: EchoHeader = packet.load(offset).ok_or(SkipReason::Malformed)?;
    match kind(ends.family(), message.kind) {
        Kind::Echo => key.set(&FlowKey { source_port: message.id, ..*ends }),
        Kind::Error => match inner(packet, ends, offset + ERROR_HEADER) {
            Some(inner) => {
                key.set(&inner);
                return Ok(true);
            }
            None => key.set(ends),
        },
        Kind::Other => key.set(ends),
    }
    Ok(false)
}

/// Returns the flow of the packet that an error quotes. It went to the LAN host that sends the
/// error: seen from the LAN, source and destination are the other way round.
#[inline(always)]
fn inner<P: Packet>(packet: &P, outer: &FlowKey, start: u32) -> Option<FlowKey> {
    let (quoted, offset) = match outer.family() {
        Family::Ipv4 => inner_ipv4(packet, start)?,
        Family::Ipv6 => inner_ipv6(packet, start)?,
    };
    if !has_ports(quoted.protocol) {
        return inner_echo(packet, quoted, offset);
    }
    let ports: Ports = packet.load_cold(offset)?;
    Some(FlowKey { source_port: ports.destination, destination_port: ports.source, ..quoted })
}

/// Adds the identifier to the key of a quoted packet if it is an echo, in either direction.
#[inline(always)]
fn inner_echo<P: Packet>(packet: &P, quoted: FlowKey, offset: u32) -> Option<FlowKey> {
    if !is_icmp(&quoted) {
        return Some(quoted);
    }
    let message: EchoHeader = packet.load_cold(offset)?;
    match kind(quoted.family(), message.kind) {
        Kind::Echo => Some(FlowKey { source_port: message.id, ..quoted }),
        Kind::Error | Kind::Other => Some(quoted),
    }
}

/// Returns the quoted packet's flow without ports, and the offset of its transport header.
#[inline(always)]
fn inner_ipv4<P: Packet>(packet: &P, start: u32) -> Option<(FlowKey, u32)> {
    let header: Ipv4Header = packet.load_cold(start)?;
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    let later_fragment = u16::from_be(header.fragment) & 0x1fff != 0;
    if header.version_ihl >> 4 != 4 || header_length < 20 || later_fragment {
        return None;
    }
    let key = FlowKey {
        source: [header.destination, 0, 0, 0],
        destination: [header.source, 0, 0, 0],
        protocol: header.protocol,
        family: Family::Ipv4 as u8,
        ..FlowKey::default()
    };
    Some((key, start + header_length))
}

#[inline(always)]
fn inner_ipv6<P: Packet>(packet: &P, start: u32) -> Option<(FlowKey, u32)> {
    let header: Ipv6Header = packet.load_cold(start)?;
    if u32::from_be(header.version_class_label) >> 28 != 6 {
        return None;
    }
    let key = FlowKey {
        source: header.destination,
        destination: header.source,
        protocol: header.next_header,
        family: Family::Ipv6 as u8,
        ..FlowKey::default()
    };
    Some((key, start + size_of::<Ipv6Header>() as u32))
}
