//! The path from a packet of the LAN to the entry of its flow, with connections that have a mark.

use std::collections::HashMap;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        counter::Counter,
        flow::{Flow, FlowKey, INBOUND, Reason as Why, reason},
        key::port_key,
        rule::{ACTIONS, NO_RULE, RuleAction, RuleSet, otherwise},
        settings::{LAYOUT, Settings, StickyClass},
        uplink::{Family, UpMask, family_slot},
    },
    mark::{DEFAULT_MASK, MarkMask},
    model::{ModelPacket, ModelTables},
    path::{
        continuity::{FORGOTTEN_S, RECHECK_S},
        hash::flow_hash,
        ingress::ingress,
        tables::{SHARED, bypass},
        verdict::{SkipReason, Verdict},
        wan_egress::wan_egress,
    },
};

const MASK: MarkMask = MarkMask(DEFAULT_MASK);
const A: u32 = 0;
const B: u32 = 1;
/// The interface of each uplink.
const INTERFACES: [u32; 2] = [3, 4];
/// The interface that packets come in by.
const LAN: u32 = 2;
const OUTSIDE: [u8; 4] = [198, 51, 100, 7];
const HOST: [u8; 4] = [10, 0, 0, 9];

/// A gateway with its datapath, and connection tracking as far as marks go.
struct Gateway {
    tables: ModelTables,
    /// The marks of connections, by the destination port of the LAN's packets.
    connections: HashMap<u16, u32>,
    /// The uplink to which the main table routes packets without a number.
    main: u32,
}

impl Gateway {
    /// Creates a gateway with two uplinks, the first of which gets all new flows.
    fn new() -> Gateway {
        let mut bucket = Bucket::EMPTY;
        bucket.rank[..2].copy_from_slice(&[0, 1]);
        let settings = Settings {
            layout: LAYOUT,
            fwmark_mask: DEFAULT_MASK,
            seed: [5, 6],
            ..Settings::default()
        };
        let tables = ModelTables {
            settings,
            up_mask: UpMask(0x0003_0003),
            buckets: vec![bucket; BUCKETS as usize],
            uplinks: INTERFACES.into_iter().zip([A, B]).collect(),
            now_s: 1000,
            ..ModelTables::default()
        };
        Gateway { tables, connections: HashMap::new(), main: A }
    }

    /// Marks a connection from outside, or one related to it, as its first packet does.
    fn arrives(&mut self, port: u16, uplink: u32) {
        self.connections.insert(port, MASK.encode(uplink) | MASK.inbound());
    }

    /// Sends a packet of the host to a port outside; returns the uplink that it leaves by.
    fn sends(&mut self, port: u16) -> u32 {
        let bytes = packet(port);
        let (fwmark, hash) = match ingress(&ModelPacket::frame(&bytes), &self.tables) {
            Verdict::Mark(fwmark) => (fwmark, 77),
            Verdict::Propose { fwmark, hash } => (self.prerouting(port, fwmark), hash),
            Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
        };
        let uplink = MASK.decode(fwmark).unwrap_or(self.main);
        // Postrouting: a connection that begins has the uplink that it leaves by.
        self.connections.entry(port).or_insert(MASK.encode(uplink));
        let ifindex = INTERFACES[uplink as usize];
        let leaving = ModelPacket { fwmark, hash, ifindex, ..ModelPacket::frame(&bytes) };
        let changes = wan_egress(&leaving, &self.tables, LAN);
        assert!(
            changes.fwmark.is_none_or(|fwmark| fwmark & (MASK.proposal() | MASK.inbound()) == 0)
        );
        uplink
    }

    /// Replaces a proposal by the connection's mark, as linkbal's nft table does.
    fn prerouting(&self, port: u16, fwmark: u32) -> u32 {
        match self.connections.get(&port) {
            Some(mark) => MASK.clear(fwmark) | mark | MASK.proposal(),
            None => fwmark,
        }
    }

    fn count(&self, counter: Counter) -> u64 {
        self.tables.counter(counter)
    }

    /// Returns the reason and the former uplink of the flow to a port.
    fn why(&self, port: u16) -> (Why, u8) {
        let flows = self.tables.flows.borrow();
        let flow = flows.iter().find(|(key, _)| key.destination_port == port.to_be());
        let Flow { reason, moved_from, .. } = *flow.expect("a flow").1;
        (reason, moved_from)
    }

