//! Packets of every shape.

use etherparse::{IpNumber, PacketBuilder};

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT_V4: [u8; 4] = [10, 0, 0, 9];
const SERVER_V4: [u8; 4] = [198, 51, 100, 7];
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const SERVER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

/// A named packet.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Bytes without which the packet is malformed.
    pub(crate) needed: usize,
}

macro_rules! shape {
    ($name:literal, $needed:expr, $builder:expr) => {{
        let mut bytes = Vec::new();
        $builder.write(&mut bytes, b"the payload").expect("a vector takes all");
        Shape { name: $name, bytes, needed: $needed }
    }};
}

/// One packet of every shape that the datapath tells apart and marks.
pub(crate) fn shapes() -> Vec<Shape> {
    let ethernet = || PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC);
    let v4 = || ethernet().ipv4(CLIENT_V4, SERVER_V4, 64);
    let v6 = || ethernet().ipv6(CLIENT_V6, SERVER_V6, 64);
    let mut other = Vec::new();
    let builder = ethernet().ipv4(CLIENT_V4, SERVER_V4, 64);
    builder.write(&mut other, IpNumber(47), b"GRE or so").expect("a vector takes all");
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
        Shape { name: "IPv4 GRE", bytes: other, needed: 34 },
        with_options(shape!("IPv4 UDP with options", 42, v4().udp(40_000, 53))),
    ]
}

/// Puts four bytes of options (a router alert, RFC 2113) into an IPv4 header.
fn with_options(mut shape: Shape) -> Shape {
    shape.bytes[14] = 0x46;
    let length = u16::from_be_bytes([shape.bytes[16], shape.bytes[17]]) + 4;
    shape.bytes[16..18].copy_from_slice(&length.to_be_bytes());
    shape.bytes.splice(34..34, [0x94, 4, 0, 0]);
    shape
}
