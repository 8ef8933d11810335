//! Local traffic, on the host.

use proptest::prelude::*;

use super::*;
use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        rule::{NO_RULE, RuleAction, otherwise},
        settings::{LAYOUT, StickyClass},
        uplink::{FAMILY_SLOTS, UpMask, family_slot},
    },
    mark::{DEFAULT_MASK, DROP, REJECT},
    model::ModelTables,
    path::{classify::port_key, tables::bypass},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const NAMESPACE: u64 = 4711;
pub(super) const MASK: MarkMask = MarkMask(DEFAULT_MASK);

/// Returns tables with two uplinks, ranked 0 then 1 in even buckets and 1 then 0 in odd ones; port
/// 443 is sticky, and 192.168.0.0/16 is routed by the main table.
pub(super) fn tables() -> ModelTables {
    let bucket = |number: u32| {
        let first = (number % 2) as u8;
        let mut bucket = Bucket::EMPTY;
        bucket.rank[..2].copy_from_slice(&[first, 1 - first]);
        bucket
    };
    let settings = Settings {
        layout: LAYOUT,
        fwmark_mask: DEFAULT_MASK,
        seed: [1, 2],
        netns_cookie: NAMESPACE,
        ..Settings::default()
    };
    let mut tables = ModelTables {
        settings,
        up_mask: UpMask(0x0003_0003),
        buckets: (0..BUCKETS).map(bucket).collect(),
        sticky_ports: [TCP, UDP].map(|protocol| (port_key(protocol, 443u16.to_be()), 0)).into(),
        sticky_classes: vec![StickyClass {
            idle_s: 600,
            by_destination: 1,
            source_bits_ipv4: 32,
            source_bits_ipv6: 128,
        }],
        bypass: vec![(Family::Ipv4, ipv4([192, 168, 0, 0]), 16, bypass::MAIN)],
        now_s: 1000,
        ..ModelTables::default()
    };
    for uplink in 0..2 {
        for family in Family::ALL {
            tables.uplink_addresses[family_slot(uplink, family) as usize] =
                address_of(uplink, family);
        }
    }
    tables
}

pub(super) fn ipv4(octets: [u8; 4]) -> Address {
    [u32::from_ne_bytes(octets), 0, 0, 0]
}

pub(super) fn address_of(uplink: u32, family: Family) -> Address {
    [100 + uplink, family as u32, 7, 7]
}

/// Returns a fresh socket of the gateway on its way to a server.
fn socket(protocol: u8, cookie: u64, port: u16) -> LocalSocket {
    LocalSocket {
        netns_cookie: NAMESPACE,
        cookie,
        key: FlowKey {
            destination: ipv4([198, 51, 100, 7]),
            destination_port: port.to_be(),
            protocol,
            family: Family::Ipv4 as u8,
            ..FlowKey::default()
        },
        ..LocalSocket::default()
    }
}

/// Returns a socket that sends without a connection, from a port that the kernel chose.
pub(super) fn sender(source_port: u16, port: u16) -> LocalSocket {
    let mut socket = socket(UDP, 1, port);
    socket.key.source_port = source_port.to_be();
    socket
}

/// Returns the source that a datagram gets.
pub(super) fn sent(socket: &LocalSocket, tables: &ModelTables) -> Option<Address> {
    match send::<false, _>(socket, tables) {
        Sending::From(address) => Some(address),
        Sending::AsItIs => None,
        Sending::Refused => panic!("{socket:?} is refused"),
    }
}

fn local_counts(tables: &ModelTables) -> [u64; 3] {
    [Counter::LocalMarked, Counter::LocalAddressed, Counter::LocalSkipped]
        .map(|counter| tables.counter(counter))
}

fn connected(tables: &ModelTables, socket: &LocalSocket) -> u32 {
    MASK.decode(connect(socket, tables).expect("a fwmark")).expect("an uplink")
}

