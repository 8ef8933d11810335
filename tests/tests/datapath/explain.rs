//! `linkbal explain` against the loaded program: the same packets through the packet path over the
//! kernel's maps, and through the program.

use anyhow::{Result, ensure};
use linkbal::sys::datapath::trace::{Assumption, trace};
use linkbal_common::{
    flow::{Flow, FlowKey, reason},
    mark::{DEFAULT_MASK, MarkMask},
    packet::model::ModelPacket,
    parse::parse,
    select::Selection,
    tables::Tables as _,
    uplink::{Family, UpMask},
    verdict::Verdict,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{differential::packet, fixture::Fixture};

/// Numbers of rule sets, and of packets for each.
const RULE_SETS: usize = 10;
const PACKETS: usize = 1000;

/// The interface of test runs, as in the fixture.
const IFINDEX: u32 = 1;

/// Returns a strategy for rules of all kinds.
fn rules() -> impl Strategy<Value = String> {
    let matches = prop_oneof![
        (0u8..3, 24u8..33).prop_map(|(net, bits)| format!("source = \"10.0.{net}.0/{bits}\"")),
        Just("source = \"2001:db8:1::/64\"".to_owned()),
        Just("destination = [\"198.51.100.0/24\", \"2001:db8:2::/48\"]".to_owned()),
        (1u16..500).prop_map(|port| format!("dport = \"{port}-{}\"", port + 400)),
        (1u16..60_000).prop_map(|port| format!("sport = \"{port}-{}\"", port + 5000)),
        prop::sample::select(vec!["tcp", "udp", "icmp", "sctp"])
            .prop_map(|name| format!("protocol = \"{name}\"")),
        Just("vlan = 10".to_owned()),
        Just("mac = \"02:00:00:00:00:01\"".to_owned()),
        Just("dscp = [0, \"ef\"]".to_owned()),
    ];
    let uplinks = prop::sample::select(vec![
        "use = \"a\"\n",
        "use = [\"b\", \"c\"]\n",
        "use = { a = 10, b = 20, c = 30 }\n",
        "use = \"c\"\notherwise = \"drop\"\n",
        "use = [\"a\", \"b\"]\notherwise = \"reject\"\n",
        "",
    ]);
    let sticky = prop::sample::select(vec!["", "", "sticky = { by = \"src\", group = true }\n"]);
    let rule = (matches, uplinks, sticky)
        .prop_map(|(matches, to, by)| format!("[[rule]]\nmatch = {{ {matches} }}\n{to}{by}"));
    proptest::collection::vec(rule, 1..9).prop_map(|rules| rules.concat())
}

/// Returns the entry of a packet's flow in the model, which the fixture keeps like the kernel's.
fn entry(fixture: &Fixture, bytes: &[u8]) -> Option<Flow> {
    let mut key = FlowKey::default();
    let packet = ModelPacket { ifindex: IFINDEX, ..ModelPacket::frame(bytes) };
    parse(&packet, &mut key).ok()?;
    fixture.model.flow(&key).map(|(flow, _)| flow)
}

#[test]
fn what_is_explained_is_what_the_program_does() -> Result<()> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let generate = |reason| anyhow::anyhow!("{reason}");
    let mut kinds = [0; 8];
    for _ in 0..RULE_SETS {
        let text = rules().new_tree(&mut runner).map_err(generate)?.current();
        let mut fixture = Fixture::with_rules(&text)?;
        for number in 0..PACKETS {
            if number % 100 == 0 {
                let masks = [0x0007_0007, 0x0005_0003, 0x0007_0007, 0x0002_0004, 0];
                fixture.set_up_mask(UpMask(masks[number / 100 % masks.len()]))?;
            }
            let bytes = packet().new_tree(&mut runner).map_err(generate)?.current();
            let packet = ModelPacket { ifindex: IFINDEX, ..ModelPacket::frame(&bytes) };
            let (told, findings) = trace(&fixture.datapath, &packet, Assumption::default())?;
            let done = fixture.both(&bytes, 0)?;
            let mask = MarkMask(DEFAULT_MASK);
            let told = match told {
                Verdict::Propose { fwmark, .. } if fwmark & mask.number() != 0 => {
                    Verdict::Mark(fwmark & !mask.proposal())
                }
                other => other,
            };
            let same = match (told, done) {
                (Verdict::Propose { fwmark: a, .. }, Verdict::Propose { fwmark: b, .. }) => a == b,
                (a, b) => a == b,
            };
            ensure!(same, "{told:?} is told, {done:?} done: {bytes:02x?}\n{text}");
            let Some((Selection::Uplink(uplink), why)) = findings.choice else { continue };
            let Some(flow) = entry(&fixture, &bytes) else { continue };
            if flow.uplink == uplink && flow.reason.kind != reason::CONNECTION {
                ensure!(flow.reason == why, "{flow:?}, {why:?} is told: {bytes:02x?}\n{text}");
                kinds[usize::from(why.kind)] += 1;
            }
        }
        fixture.compare_maps()?;
    }
    for kind in [reason::BUCKET, reason::SESSION_NEW, reason::SESSION] {
        ensure!(kinds[usize::from(kind)] > 0, "no packet has a reason of kind {kind}: {kinds:?}");
    }
    Ok(())
}

#[test]
fn an_uplink_that_is_taken_to_be_down_is_not_told_and_nothing_changes() -> Result<()> {
    let fixture = Fixture::with_rules("[[rule]]\nuse = [\"a\", \"b\"]\n")?;
    let shapes = crate::packets::plain();
    for shape in shapes {
        let packet = ModelPacket { ifindex: IFINDEX, ..ModelPacket::frame(&shape.bytes) };
        let family = if shape.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        for (down, expected) in [(None, 0), (Some(0), 1)] {
            let down = down.map_or(UpMask(0), |down| UpMask(0).with(down, family, true));
            let assumption = Assumption { down, is_new: true };
            let (verdict, findings) = trace(&fixture.datapath, &packet, assumption)?;
            let Verdict::Propose { fwmark, .. } = verdict else { anyhow::bail!("{verdict:?}") };
            ensure!(MarkMask(DEFAULT_MASK).decode(fwmark) == Some(expected), "{}", shape.name);
            ensure!(findings.flow.is_none());
        }
    }
    ensure!(fixture.datapath.counters()?.iter().all(|(_, value)| *value == 0));
    fixture.compare_maps()
}
