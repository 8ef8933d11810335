//! The path of a packet to the LAN, on the host.

use etherparse::PacketBuilder;

use super::egress;
use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        counter::{Counter, network},
        flow::INBOUND,
        settings::{LAYOUT, Settings},
        uplink::{Family, UpMask},
    },
    mark::DEFAULT_MASK,
    model::{ModelPacket, ModelTables, forward},
};

const A: u32 = 0;
const B: u32 = 1;
/// The interface of each uplink.
const INTERFACES: [u32; 2] = [3, 4];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const SERVER: [u8; 4] = [10, 0, 0, 9];

/// Returns tables with two uplinks, the first of which gets all new flows.
fn tables() -> ModelTables {
    let mut bucket = Bucket::EMPTY;
    bucket.rank[..2].copy_from_slice(&[0, 1]);
    ModelTables {
        settings: Settings { layout: LAYOUT, fwmark_mask: DEFAULT_MASK, ..Settings::default() },
        up_mask: UpMask(0x0003_0003),
        buckets: vec![bucket; BUCKETS as usize],
        uplinks: INTERFACES.into_iter().zip([A, B]).collect(),
        now_s: 1000,
        ..ModelTables::default()
    }
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from.0, to.0, 64);
    let mut bytes = Vec::new();
    builder.udp(from.1, to.1).write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

/// Passes a packet from the client to the server that came in by an uplink.
fn ask(tables: &ModelTables, uplink: u32) {
    let bytes = udp((CLIENT, 5000), (SERVER, 51_820));
    egress(&ModelPacket::frame(&bytes), tables, INTERFACES[uplink as usize]);
}

/// Returns a TCP packet between a client of the LAN and a server outside.
fn tcp(to_lan: bool, syn: bool, ack: bool) -> Vec<u8> {
    tcp_with(to_lan, |header| (header.syn, header.ack) = (syn, ack))
}

fn tcp_with(to_lan: bool, set: impl FnOnce(&mut etherparse::TcpHeader)) -> Vec<u8> {
    let (mut from, mut to) = ((SERVER, 40_000), (CLIENT, 80));
    if to_lan {
        (from, to) = (to, from);
    }
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from.0, to.0, 64);
    let mut header = etherparse::TcpHeader::new(from.1, to.1, 1000, 1024);
    set(&mut header);
    let mut bytes = Vec::new();
    builder.tcp_header(header).write(&mut bytes, &[]).expect("a vector takes all");
    bytes
}

#[test]
fn answers_to_what_the_lan_began_are_counted_and_a_handshake_once() {
    let mut tables = tables();
    forward(&ModelPacket::frame(&tcp(false, true, false)), &tables);
    tables.now_s += 2;
    let accept = tcp(true, true, true);
    for _ in 0..2 {
        egress(&ModelPacket::frame(&accept), &tables, INTERFACES[A as usize]);
    }
    // A flow from outside proves only half of the uplink.
    forward(&ModelPacket::frame(&udp((SERVER, 51_820), (CLIENT, 5000))), &tables);
    tables.flows.borrow_mut().values_mut().for_each(|flow| {
        if flow.tcp_state == 0 {
            flow.sticky_class = INBOUND;
        }
    });
    ask(&tables, A);
    let counters = tables.uplink_counters.borrow()[A as usize];
    assert_eq!((counters.connects, counters.connects_answered), (1, 1));
    assert_eq!(counters.handshake_ms, 2000);
    assert_eq!((counters.answers, counters.answer_bytes), (2, 2 * accept.len() as u64));
}

#[test]
fn a_flow_is_settled_by_its_first_answer_if_its_host_may_have_one_more() {
    let mut tables = tables();
    tables.settings.host_flows = 1;
    let replied = |tables: &ModelTables| -> Vec<u8> {
        let flows = tables.flows.borrow();
        let mut replied: Vec<_> = flows.values().map(|flow| flow.replied).collect();
        replied.sort_unstable();
        replied
    };
    for port in [51_820, 51_821] {
        forward(&ModelPacket::frame(&udp((SERVER, port), (CLIENT, 5000))), &tables);
    }
    assert_eq!(replied(&tables), [0, 0]);
    // What came in by another uplink is no answer.
    ask(&tables, B);
    assert_eq!(replied(&tables), [0, 0]);
    for port in [51_820, 51_821] {
        let bytes = udp((CLIENT, 5000), (SERVER, port));
        egress(&ModelPacket::frame(&bytes), &tables, INTERFACES[A as usize]);
    }
    assert_eq!(replied(&tables), [0, 1]);
    assert_eq!(tables.counter(Counter::HostLimited), 1);
}

/// Returns the error that a router on the way sends to the LAN host about its packet.
fn error_about(bytes: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], SERVER, 64);
    let unreachable = etherparse::icmpv4::DestUnreachableHeader::Network;
    let builder = builder.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(unreachable));
    let mut error = Vec::new();
    builder.write(&mut error, &bytes[14..]).expect("a vector takes all");
    error
}

#[test]
fn an_error_about_a_flow_is_no_answer() {
    let tables = tables();
    let sent = tcp(false, true, false);
    forward(&ModelPacket::frame(&sent), &tables);
    let interface = INTERFACES[A as usize];
    egress(&ModelPacket::frame(&error_about(&sent)), &tables, interface);
    assert_eq!(tables.uplink_counters.borrow()[A as usize].answers, 0);
    egress(&ModelPacket::frame(&tcp(true, true, true)), &tables, interface);
    assert_eq!(tables.uplink_counters.borrow()[A as usize].answers, 1);
}

#[test]
fn answers_count_for_their_network_once_the_flow_has_settled() {
    let mut tables = tables();
    let (connect, data) = (tcp(false, true, false), tcp(true, false, true));
    let counted = |tables: &ModelTables| {
        let counters = tables.uplink_counters.borrow()[A as usize];
        let sum = |family: usize| counters.networks[family].iter().sum::<u32>();
        (counters.answers, counters.answers_ipv6, sum(0), sum(1))
    };
    let interface = INTERFACES[A as usize];
    forward(&ModelPacket::frame(&connect), &tables);
    for (second, settled) in [(1, 0), (9, 0), (10, 1), (11, 2)] {
        tables.now_s = 1000 + second;
        forward(&ModelPacket::frame(&tcp(false, false, true)), &tables);
        egress(&ModelPacket::frame(&data), &tables, interface);
        assert_eq!(counted(&tables).2, settled, "after {second} s");
    }
    assert_eq!(counted(&tables), (4, 0, 2, 0));
    let (_, place) = network(Family::Ipv4, &[u32::from_ne_bytes(CLIENT), 0, 0, 0]);
    assert_eq!(tables.uplink_counters.borrow()[A as usize].networks[0][place], 2);
    // Neither a connection that was accepted only now, nor one that is refused.
    let reset = tcp_with(true, |header| header.rst = true);
    for bytes in [tcp(true, true, true), reset] {
        egress(&ModelPacket::frame(&bytes), &tables, interface);
    }
    assert_eq!(counted(&tables), (6, 0, 2, 0));
}
