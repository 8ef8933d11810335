//! An hour of online banking: the customer keeps one address, whatever changes on the gateway.

use std::collections::{BTreeMap, HashSet};

use linkbal_common::{
    dns::{HostKey, domain::name_hash},
    mark::{DEFAULT_MASK, MarkMask},
    model::{ModelPacket, ModelTables, forward},
    settings::{LAYOUT, Settings},
    tables::Tables as _,
    uplink::{Family, UpMask},
    verdict::Verdict,
};
use proptest::prelude::*;

use crate::{
    config::Config,
    engine::{
        indexed,
        policy::{compile, model},
    },
};

const SEED: [u64; 2] = [11, 13];
const IDLE_S: u32 = 600;
const START_S: u32 = 5000;
const CUSTOMER: [u8; 4] = [10, 0, 0, 9];
/// Last bytes of the bank's servers; those of other servers are higher by a hundred.
const SERVERS: std::ops::Range<u8> = 0..10;
const ALL_UP: u32 = 0x0007_0007;

fn server(number: u8) -> [u8; 4] {
    [198, 51, 100, number]
}

fn config(weights: [u32; 3]) -> Config {
    let [a, b, c] = weights;
    let text = format!(
        r#"
        [lan]
        interfaces = ["lan1"]
        [uplink.a]
        interface = "wan-a"
        weight = {a}
        [uplink.b]
        interface = "wan-b"
        weight = {b}
        [uplink.c]
        interface = "wan-c"
        weight = {c}
        [[rule]]
        match = {{ domain = "bank.example" }}
        sticky = {{ by = "src", idle = "{IDLE_S}s" }}
        "#
    );
    Config::parse(&text, "test").expect("a valid configuration")
}

/// A gateway's datapath on the host.
struct Gateway {
    tables: ModelTables,
}

impl Gateway {
    fn new(weights: [u32; 3]) -> Gateway {
        let mut gateway = Gateway { tables: ModelTables::default() };
        gateway.configure(weights);
        gateway.tables.up_mask = UpMask(ALL_UP);
        gateway.tables.now_s = START_S;
        gateway.resolve();
        gateway
    }

    /// Compiles the configuration like a daemon that starts over a running datapath: the buckets
    /// move as little as they can, and what the datapath itself has stored stays.
    fn configure(&mut self, weights: [u32; 3]) {
        let config = config(weights);
        let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
        let previous = Some(self.tables.buckets.as_slice()).filter(|buckets| !buckets.is_empty());
        let policy = compile(&config, &indexed, previous);
        let settings = Settings {
            layout: LAYOUT,
            fwmark_mask: DEFAULT_MASK,
            seed: SEED,
            ..Settings::default()
        };
        let before = std::mem::take(&mut self.tables);
        self.tables = ModelTables {
            up_mask: before.up_mask,
            domains: before.domains,
            flows: before.flows,
            sessions: before.sessions,
            now_s: before.now_s,
            uplinks: (3..).zip(0..3).collect(),
            ..model::tables(&policy, settings, |_| 1)
        };
    }

    /// Stores the addresses of the bank's names, as from a DNS reply with a short TTL.
    fn resolve(&self) {
        let name = name_hash(SEED, "bank.example");
        for number in SERVERS {
            let address = [u32::from_ne_bytes(server(number)), 0, 0, 0];
            let key = HostKey::new(Family::Ipv4, &address);
            let known = self.tables.domain(&key).unwrap_or_default();
            self.tables.store_domain(&key, &known.with(name, 60, self.tables.now_s));
        }
    }

    /// Sends a packet of a connection; returns its uplink.
    fn send(&self, port: u16, to: [u8; 4]) -> u32 {
        self.forward(&tcp(port, to))
    }

    /// Sends the first packet of a connection; returns its uplink.
    fn open(&self, port: u16, to: [u8; 4]) -> u32 {
        let mut bytes = tcp(port, to);
        bytes[FLAGS] = SYN;
        self.forward(&bytes)
    }

    fn forward(&self, bytes: &[u8]) -> u32 {
        match forward(&ModelPacket::frame(bytes), &self.tables) {
            Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => {
                MarkMask(DEFAULT_MASK).decode(fwmark).expect("an uplink")
            }
            Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
        }
    }

    fn set_down(&mut self, uplink: u32) {
        self.tables.up_mask = UpMask(ALL_UP & !(0x0001_0001 << uplink));
    }
}

/// Offset of the flags of TCP in such a frame, and the one that begins a connection (RFC 9293 section 3.1).
const FLAGS: usize = 14 + 20 + 13;
const SYN: u8 = 2;

