//! The path of a packet from the LAN, on the host.

use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder};
use proptest::prelude::*;

use super::ingress;
use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        counter::Counter,
        flow::{Flow, tcp_state},
        settings::{LAYOUT, Settings, StickyClass},
        uplink::{Family, UpMask, family_slot},
    },
    mark::{DEFAULT_MASK, MarkMask, REJECT, RESET},
    model::{ModelPacket, ModelTables, forward},
    path::{
        classify::{RELATED, port_key},
        tables::bypass,
        verdict::{SkipReason, Verdict},
    },
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SERVER: [u8; 4] = [198, 51, 100, 7];

/// Returns tables with two uplinks, ranked 0 then 1 in even buckets and 1 then 0 in odd ones; port
/// 443 is sticky.
fn tables() -> ModelTables {
    let bucket = |number: u32| {
        let first = (number % 2) as u8;
        let mut bucket = Bucket::EMPTY;
        bucket.rank[..2].copy_from_slice(&[first, 1 - first]);
        bucket
    };
    ModelTables {
        settings: Settings {
            layout: LAYOUT,
            fwmark_mask: DEFAULT_MASK,
            seed: [1, 2],
            ..Settings::default()
        },
        sticky_classes: vec![StickyClass {
            idle_s: 600,
            by_destination: 1,
            source_bits_ipv4: 32,
            source_bits_ipv6: 128,
        }],
        up_mask: UpMask(0x0003_0003),
        buckets: (0..BUCKETS).map(bucket).collect(),
        uplinks: [(3, 0), (4, 1)].into(),
        sticky_ports: [TCP, UDP].map(|protocol| (port_key(protocol, 443u16.to_be()), 0)).into(),
        now_s: 1000,
        ..ModelTables::default()
    }
}

fn udp(client: u8, source_port: u16, destination_port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, client], SERVER, 64)
        .udp(source_port, destination_port);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

fn send(tables: &ModelTables, bytes: &[u8]) -> Verdict {
    forward(&ModelPacket::frame(bytes), tables)
}

fn uplink(tables: &ModelTables, bytes: &[u8]) -> u32 {
    match send(tables, bytes) {
        Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => {
            MarkMask(DEFAULT_MASK).decode(fwmark).expect("an uplink")
        }
        Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
    }
}

#[test]
fn flows_spread_and_each_stays() {
    let tables = tables();
    let first: Vec<u32> = (0..1000).map(|port| uplink(&tables, &udp(1, 1024 + port, 53))).collect();
    let on_one = first.iter().filter(|uplink| **uplink == 1).count();
    assert!((400..600).contains(&on_one), "{on_one} of 1000 on uplink 1");
    let again: Vec<u32> = (0..1000).map(|port| uplink(&tables, &udp(1, 1024 + port, 53))).collect();
    assert_eq!(first, again);
    assert_eq!(tables.counter(Counter::FlowNew), 1000);
    assert_eq!(tables.counter(Counter::FlowKnown), 1000);
}

#[test]
fn an_evicted_flow_is_decided_the_same_way() {
    let tables = tables();
    for port in 1024..1200 {
        let before = uplink(&tables, &udp(1, port, 53));
        tables.flows.borrow_mut().clear();
        assert_eq!(uplink(&tables, &udp(1, port, 53)), before);
    }
}

#[test]
fn only_the_flows_of_a_dead_uplink_move_and_live_ones_do_not_come_back() {
    let mut tables = tables();
    let packets: Vec<_> = (0..500).map(|port| udp(1, 1024 + port, 53)).collect();
    let before: Vec<u32> = packets.iter().map(|packet| uplink(&tables, packet)).collect();
    tables.up_mask = tables.up_mask.with(0, Family::Ipv4, false);
    assert!(packets.iter().all(|packet| uplink(&tables, packet) == 1));
    let moved = before.iter().filter(|uplink| **uplink == 0).count() as u64;
    assert_eq!(tables.counter(Counter::FlowMoved), moved);
    tables.up_mask = tables.up_mask.with(0, Family::Ipv4, true);
    assert!(packets.iter().all(|packet| uplink(&tables, packet) == 1), "live flows stay");
    tables.flows.borrow_mut().clear();
    let after: Vec<u32> = packets.iter().map(|packet| uplink(&tables, packet)).collect();
    assert_eq!(before, after, "new flows fall as before");
}

