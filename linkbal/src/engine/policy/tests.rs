//! Compiled rules against a matcher that reads the configuration naively.

use std::{collections::BTreeMap, net::IpAddr};

use linkbal_common::{
    classify::{Origin, first_rule},
    dns::{
        HostKey,
        domain::{NAMES, name_hash},
    },
    flow::FlowKey,
    model::ModelPacket,
    parse::Extra,
    rule::NO_RULE,
    settings::{LAYOUT, Settings},
    tables::Tables as _,
    uplink::Family,
};
use proptest::prelude::*;

use super::*;
use crate::{
    config::{Match, Member, with_parents},
    engine::indexed,
};

mod bank;

const UPLINKS: &str = r#"
[lan]
interfaces = ["lan1", "lan2"]
[uplink.a]
interface = "wan-a"
[uplink.b]
interface = "wan-b"
[uplink.c]
interface = "wan-c"
"#;

fn config(rules: Vec<Rule>) -> Config {
    let config = Config::parse(UPLINKS, "test").expect("a valid configuration");
    Config { rules, ..config }
}

fn compiled(rules: Vec<Rule>) -> Policy {
    let config = config(rules);
    compile(&config, &indexed::assign(&config.uplinks, &BTreeMap::new()), None)
}

fn rule(matches: Match) -> Rule {
    Rule { matches, members: vec![], otherwise: Otherwise::Balance, sticky: None }
}

/// A flow as rules see it. Few values each, so that rules and flows meet.
#[derive(Clone, Debug)]
struct Sample {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: (u16, u16),
    dscp: u8,
    ifindex: u32,
    vlan: u16,
    mac: [u8; 6],
    /// Names that the destination is known by.
    names: Vec<&'static str>,
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(a, b)| IpAddr::from([10, a, 0, b])),
        (0u16..4, 0u16..4).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, a, 0, 0, 0, 0, b])),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=128).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNet::new(address, length).expect("a length that fits").trunc()
    })
}

fn protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![6u8, 17, 1, 47])
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0u16, 1, 25, 80, 443, 8080, 65535])
}

