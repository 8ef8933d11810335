//! Packets of every shape.

use etherparse::{IpNumber, PacketBuilder};

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT_V4: [u8; 4] = [10, 0, 0, 9];
const SERVER_V4: [u8; 4] = [198, 51, 100, 7];
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const SERVER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

/// A named packet.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Offset of the IP header.
    pub(crate) network: usize,
    /// Number of bytes without which the packet is malformed.
    pub(crate) needed: usize,
}

impl Shape {
    /// Returns whether the packet is IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.bytes[self.network] >> 4 == 4
    }

    /// Returns the same packet behind bytes that replace its EtherType.
    fn behind(&self, name: &str, inserted: &[u8]) -> Shape {
        let mut bytes = self.bytes.clone();
        bytes.splice(12..14, inserted.iter().copied());
        let more = inserted.len() - 2;
        Shape {
            name: format!("{} in {name}", self.name),
            bytes,
            network: self.network + more,
            needed: self.needed + more,
        }
    }
}

macro_rules! shape {
    ($name:literal, $needed:expr, $builder:expr) => {{
        let mut bytes = Vec::new();
        $builder.write(&mut bytes, b"the payload").expect("a vector takes all");
        Shape { name: $name.into(), bytes, network: 14, needed: $needed }
    }};
}

/// Returns one packet of every transport, most of them in IPv4 and IPv6.
pub(crate) fn plain() -> Vec<Shape> {
    let ethernet = || PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC);
    let v4 = || ethernet().ipv4(CLIENT_V4, SERVER_V4, 64);
    let v6 = || ethernet().ipv6(CLIENT_V6, SERVER_V6, 64);
    vec![
        shape!("IPv4 TCP", 38, v4().tcp(40_000, 80, 1, 1024)),
        shape!("IPv4 TCP to a sticky port", 38, v4().tcp(40_000, 443, 1, 1024)),
        shape!("IPv4 UDP", 38, v4().udp(40_000, 53)),
        shape!("IPv4 echo request", 40, v4().icmpv4_echo_request(7, 1)),
        shape!("IPv4 echo reply", 40, v4().icmpv4_echo_reply(7, 1)),
        shape!("IPv6 TCP", 58, v6().tcp(40_000, 80, 1, 1024)),
        shape!("IPv6 UDP to a sticky port", 58, v6().udp(40_000, 443)),
        shape!("IPv6 echo request", 60, v6().icmpv6_echo_request(7, 1)),
        shape!("IPv6 echo reply", 60, v6().icmpv6_echo_reply(7, 1)),
        of_protocol("IPv4 SCTP", true, 132, 38, &[0x9c, 0x40, 0, 80, 0, 0, 0, 0]),
        of_protocol("IPv6 SCTP", false, 132, 58, &[0x9c, 0x40, 0, 80, 0, 0, 0, 0]),
        of_protocol("IPv4 GRE", true, 47, 34, b"GRE"),
        of_protocol("IPv6 ESP", false, 50, 54, b"ESP"),
        of_protocol("IPv4 in IPv4", true, 4, 34, b"another packet"),
    ]
}

/// Returns a SYN of each family with these options.
pub(crate) fn syns(options: &[u8]) -> Vec<Shape> {
    let ethernet = || PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC);
    let v4 = ethernet().ipv4(CLIENT_V4, SERVER_V4, 64).tcp(40_000, 80, 1, 1024).syn();
    let v6 = ethernet().ipv6(CLIENT_V6, SERVER_V6, 64).tcp(40_000, 80, 1, 1024).syn();
    let too_long = "at most 40 bytes of options";
    vec![
        shape!("IPv4 SYN", 54, v4.options_raw(options).expect(too_long)),
        shape!("IPv6 SYN", 74, v6.options_raw(options).expect(too_long)),
    ]
}

/// Returns every shape that the datapath tells apart and marks.
pub(crate) fn shapes() -> Vec<Shape> {
    shapes_of(&plain())
}

