//! Queries and replies, valid and corrupted: only what was asked for and is configured is learned.

use std::collections::{BTreeSet, HashMap};

use linkbal_common::{
    counter::Counter,
    dns::{
        HostKey,
        domain::{Domain, MAX_TTL_S, NO_NAME, name_hash},
        learn_local, note_local_query,
    },
    egress::egress,
    hash::Seed,
    ingress::ingress,
    mark::DEFAULT_MASK,
    model::{ModelPacket, ModelTables},
    rule::RuleSet,
    settings::{LAYOUT, Settings},
    tables::bypass,
    uplink::Family,
};

use crate::cursor::Cursor;

const SEED: Seed = [5, 6];
/// The interface of an uplink.
const UPLINK: u32 = 3;
/// The interface of the client, and another one that leads to all servers.
const LAN: u32 = 2;
const OTHER: u32 = 4;
/// Interfaces that replies can come in by; 0 for local traffic.
const ARRIVALS: [u32; 6] = [0, 1, LAN, UPLINK, OTHER, 5];
const NAMES: [&str; 3] = ["bank.example", "www.bank.example", "b.br"];
const OUTCOMES: [Counter; 2] = [Counter::DnsRead, Counter::DnsMalformed];
/// The client, and servers: the gateway, a resolver, and one that is not configured.
const CLIENT: u8 = 9;
const SERVERS: [u8; 3] = [1, 53, 66];

/// Exchanges messages between a client and servers.
pub fn run(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut tables = tables();
    let mut asked = BTreeSet::new();
    while !cursor.is_empty() {
        let what = cursor.byte();
        tables.now_s += u32::from(what >> 6) * 5;
        let ipv6 = what & 1 != 0;
        let server = SERVERS[usize::from(what >> 1 & 3) % 3];
        let port = 40_000 + u16::from(what >> 3 & 1);
        let payload = message(&mut cursor, what & 16 == 0);
        if what & 32 == 0 {
            let bytes = frame(ipv6, (CLIENT, port), (server, 53), &payload);
            let packet = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
            ingress(&packet, &tables);
            note_local_query(&ModelPacket { ifindex: UPLINK, ..packet }, &tables, &tables.settings);
            asked.insert((ipv6, server, port));
            continue;
        }
        let bytes = frame(ipv6, (server, 53), (CLIENT, port), &payload);
        let reply = Reply {
            bytes: &bytes,
            arrival: ARRIVALS[usize::from(cursor.below(6))],
            asked: asked.contains(&(ipv6, server, port)),
            server,
        };
        reply.pass(&tables);
    }
}

/// A reply on its way to the LAN.
struct Reply<'a> {
    bytes: &'a [u8],
    /// The interface that it came in by; 0 for the gateway itself.
    arrival: u32,
    /// True if the client has asked this server at all.
    asked: bool,
    server: u8,
}

impl Reply<'_> {
    fn pass(&self, tables: &ModelTables) {
        let counted = || OUTCOMES.map(|counter| tables.counter(counter)).iter().sum::<u64>();
        let (before, known) = (counted(), tables.domains.borrow().clone());
        let packet = ModelPacket { ifindex: LAN, ..ModelPacket::frame(self.bytes) };
        egress(&packet, tables, self.arrival);
        assert!(counted() - before <= 1, "a reply is read once");
        if *tables.domains.borrow() != known {
            assert!(self.asked, "learned from a reply that nobody asked for");
            assert!(self.arrival != LAN, "learned from a host of the same network");
            let believed = self.arrival == 0 || self.server == SERVERS[1];
            assert!(believed, "learned from somebody");
            assert_eq!(counted() - before, 1, "learned without a count");
        }
        learn_local(&ModelPacket { ifindex: self.arrival, ..packet }, tables, &tables.settings);
        tables.domains.borrow().iter().for_each(|(host, domain)| check(*host, domain, tables));
    }
}

fn check(host: HostKey, domain: &Domain, tables: &ModelTables) {
    assert!(matches!(host.family, 4 | 6));
    for (name, expires_s) in domain.names.iter().zip(domain.expires_s) {
        let known = tables.domain_rules.contains_key(name) && *name != NO_NAME;
        assert!(known || expires_s == 0, "a name of no rule: {name:#x}");
        assert!(expires_s <= tables.now_s + MAX_TTL_S, "for too long");
    }
}