#[test]
fn with_every_uplink_down_flows_stay_and_new_ones_are_left_alone() {
    let mut tables = tables();
    let known = udp(1, 1024, 53);
    let before = uplink(&tables, &known);
    tables.up_mask = UpMask(0);
    assert_eq!(uplink(&tables, &known), before);
    assert_eq!(tables.counter(Counter::FlowStranded), 1);
    assert_eq!(asked(&tables, &udp(2, 1024, 53)), Some(Counter::NoUplink));
    assert_eq!(tables.flows.borrow().len(), 1);
}

/// Sends a packet that is to use the uplink of its connection, if that has one; returns the reason.
fn asked(tables: &ModelTables, bytes: &[u8]) -> Option<Counter> {
    let before = *tables.counters.borrow();
    let Verdict::Propose { fwmark, .. } = send(tables, bytes) else { return None };
    assert_eq!(fwmark, MarkMask(DEFAULT_MASK).ask(0));
    Counter::ALL.into_iter().find(|of| tables.counter(*of) != before[*of as usize])
}

#[test]
fn one_client_and_server_share_an_uplink_on_a_sticky_port_and_clients_spread() {
    let tables = tables();
    let one: Vec<u32> = (0..100).map(|port| uplink(&tables, &udp(1, 1024 + port, 443))).collect();
    assert!(one.iter().all(|uplink| *uplink == one[0]));
    let many: Vec<u32> = (2..102).map(|client| uplink(&tables, &udp(client, 1024, 443))).collect();
    assert!(many.contains(&0) && many.contains(&1));
    assert_eq!(tables.counter(Counter::SessionNew), 101);
    assert_eq!(tables.counter(Counter::SessionJoined), 99);
}

#[test]
fn a_session_outlives_a_change_of_the_buckets_until_it_is_idle() {
    let mut tables = tables();
    let before = uplink(&tables, &udp(1, 1024, 443));
    tables.buckets.fill({
        let mut bucket = Bucket::EMPTY;
        bucket.rank[0] = 1 - before as u8;
        bucket
    });
    assert_eq!(uplink(&tables, &udp(1, 1025, 443)), before);
    // A packet of any of its flows keeps it alive.
    tables.now_s += 500;
    assert_eq!(uplink(&tables, &udp(1, 1024, 443)), before);
    tables.now_s += 500;
    assert_eq!(uplink(&tables, &udp(1, 1026, 443)), before);
    tables.now_s += 601;
    assert_eq!(uplink(&tables, &udp(1, 1027, 443)), 1 - before);
}

#[test]
fn a_session_moves_as_a_whole_when_its_uplink_dies() {
    let mut tables = tables();
    let before = uplink(&tables, &udp(1, 1024, 443));
    tables.up_mask = tables.up_mask.with(before, Family::Ipv4, false);
    assert_eq!(uplink(&tables, &udp(1, 1025, 443)), 1 - before);
    assert_eq!(uplink(&tables, &udp(1, 1024, 443)), 1 - before);
    tables.up_mask = tables.up_mask.with(before, Family::Ipv4, true);
    assert_eq!(uplink(&tables, &udp(1, 1026, 443)), 1 - before, "the session is alive over there");
}

#[test]
fn sticky_by_source_ignores_the_destination() {
    let mut tables = tables();
    tables.sticky_classes[0].by_destination = 0;
    let to = |server: u8| {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 0, 1], [198, 51, 100, server], 64)
            .udp(5000, 443);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"").expect("a vector takes all");
        uplink(&tables, &bytes)
    };
    let first = to(1);
    assert!((2..100).all(|server| to(server) == first));
}

