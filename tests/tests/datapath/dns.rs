//! Addresses of domains, learned from DNS replies in the kernel as on the host.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr as _,
};

use anyhow::{Result, ensure};
use etherparse::PacketBuilder;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use linkbal_common::{
    counter::Counter,
    dns::HostKey,
    mark::{DEFAULT_MASK, MarkMask},
    tables::bypass,
    uplink::Family,
    verdict::Verdict,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::fixture::Fixture;

const RULES: &str = r#"
[[rule]]
match = { domain = "bank.example", protocol = "tcp" }
use = "a"
[[rule]]
match = { domain = "login.bank.example" }
use = "b"
[[rule]]
match = { domain = "example" }
use = "c"
"#;

const MASK: MarkMask = MarkMask(DEFAULT_MASK);
const A_MARK: u32 = MASK.encode(0);
const B_MARK: u32 = MASK.encode(1);
const C_MARK: u32 = MASK.encode(2);

/// The ingress interface of a reply that the gateway itself sends.
const OWN: u32 = 0;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 9));
const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Returns a frame with a UDP datagram.
fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from.0, to.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    ip.udp(from.1, to.1).write(&mut bytes, payload).expect("a vector takes all");
    bytes
}

fn tcp(destination: IpAddr) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (CLIENT, CLIENT_V6, destination) {
        (IpAddr::V4(client), _, IpAddr::V4(to)) => ethernet.ipv4(client.octets(), to.octets(), 64),
        (_, IpAddr::V6(client), IpAddr::V6(to)) => ethernet.ipv6(client.octets(), to.octets(), 64),
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    ip.tcp(40_000, 80, 1, 1024).write(&mut bytes, &[]).expect("a vector takes all");
    bytes
}

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

/// Returns the reply to a query for `asked`: an alias, and the addresses of what it stands for.
fn reply(id: u16, asked: &str, addresses: &[IpAddr]) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name(asked), RecordType::A));
    let edge = name("edge.cdn.test.");
    message.add_answer(Record::from_rdata(name(asked), 300, RData::CNAME(CNAME(edge.clone()))));
    message.add_answers(addresses.iter().map(|address| {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
        };
        Record::from_rdata(edge.clone(), 300, data)
    }));
    message.to_vec().expect("a message that can be written")
}

fn query(id: u16) -> Vec<u8> {
    let message = Message::new(id, MessageType::Query, OpCode::Query);
    message.to_vec().expect("a message that can be written")
}

/// Sends the client's query and the gateway's reply with `payload` through both sides.
fn exchange(fixture: &mut Fixture, id: u16, payload: &[u8]) -> Result<()> {
    let (client, server) =
        if id.is_multiple_of(2) { (CLIENT, GATEWAY) } else { (CLIENT_V6, GATEWAY_V6) };
    // Each host has a limited share, so there are many hosts.
    let host = (id / 100) as u8;
    let mut asks = udp((client, 40_000), (server, 53), &query(id));
    asks[11] = host;
    fixture.both(&asks, 0)?;
    let mut answers = udp((server, 53), (client, 40_000), payload);
    answers[5] = host;
    fixture.both_to_lan(&answers, 0, OWN)
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, number])
}

fn address_v6(number: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])
}

#[test]
fn the_first_packet_after_a_reply_follows_the_rule() -> Result<()> {
    let mut fixture = Fixture::with_rules(RULES)?;
    let cases = [
        ("www.bank.example.", A_MARK),
        ("LOGIN.Bank.Example.", A_MARK),
        ("bank.example.", A_MARK),
        ("shop.example.", C_MARK),
        ("mybank.example.", C_MARK),
    ];
    for ((asked, mark), number) in cases.into_iter().zip(1..) {
        let addresses = [address(number), address_v6(number.into())];
        exchange(&mut fixture, number.into(), &reply(number.into(), asked, &addresses))?;
        for address in addresses {
            ensure!(fixture.both(&tcp(address), 0)? == Verdict::Mark(mark), "{asked} {address}");
        }
    }
    // The first rule asks for TCP.
    let login = udp((CLIENT, 40_000), (address(2), 443), b"QUIC");
    ensure!(fixture.both(&login, 0)? == Verdict::Mark(B_MARK));
    ensure!(fixture.counter(Counter::DnsRead)? == 5);
    fixture.compare_maps()
}

