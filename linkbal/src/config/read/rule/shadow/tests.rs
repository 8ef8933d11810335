use std::net::IpAddr;

use proptest::{prelude::*, sample::subsequence};

use super::*;

const LAN: [&str; 2] = ["lan0", "lan1"];

/// A new flow, with the fields that rules compare.
#[derive(Clone, Debug)]
struct Flow {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Source and destination ports, if the protocol has any.
    ports: Option<(u16, u16)>,
    dscp: u8,
    interface: &'static str,
    vlan: Option<u16>,
    mac: [u8; 6],
}

/// Returns whether a rule matches a flow, by the documentation of [`Match`].
fn matches(rule: &Match, flow: &Flow) -> bool {
    let within = |nets: &[IpNet], address| nets.iter().any(|net| net.contains(&address));
    let port = |ranges: &[(u16, u16)], port: Option<u16>| {
        ranges.iter().any(|(first, last)| port.is_some_and(|port| (*first..=*last).contains(&port)))
    };
    (rule.source.is_empty() || within(&rule.source, flow.source))
        && (rule.destination.is_empty() || within(&rule.destination, flow.destination))
        && (rule.protocol.is_empty() || rule.protocol.contains(&flow.protocol))
        && (rule.source_port.is_empty() || port(&rule.source_port, flow.ports.map(|ports| ports.0)))
        && (rule.destination_port.is_empty()
            || port(&rule.destination_port, flow.ports.map(|ports| ports.1)))
        && (rule.dscp.is_empty() || rule.dscp.contains(&flow.dscp))
        && (rule.interface.is_empty() || rule.interface.iter().any(|name| name == flow.interface))
        && (rule.vlan.is_empty() || flow.vlan.is_some_and(|vlan| rule.vlan.contains(&vlan)))
        && (rule.mac.is_empty() || rule.mac.contains(&flow.mac))
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a prefix")).collect()
}

/// Generates prefixes within, beside and around each other, whose boundaries lie between `SOURCES`.
fn any_nets() -> impl Strategy<Value = Vec<IpNet>> {
    let all = nets(&[
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "10.128.0.0/9",
        "::/0",
        "2001:db8::/32",
    ]);
    subsequence(all, 0..4)
}

const SOURCES: [&str; 6] = ["1.0.0.0", "10.0.0.1", "10.128.0.1", "192.0.2.1", "2001:db8::1", "::1"];
const DESTINATIONS: [&str; 6] = SOURCES;

fn any_match() -> impl Strategy<Value = Match> {
    let ports = || subsequence(vec![(1, 9), (5, 14), (10, 20), (21, 65_535), (15, 15)], 0..3);
    let with_ports = (ports(), ports(), subsequence(vec![6, 17], 1..3));
    let without_ports = subsequence(vec![1, 6, 17], 0..3).prop_map(|list| (vec![], vec![], list));
    let interfaces = subsequence(LAN.map(str::to_owned).to_vec(), 0..3);
    let macs = subsequence(vec![[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]], 0..2);
    let dscps = prop_oneof![
        3 => Just(vec![]),
        1 => Just((0..64).collect::<Vec<u8>>()),
        2 => subsequence(vec![0, 46], 0..3),
    ];
    let vlans = subsequence(vec![1, 2], 0..3);
    let transport = prop_oneof![with_ports, without_ports];
    ((any_nets(), any_nets()), transport, dscps, interfaces, vlans, macs).prop_map(
        |(addresses, transport, dscp, interface, vlan, mac)| Match {
            source: addresses.0,
            destination: addresses.1,
            source_port: transport.0,
            destination_port: transport.1,
            protocol: transport.2,
            dscp,
            interface,
            vlan,
            mac,
            domain: vec![],
        },
    )
}

/// Returns whether a family is in the sources and the destinations; the configuration refuses
/// others.
fn has_flows(one: &Match) -> bool {
    let has = |nets: &[IpNet], ipv4| {
        nets.is_empty() || nets.iter().any(|net| net.addr().is_ipv4() == ipv4)
    };
    [true, false].iter().any(|ipv4| has(&one.source, *ipv4) && has(&one.destination, *ipv4))
}

/// Generates a match and a second one that has much in common with it, so that shadows are
/// frequent.
fn pair_of_matches() -> impl Strategy<Value = (Match, Match)> {
    let shares = prop::array::uniform6(prop::bool::weighted(0.8));
    let pair = (any_match(), any_match(), shares).prop_map(|(one, mut other, shares)| {
        let [source, destination, transport, dscp, sender, vlan] = shares;
        if source {
            other.source.clone_from(&one.source);
        }
        if destination {
            other.destination.clone_from(&one.destination);
        }
        if transport {
            other.protocol.clone_from(&one.protocol);
            other.source_port.clone_from(&one.source_port);
            other.destination_port.clone_from(&one.destination_port);
        }
        if dscp {
            other.dscp.clone_from(&one.dscp);
        }
        if sender {
            other.interface.clone_from(&one.interface);
            other.mac.clone_from(&one.mac);
        }
        if vlan {
            other.vlan.clone_from(&one.vlan);
        }
        (one, other)
    });
    pair.prop_filter("flows", |(one, other)| has_flows(one) && has_flows(other))
}