#[test]
fn what_is_not_for_an_uplink_is_left_alone_for_a_named_reason() {
    let mut tables = tables();
    let network = [u32::from_ne_bytes([192, 168, 0, 0]), 0, 0, 0];
    tables.bypass.push((Family::Ipv4, network, 16, bypass::MAIN));
    let cases: [([u8; 4], [u8; 4], SkipReason); 8] = [
        ([10, 0, 0, 1], [224, 0, 0, 251], SkipReason::Multicast),
        ([10, 0, 0, 1], [255, 255, 255, 255], SkipReason::Multicast),
        ([10, 0, 0, 1], [169, 254, 1, 1], SkipReason::LinkLocal),
        ([169, 254, 1, 1], [198, 51, 100, 1], SkipReason::LinkLocal),
        ([0, 0, 0, 0], [198, 51, 100, 1], SkipReason::LinkLocal),
        ([10, 0, 0, 1], [127, 0, 0, 1], SkipReason::LinkLocal),
        ([10, 0, 0, 1], [192, 168, 3, 4], SkipReason::Bypass),
        ([192, 168, 3, 4], [192, 168, 200, 4], SkipReason::Bypass),
    ];
    for (source, destination, reason) in cases {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(source, destination, 64);
        let mut bytes = Vec::new();
        builder.udp(1, 2).write(&mut bytes, b"").expect("a vector takes all");
        assert_eq!(send(&tables, &bytes), Verdict::Skip(reason), "{source:?} {destination:?}");
    }
    assert_eq!(tables.flows.borrow().len(), 0);
}

#[test]
fn ipv6_is_left_alone_where_it_is_local() {
    let tables = tables();
    let cases: [(&str, &str, SkipReason); 4] = [
        ("2001:db8::1", "ff02::fb", SkipReason::Multicast),
        ("2001:db8::1", "fe80::1", SkipReason::LinkLocal),
        ("fe80::1", "2001:db8::1", SkipReason::LinkLocal),
        ("::", "2001:db8::1", SkipReason::LinkLocal),
    ];
    for (source, destination, reason) in cases {
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address").octets();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv6(octets(source), octets(destination), 64)
            .udp(1, 2);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"").expect("a vector takes all");
        assert_eq!(send(&tables, &bytes), Verdict::Skip(reason), "{source} {destination}");
    }
}

#[test]
fn echoes_of_one_identifier_are_one_flow() {
    let tables = tables();
    let echo = |id: u16, sequence: u16| {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 0, 1], SERVER, 64)
            .icmpv4_echo_request(id, sequence);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"").expect("a vector takes all");
        uplink(&tables, &bytes)
    };
    for id in 0..50 {
        let first = echo(id, 0);
        assert!((1..5).all(|sequence| echo(id, sequence) == first));
    }
    assert_eq!(tables.counter(Counter::FlowNew), 50);
}

#[test]
fn later_fragments_are_left_to_the_kernel() {
    let tables = tables();
    let mut bytes = udp(1, 1024, 53);
    bytes[20] = 0x20; // the first of several
    assert!(matches!(send(&tables, &bytes), Verdict::Propose { .. }));
    bytes[21] = 1; // at offset 8
    assert_eq!(send(&tables, &bytes), Verdict::Skip(SkipReason::Fragment));
}

