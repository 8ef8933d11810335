//! Source addresses of providers, and IPv6 packets that do not concern a gateway's uplinks.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use etherparse::{IpNumber, PacketBuilder};
use linkbal_common::{
    counter::Counter,
    mark::{DEFAULT_MASK, MarkMask, REJECT},
    uplink::{Family, UpMask},
    verdict::{SkipReason, Verdict},
};

use crate::{
    fixture::Fixture,
    packets::{plain, shapes},
};

const MASK: MarkMask = MarkMask(DEFAULT_MASK);
/// The uplink whose provider gave out the address of the client in every shape.
const OWNER: u32 = 3;
const ALL: UpMask = UpMask(0x000f_000f);

/// Creates a fixture with the usual uplinks, a fourth one with prefixes, and a rule for another
/// uplink.
fn fixture() -> Result<Fixture> {
    let mut fixture = Fixture::with_rules(
        "[uplink.d]\ninterface = \"wan-d\"\nipv6 = \"prefix\"\n\
         prefix = [\"2001:db8:1::/48\", \"2001:db8:4::/48\"]\n[[rule]]\nuse = \"a\"\n",
    )?;
    fixture.set_up_mask(ALL)?;
    Ok(fixture)
}

#[test]
fn every_shape_of_a_providers_source_uses_its_uplink() -> Result<()> {
    let mut fixture = fixture()?;
    for shape in shapes() {
        // A rule sends IPv4 elsewhere.
        let expected = if is_ipv6(&shape.name) { OWNER } else { 0 };
        let verdict = fixture.both(&shape.bytes, 0)?;
        ensure!(verdict == Verdict::Mark(MASK.encode(expected)), "{}: {verdict:?}", shape.name);
    }
    fixture.compare_maps()
}

fn is_ipv6(name: &str) -> bool {
    name.contains("IPv6")
}

#[test]
fn a_source_whose_uplink_is_down_is_refused_but_a_known_flow_stays() -> Result<()> {
    let mut fixture = fixture()?;
    let all: Vec<_> = plain().into_iter().filter(|shape| is_ipv6(&shape.name)).collect();
    let (first, others) = all.split_first().expect("a shape");
    for _ in 0..2 {
        fixture.both(&first.bytes, 0)?;
    }
    fixture.set_up_mask(ALL.with(OWNER, Family::Ipv6, false))?;
    ensure!(fixture.both(&first.bytes, 0)? == Verdict::Mark(MASK.encode(OWNER)));
    for shape in others {
        let verdict = fixture.both(&shape.bytes, 0)?;
        ensure!(verdict == Verdict::Mark(MASK.encode(REJECT)), "{}: {verdict:?}", shape.name);
    }
    ensure!(fixture.counter(Counter::FlowStranded)? == 1);
    ensure!(fixture.counter(Counter::SourceRejected)? == others.len() as u64);
    fixture.set_up_mask(UpMask(0x0000_000f))?;
    let verdict = fixture.both(&others[0].bytes, 0)?;
    let asks = matches!(verdict, Verdict::Propose { fwmark, .. } if fwmark == MASK.ask(0));
    ensure!(asks, "{verdict:?}");
    fixture.compare_maps()
}

#[test]
fn without_prefixes_no_source_is_looked_up() -> Result<()> {
    let mut fixture = fixture()?;
    let mut settings = fixture.datapath.settings()?;
    settings.source_prefixes = 0;
    fixture.datapath.set_settings(settings)?;
    fixture.model.settings = settings;
    for shape in shapes() {
        let verdict = fixture.both(&shape.bytes, 0)?;
        ensure!(verdict == Verdict::Mark(MASK.encode(0)), "{}: {verdict:?}", shape.name);
    }
    fixture.compare_maps()
}

/// Returns a message of neighbour discovery (RFC 4861): its type, then zeros.
fn discovery(kind: u8, source: &str, destination: &str) -> Result<Vec<u8>> {
    let [source, destination] =
        [source, destination].map(|text| text.parse::<Ipv6Addr>().expect("an address").octets());
    let mut message = vec![0; 24];
    message[0] = kind;
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(source, destination, 255)
        .write(&mut bytes, IpNumber(58), &message)?;
    Ok(bytes)
}

#[test]
fn neighbour_discovery_is_left_alone() -> Result<()> {
    const ROUTER_SOLICITATION: u8 = 133;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    let cases = [
        ("router solicitation", ROUTER_SOLICITATION, "fe80::9", "ff02::2", SkipReason::Multicast),
        (
            "solicitation without an address",
            ROUTER_SOLICITATION,
            "::",
            "ff02::2",
            SkipReason::Multicast,
        ),
        ("router advertisement", ROUTER_ADVERTISEMENT, "fe80::1", "ff02::1", SkipReason::Multicast),
        ("answer to one host", ROUTER_ADVERTISEMENT, "fe80::1", "fe80::9", SkipReason::LinkLocal),
        (
            "search for a neighbour",
            SOLICITATION,
            "2001:db8:1::9",
            "ff02::1:ff00:1",
            SkipReason::Multicast,
        ),
        ("duplicate detection", SOLICITATION, "::", "ff02::1:ff00:9", SkipReason::Multicast),
        ("is the neighbour there", SOLICITATION, "fe80::9", "fe80::1", SkipReason::LinkLocal),
        ("is the gateway there", SOLICITATION, "2001:db8:1::9", "fd00::1", SkipReason::Bypass),
        ("here I am", ADVERTISEMENT, "2001:db8:1::9", "fe80::1", SkipReason::LinkLocal),
        ("here I am, gateway", ADVERTISEMENT, "2001:db8:1::9", "fd00::1", SkipReason::Bypass),
        ("news for all", ADVERTISEMENT, "2001:db8:1::9", "ff02::1", SkipReason::Multicast),
        ("redirect", REDIRECT, "fe80::1", "2001:db8:1::9", SkipReason::LinkLocal),
    ];
    for mut fixture in [Fixture::new()?, fixture()?] {
        for (name, kind, source, destination, reason) in cases {
            let verdict = fixture.both(&discovery(kind, source, destination)?, 0)?;
            ensure!(verdict == Verdict::Skip(reason), "{name}: {verdict:?}");
        }
        ensure!(fixture.model.flows.borrow().is_empty());
        fixture.compare_maps()?;
    }
    Ok(())
}