fn range() -> impl Strategy<Value = (u16, u16)> {
    (port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn mac() -> impl Strategy<Value = [u8; 6]> {
    (0u8..3).prop_map(|last| [2, 0, 0, 0, 0, last])
}

/// Generates domains within each other and beside, some with the end of another but not in it.
fn domain() -> impl Strategy<Value = String> {
    let all = ["com", "bank.com", "www.bank.com", "mybank.com", "b.br", "x.y.b.br"];
    prop::sample::select(all.map(str::to_owned).to_vec())
}

/// Generates names of an address, no more than the datapath remembers.
fn names() -> impl Strategy<Value = Vec<&'static str>> {
    let all = ["bank.com", "a.www.bank.com", "mybank.com", "z.y.b.br", "q.x.y.b.br", "br"];
    prop::sample::subsequence(all.to_vec(), 0..=NAMES)
}

fn few<T: std::fmt::Debug>(values: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(values, 0..3)
}

prop_compose! {
    fn matches()(
        source in few(prefix()),
        destination in few(prefix()),
        protocol in few(protocol()),
        source_port in few(range()),
        destination_port in few(range()),
        dscp in few(0u8..3),
        interface in few(prop::sample::select(vec!["lan1".to_owned(), "lan2".to_owned()])),
        vlan in few(1u16..3),
        mac in few(mac()),
        domain in few(domain()),
        // Most rules ask for little, or none would ever match.
        asked in proptest::collection::vec(prop::bool::weighted(0.25), 10),
    ) -> Match {
        let mut matches = Match {
            source, destination, protocol, source_port, destination_port, dscp, interface, vlan, mac,
            domain,
        };
        if !asked[0] { matches.source.clear() }
        if !asked[1] { matches.destination.clear() }
        if !asked[2] { matches.protocol.clear() }
        if !asked[3] { matches.source_port.clear() }
        if !asked[4] { matches.destination_port.clear() }
        if !asked[5] { matches.dscp.clear() }
        if !asked[6] { matches.interface.clear() }
        if !asked[7] { matches.vlan.clear() }
        if !asked[8] { matches.mac.clear() }
        if !asked[9] { matches.domain.clear() }
        matches
    }
}

prop_compose! {
    fn sample()(
        source in address(),
        destination in address(),
        protocol in protocol(),
        ports in (port(), port()),
        dscp in 0u8..4,
        ifindex in 1u32..4,
        vlan in 0u16..4,
        mac in mac(),
        names in names(),
    ) -> Sample {
        Sample { source, destination, protocol, ports, dscp, ifindex, vlan, mac, names }
    }
}

fn asked<T>(list: &[T], fits: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

fn naively_matches(matches: &Match, sample: &Sample) -> bool {
    let has_ports = [6, 17].contains(&sample.protocol);
    let ports = if has_ports { sample.ports } else { (0, 0) };
    let within = |port: u16| move |range: &(u16, u16)| (range.0..=range.1).contains(&port);
    let interface = format!("lan{}", sample.ifindex);
    asked(&matches.source, |prefix| prefix.contains(&sample.source))
        && asked(&matches.destination, |prefix| prefix.contains(&sample.destination))
        && asked(&matches.protocol, |protocol| *protocol == sample.protocol)
        && asked(&matches.source_port, within(ports.0))
        && asked(&matches.destination_port, within(ports.1))
        && asked(&matches.dscp, |dscp| *dscp == sample.dscp)
        && asked(&matches.interface, |name| *name == interface)
        && asked(&matches.vlan, |vlan| *vlan == sample.vlan)
        && asked(&matches.mac, |mac| *mac == sample.mac)
        && asked(&matches.domain, |domain| sample.names.iter().any(|name| is_in(name, domain)))
}

fn is_in(name: &str, domain: &str) -> bool {
    name == domain || name.ends_with(&format!(".{domain}"))
}

fn words(address: IpAddr) -> [u32; 4] {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => octets = address.octets(),
    }
    let word = |at: usize| {
        u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
    };
    [word(0), word(4), word(8), word(12)]
}

fn classified(policy: &Policy, sample: &Sample) -> u32 {
    let settings = Settings { layout: LAYOUT, seed: [1, 2], ..Settings::default() };
    let tables = model::tables(policy, settings, |name| u32::from(name.ends_with('2')) + 1);
    let family = if sample.source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let destination = HostKey::new(family, &words(sample.destination));
    for name in &sample.names {
        // The datapath remembers the closest domain that it has rules for.
        let closest = with_parents(name).find(|parent| policy.domain.contains_key(*parent));
        let Some(closest) = closest else { continue };
        let known = tables.domain(&destination).unwrap_or_default();
        tables.store_domain(&destination, &known.with(name_hash([1, 2], closest), 60, 0));
    }
    let key = FlowKey {
        source: words(sample.source),
        destination: words(sample.destination),
        source_port: sample.ports.0.to_be(),
        destination_port: sample.ports.1.to_be(),
        protocol: sample.protocol,
        family: family as u8,
        ..FlowKey::default()
    };
    let frame = [&[0; 6][..], &sample.mac, &[8, 0]].concat();
    let packet = ModelPacket { ifindex: sample.ifindex, ..ModelPacket::frame(&frame) };
    let extra = Extra { vlan: sample.vlan, dscp: sample.dscp };
    first_rule(&tables, &tables.settings, &key, &Origin::of(&packet, extra))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_first_rule_that_matches_decides(
        all in proptest::collection::vec(matches(), 0..12),
        samples in proptest::collection::vec(
            (sample(), prop::bool::ANY, address()).prop_map(|(sample, alike, other)| {
                // Half of the flows within one family, as all real ones are.
                let fits = other.is_ipv4() == sample.source.is_ipv4();
                let destination = if alike && fits { other } else { sample.source };
                Sample { destination, ..sample }
            }),
            1..20,
        ),
    ) {
        let policy = compiled(all.iter().cloned().map(rule).collect());
        for sample in samples {
            let expected = all.iter().position(|matches| naively_matches(matches, &sample));
            let expected = expected.map_or(NO_RULE, |number| number as u32);
            prop_assert_eq!(classified(&policy, &sample), expected, "{:?}", sample);
        }
    }
}

#[test]
fn domains_hold_the_rules_of_their_parents_and_those_without_domains() {
    let of = |names: &[&str]| {
        let domain = names.iter().map(|name| (*name).to_owned()).collect();
        rule(Match { domain, ..Match::default() })
    };
    let policy = compiled(vec![of(&["www.bank.com"]), of(&["b.br", "com"]), of(&[])]);
    let set = |rules: &[usize]| rules.iter().fold(RuleSet::NONE, |set, rule| set.with(*rule));
    let expected = [
        ("", set(&[2])),
        ("b.br", set(&[1, 2])),
        ("com", set(&[1, 2])),
        ("www.bank.com", set(&[0, 1, 2])),
    ];
    assert_eq!(policy.domain, expected.map(|(name, rules)| (name.to_owned(), rules)).into());
    assert!(compiled(vec![of(&[])]).domain.is_empty());
}

#[test]
fn the_last_of_128_rules_is_found() {
    let only = |last: u8| {
        rule(Match {
            source: vec![IpNet::from(IpAddr::from([10, 0, 0, last]))],
            ..Match::default()
        })
    };
    let policy = compiled((0..128).map(only).collect());
    let sample = |last: u8| Sample {
        source: [10, 0, 0, last].into(),
        destination: [10, 1, 0, 1].into(),
        protocol: 6,
        ports: (1, 2),
        dscp: 0,
        ifindex: 1,
        vlan: 0,
        mac: [0; 6],
        names: vec![],
    };
    for last in 0..128 {
        assert_eq!(classified(&policy, &sample(last)), u32::from(last));
    }
    assert_eq!(classified(&policy, &sample(128)), NO_RULE);
}

#[test]
fn a_hundred_thousand_prefixes_compile_in_time_and_inherit() {
    let prefixes: Vec<IpNet> = (0..100_000u32)
        .map(|n| {
            IpNet::new(IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes()), 24).expect("a prefix")
        })
        .collect();
    let all =
        rule(Match { source: vec!["10.0.0.0/8".parse().expect("a prefix")], ..Match::default() });
    let many = rule(Match { source: prefixes.clone(), ..Match::default() });
    let policy = compiled(vec![many, all]);
    assert_eq!(policy.source[&prefixes[7]], RuleSet::NONE.with(0).with(1));
    assert_eq!(policy.source.len(), prefixes.len() + 3);
}