/// Returns these packets, and the same in everything that the datapath looks into.
pub(crate) fn shapes_of(plain: &[Shape]) -> Vec<Shape> {
    let mut all = plain.to_vec();
    for shape in plain {
        let ether_type = [shape.bytes[12], shape.bytes[13]];
        let [a, b] = ether_type;
        all.push(shape.behind("a VLAN", &[0x81, 0, 0, 10, a, b]));
        all.push(shape.behind("QinQ", &[0x88, 0xa8, 0, 20, 0x81, 0, 0, 10, a, b]));
        let ppp: [u8; 2] = if shape.is_ipv4() { [0, 0x21] } else { [0, 0x57] };
        let session = [0x88, 0x64, 0x11, 0, 0, 9, 0, 60, ppp[0], ppp[1]];
        all.push(shape.behind("PPPoE", &session));
        let tagged = [&[0x81, 0, 0, 10][..], &session].concat();
        all.push(shape.behind("PPPoE in a VLAN", &tagged));
        if shape.is_ipv4() {
            all.push(with_options(shape));
        } else {
            all.push(with_extensions(shape, "a hop-by-hop header", &[0]));
            all.push(with_extensions(shape, "an atomic fragment", &[44]));
            all.push(with_extensions(
                shape,
                "seven extension headers",
                &[0, 60, 43, 60, 44, 60, 60],
            ));
        }
    }
    all.extend(errors(plain));
    all
}

fn of_protocol(name: &str, ipv4: bool, protocol: u8, needed: usize, payload: &[u8]) -> Shape {
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC);
    if ipv4 {
        let builder = ethernet.ipv4(CLIENT_V4, SERVER_V4, 64);
        builder.write(&mut bytes, IpNumber(protocol), payload).expect("a vector takes all");
    } else {
        let builder = ethernet.ipv6(CLIENT_V6, SERVER_V6, 64);
        builder.write(&mut bytes, IpNumber(protocol), payload).expect("a vector takes all");
    }
    Shape { name: name.into(), bytes, network: 14, needed }
}

/// Puts four bytes of options (a router alert, RFC 2113) into an IPv4 header.
fn with_options(plain: &Shape) -> Shape {
    let mut shape = plain.clone();
    shape.name += " with options";
    shape.needed += 4;
    shape.bytes[14] = 0x46;
    let length = u16::from_be_bytes([shape.bytes[16], shape.bytes[17]]) + 4;
    shape.bytes[16..18].copy_from_slice(&length.to_be_bytes());
    shape.bytes.splice(34..34, [0x94, 4, 0, 0]);
    shape
}

/// Puts extension headers of 8 bytes each before the transport header.
pub(crate) fn with_extensions(plain: &Shape, what: &str, chain: &[u8]) -> Shape {
    let mut shape = plain.clone();
    shape.name = format!("{} behind {what}", shape.name);
    let more = chain.len() * 8;
    shape.needed += more;
    let length = u16::from_be_bytes([shape.bytes[18], shape.bytes[19]]) + more as u16;
    shape.bytes[18..20].copy_from_slice(&length.to_be_bytes());
    let last = shape.bytes[20];
    let following = chain[1..].iter().copied().chain([last]);
    let headers: Vec<u8> = following.flat_map(|next| [next, 0, 0, 0, 0, 0, 0, 0]).collect();
    shape.bytes[20] = chain[0];
    shape.bytes.splice(54..54, headers);
    shape
}

/// Returns ICMP errors of the client about packets that came to it: the answers to the plain ones.
fn errors(plain: &[Shape]) -> Vec<Shape> {
    plain.iter().map(error_about).collect()
}

/// Returns the error that the client sends about the server's answer to `plain`.
pub(crate) fn error_about(plain: &Shape) -> Shape {
    let quoted = turned_round(plain);
    let mut message = vec![if plain.is_ipv4() { 3 } else { 1 }, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted);
    let name = format!("an error about {}", plain.name);
    let (protocol, needed) = if plain.is_ipv4() { (1, 40) } else { (58, 60) };
    of_protocol(&name, plain.is_ipv4(), protocol, needed, &message)
}

/// Returns the frame in which the answer to a packet comes.
pub(crate) fn answer(shape: &Shape) -> Vec<u8> {
    [&shape.bytes[..shape.network], &turned_round(shape)].concat()
}

/// Returns the answer to a packet: addresses and ports exchanged, from the IP header on.
fn turned_round(shape: &Shape) -> Vec<u8> {
    let mut packet = shape.bytes[shape.network..].to_vec();
    let (address, length, transport, protocol) =
        if shape.is_ipv4() { (12, 4, 20, packet[9]) } else { (8, 16, 40, packet[6]) };
    let (head, tail) = packet.split_at_mut(address + length);
    head[address..].swap_with_slice(&mut tail[..length]);
    if [6, 17, 132].contains(&protocol) {
        packet[transport..transport + 4].rotate_left(2);
    }
    packet
}
