//! The same random packets through the host's code and the loaded program.

use anyhow::{Result, ensure};
use linkbal_common::{counter::Counter, uplink::UpMask};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{fixture::Fixture, packets::shapes};

/// Packets to compare.
const PACKETS: usize = 10_000;

/// Bytes to overwrite in a packet: where, and with what.
type Damage = Vec<(prop::sample::Index, u8)>;

/// A packet made from a whole shape, or from nothing.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let shapes: Vec<Vec<u8>> = shapes().into_iter().map(|shape| shape.bytes).collect();
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let like_real = (
        prop::sample::select(shapes),
        any::<[u8; 4]>(),
        damage,
        any::<prop::sample::Index>(),
        0u8..8,
    )
        .prop_map(|(bytes, tuple, damage, cut, whole)| damaged(bytes, tuple, &damage, cut, whole));
    prop_oneof![9 => like_real, 1 => proptest::collection::vec(any::<u8>(), 14..120)]
}

/// Gives the packet another client and port, damages some of its bytes, and cuts it one time in
/// eight.
fn damaged(
    mut bytes: Vec<u8>,
    tuple: [u8; 4],
    damage: &Damage,
    cut: prop::sample::Index,
    whole: u8,
) -> Vec<u8> {
    let (client, ports) = if bytes[12] == 8 { (29, 34) } else { (37, 54) };
    bytes[client] = tuple[0];
    bytes[ports] = tuple[1];
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
    let mut fixture = Fixture::new()?;
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
        Counter::FlowNew,
        Counter::FlowMoved,
        Counter::FlowStranded,
        Counter::NotIp,
        Counter::Malformed,
        Counter::Fragment,
        Counter::AlreadyMarked,
        Counter::NoUplink,
        Counter::SessionJoined,
        Counter::SessionNew,
    ];
    for counter in covered {
        ensure!(fixture.counter(counter)? > 0, "no packet was counted as {}", counter.name());
    }
    fixture.compare_maps()
}