/// Returns a frame with the front of a TCP segment from the customer.
fn tcp(port: u16, to: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    bytes.extend(CUSTOMER);
    bytes.extend(to);
    bytes.extend(port.to_be_bytes());
    bytes.extend(443u16.to_be_bytes());
    bytes.resize(14 + 40, 0);
    bytes
}

/// A change on the gateway in one second.
#[derive(Clone, Debug)]
enum Change {
    None,
    Weights([u32; 3]),
    /// One of the two uplinks that the customer does not use goes down, the other one is up.
    OtherDown(bool),
    AllUp,
    /// The flow table is full: all entries are evicted.
    EvictFlows,
    /// The session table is full: all entries are evicted.
    EvictSessions,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        300 => Just(Change::None),
        2 => proptest::array::uniform3(1u32..100).prop_map(Change::Weights),
        2 => any::<bool>().prop_map(Change::OtherDown),
        2 => Just(Change::AllUp),
        1 => Just(Change::EvictFlows),
        1 => Just(Change::EvictSessions),
    ]
}

/// An open connection: its port, its server, and the seconds that it lasts.
type Connection = (u16, u8, u32);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn fifty_connections_at_a_time_leave_by_one_uplink_for_an_hour(
        changes in proptest::collection::vec(change(), 3600),
        lengths in proptest::collection::vec(1u32..240, 97),
    ) {
        let mut gateway = Gateway::new([30, 50, 20]);
        let first = gateway.send(1, server(0));
        let (mut open, mut port) = (Vec::<Connection>::new(), 1000u16);
        let mut of_others = HashSet::new();
        for change in changes {
            gateway.tables.now_s += 1;
            if gateway.tables.now_s.is_multiple_of(50) {
                gateway.resolve();
            }
            match change {
                Change::None => {}
                Change::Weights(weights) => gateway.configure(weights),
                Change::OtherDown(next) => gateway.set_down((first + 1 + u32::from(next)) % 3),
                Change::AllUp => gateway.tables.up_mask = UpMask(ALL_UP),
                Change::EvictFlows => gateway.tables.flows.borrow_mut().clear(),
                Change::EvictSessions => gateway.tables.sessions.borrow_mut().clear(),
            }
            while open.len() < 50 {
                port += 1;
                let length = lengths[usize::from(port) % lengths.len()];
                open.push((port, (port % 10) as u8, length));
            }
            for (port, number, left) in &mut open {
                *left -= 1;
                prop_assert_eq!(gateway.send(*port, server(*number)), first);
            }
            of_others.insert(gateway.send(port, server(100 + (port % 100) as u8)));
            open.retain(|(_, _, left)| *left > 0);
        }
        // Without the rule, more than one uplink would have been used.
        prop_assert!(of_others.len() > 1);
    }
}

#[test]
fn any_flow_keeps_the_session_alive_and_idle_time_ends_it() {
    let mut gateway = Gateway::new([50, 50, 50]);
    let first = gateway.send(1, server(0));
    // Flow 1 alone speaks, each time just before the end.
    for _ in 0..10 {
        gateway.tables.now_s += IDLE_S - 1;
        gateway.resolve();
        assert_eq!(gateway.send(1, server(0)), first);
    }
    let mut weights = [50; 3];
    weights[first as usize] = 0;
    gateway.configure(weights);
    gateway.tables.now_s += IDLE_S - 1;
    gateway.resolve();
    assert_eq!(gateway.send(2, server(1)), first, "a new flow joins the living session");
    gateway.tables.now_s += IDLE_S;
    gateway.resolve();
    let third = gateway.send(3, server(2));
    assert_ne!(third, first, "the session is over");
    assert_eq!(gateway.open(2, server(1)), third, "after such silence a flow begins anew");
}

#[test]
fn a_session_ends_with_its_uplink_and_does_not_return() {
    let mut gateway = Gateway::new([50, 50, 50]);
    let first = gateway.send(1, server(0));
    gateway.set_down(first);
    let second = gateway.send(2, server(1));
    assert_ne!(second, first);
    assert_eq!(gateway.send(1, server(0)), second, "the flow moves to where its session is");
    gateway.tables.up_mask = UpMask(ALL_UP);
    for number in SERVERS {
        assert_eq!(gateway.send(10 + u16::from(number), server(number)), second);
    }
}

#[test]
fn a_flow_brings_back_its_session_when_that_had_to_make_room() {
    let mut gateway = Gateway::new([50, 50, 50]);
    let first = gateway.send(1, server(0));
    gateway.tables.sessions.borrow_mut().clear();
    let mut weights = [50; 3];
    weights[first as usize] = 0;
    gateway.configure(weights);
    gateway.tables.now_s += 1;
    assert_eq!(gateway.send(1, server(0)), first);
    assert_eq!(gateway.send(2, server(1)), first);
}
