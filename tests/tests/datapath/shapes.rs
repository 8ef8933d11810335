//! Every shape of packet, cut at every byte and broken in its header.

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use linkbal_common::{
    counter::Counter,
    names,
    verdict::{SkipReason, Verdict},
};

use crate::{
    fixture::Fixture,
    packets::{Shape, error_about, plain, shapes, with_extensions},
};

#[test]
fn every_shape_is_marked_and_marked_again_the_same() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for Shape { name, bytes, .. } in shapes() {
        let first = fixture.both(&bytes, 0)?;
        ensure!(matches!(first, Verdict::Mark(_)), "{name}: {first:?}");
        ensure!(fixture.both(&bytes, 0)? == first, "{name} changed its uplink");
    }
    fixture.compare_maps()
}

#[test]
fn every_truncation_is_passed_and_counted() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let mut cut_short = 0;
    for Shape { name, bytes, needed, .. } in shapes() {
        for length in 0..=bytes.len() {
            let before = fixture.counter(Counter::Malformed)?;
            let verdict = fixture.both(&bytes[..length], 0)?;
            let malformed = verdict == Verdict::Skip(SkipReason::Malformed);
            ensure!(malformed == (length < needed), "{name} cut at {length}: {verdict:?}");
            cut_short += fixture.counter(Counter::Malformed)? - before;
        }
    }
    ensure!(cut_short > 50, "only {cut_short} truncated packets reached the program");
    fixture.compare_maps()
}

#[test]
fn broken_headers_are_passed_and_counted() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for Shape { name, bytes, .. } in plain().into_iter().filter(Shape::is_ipv4) {
        for header_length in 0..5 {
            let mut broken = bytes.clone();
            broken[14] = 0x40 | header_length;
            let verdict = fixture.both(&broken, 0)?;
            ensure!(verdict == Verdict::Skip(SkipReason::Malformed), "{name}: {verdict:?}");
        }
        // Options that reach past the end of the packet.
        let mut broken = bytes[..34].to_vec();
        broken[14] = 0x4f;
        ensure!(fixture.both(&broken, 0)? == Verdict::Skip(SkipReason::Malformed), "{name}");
        // A total length shorter than the headers.
        let mut broken = bytes.clone();
        broken[16..18].copy_from_slice(&19u16.to_be_bytes());
        ensure!(fixture.both(&broken, 0)? == Verdict::Skip(SkipReason::Malformed), "{name}");
        // Another version than the EtherType says.
        let mut broken = bytes.clone();
        broken[14] = 0x65;
        ensure!(fixture.both(&broken, 0)? == Verdict::Skip(SkipReason::Malformed), "{name}");
    }
    fixture.compare_maps()
}

#[test]
fn jumbograms_and_jumbo_frames_are_read_like_others() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for Shape { name, mut bytes, .. } in
        shapes().into_iter().filter(|shape| shape.bytes[12] == 0x86)
    {
        // RFC 2675: a payload length of zero, the real one in a hop-by-hop option.
        bytes[18..20].fill(0);
        let verdict = fixture.both(&bytes, 0)?;
        ensure!(matches!(verdict, Verdict::Mark(_)), "{name}: {verdict:?}");
    }
    for Shape { name, mut bytes, .. } in
        shapes().into_iter().filter(|shape| shape.bytes[12..14] == [8, 0])
    {
        // What GRO makes of more than 64 KiB has no total length.
        bytes[16..18].fill(0);
        let verdict = fixture.both(&bytes, 0)?;
        ensure!(matches!(verdict, Verdict::Mark(_)), "{name}: {verdict:?}");
    }
    for Shape { name, mut bytes, .. } in shapes() {
        bytes.resize(3000, 0);
        let verdict = fixture.both(&bytes, 0)?;
        ensure!(matches!(verdict, Verdict::Mark(_)), "{name}: {verdict:?}");
    }
    fixture.compare_maps()
}

#[test]
fn encapsulation_does_not_change_the_flow() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for shape in shapes() {
        fixture.both(&shape.bytes, 0)?;
    }
    // One flow for each plain shape, but the answers to echoes are of the requests' flows, and
    // the errors of the flows they are about.
    let flows = fixture.model.flows.borrow().len();
    let echoes = 2;
    ensure!(flows == plain().len() - echoes, "{flows} flows");
    fixture.compare_maps()
}

