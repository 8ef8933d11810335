//! Trust in replies, and its limits.

use super::*;
use crate::{
    maps::flow::{Flow, FlowKey},
    path::dns::{
        LOOPBACK, PORT as DNS, QUERY_TIMEOUT_S,
        asker::{MAX_ADDRESSES, MAX_QUERIES},
        learn_local, note_local_query,
    },
};

/// Returns the reply of a resolver in another network of the LAN.
fn reply() -> Vec<u8> {
    bytes(&message("bank.example.", [address_record("bank.example.", FOUR)]))
}

fn believes(tables: &ModelTables) -> bool {
    let known = knows(tables, FOUR, "bank.example");
    assert_eq!(learned(tables).is_empty(), !known);
    known
}

#[test]
fn only_the_first_reply_to_a_query_of_ten_seconds_teaches() {
    let unasked = tables(&["bank.example"]);
    let mut other_server = tables(&["bank.example"]);
    ask_of(&mut other_server, [10, 0, 2, 2], OTHER_LAN);
    let mut other_id = tables(&["bank.example"]);
    ask_of(&mut other_id, RESOLVER, OTHER_LAN);
    let mut late = tables(&["bank.example"]);
    ask_of(&mut late, RESOLVER, OTHER_LAN);
    late.now_s += QUERY_TIMEOUT_S + 1;
    for tables in [&unasked, &other_server, &other_id, &late] {
        let mut reply = reply();
        reply[1] ^= u8::from(std::ptr::eq(tables, &raw const other_id));
        reply_from(tables, RESOLVER, OTHER_LAN, &reply);
        assert!(!believes(tables));
        reply_from(tables, GATEWAY, OWN, &reply);
        assert!(!believes(tables));
        assert_eq!(tables.counter(Counter::DnsIgnored), 2);
    }
    let mut just_in_time = tables(&["bank.example"]);
    ask_of(&mut just_in_time, RESOLVER, OTHER_LAN);
    just_in_time.now_s += QUERY_TIMEOUT_S;
    reply_from(&just_in_time, RESOLVER, OTHER_LAN, &reply());
    assert!(believes(&just_in_time));
    just_in_time.domains.borrow_mut().clear();
    reply_from(&just_in_time, RESOLVER, OTHER_LAN, &reply());
    assert!(!believes(&just_in_time), "a reply counts once");
}

#[test]
fn a_reply_counts_only_by_the_way_that_leads_to_its_sender() {
    let cases = [
        ("the gateway", GATEWAY, 0, OWN, true),
        ("the gateway, to whom another was redirected", RESOLVER, OTHER_LAN, OWN, true),
        ("a host that poses as it", GATEWAY, 0, LAN, false),
        ("a container on the gateway that answers for it", GATEWAY, 0, TUNNEL, true),
        ("in another network of the LAN", RESOLVER, OTHER_LAN, OTHER_LAN, true),
        ("posed as from the client's own network", RESOLVER, OTHER_LAN, LAN, false),
        ("in the network of the client", RESOLVER, LAN, LAN, false),
        ("posed as from another network", RESOLVER, LAN, OTHER_LAN, false),
        ("behind a tunnel", RESOLVER, TUNNEL, TUNNEL, true),
        ("posed as from outside", RESOLVER, OTHER_LAN, UPLINK, false),
        ("by several ways", RESOLVER, bypass::NOWHERE, OTHER_LAN, false),
    ];
    for (what, server, reached_by, ingress_ifindex, believed) in cases {
        let mut tables = tables(&["bank.example"]);
        ask_of(&mut tables, server, reached_by);
        reply_from(&tables, server, ingress_ifindex, &reply());
        assert_eq!(believes(&tables), believed, "{what}");
    }
}

/// Returns the flow of the client's query to a server, which left by the uplink.
fn flow(server: [u8; 4]) -> (FlowKey, Flow) {
    let flow_key = FlowKey {
        source: key(IpAddr::from(CLIENT)).address,
        destination: key(IpAddr::from(server)).address,
        source_port: PORT.to_be(),
        destination_port: DNS,
        protocol: 17,
        family: 4,
        reserved: 0,
    };
    (flow_key, Flow::default())
}

#[test]
fn a_reply_from_outside_counts_by_the_uplink_that_the_query_left_by() {
    const OUTSIDE: [u8; 4] = [192, 0, 2, 53];
    const OTHER_UPLINK: u32 = 8;
    let asked = || {
        let mut tables = tables(&["bank.example"]);
        tables.uplinks.insert(OTHER_UPLINK, 1);
        tables.resolvers.insert(key(IpAddr::from(OUTSIDE)));
        note_query(&at(LAN, &query(OUTSIDE)), &tables, &tables.settings);
        tables
    };
    let mut on_link = asked();
    let routed = bypass::by(bypass::UPLINK, UPLINK);
    on_link.bypass.push((Family::Ipv4, key(IpAddr::from(OUTSIDE)).address, 32, routed));
    let left = asked();
    left.flows.borrow_mut().extend([flow(OUTSIDE)]);
    for tables in [&on_link, &left] {
        for wrong in [LAN, OTHER_LAN, OTHER_UPLINK] {
            reply_from(tables, OUTSIDE, wrong, &reply());
            assert!(!believes(tables), "by {wrong}");
        }
        reply_from(tables, OUTSIDE, UPLINK, &reply());
        assert!(believes(tables));
    }
    // The query never left.
    let dropped = asked();
    reply_from(&dropped, OUTSIDE, UPLINK, &reply());
    assert!(!believes(&dropped));
}

