//! Servers of the gateway, on the host.

use network_types::eth::EtherType;

use super::*;
use crate::{
    model::{ModelPacket, ModelTables},
    path::local::{
        connect,
        tests::{MASK, address_of, ipv4, sender, sent, tables},
    },
};

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const WAN: u32 = 40;
const SOCKET: u64 = 1;

/// Returns a UDP datagram over IPv4 from port 53 of the client to port `port` of an address.
fn datagram_to(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[0] = 0x45;
    bytes[3] = 28;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&CLIENT);
    bytes[16..20].copy_from_slice(&address);
    bytes[20..22].copy_from_slice(&53u16.to_be_bytes());
    bytes[22..24].copy_from_slice(&port.to_be_bytes());
    bytes[25] = 8;
    bytes
}

fn deliver(tables: &ModelTables, bytes: &[u8], socket: u64) {
    let l3_ether_type = Some(EtherType::Ipv4 as u16);
    let packet = ModelPacket { l3_ether_type, ifindex: WAN, ..ModelPacket::frame(bytes) };
    note(&packet, tables, socket);
}

/// Returns tables with the second uplink on the interface that datagrams come in by.
fn asked_tables() -> ModelTables {
    let mut tables = tables();
    tables.uplinks = [(WAN, 1)].into();
    tables
}

#[test]
fn an_answer_comes_from_where_the_last_datagram_was_sent_to() {
    let tables = asked_tables();
    for address in [[192, 0, 2, 9], [192, 0, 2, 10]] {
        deliver(&tables, &datagram_to(address, 1194), SOCKET);
        assert_eq!(sent(&sender(1194, 53), &tables), Some(ipv4(address)));
    }
    assert!(tables.flows.borrow().is_empty(), "nothing was chosen");
    let other = sent(&sender(1195, 53), &tables).unwrap_or_default();
    assert!((0..2).any(|uplink| other == address_of(uplink, Family::Ipv4)), "{other:?}");
}

#[test]
fn a_source_that_the_program_chose_stays() {
    let tables = asked_tables();
    deliver(&tables, &datagram_to([192, 0, 2, 9], 1194), SOCKET);
    let mut socket = sender(1194, 53);
    socket.key.source = ipv4([192, 0, 2, 77]);
    assert_eq!(sent(&socket, &tables), None);
}

#[test]
fn nobody_outside_changes_the_source_of_what_began_here() {
    let mut tables = asked_tables();
    let began = sent(&sender(40_000, 53), &tables);
    deliver(&tables, &datagram_to([192, 0, 2, 9], 40_000), SOCKET);
    assert_eq!(sent(&sender(40_000, 53), &tables), began);
    tables.now_s += FORGOTTEN_S + 1;
    deliver(&tables, &datagram_to([192, 0, 2, 9], 40_000), SOCKET);
    assert_eq!(sent(&sender(40_000, 53), &tables), Some(ipv4([192, 0, 2, 9])));
}

#[test]
fn another_socket_that_sends_from_the_port_is_not_the_one_that_was_asked() {
    let tables = asked_tables();
    deliver(&tables, &datagram_to([192, 0, 2, 9], 40_000), SOCKET + 1);
    let source = sent(&sender(40_000, 53), &tables).unwrap_or_default();
    assert_ne!(source, ipv4([192, 0, 2, 9]));
}

#[test]
fn an_entry_lives_as_long_as_either_side_sends() {
    let mut tables = asked_tables();
    deliver(&tables, &datagram_to([192, 0, 2, 9], 1194), SOCKET);
    for _ in 0..3 {
        tables.now_s += FORGOTTEN_S;
        assert_eq!(sent(&sender(1194, 53), &tables), Some(ipv4([192, 0, 2, 9])));
    }
    tables.now_s += FORGOTTEN_S + 1;
    assert_ne!(sent(&sender(1194, 53), &tables), Some(ipv4([192, 0, 2, 9])));
}

#[test]
fn a_second_socket_that_connects_to_the_client_uses_the_uplink_it_came_in_by() {
    let mut tables = asked_tables();
    deliver(&tables, &datagram_to([192, 0, 2, 9], 1194), SOCKET + 1);
    assert_eq!(connect(&sender(1194, 53), &tables), Some(MASK.encode(1)));
    tables.uplinks.clear();
    tables.udp_requests.borrow_mut().clear();
    deliver(&tables, &datagram_to([192, 168, 0, 1], 1194), SOCKET + 1);
    let mut socket = sender(1194, 53);
    (socket.fwmark, socket.given_fwmark) = (MASK.encode(1) | 7, MASK.encode(1));
    assert_eq!(connect(&socket, &tables), Some(7), "asked from the LAN");
}

#[test]
fn groups_and_links_are_not_answered_from() {
    let tables = asked_tables();
    for address in [[224, 0, 0, 251], [255, 255, 255, 255], [127, 0, 0, 1], [169, 254, 0, 1]] {
        deliver(&tables, &datagram_to(address, 5353), SOCKET);
    }
    assert!(tables.udp_requests.borrow().is_empty());
}