#[test]
fn new_connections_to_one_server_are_spread() {
    let tables = tables();
    let first = (0..1000).filter(|cookie| connected(&tables, &socket(TCP, *cookie, 80)) == 0);
    // Half of them; 5 sigma are 79.
    assert!((421..=579).contains(&first.count()));
    assert_eq!(local_counts(&tables), [1000, 0, 0]);
    assert!(tables.flows.borrow().is_empty(), "there is no tuple yet to remember");
    assert!(tables.uplink_counters.borrow().iter().all(|counters| counters.packets == 0));
}

#[test]
fn a_sticky_port_keeps_its_uplink_for_each_server() {
    let tables = tables();
    let uplink = |cookie, host| {
        let mut socket = socket(TCP, cookie, 443);
        socket.key.destination = ipv4([198, 51, 100, host]);
        connected(&tables, &socket)
    };
    for host in 1..100 {
        let first = uplink(0, host);
        assert!((1..20).all(|cookie| uplink(cookie, host) == first), "server {host}");
    }
    assert!((1..100).any(|host| uplink(0, host) == 0) && (1..100).any(|host| uplink(0, host) == 1));
    assert_eq!(tables.sessions.borrow().len(), 99);
}

#[test]
fn connections_and_datagrams_take_the_uplinks_that_are_up() {
    let mut tables = tables();
    tables.up_mask = UpMask(0x0003_0002);
    for n in 0..50 {
        assert_eq!(connected(&tables, &socket(TCP, n.into(), 80)), 1);
        assert_eq!(sent(&sender(n, 53), &tables), Some(address_of(1, Family::Ipv4)));
    }
    tables.up_mask = UpMask(0);
    assert_eq!(connect(&socket(TCP, 1, 80), &tables), None);
    assert_eq!(sent(&sender(60_000, 53), &tables), None);
    assert_eq!(local_counts(&tables), [50, 50, 2]);
}

#[test]
fn datagrams_between_two_ports_stay_on_their_uplink_while_it_lives() {
    let mut tables = tables();
    let all = |tables: &ModelTables| -> Vec<_> {
        (1..200).map(|port| sent(&sender(port, 53), tables).expect("a source")).collect()
    };
    let before = all(&tables);
    assert!(before.contains(&address_of(0, Family::Ipv4)));
    assert!(before.contains(&address_of(1, Family::Ipv4)));
    tables.up_mask = UpMask(0b01);
    assert!(all(&tables).iter().all(|source| *source == address_of(0, Family::Ipv4)));
    tables.up_mask = UpMask(0b11);
    assert!(all(&tables).iter().all(|source| *source == address_of(0, Family::Ipv4)));
}

#[test]
fn an_uplink_without_an_address_gives_none() {
    let mut tables = tables();
    tables.uplink_addresses = [[0; 4]; FAMILY_SLOTS];
    assert_eq!(sent(&sender(1, 53), &tables), None);
    assert_eq!(local_counts(&tables), [0, 0, 1]);
}

#[test]
fn what_the_program_chose_is_left_to_it() {
    let tables = tables();
    let plain = sender(5000, 80);
    let mut bound = plain;
    bound.key.source = ipv4([203, 0, 113, 2]);
    let choices = [
        LocalSocket { device: 3, ..plain },
        LocalSocket { fwmark: MASK.encode(1), ..plain },
        LocalSocket { fwmark: MASK.encode(1), given_fwmark: MASK.encode(0), ..plain },
        bound,
    ];
    for socket in choices {
        assert_eq!(connect(&socket, &tables), None, "{socket:?}");
        assert_eq!(sent(&socket, &tables), None, "{socket:?}");
    }
    assert_eq!(local_counts(&tables), [0, 0, 8]);
}

#[test]
fn a_mark_that_linkbal_gave_is_no_choice_of_the_program() {
    let mut tables = tables();
    tables.up_mask = UpMask(0b10);
    let given = MASK.encode(0) | 0x77;
    let again = LocalSocket { fwmark: given, given_fwmark: given, ..socket(UDP, 1, 80) };
    assert_eq!(connect(&again, &tables), Some(MASK.encode(1) | 0x77), "foreign bits stay");
    let mut home = again;
    home.key.destination = ipv4([192, 168, 1, 1]);
    assert_eq!(connect(&home, &tables), Some(0x77), "an earlier mark is taken back");
    assert_eq!(sent(&again, &tables), Some(address_of(1, Family::Ipv4)));
}

