//! Packets to the LAN, and flows learned from connections that have an uplink.

use anyhow::{Result, ensure};
use linkbal_common::{
    counter::Counter,
    mark::{DEFAULT_MASK, MarkMask},
    names,
    uplink::UpMask,
    verdict::{SkipReason, Verdict},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    differential,
    fixture::{Fixture, INTERFACES, SHARED_INTERFACE},
    packets::{Shape, answer, error_about, plain, shapes},
};

const MASK: MarkMask = MarkMask(DEFAULT_MASK);

#[test]
fn every_shape_leaves_by_the_uplink_that_its_connection_has() -> Result<()> {
    for uplink in 0..3 {
        for flag in [0, MASK.inbound()] {
            let mut fixture = Fixture::new()?;
            fixture.connection = MASK.encode(uplink) | flag;
            for shape in plain() {
                fixture.both(&shape.bytes, 0)?;
                let verdict = fixture.both(&shape.bytes, 0)?;
                ensure!(verdict == Verdict::Mark(MASK.encode(uplink)), "{}", shape.name);
            }
            fixture.compare_maps()?;
        }
    }
    Ok(())
}

#[test]
fn packets_to_the_lan_change_no_flow() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for shape in plain() {
        fixture.both(&shape.bytes, 0)?;
        let before = fixture.both(&shape.bytes, 0)?;
        for interface in [0, 5, SHARED_INTERFACE].into_iter().chain(INTERFACES) {
            fixture.both_to_lan(&answer(&shape), 0, interface)?;
            let from_outside = Shape { bytes: answer(&shape), ..shape.clone() };
            fixture.both_to_lan(&error_about(&from_outside).bytes, 0, interface)?;
        }
        ensure!(fixture.both(&shape.bytes, 0)? == before, "{}", shape.name);
    }
    fixture.compare_maps()
}

/// Checks that a packet that took a shortcut leaves with the marks of others alone, like one that the kernel
/// has forwarded: a tunnel in the LAN would route by linkbal's.
#[test]
fn answers_by_shortcuts_leave_to_the_lan_without_their_uplink() -> Result<()> {
    const OTHERS: u32 = 5;
    let mut fixture = Fixture::new()?;
    for shape in plain() {
        for uplink in 0..3 {
            let fwmark = MASK.propose(OTHERS, uplink);
            let mut leave = |interface| {
                let program = names::PROGRAM_EGRESS;
                fixture.kernel_fwmark(program, &answer(&shape), fwmark, interface)
            };
            ensure!(leave(INTERFACES[0])? == Some(OTHERS), "{}", shape.name);
            ensure!(leave(0)? == Some(fwmark), "{}: local traffic", shape.name);
        }
    }
    Ok(())
}

#[test]
fn an_inbound_flow_stays_with_a_dead_uplink() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for shape in plain() {
        fixture.set_up_mask(UpMask(0x0007_0007))?;
        fixture.connection = MASK.encode(0) | MASK.inbound();
        fixture.both(&shape.bytes, 0)?;
        fixture.set_up_mask(UpMask(0x0006_0006))?;
        ensure!(fixture.both(&shape.bytes, 0)? == Verdict::Mark(MASK.encode(0)), "{}", shape.name);
    }
    ensure!(fixture.counter(Counter::FlowStranded)? > 0);
    fixture.compare_maps()
}

#[test]
fn flows_to_bypassed_destinations_are_not_learned() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for mut shape in plain() {
        let network = shape.network;
        if shape.is_ipv4() {
            shape.bytes[network + 16..network + 18].copy_from_slice(&[192, 168]);
        } else {
            shape.bytes[network + 24] = 0xfd;
        }
        fixture.both_to_lan(&answer(&shape), 0, INTERFACES[0])?;
        let verdict = fixture.both(&shape.bytes, 0)?;
        ensure!(verdict == Verdict::Skip(SkipReason::Bypass), "{}: {verdict:?}", shape.name);
    }
    fixture.compare_maps()
}

#[test]
fn answers_count_by_family_and_those_of_settled_flows_by_network() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.connection = MASK.encode(0);
    for shape in plain() {
        fixture.both(&shape.bytes, 0)?;
    }
    let counted = |fixture: &Fixture| -> Result<_> {
        let counters = fixture.datapath.uplink_counters()?[0];
        let settled = counters.networks.map(|family| family.iter().sum::<u32>());
        Ok(([counters.answers - counters.answers_ipv6, counters.answers_ipv6], settled))
    };
    let mut expected = ([0; 2], [0; 2]);
    for settled in [false, true] {
        for shape in plain() {
            fixture.both_to_lan(&answer(&shape), 0, INTERFACES[0])?;
            // Of nobody but a router.
            let from_outside = Shape { bytes: answer(&shape), ..shape.clone() };
            fixture.both_to_lan(&error_about(&from_outside).bytes, 0, INTERFACES[0])?;
            let family = usize::from(!shape.is_ipv4());
            expected.0[family] += 1;
            expected.1[family] += u32::from(settled);
        }
        let had = counted(&fixture)?;
        ensure!(had == expected, "{had:?}, {expected:?}");
        fixture.age_flows(11_000)?;
    }
    fixture.compare_maps()
}

/// Number of packets to compare.
const PACKETS: usize = 10_000;

#[test]
fn ten_thousand_random_packets_both_ways_make_no_difference() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let answers: Vec<_> = plain().iter().map(answer).collect();
    let like_real = (prop::sample::select(answers), any::<u8>(), any::<prop::sample::Index>());
    let like_real = like_real.prop_map(|(mut bytes, byte, at)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let fwmark = prop_oneof![2 => Just(0), 1 => (0u32..3).prop_map(|uplink| MASK.encode(uplink))];
    let interface = prop_oneof![4 => 71u32..=75, 1 => any::<u32>()];
    let bytes = prop_oneof![like_real, differential::packet()];
    let strategy = (bytes, fwmark, interface, any::<bool>());
    for number in 0..PACKETS {
        if number % 500 == 0 {
            let masks = [0x0007_0007, 0x0005_0003, 0x0002_0004, 0, 0x0001_0006];
            fixture.set_up_mask(UpMask(masks[number / 500 % masks.len()]))?;
        }
        let case = strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let (bytes, fwmark, interface, to_lan) = case.current();
        if to_lan {
            fixture.both_to_lan(&bytes, fwmark, interface)?;
        } else {
            fixture.both(&bytes, fwmark)?;
        }
    }
    for counter in [Counter::FlowKnown, Counter::FlowStranded] {
        ensure!(fixture.counter(counter)? > 0, "no packet was counted as {}", counter.name());
    }
    // Every shape passes once more, whole.
    for shape in shapes() {
        fixture.both_to_lan(&shape.bytes, 0, INTERFACES[1])?;
    }
    fixture.compare_maps()
}