proptest! {
    #[test]
    fn foreign_mark_bits_stay_and_our_own_are_respected(fwmark: u32, port in 1024u16..) {
        let tables = tables();
        let bytes = udp(1, port, 53);
        let verdict = ingress(&ModelPacket { fwmark, ..ModelPacket::frame(&bytes) }, &tables);
        if fwmark & DEFAULT_MASK == 0 {
            let Verdict::Propose { fwmark: new, .. } = verdict else { panic!("{verdict:?}") };
            prop_assert_eq!(new & !DEFAULT_MASK, fwmark);
        } else {
            prop_assert_eq!(verdict, Verdict::Skip(SkipReason::AlreadyMarked));
        }
    }

    #[test]
    fn arbitrary_bytes_are_harmless_and_counted_once(bytes: Vec<u8>) {
        let tables = tables();
        ingress(&ModelPacket::frame(&bytes), &tables);
        prop_assert_eq!(tables.counters.borrow().iter().sum::<u64>(), 1);
    }

    #[test]
    fn every_truncation_is_malformed(cut in 0usize..42) {
        let tables = tables();
        let bytes = udp(1, 1024, 53);
        // Without the first 38 bytes there are no ports; an EtherType needs 14.
        let verdict = send(&tables, &bytes[..cut]);
        if cut < 38 {
            prop_assert_eq!(verdict, Verdict::Skip(SkipReason::Malformed));
        } else {
            let proposed = matches!(verdict, Verdict::Propose { .. });
            prop_assert!(proposed);
        }
    }
}

/// Returns tables where 2001:db8:a::/48 belongs to uplink 0, and 2001:db8:b::/48 to uplink 1.
fn tables_with_prefixes() -> ModelTables {
    let prefix = |network: u32, uplink| {
        let words = [0x2001_0db8u32.to_be(), (network << 16).to_be(), 0, 0];
        (Family::Ipv6, words, 48, uplink)
    };
    let mut tables = tables();
    tables.settings.source_prefixes = 2;
    tables.source_uplinks = vec![prefix(0xa, 0), prefix(0xb, 1)];
    tables
}

/// Returns a packet of a host in 2001:db8:`network`::/48.
fn udp_from(network: u16, source_port: u16, destination_port: u16) -> Vec<u8> {
    let address = |network: u16, host: u16| {
        std::net::Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host).octets()
    };
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6(address(network, 9), address(0xff, 7), 64)
        .udp(source_port, destination_port);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

#[test]
fn a_source_of_a_provider_uses_its_uplink_and_no_session() {
    let tables = tables_with_prefixes();
    for (network, expected) in [(0xa, 0), (0xb, 1)] {
        for port in 1024..1200 {
            for destination_port in [53, 443] {
                let packet = udp_from(network, port, destination_port);
                assert_eq!(uplink(&tables, &packet), expected);
                assert_eq!(uplink(&tables, &packet), expected, "and the next packet");
            }
        }
    }
    assert!(tables.sessions.borrow().is_empty());
    let others: Vec<u32> =
        (1024..1200).map(|port| uplink(&tables, &udp_from(0xc, port, 53))).collect();
    assert!(others.contains(&0) && others.contains(&1), "others are spread");
}

#[test]
fn new_flows_of_a_dead_providers_source_are_refused_and_known_ones_wait() {
    let mut tables = tables_with_prefixes();
    let known = udp_from(0xa, 1024, 53);
    assert_eq!(uplink(&tables, &known), 0);
    tables.up_mask = tables.up_mask.with(0, Family::Ipv6, false);
    assert_eq!(uplink(&tables, &known), 0);
    assert_eq!(tables.counter(Counter::FlowStranded), 1);
    let refused = MarkMask(DEFAULT_MASK).propose(0, REJECT);
    let verdict = send(&tables, &udp_from(0xa, 1025, 53));
    assert!(matches!(verdict, Verdict::Propose { fwmark, .. } if fwmark == refused), "{verdict:?}");
    assert_eq!(tables.counter(Counter::SourceRejected), 1);
    assert_eq!(uplink(&tables, &udp_from(0xb, 1025, 53)), 1);
    tables.up_mask = tables.up_mask.with(1, Family::Ipv6, false);
    let new = udp_from(0xa, 1026, 53);
    assert_eq!(asked(&tables, &new), Some(Counter::NoUplink), "it has no better source");
    tables.up_mask = UpMask(0x0003_0003);
    assert_eq!(uplink(&tables, &new), 0);
    assert_eq!(tables.flows.borrow().len(), 3);
}