#[test]
fn an_unsolicited_dns_reply_is_ignored() -> Result<()> {
    let mut fixture = Fixture::with_rules(RULES)?;
    let payload = reply(1, "bank.example.", &[address(1)]);
    fixture.both_to_lan(&udp((GATEWAY, 53), (CLIENT, 40_000), &payload), 0, OWN)?;
    exchange(&mut fixture, 3, &payload)?;
    ensure!(fixture.counter(Counter::DnsIgnored)? == 2);
    ensure!(fixture.model.domains.borrow().is_empty());
    fixture.compare_maps()
}

/// Checks a resolver in another network, which only answers from there, and each query once.
#[test]
fn a_resolver_elsewhere_is_trusted_by_its_own_interface() -> Result<()> {
    const BEHIND: u32 = 90;
    let server = IpAddr::from([10, 9, 9, 53]);
    let client = (CLIENT, 40_000);
    let mut fixture = Fixture::with_rules(RULES)?;
    let words = |octets| [u32::from_ne_bytes(octets), 0, 0, 0];
    let way = bypass::by(bypass::MAIN, BEHIND);
    let lan = fixture.model.bypass.iter().position(|prefix| prefix.0 == Family::Ipv6);
    fixture.model.bypass.truncate(lan.unwrap_or(0));
    fixture.model.bypass.push((Family::Ipv4, words([10, 9, 9, 0]), 24, way));
    let prefixes = [("192.168.0.0/16", bypass::MAIN), ("10.9.9.0/24", way)];
    let prefixes = prefixes.map(|(prefix, way)| prefix.parse().map(|prefix| (prefix, way)));
    let prefixes: Result<_, ipnet::AddrParseError> = prefixes.into_iter().collect();
    fixture.datapath.set_bypass(&prefixes?)?;
    fixture.model.resolvers.insert(HostKey::new(Family::Ipv4, &words([10, 9, 9, 53])));
    fixture.datapath.set_resolvers(&[server].into())?;
    for (id, by) in (1..).zip([BEHIND, 91, OWN]) {
        let payload = reply(id, "bank.example.", &[address(id as u8)]);
        fixture.both(&udp(client, (server, 53), &query(id)), 0)?;
        for _ in 0..2 {
            fixture.both_to_lan(&udp((server, 53), client, &payload), 0, by)?;
        }
    }
    let other = IpAddr::from([10, 9, 9, 54]);
    fixture.both(&udp(client, (other, 53), &query(9)), 0)?;
    let payload = reply(9, "bank.example.", &[address(9)]);
    fixture.both_to_lan(&udp((other, 53), client, &payload), 0, BEHIND)?;
    ensure!(fixture.counter(Counter::DnsRead)? == 2);
    ensure!(fixture.counter(Counter::DnsIgnored)? == 2 + 2 + 1);
    fixture.compare_maps()
}

/// Damage to a reply: bytes to overwrite, and where to cut.
type Damage = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>);

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (bytes, proptest::option::of(any::<prop::sample::Index>()))
}

#[test]
fn five_thousand_broken_replies_make_no_difference() -> Result<()> {
    let mut fixture = Fixture::with_rules(RULES)?;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let names = ["a.b.c.bank.example.", "login.bank.example.", "example.", "other.test.", "."];
    for id in 0..5000u16 {
        let case = damage().new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let (bytes, cut) = case.current();
        let [high, low] = id.to_be_bytes();
        let addresses = [IpAddr::from([198, 18, high, low]), address_v6(id)];
        let mut payload = reply(id, names[usize::from(id) % names.len()], &addresses);
        for (at, byte) in bytes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        exchange(&mut fixture, id, &payload)?;
    }
    for counter in [Counter::DnsRead, Counter::DnsIgnored, Counter::DnsMalformed] {
        ensure!(fixture.counter(counter)? > 100, "few were {}", counter.name());
    }
    fixture.compare_maps()
}

#[test]
fn all_of_a_hundred_addresses_are_learned() -> Result<()> {
    let mut fixture = Fixture::with_rules(RULES)?;
    let addresses: Vec<IpAddr> = (0..100).map(address).collect();
    exchange(&mut fixture, 2, &reply(2, "bank.example.", &addresses))?;
    ensure!(fixture.model.domains.borrow().len() == 100);
    fixture.compare_maps()
}
