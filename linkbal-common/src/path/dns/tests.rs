//! Replies made by another implementation, and malformed ones.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr as _,
};

use etherparse::PacketBuilder;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, TXT},
    },
};
use proptest::prelude::*;

use super::{
    HostKey,
    domain::{Domain, MAX_TTL_S, MIN_TTL_S, NAMES, NO_NAME, name_hash},
    note_query,
};
use crate::{
    maps::{counter::Counter, rule::RuleSet, settings::Settings, uplink::Family},
    model::{ModelPacket, ModelTables},
    path::{egress::egress, hash::Seed, tables::bypass},
};

mod belief;

const SEED: Seed = [0x0123_4567_89ab_cdef, 42];
const NOW_S: u32 = 1000;
const CLIENT: [u8; 4] = [10, 0, 0, 9];
const GATEWAY: [u8; 4] = [10, 0, 0, 1];
const PORT: u16 = 40_000;
const ID: u16 = 77;
/// Interfaces: of an uplink, of the client's LAN, of another LAN, and of neither.
const UPLINK: u32 = 7;
const LAN: u32 = 1;
const OTHER_LAN: u32 = 2;
const TUNNEL: u32 = 9;
/// A resolver behind [`OTHER_LAN`].
const RESOLVER: [u8; 4] = [10, 0, 2, 53];
/// The interface by which the gateway's own replies come in: none.
const OWN: u32 = 0;

fn tables(names: &[&str]) -> ModelTables {
    let rules = names.iter().map(|name| (name_hash(SEED, name), RuleSet::NONE.with(1)));
    ModelTables {
        settings: Settings { seed: SEED, domains: names.len() as u32, ..Settings::default() },
        domain_rules: rules.chain([(NO_NAME, RuleSet::NONE.with(0))]).collect(),
        uplinks: HashMap::from([(UPLINK, 0)]),
        now_s: NOW_S,
        ..ModelTables::default()
    }
}

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

fn address_record(owner: &str, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name(owner), 300, data)
}

fn alias(owner: &str, to: &str) -> Record {
    Record::from_rdata(name(owner), 300, RData::CNAME(CNAME(name(to))))
}

fn message(asked: &str, answers: impl IntoIterator<Item = Record>) -> Message {
    let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name(asked), RecordType::A));
    message.add_answers(answers);
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message that can be written")
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from.0, to.0, 64);
    let mut bytes = Vec::new();
    builder.udp(from.1, to.1).write(&mut bytes, payload).expect("a vector takes all");
    bytes
}

/// Returns a packet at an interface.
fn at(ifindex: u32, bytes: &[u8]) -> ModelPacket<'_> {
    ModelPacket { ifindex, ..ModelPacket::frame(bytes) }
}

fn query(server: [u8; 4]) -> Vec<u8> {
    let query = Message::new(ID, MessageType::Query, OpCode::Query);
    udp((CLIENT, PORT), (server, 53), &bytes(&query))
}

/// Adds a resolver that an interface leads to, and sends it a query of the client.
fn ask_of(tables: &mut ModelTables, server: [u8; 4], ifindex: u32) {
    tables.resolvers.insert(key(IpAddr::from(server)));
    let routed = bypass::by(bypass::MAIN, ifindex);
    tables.bypass.push((Family::Ipv4, key(IpAddr::from(server)).address, 32, routed));
    note_query(&at(LAN, &query(server)), tables, &tables.settings);
}

/// Passes a reply to the client, which came in by `ingress_ifindex`.
fn reply_from(tables: &ModelTables, server: [u8; 4], ingress_ifindex: u32, payload: &[u8]) {
    let packet = udp((server, 53), (CLIENT, PORT), payload);
    egress(&at(LAN, &packet), tables, ingress_ifindex);
}

/// Sends a query of the client to the gateway, which replies with `payload`.
fn exchange(tables: &ModelTables, payload: &[u8]) {
    note_query(&at(LAN, &query(GATEWAY)), tables, &tables.settings);
    reply_from(tables, GATEWAY, OWN, payload);
}

fn key(address: IpAddr) -> HostKey {
    let words = |octets: &[u8]| {
        let mut words = [0; 4];
        for (word, four) in words.iter_mut().zip(octets.chunks(4)) {
            *word = u32::from_ne_bytes(four.try_into().expect("four bytes"));
        }
        words
    };
    match address {
        IpAddr::V4(address) => HostKey::new(Family::Ipv4, &words(&address.octets())),
        IpAddr::V6(address) => HostKey::new(Family::Ipv6, &words(&address.octets())),
    }
}

