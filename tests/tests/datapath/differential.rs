//! The same random packets through the host's code and the loaded program.

use anyhow::{Result, ensure};
use linkbal_common::{counter::Counter, uplink::UpMask};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    fixture::Fixture,
    packets::{Shape, plain, shapes, with_extensions},
};

/// Number of packets to compare.
const PACKETS: usize = 10_000;

/// Rules of every kind, most of them about a part of the packets.
const RULES: &str = r#"
[[rule]]
match = { dport = 53, source = "10.0.0.0/25" }
use = "b"
otherwise = "drop"
[[rule]]
match = { vlan = 10, protocol = ["tcp", "sctp"] }
use = ["c", "a"]
otherwise = "reject"
[[rule]]
match = { protocol = "icmp", interface = "lan0" }
use = { a = 10, b = 20, c = 30 }
[[rule]]
match = { source = ["10.0.0.0/26", "2001:db8:1::/64"], sport = "1-20000", dscp = [0, "ef"] }
sticky = { by = "src", group = true }
[[rule]]
match = { mac = "02:00:00:00:00:02" }
use = "a"
"#;

/// Bytes to overwrite in a packet: their positions and new values.
type Damage = Vec<(prop::sample::Index, u8)>;

/// Returns a strategy for packets made from a whole shape, or from random bytes.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = (any::<prop::sample::Index>(), 0u8..8);
    let plain = plain();
    let long = plain.iter().filter(|shape| !shape.is_ipv4());
    let long = long.map(|shape| with_extensions(shape, "eight headers", &[60; 8]));
    let shapes: Vec<Shape> = shapes().into_iter().chain(long.collect::<Vec<_>>()).collect();
    let like_real = (prop::sample::select(shapes), any::<[u8; 2]>(), damage, cut)
        .prop_map(|(shape, tuple, damage, cut)| damaged(&shape, tuple, &damage, cut));
    prop_oneof![9 => like_real, 1 => proptest::collection::vec(any::<u8>(), 14..120)]
}

/// Gives the packet another client and port, damages some of its bytes, and cuts it one time in
/// eight.
fn damaged(
    shape: &Shape,
    [client, port]: [u8; 2],
    damage: &Damage,
    (cut, whole): (prop::sample::Index, u8),
) -> Vec<u8> {
    let mut bytes = shape.bytes.clone();
    let (end_of_source, ports) = if shape.is_ipv4() { (15, 20) } else { (23, 40) };
    bytes[shape.network + end_of_source] = client;
    bytes[shape.network + ports] = port;
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if whole == 0 {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

#[test]
fn ten_thousand_random_packets_make_no_difference() -> Result<()> {
    let mut fixture = Fixture::with_rules(RULES)?;
    let seed = [7; 32];
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = (packet(), prop_oneof![4 => Just(0u32), 1 => any::<u32>()]);
    for number in 0..PACKETS {
        // Uplinks come and go, so that flows move, strand and return.
        if number % 500 == 0 {
            let masks = [0x0007_0007, 0x0005_0003, 0x0002_0004, 0, 0x0007_0007, 0x0001_0006];
            fixture.set_up_mask(UpMask(masks[number / 500 % masks.len()]))?;
        }
        let case = strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let (bytes, fwmark) = case.current();
        fixture.both(&bytes, fwmark)?;
    }
    // The comparison is worth what it covers.
    let covered = [
        Counter::FlowKnown,
        Counter::FlowProposed,
        Counter::FlowStranded,
        Counter::NotIp,
        Counter::Malformed,
        Counter::HeaderChain,
        Counter::Fragment,
        Counter::AlreadyMarked,
        Counter::NoUplink,
        Counter::RuleDropped,
        Counter::RuleRejected,
        Counter::SessionJoined,
        Counter::SessionNew,
    ];
    for counter in covered {
        ensure!(fixture.counter(counter)? > 0, "no packet was counted as {}", counter.name());
    }
    fixture.compare_maps()
}