fn tables() -> ModelTables {
    let rules = NAMES.iter().map(|name| (name_hash(SEED, name), RuleSet::NONE.with(1)));
    let resolver = |ipv6| HostKey::new(family(ipv6), &address(ipv6, SERVERS[1]));
    ModelTables {
        settings: Settings {
            layout: LAYOUT,
            fwmark_mask: DEFAULT_MASK,
            seed: SEED,
            domains: NAMES.len() as u32,
            ..Settings::default()
        },
        bypass: [false, true]
            .map(|ipv6| {
                (
                    family(ipv6),
                    address(ipv6, 0),
                    if ipv6 { 64 } else { 24 },
                    bypass::by(bypass::MAIN, OTHER),
                )
            })
            .into(),
        domain_rules: rules.chain([(NO_NAME, RuleSet::NONE.with(0))]).collect(),
        resolvers: [false, true].map(resolver).into(),
        uplinks: HashMap::from([(UPLINK, 0)]),
        now_s: 1000,
        ..ModelTables::default()
    }
}

/// Returns a message made from a few bytes, or any bytes.
fn message(cursor: &mut Cursor<'_>, whole: bool) -> Vec<u8> {
    if !whole {
        let length = cursor.byte();
        return cursor.bytes(length.into()).to_vec();
    }
    let shape = cursor.byte();
    let records = shape >> 2 & 7;
    let flags = if shape & 1 == 0 { [0x81, 0x80] } else { [1, 0] };
    let mut bytes = vec![0, shape >> 1 & 1, flags[0], flags[1], 0, 1, 0, records, 0, 0, 0, 0];
    name(cursor, &mut bytes);
    bytes.extend([0, 1, 0, 1]);
    for _ in 0..records {
        record(cursor, &mut bytes);
    }
    let cut = cursor.byte();
    if cut & 0x80 != 0 {
        bytes.truncate(bytes.len() - usize::from(cut & 0x7f).min(bytes.len()));
    }
    bytes
}

/// Appends a configured name, or one with another label in front.
fn name(cursor: &mut Cursor<'_>, bytes: &mut Vec<u8>) {
    let which = cursor.byte();
    let known = NAMES[usize::from(which & 3) % 3];
    let labels = known.split('.').map(str::as_bytes);
    let more = cursor.bytes(usize::from(which >> 4)).to_vec();
    let more = (!more.is_empty()).then_some(more);
    for label in more.iter().map(Vec::as_slice).chain(labels) {
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
}

fn record(cursor: &mut Cursor<'_>, bytes: &mut Vec<u8>) {
    let what = cursor.byte();
    match what & 3 {
        0 => name(cursor, bytes),
        1 => bytes.extend([0xc0, cursor.byte()]),
        _ => bytes.extend([0xc0, 12]),
    }
    let (kind, length) =
        [(1, 4), (28, 16), (5, 2), (cursor.byte(), cursor.byte())][usize::from(what >> 2 & 3)];
    bytes.extend([0, kind, 0, 1]);
    bytes.extend(cursor.long().to_be_bytes());
    bytes.extend([0, length]);
    bytes.extend((0..length).map(|at| at ^ what));
}

const fn family(ipv6: bool) -> Family {
    if ipv6 { Family::Ipv6 } else { Family::Ipv4 }
}

fn address(ipv6: bool, host: u8) -> [u32; 4] {
    match ipv6 {
        false => [u32::from_ne_bytes([10, 0, 0, host]), 0, 0, 0],
        true => [u32::from_ne_bytes([0xfd, 0, 0, 1]), 0, 0, u32::from_ne_bytes([0, 0, 0, host])],
    }
}

fn frame(ipv6: bool, from: (u8, u16), to: (u8, u16), payload: &[u8]) -> Vec<u8> {
    let words = |host| address(ipv6, host).map(u32::to_ne_bytes).concat();
    let length = payload.len() as u16 + 8;
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if ipv6 {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([17, 64]);
        bytes.extend([words(from.0), words(to.0)].concat());
    } else {
        let mut header = vec![0x45, 0];
        header.extend((length + 20).to_be_bytes());
        header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        header.extend([&words(from.0)[..4], &words(to.0)[..4]].concat());
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        bytes.extend([8, 0]);
        bytes.extend(header);
    }
    bytes.extend([from.1, to.1, length, 0].map(u16::to_be_bytes).concat());
    bytes.extend(payload);
    bytes
}

/// Returns the checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