/// Returns the learned addresses, each with its names.
fn learned(tables: &ModelTables) -> HashMap<HostKey, Vec<u64>> {
    let domains = tables.domains.borrow();
    let names = |domain: &Domain| {
        let all = domain.names.into_iter().zip(domain.expires_s);
        all.filter(|(_, expires_s)| *expires_s > tables.now_s).map(|(name, _)| name).collect()
    };
    domains.iter().map(|(key, domain)| (*key, names(domain))).collect()
}

fn knows(tables: &ModelTables, address: IpAddr, domain: &str) -> bool {
    learned(tables).get(&key(address)).is_some_and(|names| names == &[name_hash(SEED, domain)])
}

const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

#[test]
fn both_families_behind_aliases_count_for_the_name_that_was_asked_for() {
    let tables = tables(&["bank.example"]);
    let answers = [
        alias("www.bank.example.", "bank.cdn.example."),
        alias("bank.cdn.example.", "edge-7.cdn.example."),
        address_record("edge-7.cdn.example.", FOUR),
        address_record("edge-7.cdn.example.", SIX),
    ];
    exchange(&tables, &bytes(&message("WWW.Bank.Example.", answers)));
    assert!(knows(&tables, FOUR, "bank.example") && knows(&tables, SIX, "bank.example"));
    assert_eq!(tables.counter(Counter::DnsRead), 1);
}

#[test]
fn the_longest_configured_suffix_is_the_name_and_others_teach_nothing() {
    let configured = ["example", "bank.example", "login.bank.example"];
    let cases = [
        ("bank.example.", Some("bank.example")),
        ("a.b.bank.example.", Some("bank.example")),
        ("x.login.bank.example.", Some("login.bank.example")),
        ("ank.example.", Some("example")),
        ("mybank.example.", Some("example")),
        ("bank.example.net.", None),
        (".", None),
    ];
    for (asked, expected) in cases {
        let tables = tables(&configured);
        exchange(&tables, &bytes(&message(asked, [address_record(asked, FOUR)])));
        match expected {
            Some(name) => assert!(knows(&tables, FOUR, name), "{asked}"),
            None => assert!(learned(&tables).is_empty(), "{asked}"),
        }
    }
}

#[test]
fn a_ttl_with_its_highest_bit_set_is_none() {
    let tables = tables(&["bank.example"]);
    let mut record = address_record("bank.example.", FOUR);
    record.ttl = 1 << 31 | 5000;
    exchange(&tables, &bytes(&message("bank.example.", [record])));
    let domain = *tables.domains.borrow().values().next().expect("an address");
    assert_eq!(domain.expires_s[0], NOW_S + MIN_TTL_S);
}

#[test]
fn queries_and_failures_teach_nothing() {
    let mut failure = message("bank.example.", [address_record("bank.example.", FOUR)]);
    failure.metadata.response_code = ResponseCode::ServFail;
    let mut query = message("bank.example.", [address_record("bank.example.", FOUR)]);
    query.metadata.message_type = MessageType::Query;
    for message in [failure, query] {
        let tables = tables(&["bank.example"]);
        exchange(&tables, &bytes(&message));
        assert!(learned(&tables).is_empty());
        assert_eq!(tables.counter(Counter::DnsRead), 0);
    }
}

#[test]
fn of_a_truncated_reply_what_did_fit_counts() {
    let tables = tables(&["bank.example"]);
    let mut message = message("bank.example.", [address_record("bank.example.", FOUR)]);
    message.metadata.truncation = true;
    exchange(&tables, &bytes(&message));
    assert!(knows(&tables, FOUR, "bank.example"));
}

#[test]
fn all_of_a_hundred_answers_are_learned() {
    let tables = tables(&["bank.example"]);
    let addresses = (0..100).map(|last| IpAddr::from([198, 51, 100, last]));
    let answers = addresses.clone().map(|address| address_record("bank.example.", address));
    let reply = bytes(&message("bank.example.", answers));
    assert!(reply.len() < super::reply::SIZE);
    exchange(&tables, &reply);
    for address in addresses {
        assert!(knows(&tables, address, "bank.example"), "{address}");
    }
}

#[test]
fn of_a_reply_that_is_too_long_the_front_is_read() {
    let tables = tables(&["bank.example"]);
    let addresses = (0..400u16).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]));
    let answers = addresses.map(|address| address_record("bank.example.", address));
    exchange(&tables, &bytes(&message("bank.example.", answers)));
    assert!((50..200).contains(&learned(&tables).len()));
    assert_eq!(tables.counter(Counter::DnsMalformed), 1);
}

/// Checks that a pointer to itself does not lead the reader into an endless loop.
#[test]
fn pointers_are_not_followed() {
    let tables = tables(&["bank.example"]);
    let mut reply = bytes(&message("bank.example.", [address_record("x.", FOUR)]));
    let owner = 12 + "?bank?example?".len() + 4;
    let itself = 0xc000 | u16::try_from(owner).expect("a short message");
    reply.splice(owner..owner + 3, itself.to_be_bytes());
    exchange(&tables, &reply);
    assert!(knows(&tables, FOUR, "bank.example"));
    // In the question, where there is nothing to point to, it is an error.
    reply.splice(12..14, [0xc0, 12]);
    exchange(&tables, &reply);
    assert_eq!(tables.counter(Counter::DnsMalformed), 1);
}