#[test]
fn a_source_of_ipv4_that_a_provider_routes_here_uses_its_uplink_too() {
    let mut tables = tables();
    tables.settings.source_prefixes = 1;
    let subnet = [u32::from_ne_bytes([10, 0, 0, 0]), 0, 0, 0];
    tables.source_uplinks = vec![(Family::Ipv4, subnet, 28, 1)];
    let used = |client: u8| -> std::collections::BTreeSet<u32> {
        (0..100).map(|port| uplink(&tables, &udp(client, 2000 + port, 53))).collect()
    };
    assert_eq!(used(7), [1].into());
    assert_eq!(used(77), [0, 1].into(), "of no provider");
    tables.up_mask = tables.up_mask.with(1, Family::Ipv4, false);
    let refused = MarkMask(DEFAULT_MASK).propose(0, REJECT);
    let verdict = send(&tables, &udp(7, 3000, 53));
    assert!(matches!(verdict, Verdict::Propose { fwmark, .. } if fwmark == refused), "{verdict:?}");
}

proptest! {
    /// Checks that a packet of a provider's source leaves by that provider or not at all, whatever
    /// is up.
    #[test]
    fn a_source_never_leaves_by_another_provider(
        masks in proptest::collection::vec(any::<u32>(), 1..20),
        network in 0xau16..=0xb,
        port: u16,
    ) {
        let mut tables = tables_with_prefixes();
        for mask in masks {
            tables.up_mask = UpMask(mask);
            if let Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } =
                send(&tables, &udp_from(network, port, 443))
            {
                let uplink = MarkMask(DEFAULT_MASK).decode(fwmark);
                prop_assert!(uplink.is_none_or(|uplink| uplink == u32::from(network) - 0xa));
            }
        }
    }
}

/// Returns a segment of one connection to the server's port 80.
fn tcp(
    change: impl FnOnce(etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8>,
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 7], [1; 6])
        .ipv4([10, 0, 0, 9], SERVER, 64)
        .tcp(40_000, 80, 1000, 1024);
    change(builder)
}

fn written(
    builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).expect("a vector takes all");
    bytes
}

fn only_flow(tables: &ModelTables) -> Flow {
    let flows = tables.flows.borrow();
    let mut all = flows.values();
    let flow = *all.next().expect("a flow");
    assert!(all.next().is_none());
    flow
}

#[test]
fn a_connection_is_followed_to_its_end() {
    let tables = tables();
    let syn = tcp(|builder| written(builder.syn(), b""));
    send(&tables, &syn);
    let flow = only_flow(&tables);
    assert_eq!((flow.tcp_ack, flow.tcp_state), (0, tcp_state::OPENING));
    assert_eq!((flow.ifindex, flow.mac[5]), (1, 7));
    send(&tables, &tcp(|builder| written(builder.ack(5000), b"hello")));
    let flow = only_flow(&tables);
    assert_eq!((flow.tcp_ack, flow.tcp_end), (5000, 1005));
    send(&tables, &tcp(|builder| written(builder.ack(5001).fin(), b"")));
    let flow = only_flow(&tables);
    assert_eq!((flow.tcp_end, flow.tcp_state), (1001, tcp_state::CLOSING));
    // The same ends connect again.
    send(&tables, &syn);
    assert_eq!(only_flow(&tables).tcp_state, tcp_state::OPENING);
}

/// Returns the uplink of a packet, or `None` for the reset mark.
fn fate(tables: &ModelTables, bytes: &[u8]) -> Option<u32> {
    match send(tables, bytes) {
        Verdict::Propose { fwmark, .. } if fwmark == MarkMask(DEFAULT_MASK).propose(0, RESET) => {
            None
        }
        Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => {
            MarkMask(DEFAULT_MASK).decode(fwmark)
        }
        Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
    }
}