    /// Sets a rule that all flows match, and by which uplink they go.
    fn set_rule(&mut self, uplink: u32, otherwise: u32) {
        let all = RuleSet::NONE.with(0);
        let tables = &mut self.tables;
        tables.settings.rules = 1;
        tables.rules_address = [Family::Ipv4; 2].map(|family| vec![(family, [0; 4], 0, all)]);
        tables.rules_protocol = vec![all; 256];
        tables.rules_port = [vec![all; 65_536], vec![all; 65_536]];
        tables.rules_dscp = vec![all; 64];
        tables.rules_interface.insert(0, all);
        tables.rules_vlan.insert(0, all);
        tables.rules_mac.insert([0; 8], all);
        let mut bucket = Bucket::EMPTY;
        bucket.rank[0] = uplink as u8;
        tables.buckets.push(bucket);
        tables.actions = vec![RuleAction::NO_RULE; ACTIONS];
        let first_bucket = BUCKETS;
        tables.actions[0] =
            RuleAction { first_bucket, bucket_mask: 0, otherwise, ..RuleAction::NO_RULE };
    }

    /// Returns the flows and the blocked packets that are counted for a rule.
    fn used(&self, rule: u8) -> [u64; 2] {
        let counters = self.tables.rule_counters.borrow().get(&rule).copied().unwrap_or_default();
        [counters.flows, counters.blocked]
    }
}

fn because(kind: u8, rule: u8) -> Why {
    Why { kind, rule }
}

fn packet(port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(HOST, OUTSIDE, 64);
    let mut bytes = Vec::new();
    builder.udp(51_820, port).write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

#[test]
fn a_new_flow_is_stored_where_it_left_and_then_known() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.sends(5000), A);
    assert_eq!(gateway.sends(5000), A);
    let counts = [Counter::FlowProposed, Counter::FlowNew, Counter::FlowKnown];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [1, 1, 1]);
    assert_eq!(gateway.tables.uplink_counters.borrow()[0].packets, 2);
}

#[test]
fn a_flow_keeps_the_reason_for_its_uplink() {
    let none = NO_RULE as u8;
    let mut gateway = Gateway::new();
    gateway.tables.sticky_ports.insert(port_key(17, 443u16.to_be()), 0);
    gateway.tables.sticky_classes =
        vec![StickyClass { idle_s: 600, by_destination: 1, ..StickyClass::default() }];
    gateway.sends(5000);
    assert_eq!(gateway.why(5000), (because(reason::BUCKET, none), 0));
    gateway.sends(443);
    assert_eq!(gateway.why(443), (because(reason::SESSION_NEW, none), 0));
    gateway.tables.flows.borrow_mut().clear();
    gateway.sends(443);
    assert_eq!(gateway.why(443), (because(reason::SESSION, none), 0));
    gateway.connections.insert(5001, MASK.encode(B));
    gateway.sends(5001);
    assert_eq!(gateway.why(5001), (because(reason::CONNECTION, reason::NO_LOOKUP), 0));
    gateway.arrives(5002, B);
    gateway.sends(5002);
    assert_eq!(gateway.why(5002), (because(reason::INBOUND, reason::NO_LOOKUP), 0));
    gateway.set_rule(B, otherwise::BALANCE);
    gateway.sends(5003);
    assert_eq!(gateway.why(5003), (because(reason::BUCKET, 0), 0));
    let host = [u32::from_ne_bytes(HOST), 0, 0, 0];
    gateway.tables.source_uplinks.push((Family::Ipv4, host, 32, A));
    gateway.tables.settings.source_prefixes = 1;
    gateway.sends(5004);
    assert_eq!(gateway.why(5004), (because(reason::SOURCE, reason::NO_LOOKUP), 0));
    assert_eq!((gateway.used(none), gateway.used(0)), ([3, 0], [1, 0]), "connections are not");
}

#[test]
fn a_flow_that_moved_knows_where_it_came_from_and_a_check_keeps_its_reason() {
    let mut gateway = Gateway::new();
    gateway.sends(5000);
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, false);
    gateway.connections.clear();
    assert_eq!(gateway.sends(5000), B);
    let moved = (because(reason::BUCKET, NO_RULE as u8), A as u8 + 1);
    assert_eq!(gateway.why(5000), moved);
    gateway.tables.now_s += RECHECK_S;
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.why(5000), moved);
    assert_eq!(gateway.used(NO_RULE as u8), [2, 0]);
}