#[test]
fn destinations_that_no_uplink_leads_to_are_left_alone() {
    let tables = tables();
    let words = |text: &str| {
        let octets = text.parse::<std::net::Ipv6Addr>().expect("an address").octets();
        let word =
            |at: usize| u32::from_ne_bytes([0usize, 1, 2, 3].map(|byte| octets[4 * at + byte]));
        [word(0), word(1), word(2), word(3)]
    };
    let ipv4s = [[127, 0, 0, 1], [0; 4], [224, 0, 0, 251], [255; 4], [169, 254, 1, 1]];
    let destinations = ipv4s.into_iter().chain([[192, 168, 9, 9]]).map(|octets| (4, ipv4(octets)));
    let ipv6s = ["::", "::1", "fe80::1", "ff02::fb"].map(|text| (6, words(text)));
    for (family, destination) in destinations.chain(ipv6s) {
        let mut socket = sender(5000, 53);
        socket.key = FlowKey { family, destination, ..socket.key };
        assert_eq!(connect(&socket, &tables), None, "{destination:x?}");
        assert_eq!(sent(&socket, &tables), None, "{destination:x?}");
    }
    assert!(tables.flows.borrow().is_empty());
}

#[test]
fn other_namespaces_and_a_datapath_that_is_off_are_not_even_counted() {
    let mut tables = tables();
    let foreign = LocalSocket { netns_cookie: NAMESPACE + 1, ..sender(5000, 80) };
    let untouched = |tables: &ModelTables, socket: &LocalSocket| {
        assert_eq!((connect(socket, tables), sent(socket, tables)), (None, None));
        assert_eq!(local_counts(tables), [0; 3]);
    };
    untouched(&tables, &foreign);
    tables.settings.fwmark_mask = 0;
    untouched(&tables, &sender(5000, 80));
    tables.settings = Settings { fwmark_mask: DEFAULT_MASK, netns_cookie: 0, ..tables.settings };
    untouched(&tables, &sender(5000, 80));
}

proptest! {
    /// Checks that only linkbal's bits change, and only to an uplink that is up, whatever the
    /// socket.
    #[test]
    fn marks_are_of_usable_uplinks(
        cookie: u64, fwmark: u32, given: bool, up in 0u32..4, destination: u32, port: u16,
    ) {
        let mut tables = tables();
        tables.up_mask = UpMask(up);
        let given_fwmark = if given { fwmark } else { 0 };
        let mut socket = LocalSocket { fwmark, given_fwmark, ..socket(TCP, cookie, port) };
        socket.key.destination = [destination, 0, 0, 0];
        if let Some(marked) = connect(&socket, &tables) {
            prop_assert_eq!(marked & !DEFAULT_MASK, fwmark & !DEFAULT_MASK);
            let uplink = MASK.decode(marked);
            prop_assert!(uplink.is_none_or(|uplink| up >> uplink & 1 == 1));
            prop_assert!(uplink.is_some() || marked & DEFAULT_MASK == 0);
        }
        prop_assert_eq!(local_counts(&tables).iter().sum::<u64>(), 1);
    }
}

#[test]
fn what_a_rule_blocks_is_neither_connected_nor_sent() {
    for (otherwise, number) in [(otherwise::DROP, DROP), (otherwise::REJECT, REJECT)] {
        let mut tables = tables();
        tables.up_mask = UpMask(0x0003_0003);
        let nobody = RuleAction { first_bucket: BUCKETS, bucket_mask: 0, ..RuleAction::NO_RULE };
        tables.buckets.push(Bucket::EMPTY);
        tables.actions = vec![RuleAction::NO_RULE; NO_RULE as usize + 1];
        tables.actions[NO_RULE as usize] = RuleAction { otherwise, ..nobody };
        assert_eq!(send::<false, _>(&sender(40_000, 53), &tables), Sending::Refused);
        assert_eq!(connect(&socket(UDP, 1, 53), &tables), Some(MASK.encode(number)));
    }
}
