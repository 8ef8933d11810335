//! Datagrams in fragments. The datapath sees them before connection tracking reassembles them, and
//! only the first one has ports; the whole carries its mark, whichever fragment came last.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, PacketBuilder};
use linkbal_lab::topology::plan::{self, Family};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::{Gateway, LIMIT};
use crate::kernel;

/// A port without sticky sessions.
const PORT: u16 = 7001;
const FLOWS: usize = 40;
/// Number of rounds. Datagrams of the last one are not fragmented: earlier duplicates have shown by
/// then.
const ROUNDS: usize = 8;
/// Bytes of each flow's datagrams, in turn: fragments and whole datagrams take the same way.
const SIZES: [usize; 3] = [4000, 100, 2500];
/// Bytes of the data in a fragment, a multiple of eight.
const PIECE: usize = 1448;
const BUFFER: usize = 4 << 20;

/// Origin and order of the fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Fragments made by the kernel, in its order.
    Kernel,
    /// The last fragment of each datagram first.
    Backward,
    /// The last fragments of all flows' datagrams, then those before them, and finally the first
    /// ones.
    Interleaved,
}

/// Flows from one client to one server that differ only in their ports.
struct Talk {
    family: Family,
    server: UdpSocket,
    clients: Vec<UdpSocket>,
    /// A socket for packets with their IP header.
    raw: Socket,
}

impl Talk {
    fn new(gateway: &Gateway, family: Family) -> Self {
        let lab = &gateway.lab;
        let there = SocketAddr::new(plan::server(family, 0), PORT);
        let entered = lab.net.enter().unwrap();
        let server = UdpSocket::bind(there).unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        // The buffer must hold a whole round.
        setsockopt(&server, RcvBufForce, &BUFFER).unwrap();
        drop(entered);
        let _entered = lab.lan.enter().unwrap();
        let open = |_| {
            let client = UdpSocket::bind((plan::client(family, 0), 0)).unwrap();
            client.connect(there).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client
        };
        let protocol = Protocol::from(libc::IPPROTO_RAW);
        let raw = Socket::new(Domain::for_address(there), Type::RAW, Some(protocol)).unwrap();
        Self { family, server, clients: (0..FLOWS).map(open).collect(), raw }
    }

    /// Sends one datagram of each flow.
    fn send(&self, order: Order, round: usize) {
        if order == Order::Kernel {
            for (client, flow) in self.clients.iter().zip(0..) {
                client.send(&payload(flow, round)).unwrap();
            }
            return;
        }
        let to = SocketAddr::new(plan::server(self.family, 0), 0).into();
        for packet in arrange(self.datagrams(round), order) {
            self.raw.send_to(&packet, &to).unwrap();
        }
    }

    /// Returns the fragments of each flow's datagram.
    fn datagrams(&self, round: usize) -> Vec<Vec<Vec<u8>>> {
        let datagram = |(client, flow): (&UdpSocket, usize)| {
            let id = u16::try_from(1 + round * FLOWS + flow).unwrap();
            fragments(client.local_addr().unwrap(), &payload(flow, round), id)
        };
        self.clients.iter().zip(0..).map(datagram).collect()
    }

    /// Receives the datagrams of a round, answers each as it is, and returns the uplinks of the
    /// flows.
    fn receive(&self, round: usize) -> Vec<usize> {
        let mut uplinks = vec![None; FLOWS];
        let mut bytes = [0; 8192];
        for _ in 0..FLOWS {
            let (size, seen) = self.server.recv_from(&mut bytes).unwrap();
            let flow = usize::from(bytes[0]);
            assert_eq!(bytes[..size], payload(flow, round), "flow {flow}, round {round}");
            assert_eq!(uplinks[flow], None, "twice: flow {flow}, round {round}");
            uplinks[flow] = plan::uplink_of(seen.ip());
            self.server.send_to(&bytes[..size], seen).unwrap();
        }
        for (client, flow) in self.clients.iter().zip(0..) {
            let size = client.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..size], payload(flow, round), "answer to flow {flow}");
        }
        uplinks.into_iter().map(Option::unwrap).collect()
    }

    /// Returns the uplink of each flow in the datapath's own table.
    fn stored(&self, gateway: &Gateway) -> Vec<usize> {
        let entries = kernel::map(&gateway.lab.gateway, "FLOWS");
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        // The table holds ports in network byte order, and `bpftool` in the machine's.
        let port = |value: &Value| u16::from_be(u16::try_from(number(value)).unwrap());
        let entries = entries.as_array().unwrap().iter().map(|entry| &entry["formatted"]);
        let of_talk = entries.filter(|entry| port(&entry["key"]["destination_port"]) == PORT);
        let by_port: HashMap<_, _> = of_talk
            .map(|entry| (port(&entry["key"]["source_port"]), number(&entry["value"]["uplink"])))
            .collect();
        let source_port = |client: &UdpSocket| client.local_addr().unwrap().port();
        self.clients.iter().map(|client| by_port[&source_port(client)]).collect()
    }
}