#[test]
fn packets_that_a_rule_blocks_are_counted_for_it() {
    let mut gateway = Gateway::new();
    gateway.set_rule(B, otherwise::DROP);
    gateway.sends(5000);
    gateway.tables.up_mask = gateway.tables.up_mask.with(B, Family::Ipv4, false);
    for _ in 0..2 {
        ingress(&ModelPacket::frame(&packet(5001)), &gateway.tables);
    }
    assert_eq!(gateway.used(0), [1, 2]);
}

#[test]
fn a_packet_that_does_not_leave_stores_nothing() {
    let gateway = Gateway::new();
    ingress(&ModelPacket::frame(&packet(5000)), &gateway.tables);
    assert!(gateway.tables.flows.borrow().is_empty());
    assert_eq!(gateway.count(Counter::FlowNew), 0);
}

#[test]
fn packets_of_a_flow_that_come_together_are_one_new_flow() {
    let gateway = Gateway::new();
    let bytes = packet(5000);
    let proposed = [0; 3].map(|_| ingress(&ModelPacket::frame(&bytes), &gateway.tables));
    for verdict in proposed {
        let Verdict::Propose { fwmark, hash } = verdict else { panic!("{verdict:?}") };
        let ifindex = INTERFACES[A as usize];
        let leaving = ModelPacket { fwmark, hash, ifindex, ..ModelPacket::frame(&bytes) };
        wan_egress(&leaving, &gateway.tables, LAN);
    }
    let counts = [Counter::FlowNew, Counter::StoreFailed];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [1, 0]);
}

/// Checks a packet between the end of its uplink's flows and that of its tracked connection.
#[test]
fn a_flow_that_is_to_leave_its_uplink_does_so_once_the_kernel_forgets_the_connection() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.sends(5000), A);
    // As failback does: the uplink is still usable, but others are better.
    gateway.tables.epochs[family_slot(A, Family::Ipv4) as usize] += 1;
    let mut better = Bucket::EMPTY;
    better.rank[..2].copy_from_slice(&[1, 0]);
    gateway.tables.buckets.fill(better);
    assert_eq!(gateway.sends(5000), A, "its connection still has that uplink");
    gateway.connections.clear();
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.sends(5000), B);
}

/// Checks flows between two fixed ports, such as those of tunnels, whose entries outlive them.
#[test]
fn a_flow_that_begins_anew_after_long_silence_has_its_uplink_chosen_anew() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.sends(5000), A);
    let mut better = Bucket::EMPTY;
    better.rank[..2].copy_from_slice(&[1, 0]);
    gateway.tables.buckets.fill(better);
    gateway.tables.now_s += FORGOTTEN_S;
    assert_eq!(gateway.sends(5000), A, "it may still be tracked");
    gateway.tables.now_s += FORGOTTEN_S + 1;
    assert_eq!(gateway.sends(5000), A, "its connection is still tracked");
    gateway.tables.now_s += FORGOTTEN_S + 1;
    gateway.connections.clear();
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.why(5000).1, 0, "it has not moved");
    gateway.tables.now_s += 1;
    assert_eq!(gateway.sends(5000), B);
    let counts = [Counter::FlowMoved, Counter::FlowNew];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [0, 2]);
}

#[test]
fn a_connection_that_has_an_uplink_keeps_it_and_is_learned_at_once() {
    let mut gateway = Gateway::new();
    gateway.connections.insert(5000, MASK.encode(B));
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.sends(5000), B);
    let counts = [Counter::FlowAdopted, Counter::FlowNew, Counter::FlowKnown];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [1, 0, 1]);
    // An eviction costs it nothing.
    gateway.tables.flows.borrow_mut().clear();
    assert_eq!(gateway.sends(5000), B);
}

#[test]
fn an_answer_leaves_by_the_uplink_of_the_question_without_being_a_new_flow() {
    let mut gateway = Gateway::new();
    gateway.arrives(5000, B);
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.sends(5000), B);
    let counts = [Counter::FlowInbound, Counter::FlowNew, Counter::FlowKnown];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [1, 0, 1]);
    assert_eq!(gateway.tables.uplink_counters.borrow()[1].flows_new, 0);
    assert!(gateway.tables.flows.borrow().values().all(|flow| flow.sticky_class == INBOUND));
}