fn member(uplink: &str, weight: u32, tier: u32) -> Member {
    Member { uplink: uplink.into(), weight, tier }
}

#[test]
fn groups_of_rules_have_buckets_of_their_own_and_equal_ones_share() {
    let with = |members: Vec<Member>| Rule { members, ..rule(Match::default()) };
    let weighted = vec![member("a", 30, 1), member("b", 70, 1)];
    let policy = compiled(vec![
        with(vec![member("b", 1, 1)]),
        with(vec![member("c", 1, 1), member("a", 1, 2)]),
        with(weighted.clone()),
        with(weighted),
        with(vec![]),
    ]);
    let bucket = |rule: usize, hash: u32| {
        let action = policy.actions[rule];
        policy.buckets[(action.first_bucket + (hash & action.bucket_mask)) as usize].rank
    };
    assert_eq!(bucket(0, 5)[..2], [1, 0xff]);
    assert_eq!(bucket(1, 5)[..3], [2, 0, 0xff]);
    let share = (0..4096).filter(|hash| bucket(2, *hash)[0] == 0).count();
    assert_eq!(share, 1229);
    assert!((0..4096).all(|hash| bucket(2, hash)[2] == 0xff));
    assert_eq!(policy.actions[2].first_bucket, policy.actions[3].first_bucket);
    assert_eq!(policy.actions[4].first_bucket, 0);
    assert_eq!(bucket(4, 9)[3], 0xff);
}

#[test]
fn an_interface_satisfies_the_rules_of_its_name_and_of_all_patterns() {
    let rule = |interface: &str| format!("[[rule]]\nmatch = {{ {interface} }}\nuse = \"a\"\n");
    let rules = [r#"interface = "br-*""#, r#"interface = ["br-1", "x*"]"#, "dscp = 3"].map(rule);
    let text =
        format!("[lan]\ninterfaces = [\"*\"]\n[uplink.a]\ninterface = \"wan\"\n{}", rules.concat());
    let config = Config::parse(&text, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let policy = compile(&config, &indexed, None);
    let set = |rules: &[usize]| rules.iter().fold(RuleSet::NONE, |set, rule| set.with(*rule));
    assert_eq!(policy.of_interface("br-1"), Some(set(&[0, 1, 2])));
    assert_eq!(policy.of_interface("br-2"), Some(set(&[0, 2])));
    assert_eq!(policy.of_interface("x7"), Some(set(&[1, 2])));
    assert_eq!(policy.of_interface("lan0"), None);
    assert_eq!(policy.interface[""], set(&[2]));
}