#[test]
fn a_connection_that_is_over_is_reset_until_its_client_knows() {
    let mut tables = tables();
    tables.settings.on_down = 0b11;
    let syn = tcp(|builder| written(builder.syn(), b""));
    let ack = tcp(|builder| written(builder.ack(5000), b""));
    let first = fate(&tables, &syn).expect("an uplink");
    assert_eq!(fate(&tables, &ack), Some(first));
    // The epoch ends although the uplink works, as it does when it is back.
    tables.epochs[family_slot(first, Family::Ipv4) as usize] += 1;
    assert_eq!(fate(&tables, &ack), None);
    assert_eq!(fate(&tables, &ack), None);
    assert_eq!(tables.counter(Counter::FlowReset), 2);
    // A new connection of the same ends is not affected.
    assert_eq!(fate(&tables, &syn), Some(first));
    assert_eq!(fate(&tables, &ack), Some(first));
    tables.epochs[family_slot(first, Family::Ipv4) as usize] += 1;
    // The client's own reset shows that it knows.
    assert_eq!(fate(&tables, &tcp(|builder| written(builder.rst(), b""))), None);
    assert!(tables.flows.borrow().is_empty());
}

#[test]
fn a_connection_of_a_dead_uplink_is_reset_moved_or_kept_as_configured() {
    let all = 0x0003_0003;
    // Reset, keep: bits of both uplinks; neither: move.
    for (on_down, expected) in [(0b11, "reset"), (0b11 << 16, "keep"), (0, "move")] {
        let mut tables = tables();
        tables.settings.on_down = on_down;
        let ack = tcp(|builder| written(builder.ack(5000), b""));
        let first = fate(&tables, &tcp(|builder| written(builder.syn(), b""))).expect("an uplink");
        tables.up_mask = UpMask(all & !(0x0001_0001 << first));
        let had = match fate(&tables, &ack) {
            None => "reset",
            Some(uplink) if uplink == first => "keep",
            Some(_) => "move",
        };
        assert_eq!(had, expected);
        // Without a usable uplink it stays, whatever is configured.
        let tables = ModelTables { up_mask: UpMask(0), ..tables };
        assert!(fate(&tables, &ack).is_some());
    }
}

#[test]
fn new_flows_avoid_an_uplink_as_long_as_another_can() {
    let mut tables = tables();
    tables.avoid_mask = UpMask(0x0001_0001);
    assert!((0..100).all(|port| uplink(&tables, &udp(1, 1024 + port, 53)) == 1));
    tables.up_mask = UpMask(0x0001_0001);
    assert!((0..100).all(|port| uplink(&tables, &udp(2, 1024 + port, 53)) == 0));
}

/// Returns tables with a second class: begun by port 21 of TCP and UDP, and joined by TCP, UDP and
/// GRE.
fn with_related() -> ModelTables {
    let mut tables = tables();
    tables.sticky_classes.push(tables.sticky_classes[0]);
    tables.sticky_ports.extend([TCP, UDP].map(|protocol| (port_key(protocol, 21u16.to_be()), 1)));
    tables.sticky_ports.extend([TCP, UDP, GRE].map(|protocol| (port_key(protocol, RELATED), 1)));
    tables
}

const GRE: u8 = 47;

fn without_ports(client: u8) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(4, 64, IpNumber(GRE), [10, 0, 0, client], SERVER).expect("a short payload");
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        .write(&mut bytes, IpNumber(GRE), &[0, 0, 8, 0])
        .expect("a vector takes all");
    bytes
}

#[test]
fn related_flows_join_a_session_and_begin_none() {
    for client in 0..100 {
        let tables = with_related();
        uplink(&tables, &udp(client, 1024, 40_000));
        uplink(&tables, &without_ports(client));
        assert!(tables.sessions.borrow().is_empty(), "related flows begin no session");

        let tables = with_related();
        let control = uplink(&tables, &udp(client, 1024, 21));
        let data: Vec<u32> =
            (0..20).map(|port| uplink(&tables, &udp(client, 2000 + port, 1024 + port))).collect();
        assert!(data.iter().all(|uplink| *uplink == control));
        assert_eq!(uplink(&tables, &without_ports(client)), control);
        assert_eq!(tables.sessions.borrow().len(), 1);
    }
}

