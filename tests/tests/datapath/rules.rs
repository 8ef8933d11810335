//! Rules in the loaded program.

use anyhow::{Result, ensure};
use linkbal_common::{
    counter::Counter,
    mark::{DEFAULT_MASK, DROP, MarkMask, REJECT},
    uplink::{Family, UpMask},
    verdict::Verdict,
};

use crate::{
    fixture::Fixture,
    packets::{Shape, plain},
};

const A: u32 = 0;
const B: u32 = 1;
const C: u32 = 2;

fn shape(name: &str) -> Shape {
    plain().into_iter().find(|shape| shape.name == name).expect("a plain shape")
}

/// Returns the number in the fwmark that a packet leaves with.
fn number(fixture: &mut Fixture, bytes: &[u8]) -> Result<u32> {
    let verdict = fixture.both(bytes, 0)?;
    let Verdict::Mark(fwmark) = verdict else { anyhow::bail!("{verdict:?}") };
    let shift = DEFAULT_MASK.trailing_zeros();
    ensure!(fwmark == MarkMask(DEFAULT_MASK).encode((fwmark >> shift) - 1));
    Ok((fwmark >> shift) - 1)
}

#[test]
fn every_dimension_of_a_match_counts() -> Result<()> {
    // Each rule sends what it matches to uplink c, and all else goes to uplink a.
    let cases = [
        ("source = \"10.0.0.0/24\"", "IPv4 TCP", true),
        ("source = \"10.0.1.0/24\"", "IPv4 TCP", false),
        ("source = \"10.0.0.0/24\"", "IPv6 TCP", false),
        ("destination = \"198.51.100.7\"", "IPv4 TCP", true),
        ("destination = \"2001:db8:2::/48\"", "IPv6 TCP", true),
        ("destination = \"2001:db8:3::/48\"", "IPv6 TCP", false),
        ("protocol = \"udp\"", "IPv4 UDP", true),
        ("protocol = \"udp\"", "IPv4 TCP", false),
        ("protocol = \"icmp\"", "IPv6 echo request", true),
        ("sport = 40000", "IPv4 TCP", true),
        ("sport = 40001", "IPv4 TCP", false),
        ("dport = [25, \"79-81\"]", "IPv6 TCP", true),
        ("dport = [25, \"81-89\"]", "IPv6 TCP", false),
        ("dport = 7", "IPv4 echo request", false),
        ("dscp = 0", "IPv4 TCP", true),
        ("dscp = \"ef\"", "IPv4 TCP", false),
        ("interface = \"lan0\"", "IPv4 TCP", true),
        ("mac = \"02:00:00:00:00:01\"", "IPv4 TCP", true),
        ("mac = \"02:00:00:00:00:03\"", "IPv4 TCP", false),
        ("vlan = 10", "IPv4 TCP", false),
    ];
    for (matches, name, fits) in cases {
        let mut fixture = Fixture::with_rules(&format!(
            "[[rule]]\nmatch = {{ {matches} }}\nuse = \"c\"\n[[rule]]\nuse = \"a\"\n"
        ))?;
        let had = number(&mut fixture, &shape(name).bytes)?;
        ensure!(had == if fits { C } else { A }, "{matches}, {name}: {had}");
    }
    Ok(())
}

#[test]
fn the_first_rule_wins_and_its_order_of_uplinks_holds() -> Result<()> {
    let mut fixture = Fixture::with_rules(
        "[[rule]]\nmatch = { dport = 80 }\nuse = [\"b\", \"c\"]\n[[rule]]\nuse = \"a\"\n",
    )?;
    let bytes = shape("IPv4 TCP").bytes;
    ensure!(number(&mut fixture, &bytes)? == B);
    let without_b = UpMask(0x0007_0007).with(B, Family::Ipv4, false);
    fixture.set_up_mask(without_b)?;
    ensure!(number(&mut fixture, &bytes)? == C);
    // With none of its own, the rule's flows are balanced over the others.
    fixture.set_up_mask(without_b.with(C, Family::Ipv4, false))?;
    ensure!(number(&mut fixture, &bytes)? == A);
    fixture.compare_maps()
}

#[test]
fn blocked_flows_are_marked_so_until_their_uplink_is_back() -> Result<()> {
    let actions = [("drop", DROP, Counter::RuleDropped), ("reject", REJECT, Counter::RuleRejected)];
    for (otherwise, blocked, counter) in actions {
        let mut fixture = Fixture::with_rules(&format!(
            "[[rule]]\nmatch = {{ dport = 80 }}\nuse = \"b\"\notherwise = \"{otherwise}\"\n"
        ))?;
        let bytes = shape("IPv4 TCP").bytes;
        let all = UpMask(0x0007_0007);
        fixture.set_up_mask(all.with(B, Family::Ipv4, false))?;
        ensure!(number(&mut fixture, &bytes)? == blocked);
        ensure!(fixture.counter(counter)? == 1);
        fixture.set_up_mask(all)?;
        ensure!(number(&mut fixture, &bytes)? == B);
        fixture.compare_maps()?;
    }
    Ok(())
}

#[test]
fn neighbours_share_a_session_where_the_rule_says_so() -> Result<()> {
    let mut fixture = Fixture::with_rules("[[rule]]\nsticky = { by = \"src\", group = true }\n")?;
    let Shape { bytes, network, .. } = shape("IPv4 UDP");
    let mut from = |third: u8, last: u8| {
        let mut bytes = bytes.clone();
        bytes[network + 14] = third;
        bytes[network + 15] = last;
        number(&mut fixture, &bytes)
    };
    let first = from(0, 1)?;
    for last in 2..=255 {
        ensure!(from(0, last)? == first, "10.0.0.{last}");
    }
    let others = (1..50).map(|third| from(third, 1)).collect::<Result<Vec<_>>>()?;
    ensure!(others.iter().any(|uplink| *uplink != first));
    fixture.compare_maps()
}

#[test]
fn a_weighted_group_has_its_shares() -> Result<()> {
    let mut fixture = Fixture::with_rules("[[rule]]\nuse = { a = 50, c = 50 }\n")?;
    let Shape { bytes, network, .. } = shape("IPv4 UDP");
    let mut counts = [0; 3];
    for port in 0..2000u16 {
        let mut bytes = bytes.clone();
        bytes[network + 20..network + 22].copy_from_slice(&(1024 + port).to_be_bytes());
        counts[number(&mut fixture, &bytes)? as usize] += 1;
    }
    ensure!(counts[1] == 0 && (850..1150).contains(&counts[0]), "{counts:?}");
    fixture.compare_maps()
}