#[test]
fn a_reply_to_the_gateway_itself_must_come_in_where_its_query_left() {
    const OUTSIDE: [u8; 4] = [192, 0, 2, 53];
    let mut tables = tables(&["bank.example"]);
    tables.resolvers.insert(key(IpAddr::from(OUTSIDE)));
    note_local_query(&at(UPLINK, &query(RESOLVER)), &tables, &tables.settings);
    assert!(tables.queries.borrow().is_empty(), "nobody believes it");
    note_local_query(&at(UPLINK, &query(OUTSIDE)), &tables, &tables.settings);
    let packet = udp((OUTSIDE, 53), (CLIENT, PORT), &reply());
    learn_local(&at(UPLINK + 1, &packet), &tables, &tables.settings);
    assert!(!believes(&tables));
    learn_local(&at(UPLINK, &packet), &tables, &tables.settings);
    assert!(believes(&tables));
    // A resolver on the gateway, asked by the gateway.
    tables.domains.borrow_mut().clear();
    let packet = udp(([127, 0, 0, 53], 53), ([127, 0, 0, 1], PORT), &reply());
    learn_local(&at(LOOPBACK, &packet), &tables, &tables.settings);
    assert!(believes(&tables));
}

#[test]
fn only_queries_that_the_kernel_forwards_are_noted() {
    let tables = tables(&["bank.example"]);
    let noted = |tables: &ModelTables, bytes: &[u8]| {
        note_query(&at(LAN, bytes), tables, &tables.settings);
        tables.queries.take().len()
    };
    assert_eq!(noted(&tables, &query(RESOLVER)), 1);
    let broken: [(&str, usize, u8); 5] = [
        ("version and header length", 14, 0x46),
        ("total length", 16, 5),
        ("total length too short", 17, 30),
        ("checksum", 24, 0),
        ("destination", 33, 54),
    ];
    for (what, at, value) in broken {
        let mut bytes = query(RESOLVER);
        bytes[at] = value;
        assert_eq!(noted(&tables, &bytes), 0, "{what}");
    }
    let last_hop = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(CLIENT, RESOLVER, 1);
    let mut bytes = Vec::new();
    last_hop.udp(PORT, 53).write(&mut bytes, &[0; 12]).expect("a vector takes all");
    assert_eq!(noted(&tables, &bytes), 0, "its last hop");
}

#[test]
fn a_host_has_its_share_of_queries_and_addresses() {
    let mut tables = tables(&["bank.example"]);
    tables.resolvers.insert(key(IpAddr::from(RESOLVER)));
    let asks = |tables: &ModelTables, id: u16, mac: u8| {
        let message = Message::new(id, MessageType::Query, OpCode::Query);
        let mut packet = udp((CLIENT, PORT), (RESOLVER, 53), &bytes(&message));
        packet[11] = mac;
        note_query(&at(LAN, &packet), tables, &tables.settings);
    };
    (0..5000).for_each(|id| asks(&tables, id, 1));
    assert_eq!(tables.queries.borrow().len(), MAX_QUERIES as usize);
    asks(&tables, 0, 2);
    tables.now_s += 1;
    asks(&tables, 6000, 1);
    assert_eq!(tables.queries.borrow().len(), MAX_QUERIES as usize + 1);
    // Addresses: a hundred with each reply.
    let answers = |first: u16| {
        let addresses = (first..first + 100).map(|n| {
            let [high, low] = n.to_be_bytes();
            IpAddr::from([198, 18, high, low])
        });
        bytes(&message("bank.example.", addresses.map(|a| address_record("x.", a))))
    };
    tables.now_s += 1;
    (0..20).for_each(|reply| exchange(&tables, &answers(100 * reply)));
    assert_eq!(learned(&tables).len(), MAX_ADDRESSES as usize);
    // What is known already is free.
    tables.now_s += 30;
    exchange(&tables, &answers(0));
    let expires =
        tables.domains.borrow().values().filter(|d| d.expires_s[0] == NOW_S + 332).count();
    assert_eq!(expires, 100);
    tables.now_s += 60;
    exchange(&tables, &answers(3000));
    assert_eq!(learned(&tables).len(), MAX_ADDRESSES as usize + 100);
}