#[test]
fn related_flows_are_those_to_agreed_ports_while_the_session_lives() {
    let spread = |tables: &ModelTables, destination: u16| {
        let control = uplink(tables, &udp(1, 1024, 21));
        let each = (0..100).map(|port| uplink(tables, &udp(1, 3000 + port, destination)));
        each.filter(|uplink| *uplink != control).count()
    };
    assert!(spread(&with_related(), 1023) > 20, "an assigned port");
    assert_eq!(spread(&with_related(), 1024), 0);
    let mut tables = with_related();
    assert_eq!(spread(&tables, 1024), 0);
    tables.flows.borrow_mut().clear();
    tables.now_s += 600;
    let late = (0..100).map(|port| uplink(&tables, &udp(1, 3000 + port, 2000)));
    assert!(late.filter(|uplink| *uplink == 0).count() > 20, "the session is over");
    let mut tables = with_related();
    let control = uplink(&tables, &udp(1, 1024, 21));
    tables.up_mask = tables.up_mask.with(control, Family::Ipv4, false);
    assert_eq!(uplink(&tables, &udp(1, 4000, 4000)), 1 - control, "its uplink is down");
}

#[test]
fn related_data_keeps_its_session_alive() {
    let mut tables = with_related();
    let control = uplink(&tables, &udp(1, 1024, 21));
    let data = udp(1, 2000, 2000);
    for _ in 0..4 {
        tables.now_s += 400;
        assert_eq!(uplink(&tables, &data), control);
    }
    assert_eq!(uplink(&tables, &udp(1, 3000, 3000)), control);
}

/// Checks that a packet for port 0 is no flow of a class, though its key in the map looks so.
#[test]
fn port_zero_is_no_sticky_port() {
    let tables = with_related();
    uplink(&tables, &udp(1, 1024, 0));
    assert!(tables.sessions.borrow().is_empty());
}

#[test]
fn a_packet_that_carries_the_uplink_of_its_flow_keeps_its_session_alive() {
    let mut tables = tables();
    let packet = udp(1, 1024, 443);
    let first = uplink(&tables, &packet);
    let mask = MarkMask(DEFAULT_MASK);
    let marked = |fwmark| ModelPacket { fwmark, ..ModelPacket::frame(&packet) };
    for _ in 0..5 {
        tables.now_s += 500;
        let verdict = ingress(&marked(mask.propose(5, first) | mask.inbound()), &tables);
        assert_eq!(verdict, Verdict::Mark(mask.propose(5, first)), "it still asks");
    }
    assert_eq!(tables.counter(Counter::FlowKnown), 5);
    tables.buckets.fill(Bucket::EMPTY);
    assert_eq!(uplink(&tables, &udp(1, 1025, 443)), first, "the session lives");
    // Marks of other uplinks than the flow's, or of none that there is, are foreign.
    for fwmark in [mask.encode(1 - first), mask.ask(0), mask.encode(RESET)] {
        assert_eq!(ingress(&marked(fwmark), &tables), Verdict::Skip(SkipReason::AlreadyMarked));
    }
}

/// Checks the SYN of a bridged connection, which passes the program at the port and at the bridge.
#[test]
fn a_syn_that_asks_for_its_mark_still_asks_at_the_next_interface() {
    let tables = tables();
    let syn = tcp(|builder| written(builder.syn(), b""));
    let first = uplink(&tables, &syn);
    let mask = MarkMask(DEFAULT_MASK);
    let marked = |fwmark| ModelPacket { fwmark, ..ModelPacket::frame(&syn) };
    let asks = mask.propose(5, first);
    let verdict = ingress(&marked(asks | mask.inbound()), &tables);
    assert_eq!(verdict, Verdict::Mark(asks));
    let verdict = ingress(&marked(mask.replace(5, first)), &tables);
    assert_eq!(verdict, Verdict::Mark(mask.replace(5, first)));
}
