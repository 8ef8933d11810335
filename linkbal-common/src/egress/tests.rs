//! The way of a packet to the LAN, on the host.

use etherparse::PacketBuilder;

use super::{FORGOTTEN_S, TRACKED_S, egress};
use crate::{
    bucket::{BUCKETS, Bucket},
    counter::Counter,
    ingress::ingress,
    mark::{DEFAULT_MASK, MarkMask},
    model::{ModelPacket, ModelTables},
    settings::{LAYOUT, Settings},
    uplink::{Family, UpMask},
    verdict::Verdict,
};

const A: u32 = 0;
const B: u32 = 1;
/// The interface of each uplink.
const INTERFACES: [u32; 2] = [3, 4];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const SERVER: [u8; 4] = [10, 0, 0, 9];

/// Two uplinks, the first of which gets all new flows.
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

/// A packet from the client to the server comes in.
fn ask(tables: &ModelTables, uplink: u32) {
    let bytes = udp((CLIENT, 5000), (SERVER, 51_820));
    egress(&ModelPacket::frame(&bytes), tables, INTERFACES[uplink as usize]);
}

/// The uplink by which the server's packet to the client leaves.
fn answer(tables: &ModelTables) -> u32 {
    let bytes = udp((SERVER, 51_820), (CLIENT, 5000));
    match ingress(&ModelPacket::frame(&bytes), tables) {
        Verdict::Mark(fwmark) => MarkMask(DEFAULT_MASK).decode(fwmark).expect("an uplink"),
        Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
    }
}

#[test]
fn an_answer_leaves_by_the_uplink_of_the_question_without_being_a_new_flow() {
    let tables = tables();
    ask(&tables, B);
    assert_eq!(answer(&tables), B);
    ask(&tables, B);
    assert_eq!(answer(&tables), B);
    assert_eq!(tables.counter(Counter::FlowInbound), 1);
    assert_eq!(tables.counter(Counter::FlowKnown), 2);
    assert_eq!(tables.counter(Counter::FlowNew), 0);
}

#[test]
fn nobody_diverts_a_flow_whose_host_sends() {
    let mut tables = tables();
    assert_eq!(answer(&tables), A);
    for _ in 0..20 {
        tables.now_s += TRACKED_S - 1;
        ask(&tables, B);
        assert_eq!(answer(&tables), A);
    }
    assert_eq!(tables.counter(Counter::FlowInbound), 0);
}

#[test]
fn a_peer_that_comes_back_by_another_uplink_is_answered_there() {
    let mut tables = tables();
    ask(&tables, A);
    assert_eq!(answer(&tables), A);
    tables.now_s += TRACKED_S;
    ask(&tables, B);
    assert_eq!(answer(&tables), B);
}

#[test]
fn an_inbound_flow_outlives_a_short_death_of_its_uplink() {
    let mut tables = tables();
    ask(&tables, A);
    tables.up_mask = tables.up_mask.with(A, Family::Ipv4, false);
    for _ in 0..5 {
        tables.now_s += FORGOTTEN_S;
        assert_eq!(answer(&tables), A);
    }
    assert_eq!(tables.counter(Counter::FlowStranded), 5);
    tables.up_mask = tables.up_mask.with(A, Family::Ipv4, true);
    assert_eq!(answer(&tables), A);
}

#[test]
fn a_host_that_was_silent_for_long_begins_anew_elsewhere() {
    let mut tables = tables();
    ask(&tables, A);
    tables.up_mask = tables.up_mask.with(A, Family::Ipv4, false);
    tables.now_s += FORGOTTEN_S + 1;
    assert_eq!(answer(&tables), B);
    assert_eq!(tables.counter(Counter::FlowMoved), 1);
}

#[test]
fn a_line_that_is_said_to_be_dead_and_yet_brings_packets_is_answered() {
    let mut tables = tables();
    tables.up_mask = tables.up_mask.with(A, Family::Ipv4, false);
    ask(&tables, A);
    assert_eq!(answer(&tables), A);
}

/// A TCP packet between a client of the LAN and a server outside.
fn tcp(to_lan: bool, syn: bool, ack: bool) -> Vec<u8> {
    let (mut from, mut to) = ((SERVER, 40_000), (CLIENT, 80));
    if to_lan {
        (from, to) = (to, from);
    }
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from.0, to.0, 64);
    let mut header = etherparse::TcpHeader::new(from.1, to.1, 1000, 1024);
    (header.syn, header.ack) = (syn, ack);
    let mut bytes = Vec::new();
    builder.tcp_header(header).write(&mut bytes, &[]).expect("a vector takes all");
    bytes
}

#[test]
fn answers_to_what_the_lan_began_are_counted_and_a_handshake_once() {
    let mut tables = tables();
    ingress(&ModelPacket::frame(&tcp(false, true, false)), &tables);
    tables.now_s += 2;
    let accept = tcp(true, true, true);
    for _ in 0..2 {
        egress(&ModelPacket::frame(&accept), &tables, INTERFACES[A as usize]);
    }
    // What someone outside began proves only half of the uplink.
    ask(&tables, A);
    ask(&tables, A);
    let counters = tables.uplink_counters.borrow()[A as usize];
    assert_eq!((counters.connects, counters.connects_answered), (1, 1));
    assert_eq!(counters.handshake_ms, 2000);
    assert_eq!((counters.answers, counters.answer_bytes), (2, 2 * accept.len() as u64));
}