#[test]
fn an_address_has_several_names_each_for_its_time() {
    let mut domain = Domain::default();
    for name in 1..=4 {
        domain = domain.with(name, 100 * name as u32, NOW_S);
    }
    assert_eq!(domain.names, [1, 2, 3, 4]);
    // The fifth takes the place of the one that expires first.
    domain = domain.with(5, 1000, NOW_S);
    assert_eq!(domain.names, [5, 2, 3, 4]);
    // A shorter time does not replace a longer one.
    assert_eq!(domain.with(4, 60, NOW_S), domain);
    assert_eq!(domain.with(4, 500, NOW_S).expires_s[3], NOW_S + 500);
}

proptest! {
    #[test]
    fn a_name_is_remembered_between_a_minute_and_a_day(
        names in proptest::collection::vec(1u64..6, 0..12),
        ttl_s: u32,
        now_s in 1u32..2_000_000_000,
    ) {
        let before = names.iter().fold(Domain::default(), |domain, name| domain.with(*name, 0, 1));
        let after = before.with(9, ttl_s, now_s);
        let places: Vec<usize> = (0..NAMES).filter(|slot| after.names[*slot] == 9).collect();
        prop_assert_eq!(places.len(), 1);
        let remembered_s = after.expires_s[places[0]] - now_s;
        prop_assert_eq!(remembered_s, ttl_s.clamp(MIN_TTL_S, MAX_TTL_S));
        let others = (0..NAMES).filter(|slot| *slot != places[0]);
        prop_assert!(others.into_iter().all(|slot| after.names[slot] == before.names[slot]));
    }

    /// Checks that exactly the addresses in the answers are learned, whatever a resolver says.
    #[test]
    fn exactly_the_addresses_in_the_answers_are_learned(
        labels in proptest::collection::vec("[a-zA-Z0-9-]{1,20}", 0..6),
        under_the_domain: bool,
        answers in proptest::collection::vec((0u8..4, any::<[u8; 16]>()), 0..40),
    ) {
        let tables = tables(&["bank.example"]);
        let end = if under_the_domain { "bAnK.example." } else { "bank.example.net." };
        let labels: Vec<_> = labels.iter().map(|label| label.trim_matches('-')).collect();
        let front: String = labels.iter().filter(|label| !label.is_empty())
            .map(|label| format!("{label}.")).collect();
        let asked = front + end;
        let mut expected = HashSet::new();
        let records = answers.iter().map(|(kind, octets)| {
            let [a, b, c, d, ..] = *octets;
            match kind {
                0 => address_record(&asked, IpAddr::from([a, b, c, d])),
                1 => address_record("other.example.", IpAddr::from(*octets)),
                2 => alias(&asked, "other.example."),
                _ => Record::from_rdata(name(&asked), 60, RData::TXT(TXT::new(vec!["text".into()]))),
            }
        });
        let records: Vec<Record> = records.collect();
        for record in &records {
            match &record.data {
                RData::A(A(address)) => expected.insert(key(IpAddr::V4(*address))),
                RData::AAAA(AAAA(address)) => expected.insert(key(IpAddr::V6(*address))),
                _ => false,
            };
        }
        exchange(&tables, &bytes(&message(&asked, records)));
        let had: HashSet<HostKey> = learned(&tables).into_keys().collect();
        prop_assert_eq!(had, if under_the_domain { expected } else { HashSet::new() });
    }

    #[test]
    fn broken_replies_end_and_are_counted_once(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let tables = tables(&["bank.example"]);
        let answers = [alias("bank.example.", "edge.example."), address_record("edge.example.", SIX)];
        let mut reply = bytes(&message("bank.example.", answers));
        for (at, byte) in damage {
            // The header's first four bytes say that it is the reply to the query.
            let at = 4 + at.index(reply.len() - 4);
            reply[at] = byte;
        }
        reply.truncate(12 + cut.index(reply.len() - 11));
        let answers = u16::from_be_bytes([reply[6], reply[7]]);
        exchange(&tables, &reply);
        let counted = tables.counter(Counter::DnsRead) + tables.counter(Counter::DnsMalformed);
        prop_assert_eq!(counted, u64::from(answers > 0));
    }

    #[test]
    fn random_bytes_do_no_harm(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        let tables = tables(&["bank.example"]);
        let mut reply = bytes(&message("bank.example.", [address_record("x.", FOUR)]));
        reply.truncate(12);
        reply.extend(payload);
        exchange(&tables, &reply);
    }
}