/// Returns one flow of each kind that matches of `any_match` can distinguish by addresses and
/// ports.
fn kinds_of_flows() -> Vec<Flow> {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    let pairs = SOURCES.iter().flat_map(|from| DESTINATIONS.iter().map(move |to| (*from, *to)));
    let pairs = pairs.map(|(from, to)| (parse(from), parse(to)));
    let ports = [0, 3, 7, 12, 15, 17, 30];
    let both = ports.iter().flat_map(|from| ports.iter().map(|to| Some((*from, *to))));
    let transport: Vec<_> = both.flat_map(|ports| [(6, ports), (17, ports)]).collect();
    let transport = [vec![(1, None), (47, None)], transport].concat();
    let pairs = pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
    pairs
        .flat_map(|(source, destination)| {
            transport.iter().map(move |(protocol, ports)| Flow {
                source,
                destination,
                protocol: *protocol,
                ports: *ports,
                dscp: 0,
                interface: "lan0",
                vlan: None,
                mac: [2, 0, 0, 0, 0, 1],
            })
        })
        .collect()
}

/// Returns the same flow in each kind of packet, from each kind of sender.
fn in_all_packets(flow: &Flow) -> impl Iterator<Item = Flow> + '_ {
    let senders = LAN
        .into_iter()
        .flat_map(|interface| [1, 2, 3].map(|last| (interface, [2, 0, 0, 0, 0, last])));
    senders.flat_map(move |(interface, mac)| {
        [0, 46, 63].into_iter().flat_map(move |dscp| {
            [None, Some(1), Some(2), Some(3)].map(|vlan| Flow {
                dscp,
                interface,
                vlan,
                mac,
                ..flow.clone()
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Checks that a rule is reported exactly if no flow of any kind distinguishes it from the
    /// earlier one.
    #[test]
    fn a_rule_is_shadowed_if_no_flow_is_left_for_it((earlier, later) in pair_of_matches()) {
        let shadowed = !find(&[&earlier, &later], &LAN).is_empty();
        let left = kinds_of_flows().iter().any(|flow| {
            in_all_packets(flow).any(|flow| matches(&later, &flow) && !matches(&earlier, &flow))
        });
        prop_assert_eq!(shadowed, !left);
    }

    /// Checks that a shadow remains if the earlier match has fewer conditions, or the later one
    /// more.
    #[test]
    fn narrower_matches_are_shadowed(base in any_match(), other in any_match(), keep: [bool; 5]) {
        let mut earlier = base.clone();
        let mut later = base;
        if keep[0] { earlier.vlan.clear(); later.vlan = other.vlan; }
        if keep[1] { earlier.mac.clear(); later.mac = other.mac; }
        if keep[2] { earlier.dscp.clear(); later.dscp = other.dscp; }
        if keep[3] { earlier.interface.clear(); later.interface = other.interface; }
        if keep[4] { earlier.source.clear(); }
        prop_assert_eq!(find(&[&earlier, &later], &LAN), [(1, 0)]);
    }
}

#[test]
fn the_first_of_several_covers_is_named() {
    let everything = Match::default();
    let narrow = Match { vlan: vec![7], ..Match::default() };
    let found = find(&[&narrow, &everything, &everything, &narrow], &LAN);
    assert_eq!(found, [(2, 1), (3, 0)]);
}

#[test]
fn domains_are_covered_by_themselves_and_their_parents() {
    let of = |names: &[&str]| Match {
        domain: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Match::default()
    };
    let covers =
        |earlier: &[&str], later: &[&str]| !find(&[&of(earlier), &of(later)], &LAN).is_empty();
    assert!(covers(&[], &["bank.com"]) && !covers(&["bank.com"], &[]));
    assert!(covers(&["bank.com", "b.br"], &["www.bank.com", "bank.com", "x.y.b.br"]));
    assert!(!covers(&["bank.com"], &["bank.com", "b.br"]));
    assert!(!covers(&["www.bank.com"], &["bank.com"]));
    assert!(!covers(&["bank.com"], &["mybank.com"]));
    assert!(covers(&["com"], &["bank.com"]) && !covers(&["com"], &["com.br"]));
    let ports = Match { destination_port: vec![(443, 443)], ..of(&["bank.com"]) };
    assert_eq!(find(&[&ports, &of(&["bank.com"])], &LAN), []);
    assert_eq!(find(&[&of(&["bank.com"]), &ports], &LAN), [(1, 0)]);
}

#[test]
fn prefixes_that_join_cover_their_union() {
    let of = |texts: &[&str]| Match { source: nets(texts), ..Match::default() };
    let halves = of(&["10.128.0.0/9", "10.0.0.0/9"]);
    assert_eq!(find(&[&halves, &of(&["10.0.0.0/8"])], &LAN), [(1, 0)]);
    assert_eq!(find(&[&halves, &of(&["10.0.0.0/7"])], &LAN), []);
    assert_eq!(find(&[&of(&["0.0.0.0/0", "::/0"]), &Match::default()], &LAN), [(1, 0)]);
    assert_eq!(find(&[&of(&["::/0"]), &of(&["0.0.0.0/0"])], &LAN), []);
}