#[test]
fn a_flow_that_the_host_begins_anew_is_no_longer_inbound() {
    let mut gateway = Gateway::new();
    gateway.arrives(53, A);
    assert_eq!(gateway.sends(53), A);
    assert_eq!(gateway.why(53).0.kind, reason::INBOUND);
    // Both sides are silent until connection tracking forgets it; then the host sends first.
    gateway.connections.clear();
    gateway.tables.now_s += FORGOTTEN_S + 1;
    assert_eq!(gateway.sends(53), A);
    gateway.connections.clear();
    gateway.tables.up_mask = UpMask(0x0002_0002);
    gateway.tables.now_s += 1;
    assert_eq!(gateway.sends(53), B, "it leaves a dead uplink like any other");
}

#[test]
fn an_inbound_flow_outlives_a_short_death_of_its_uplink() {
    let mut gateway = Gateway::new();
    gateway.arrives(5000, A);
    assert_eq!(gateway.sends(5000), A);
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, false);
    for _ in 0..5 {
        gateway.tables.now_s += FORGOTTEN_S;
        assert_eq!(gateway.sends(5000), A);
    }
    assert_eq!(gateway.count(Counter::FlowStranded), 5);
    gateway.tables.now_s += FORGOTTEN_S + 1;
    gateway.connections.clear();
    assert_eq!(gateway.sends(5000), B, "nothing tracks it any more");
    assert_eq!(gateway.count(Counter::FlowMoved), 1);
}

#[test]
fn a_peer_that_comes_back_by_another_uplink_is_answered_there() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.sends(5000), A);
    gateway.tables.now_s += RECHECK_S;
    assert_eq!(gateway.sends(5000), A, "asked again, it still has its uplink");
    let counts = [Counter::FlowNew, Counter::FlowAdopted, Counter::FlowKnown];
    assert_eq!(counts.map(|counter| gateway.count(counter)), [1, 0, 1]);
    gateway.tables.now_s += RECHECK_S;
    gateway.arrives(5000, B);
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.count(Counter::FlowInbound), 1);
}

#[test]
fn asking_again_keeps_what_is_known_of_the_flow() {
    let mut gateway = Gateway::new();
    gateway.sends(5000);
    let only = |gateway: &Gateway| *gateway.tables.flows.borrow().values().next().expect("a flow");
    gateway.tables.flows.borrow_mut().values_mut().for_each(|flow| flow.tcp_ack = 99);
    let before = only(&gateway);
    gateway.tables.now_s += RECHECK_S;
    gateway.sends(5000);
    let after = only(&gateway);
    assert_eq!(after.last_seen_s, before.last_seen_s + RECHECK_S);
    assert_eq!(Flow { last_seen_s: before.last_seen_s, ..after }, before);
}

#[test]
fn a_neighbour_of_another_uplink_is_answered_by_the_uplink_that_it_asked() {
    let mut gateway = Gateway::new();
    let network = [u32::from_ne_bytes([198, 51, 100, 0]), 0, 0, 0];
    gateway.tables.bypass.push((Family::Ipv4, network, 24, bypass::UPLINK));
    gateway.main = B;
    gateway.arrives(5000, A);
    assert_eq!(gateway.sends(5000), A);
    // What the host itself begins goes there directly, and is a flow of that uplink from then on.
    assert_eq!(gateway.sends(5001), B);
    assert_eq!(gateway.count(Counter::FlowAdopted), 0);
    assert_eq!(gateway.sends(5001), B);
    assert_eq!(gateway.count(Counter::FlowAdopted), 1);
    assert_eq!(gateway.sends(5001), B);
    assert_eq!(gateway.count(Counter::FlowKnown), 1);
}

#[test]
fn with_every_uplink_down_a_connection_keeps_its_own() {
    let mut gateway = Gateway::new();
    gateway.tables.up_mask = UpMask(0);
    gateway.connections.insert(5000, MASK.encode(B));
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.sends(5001), A, "a new one is left to the main table");
    assert_eq!(gateway.count(Counter::NoUplink), 2);
}

