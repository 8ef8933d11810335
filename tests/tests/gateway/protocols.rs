//! Protocols without ports, and SCTP: tunnels of the LAN and the like.

use std::net::{SocketAddr, UdpSocket};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::{Gateway, LIMIT};
use crate::kernel;

const GRE: u8 = 47;
const ESP: u8 = 50;
const SCTP: u8 = 132;
/// Number of pairs of a client and a server. NAT of a protocol without ports has room for one of
/// each.
const PAIRS: usize = 40;

/// Creates a raw socket in a namespace that sends and gets packets of one protocol at `address`.
fn raw(namespace: &Namespace, protocol: u8, address: std::net::IpAddr) -> UdpSocket {
    let _entered = namespace.enter().unwrap();
    let address = SocketAddr::new(address, 0);
    let protocol = Protocol::from(i32::from(protocol));
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(protocol)).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    // Only its addresses are used: the kernel ignores and leaves out the port.
    socket.into()
}

/// Receives the next packet; returns what is behind its IP header, and its source.
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = [0; 8192];
    let (size, seen) = socket.recv_from(&mut bytes).unwrap();
    // Raw sockets of IPv4 get the header, too, raw(7).
    let header = if seen.is_ipv4() { usize::from(bytes[0] & 0xf) * 4 } else { 0 };
    (bytes[header..size].to_vec(), seen)
}

/// A request and its answer.
struct Messages {
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Lets each client ask its server; returns the uplinks by which the requests came.
fn talk(
    gateway: &Gateway,
    family: Family,
    protocol: u8,
    messages: impl Fn(usize) -> Messages,
) -> Vec<usize> {
    let lab = &gateway.lab;
    let uplink = |number| {
        let there = plan::server(family, number);
        let server = raw(&lab.net, protocol, there);
        let client = raw(&lab.lan, protocol, plan::client(family, number));
        let Messages { request, answer } = messages(number);
        client.send_to(&request, (there, 0)).unwrap();
        let (got, seen) = receive(&server);
        assert_same(protocol, &got, &request);
        server.send_to(&answer, seen).unwrap();
        let (got, from) = receive(&client);
        assert_same(protocol, &got, &answer);
        assert_eq!(from.ip(), there);
        plan::uplink_of(seen.ip()).unwrap_or_else(|| panic!("{protocol} from {seen}"))
    };
    (0..PAIRS).map(uplink).collect()
}

/// Compares a packet with the sent one. NAT may change the ports of SCTP, and with them its
/// checksum, which must be right.
fn assert_same(protocol: u8, got: &[u8], sent: &[u8]) {
    let ports = if protocol == SCTP { 12 } else { 0 };
    assert_eq!(got[ports..], sent[ports..]);
    if protocol == SCTP {
        let mut zeroed = got.to_vec();
        zeroed[8..12].fill(0);
        assert_eq!(got[8..12], crc32c(&zeroed).to_le_bytes());
    }
}

/// Checks that both uplinks are used, and that connection tracking agrees with the servers.
fn assert_spread(gateway: &Gateway, family: Family, protocol: u8, uplinks: &[usize]) {
    assert!(uplinks.contains(&0) && uplinks.contains(&1), "{family} {protocol}: {uplinks:?}");
    let tracked = kernel::tracked(&gateway.lab.gateway, family, &protocol.to_string());
    for (number, uplink) in uplinks.iter().enumerate() {
        let source = format!("src={}", plan::client(family, number));
        let own = tracked.iter().find(|tracked| tracked.tuples[1] == source);
        let own = own.unwrap_or_else(|| panic!("none with {source}: {tracked:?}"));
        assert_eq!(own.mark, kernel::fwmark(*uplink), "{own:?}");
    }
}

/// Returns a GRE packet (RFC 2784) for IPv4, which can be an ESP one from outside (RFC 4303): here,
/// a number and bytes that need several fragments.
fn tunneled(number: usize) -> Messages {
    let packet = |first: u8| {
        let head = [0, 0, 8, 0, 0, 0, 0, u8::try_from(number).unwrap()];
        head.into_iter().chain(std::iter::repeat_n(first, 3000)).collect()
    };
    Messages { request: packet(1), answer: packet(2) }
}

/// Returns INIT and INIT ACK of an SCTP association (RFC 9260 sections 3.3.2 and 3.3.3) without
/// parameters.
fn association(number: usize) -> Messages {
    let tag = 0x1000 + u32::try_from(number).unwrap();
    let chunk = |kind: u8, ports: [u16; 2], packet_tag: u32, own_tag: u32| {
        let mut packet = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        packet.extend(packet_tag.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend([kind, 0, 0, 20]);
        packet.extend(own_tag.to_be_bytes());
        // Receive window, streams out and in, and the first number.
        packet.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        let checksum = crc32c(&packet);
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        packet
    };
    let request = chunk(1, [36_412, 3868], 0, tag);
    Messages { request, answer: chunk(2, [3868, 36_412], tag, 7) }
}

/// Returns the checksum of SCTP (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
    let byte = |crc, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

#[test]
fn tunnels_are_spread_and_stay() {
    let mut gateway = Gateway::pair();
    for family in Family::ALL {
        for protocol in [GRE, ESP] {
            let uplinks = talk(&gateway, family, protocol, tunneled);
            assert_spread(&gateway, family, protocol, &uplinks);
            assert_eq!(talk(&gateway, family, protocol, tunneled), uplinks);
        }
    }
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    for family in Family::ALL {
        for protocol in [GRE, ESP] {
            assert_eq!(talk(&gateway, family, protocol, tunneled), [1; PAIRS]);
        }
    }
}

#[test]
fn sctp_associations_are_spread() {
    let gateway = Gateway::pair();
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the polynomial's check value");
    for family in Family::ALL {
        let uplinks = talk(&gateway, family, SCTP, association);
        assert_spread(&gateway, family, SCTP, &uplinks);
    }
}