#[test]
fn an_icmp_error_follows_the_flow_that_it_quotes() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for shape in plain() {
        let uplink = fixture.both(&shape.bytes, 0)?;
        let error = error_about(&shape);
        ensure!(fixture.both(&error.bytes, 0)? == uplink, "{}", error.name);
    }
    fixture.compare_maps()
}

#[test]
fn later_fragments_are_left_to_the_kernel_and_long_chains_alone() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let shapes = plain();
    let v4 = shapes.iter().find(|shape| shape.is_ipv4()).context("IPv4")?;
    let mut bytes = v4.bytes.clone();
    bytes[21] = 1;
    ensure!(fixture.both(&bytes, 0)? == Verdict::Skip(SkipReason::Fragment));
    let v6 = shapes.iter().find(|shape| !shape.is_ipv4()).context("IPv6")?;
    let mut later = with_extensions(v6, "a fragment header", &[44]);
    later.bytes[57] = 8;
    ensure!(fixture.both(&later.bytes, 0)? == Verdict::Skip(SkipReason::Fragment));
    let long = with_extensions(v6, "eight headers", &[60; 8]);
    ensure!(fixture.both(&long.bytes, 0)? == Verdict::Skip(SkipReason::HeaderChain));
    fixture.compare_maps()
}

#[test]
fn foreign_mark_bits_stay_and_marked_packets_are_left_alone() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for Shape { name, bytes, .. } in shapes() {
        let verdict = fixture.both(&bytes, 0x80ff_eeff)?;
        let Verdict::Mark(fwmark) = verdict else { anyhow::bail!("{name}: {verdict:?}") };
        ensure!(fwmark & 0x80ff_ffff == 0x80ff_eeff, "{name}: {fwmark:#x}");
        // No uplink has this number.
        let verdict = fixture.both(&bytes, 0x1500_0000)?;
        ensure!(verdict == Verdict::Skip(SkipReason::AlreadyMarked), "{name}: {verdict:?}");
    }
    fixture.compare_maps()
}

#[test]
fn packets_other_than_ip_are_passed_and_counted() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for ether_type in [0x0806u16, 0x88cc, 0x8847, 0x0003] {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        ensure!(fixture.both(&frame, 0)? == Verdict::Skip(SkipReason::NotIp), "{ether_type:#x}");
    }
    fixture.compare_maps()
}

#[test]
fn a_datapath_without_settings_changes_no_packet() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let settings = linkbal_common::settings::Settings::default();
    fixture.datapath.set_settings(settings)?;
    fixture.model.settings = settings;
    for Shape { bytes, .. } in shapes() {
        ensure!(fixture.both(&bytes, 0)? == Verdict::Skip(SkipReason::Off));
    }
    fixture.compare_maps()
}

/// Maximum number of verified instructions of a program, far below the verifier's limit of a
/// million.
const BUDGET: u32 = 64_000;

#[test]
fn the_programs_stay_within_their_budget_of_verified_instructions() -> Result<()> {
    let mut fixture = Fixture::new()?;
    for name in names::PROGRAMS {
        let verified = fixture.datapath.program(name)?.info()?.verified_instruction_count();
        let verified = verified.context("the kernel does not say")?;
        println!("{name}: {verified} verified instructions");
        ensure!(verified < BUDGET, "{name}: {verified} verified instructions, {BUDGET} allowed");
    }
    Ok(())
}

#[test]
fn the_programs_for_local_sockets_stay_within_the_budget_too() -> Result<()> {
    let mut fixture = Fixture::new()?;
    fixture.datapath.set_local(true)?;
    // The kernel keeps 15 bytes of a name.
    let is_local = |name: &str| names::LOCAL_PROGRAMS.iter().any(|own| own[..15] == *name);
    let all = loaded_programs().filter_map(Result::ok);
    let own: Vec<_> = all.filter(|info| info.name_as_str().is_some_and(is_local)).collect();
    ensure!(own.len() >= names::LOCAL_PROGRAMS.len(), "{own:?}");
    for info in own {
        let verified = info.verified_instruction_count().context("the kernel does not say")?;
        println!("{:?}: {verified} verified instructions", info.name_as_str());
        ensure!(verified < BUDGET, "{verified} verified instructions, {BUDGET} allowed");
    }
    Ok(())
}