#[test]
fn with_every_uplink_down_what_came_in_later_is_answered_where_it_came_in() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.sends(5000), A);
    gateway.tables.up_mask = UpMask(0);
    gateway.tables.now_s += FORGOTTEN_S + 1;
    gateway.connections.clear();
    gateway.arrives(5000, B);
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.count(Counter::FlowInbound), 1);
}

#[test]
fn a_flow_that_is_kept_on_a_dead_uplink_is_asked_again_too() {
    let mut gateway = Gateway::new();
    gateway.tables.settings.on_down = 1 << 16;
    assert_eq!(gateway.sends(5000), A);
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, false);
    gateway.tables.now_s += RECHECK_S;
    assert_eq!(gateway.sends(5000), A);
    assert_eq!(gateway.count(Counter::FlowStranded), 1);
    gateway.tables.now_s += FORGOTTEN_S + 1;
    gateway.connections.clear();
    gateway.arrives(5000, B);
    assert_eq!(gateway.sends(5000), B);
    assert_eq!(gateway.count(Counter::FlowInbound), 1);
}

#[test]
fn a_flow_to_a_neighbour_that_goes_another_way_does_not_come_back_with_its_uplink() {
    let mut gateway = Gateway::new();
    let network = [u32::from_ne_bytes([198, 51, 100, 0]), 0, 0, 0];
    gateway.tables.bypass.push((Family::Ipv4, network, 24, bypass::UPLINK));
    assert_eq!([(); 2].map(|()| gateway.sends(5000)), [A; 2]);
    assert!(gateway.tables.flows.borrow().values().all(|flow| flow.uplink == A));
    // The uplink dies, and its connections with it; the main table has another way.
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, false);
    gateway.connections.clear();
    gateway.main = B;
    assert_eq!(gateway.sends(5000), B);
    // It is back before the flow sends again: the connection has the address of the other one.
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, true);
    gateway.main = A;
    assert_eq!([(); 3].map(|()| gateway.sends(5000)), [B; 3]);
    // So it is for what the main table alone routes.
    gateway.tables.bypass.clear();
    gateway.connections.insert(6000, MASK.encode(A));
    assert_eq!(gateway.sends(6000), A);
    gateway.tables.bypass.push((Family::Ipv4, network, 24, bypass::MAIN));
    gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, false);
    let bytes = packet(6000);
    for _ in 0..2 {
        let verdict = ingress(&ModelPacket::frame(&bytes), &gateway.tables);
        assert_eq!(verdict, Verdict::Skip(SkipReason::Bypass));
        gateway.tables.up_mask = gateway.tables.up_mask.with(A, Family::Ipv4, true);
    }
}

#[test]
fn on_a_shared_interface_the_number_tells_the_uplink() {
    let mut gateway = Gateway::new();
    gateway.tables.uplinks = INTERFACES.into_iter().zip([SHARED, SHARED]).collect();
    gateway.connections.insert(5000, MASK.encode(B));
    gateway.sends(5000);
    assert!(gateway.tables.flows.borrow().values().all(|flow| flow.uplink == B));
}

proptest! {
    /// Checks that only a key with the hash of the packet is stored, whatever the packet carries
    /// and whatever its slot holds.
    #[test]
    fn only_the_flow_of_the_packet_is_stored(
        fwmark: u32,
        hash: u32,
        torn: bool,
        port: u16,
        other in 1u32..,
    ) {
        let gateway = Gateway::new();
        let tables = &gateway.tables;
        let bytes = packet(port);
        let Verdict::Propose { hash: own, .. } = ingress(&ModelPacket::frame(&bytes), tables) else {
            panic!("known")
        };
        if torn {
            for proposal in tables.proposals.borrow_mut().values_mut() {
                proposal.key.source[0] ^= other;
            }
        }
        for hash in [hash, own] {
            let leaving = ModelPacket { fwmark, hash, ifindex: 3, ..ModelPacket::frame(&bytes) };
            wan_egress(&leaving, tables, LAN);
        }
        let flows = tables.flows.borrow();
        let fits = |key: &FlowKey| [hash, own].contains(&flow_hash(tables.settings.seed, key));
        prop_assert!(flows.keys().all(fits));
        prop_assert!(!torn || flows.is_empty());
        prop_assert!(fwmark & MASK.proposal() != 0 || flows.is_empty());
    }
}