/// Returns the number of the flow, then bytes that no other datagram of the flow has at the same
/// places.
fn payload(flow: usize, round: usize) -> Vec<u8> {
    let byte = |n: usize| u8::try_from((n + 31 * round + 7 * flow) % 251).unwrap();
    let mut bytes: Vec<_> = (0..SIZES[round % SIZES.len()]).map(byte).collect();
    bytes[0] = u8::try_from(flow).unwrap();
    bytes
}

/// Returns the packets of one datagram to the server, in the order of their offsets.
fn fragments(from: SocketAddr, payload: &[u8], id: u16) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let (builder, header) =
        match (from.ip(), plan::server(Family::V4, 0), plan::server(Family::V6, 0)) {
            (IpAddr::V4(from), IpAddr::V4(to), _) => {
                (PacketBuilder::ipv4(from.octets(), to.octets(), 64), 20)
            }
            (IpAddr::V6(from), _, IpAddr::V6(to)) => {
                (PacketBuilder::ipv6(from.octets(), to.octets(), 64), 40)
            }
            _ => unreachable!("addresses are of their families"),
        };
    builder.udp(from.port(), PORT).write(&mut whole, payload).unwrap();
    let (header, datagram) = whole.split_at(header);
    let pieces: Vec<_> = datagram.chunks(PIECE).collect();
    let last = pieces.len() - 1;
    let fragment = |(number, piece): (usize, &&[u8])| {
        let offset = IpFragOffset::try_new(u16::try_from(number * PIECE / 8).unwrap()).unwrap();
        [fragment_header(header, piece.len(), offset, number < last, id), piece.to_vec()].concat()
    };
    pieces.iter().enumerate().map(fragment).collect()
}

/// Turns the header of the whole datagram into that of a fragment.
fn fragment_header(
    whole: &[u8],
    size: usize,
    offset: IpFragOffset,
    more: bool,
    id: u16,
) -> Vec<u8> {
    if whole[0] >> 4 == 4 {
        let (mut header, _) = Ipv4Header::from_slice(whole).unwrap();
        header.set_payload_len(size).unwrap();
        header.identification = id;
        header.dont_fragment = false;
        (header.fragment_offset, header.more_fragments) = (offset, more);
        header.header_checksum = header.calc_header_checksum();
        return header.to_bytes().to_vec();
    }
    let mut header = whole.to_vec();
    header[4..6].copy_from_slice(&u16::try_from(8 + size).unwrap().to_be_bytes());
    header[6] = IpNumber::IPV6_FRAGMENTATION_HEADER.0;
    let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, id.into());
    header.extend(fragment.to_bytes());
    header
}

fn arrange(mut datagrams: Vec<Vec<Vec<u8>>>, order: Order) -> Vec<Vec<u8>> {
    if order == Order::Backward {
        return datagrams.into_iter().flat_map(|fragments| fragments.into_iter().rev()).collect();
    }
    let mut packets = Vec::new();
    while datagrams.iter().any(|fragments| !fragments.is_empty()) {
        packets.extend(datagrams.iter_mut().filter_map(Vec::pop));
    }
    packets
}

/// Checks that every datagram arrives whole, once, and by the uplink of its flow.
fn assert_whole(order: Order) {
    let gateway = Gateway::pair();
    for family in Family::ALL {
        let talk = Talk::new(&gateway, family);
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|round| {
                talk.send(order, round);
                talk.receive(round)
            })
            .collect();
        let stored = talk.stored(&gateway);
        assert!(rounds.iter().all(|uplinks| *uplinks == stored), "{family}: {rounds:?}");
        assert!(stored.contains(&0) && stored.contains(&1), "{family}: {stored:?}");
    }
    let status = gateway.daemon.status().unwrap();
    let later = (0..ROUNDS).map(|round| (SIZES[round % SIZES.len()] + 7) / PIECE).sum::<usize>();
    assert_eq!(status["counters"]["fragment"], 2 * FLOWS * later, "later fragments have no ports");
}

#[test]
fn fragments_in_order_arrive_by_the_uplink_of_their_flow() {
    assert_whole(Order::Kernel);
}

#[test]
fn fragments_in_reverse_order_arrive_by_the_uplink_of_their_flow() {
    assert_whole(Order::Backward);
}

#[test]
fn fragments_of_many_flows_at_a_time_arrive_by_their_uplinks() {
    assert_whole(Order::Interleaved);
}
