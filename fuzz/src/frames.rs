//! Frames between the hosts of a LAN and others, from a few bytes each: valid, corrupted, or any
//! bytes.

use network_types::eth::EtherType;

use crate::cursor::Cursor;

/// The direction of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The frame comes from a LAN host.
    FromLan,
    /// The frame goes to a LAN host.
    ToLan,
}

/// Ports of both ends: any, DNS, a sticky one, one that a rule names.
const PORTS: [u16; 4] = [40_000, 53, 443, 25];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Returns a frame of the LAN's Ethernet.
pub(crate) fn frame(cursor: &mut Cursor<'_>, direction: Direction) -> Vec<u8> {
    let shape = cursor.byte();
    if shape & 0xc0 == 0xc0 {
        let length = cursor.byte();
        return cursor.bytes(length.into()).to_vec();
    }
    let ipv6 = shape & 4 != 0;
    let ends = cursor.byte();
    let mut ends = [ends & 3, ends >> 2 & 3, ends >> 4 & 3, ends >> 6];
    if direction == Direction::ToLan {
        ends.swap(0, 1);
        ends.swap(2, 3);
    }
    let (protocol, payload) = transport(cursor, shape & 3, ipv6, ends, direction);
    let packet = ip(protocol, &payload, ipv6, ends, direction);
    let ether_type = if ipv6 { EtherType::Ipv6 } else { EtherType::Ipv4 };
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, ends[0]];
    match shape >> 3 & 3 {
        1 => bytes.extend([0x81, 0, 0, 7]),
        2 => {
            bytes.extend([0x88, 0x64, 0x11, 0, 0, 1]);
            bytes.extend((packet.len() as u16 + 2).to_be_bytes());
        }
        _ => {}
    }
    let protocol = if ipv6 { 0x0057u16 } else { 0x0021 };
    bytes.extend(
        if shape >> 3 & 3 == 2 { protocol } else { u16::from_be(ether_type as u16) }.to_be_bytes(),
    );
    bytes.extend(packet);
    corrupt(cursor, shape, &mut bytes);
    bytes
}

/// Changes one byte, or truncates the frame.
fn corrupt(cursor: &mut Cursor<'_>, shape: u8, bytes: &mut Vec<u8>) {
    let at = |cursor: &mut Cursor<'_>| usize::from(cursor.byte()) % bytes.len();
    if shape & 0x40 != 0 {
        let at = at(cursor);
        bytes[at] ^= cursor.byte();
    } else if shape & 0x80 != 0 {
        let at = at(cursor);
        bytes.truncate(at);
    }
}

/// Returns the protocol number and the payload: TCP, UDP, an ICMP message or SCTP.
fn transport(
    cursor: &mut Cursor<'_>,
    kind: u8,
    ipv6: bool,
    ends: [u8; 4],
    direction: Direction,
) -> (u8, Vec<u8>) {
    let [_, _, source, destination] = ends.map(|end| PORTS[usize::from(end & 3)].to_be_bytes());
    let mut bytes = [source, destination].concat();
    match kind {
        0 => {
            bytes.extend([0, 0, 0, cursor.byte(), 0, 0, 0, cursor.byte(), 0x50, cursor.byte()]);
            bytes.extend([0; 6]);
            (TCP, bytes)
        }
        1 => {
            bytes.extend([0, 8, 0, 0]);
            (UDP, bytes)
        }
        2 => (if ipv6 { 58 } else { 1 }, icmp(cursor, ipv6, ends, direction)),
        _ => {
            bytes.extend([0; 8]);
            (SCTP, bytes)
        }
    }
}

/// Returns an echo, or an error that quotes a packet of the other direction.
fn icmp(cursor: &mut Cursor<'_>, ipv6: bool, ends: [u8; 4], direction: Direction) -> Vec<u8> {
    let kind = cursor.byte();
    let mut bytes = vec![kind, 0, 0, 0, 0, kind & 3, 0, 0];
    let is_error = if ipv6 { kind < 5 } else { [3, 4, 11, 12].contains(&kind) };
    if is_error {
        let [a, b, c, d] = ends;
        let back = [b, a, d, c];
        let inner = cursor.byte() & 3;
        let other =
            if direction == Direction::FromLan { Direction::ToLan } else { Direction::FromLan };
        let (protocol, payload) = match inner {
            2 => (if ipv6 { 58 } else { 1 }, vec![8, 0, 0, 0, 0, 1, 0, 0]),
            inner => transport(cursor, inner, ipv6, back, other),
        };
        bytes.extend(ip(protocol, &payload, ipv6, back, other));
    }
    bytes
}

fn ip(protocol: u8, payload: &[u8], ipv6: bool, ends: [u8; 4], direction: Direction) -> Vec<u8> {
    let lan_first = direction == Direction::FromLan;
    let length = payload.len() as u16;
    let mut bytes = Vec::new();
    if ipv6 {
        let address = |end: u8, lan: bool| -> [u8; 16] {
            let prefix: [u8; 4] = if lan { [0xfd, 0, 0, end & 2] } else { [0x20, 1, 0x0d, 0xb8] };
            let mut address = [0; 16];
            address[..4].copy_from_slice(&prefix);
            address[15] = end + 1;
            address
        };
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([protocol, 64]);
        bytes.extend(address(ends[0], lan_first));
        bytes.extend(address(ends[1], !lan_first));
    } else {
        let address = |end: u8, lan: bool| match lan {
            true => [10, 0, 0, end + 1],
            false => [192, 0, 2, end + 1],
        };
        bytes.extend([0x45, 0]);
        bytes.extend((length + 20).to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        bytes.extend(address(ends[0], lan_first));
        bytes.extend(address(ends[1], !lan_first));
    }
    bytes.extend(payload);
    bytes
}
