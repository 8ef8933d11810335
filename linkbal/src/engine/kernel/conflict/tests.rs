//! Machines with other programs on them.

use std::collections::{BTreeMap, BTreeSet};

use linkbal_common::uplink::Family;
use serde_json::json;

use super::*;
use crate::engine::kernel::network::{IpRule, PROTOCOL, Route, RouteKind, TABLE_MAIN};

mod leftovers;
mod tunnels;
mod vrf;

const CONFIG: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n";

fn config() -> Config {
    Config::parse(CONFIG, "test").expect("a valid configuration")
}

fn rule(priority: u32, table: u32) -> IpRule {
    IpRule::by_hand(priority, table)
}

fn marked(priority: u32, fwmark: u32, mask: u32, table: u32) -> IpRule {
    IpRule { fwmark: Some((fwmark, mask)), ..rule(priority, table) }
}

fn route(table: u32, destination: &str) -> Route {
    Route {
        table,
        destination: destination.parse().expect("a prefix"),
        metric: 0,
        kind: RouteKind::Unicast,
        nexthop: None,
        ifindex: Some(9),
        onlink: false,
        protocol: 3,
        mtu: None,
    }
}

/// Creates a machine with the kernel's initial rules and a default route, and with more of both.
fn machine(rules: Vec<IpRule>, routes: Vec<Route>) -> Snapshot {
    let born = [rule(0, 255), rule(32_766, TABLE_MAIN), rule(32_767, 253)];
    let born = born.map(|rule| IpRule { protocol: 2, ..rule });
    let main = route(TABLE_MAIN, "0.0.0.0/0");
    Snapshot {
        rules: rules.into_iter().chain(born).collect(),
        routes: routes.into_iter().chain([main]).collect(),
        ..Snapshot::default()
    }
}

fn found(rules: Vec<IpRule>, routes: Vec<Route>) -> Vec<Conflict> {
    find(&config(), &machine(rules, routes), &Survey::default(), &BTreeSet::new())
        .into_iter()
        .collect()
}

/// Returns the conflict with a program, which must be the only one of that owner.
fn of<'a>(found: &'a [Conflict], owner: &str) -> &'a Conflict {
    let mut own = found.iter().filter(|conflict| conflict.owner == owner);
    let conflict = own.next().unwrap_or_else(|| panic!("nothing of {owner}: {found:#?}"));
    assert!(own.next().is_none(), "{found:#?}");
    conflict
}

fn assert_says(conflict: &Conflict, words: &[&str]) {
    let text = conflict.to_string();
    words.iter().for_each(|words| assert!(text.contains(words), "{words} in {text}"));
}

#[test]
fn a_machine_of_ones_own_has_none() {
    let own = IpRule { protocol: PROTOCOL, ..rule(26_199, 2600) };
    let default = Route { protocol: PROTOCOL, ..route(2600, "0.0.0.0/0") };
    assert_eq!(found(vec![own], vec![default]), []);
}

#[test]
fn rules_of_others_that_do_not_meet_ours_are_no_conflict() {
    let source = Some("10.8.0.0/24".parse().expect("a prefix"));
    let harmless = vec![
        IpRule { source, ..rule(100, 77) },
        IpRule { suppress_prefix_length: Some(0), ..rule(200, TABLE_MAIN) },
        IpRule { more: "iif tun0".into(), ..rule(300, 77) },
        IpRule { device: Some("tun0".into()), ..rule(310, 77) },
        IpRule { more: "nop".into(), ..rule(400, 0) },
        marked(500, 0x7, 0xff, 77),
        // Its table has no way for everything.
        rule(600, 78),
        rule(27_000, 77),
    ];
    assert_eq!(found(harmless, vec![route(77, "0.0.0.0/0"), route(78, "10.0.0.0/8")]), []);
}

#[test]
fn a_rule_that_takes_everything_before_ours_is_named() {
    for routes in
        [vec![route(77, "0.0.0.0/0")], vec![route(77, "0.0.0.0/1"), route(77, "128.0.0.0/1")]]
    {
        let found = found(vec![rule(1000, 77)], routes);
        assert_says(
            &found[0],
            &[
                "ip rule 1000: ipv4 lookup 77",
                "they never match",
                "by table 77",
                "kernel.rule_priority below 1000",
            ],
        );
    }
    let refusal = IpRule { more: "unreachable".into(), ..rule(1000, 0) };
    assert_says(&found(vec![refusal], vec![])[0], &["goes nowhere"]);
    assert_says(&found(vec![rule(900, TABLE_MAIN)], vec![])[0], &["by table main"]);
}

#[test]
fn our_priorities_tables_and_bits_are_ours() {
    let found = found(
        vec![
            IpRule { protocol: 18, ..marked(26_050, 7, 0xff, 77) },
            rule(30_000, 2601),
            marked(31_000, 0x0100_0000, 0xff00_0000, 77),
            IpRule { protocol: PROTOCOL, more: "iif lan0".into(), ..rule(26_100, 2601) },
        ],
        vec![route(2618, "10.0.0.0/8")],
    );
    let texts: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
    for words in [
        "keepalived): its priority is among linkbal's, 26000 to 26199",
        "it sends packets to table 2601",
        "its mask 0xff000000 has bits of linkbal's, 0x7f000000",
        "linkbal makes no such rules",
        "it is in table 2618",
    ] {
        assert!(texts.iter().any(|text| text.contains(words)), "{words} in {texts:#?}");
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn mwan3_decides_before_linkbal() {
    let rules = vec![marked(2001, 0x100, 0x3f00, 1), marked(2002, 0x200, 0x3f00, 2)];
    let found = found(rules, vec![route(1, "0.0.0.0/0")]);
    assert_says(of(&found, "mwan3"), &["not compatible", "service mwan3 stop"]);
}

#[test]
fn tailscale_is_compatible_without_an_exit_node() {
    let rules = || {
        vec![
            marked(5210, 0x80000, 0x00ff_0000, TABLE_MAIN),
            marked(5230, 0x80000, 0x00ff_0000, 253),
            IpRule { more: "unreachable".into(), ..marked(5250, 0x80000, 0x00ff_0000, 0) },
            rule(5270, 52),
        ]
    };
    let with = |routes| found(rules(), routes);
    let tailnet = with(vec![route(52, "100.64.0.7/32")]);
    assert!(of(&tailnet, "Tailscale").compatible, "{tailnet:#?}");
    assert_eq!(tailnet.len(), 1);
    let exit = with(vec![route(52, "0.0.0.0/0")]);
    assert!(!of(&exit, "Tailscale").compatible);
    assert_says(of(&exit, "Tailscale"), &["exit node"]);
}

#[test]
fn wg_quick_takes_everything_or_nothing() {
    let all =
        |priority| IpRule { more: "not".into(), ..marked(priority, 51_820, u32::MAX, 51_820) };
    let routes = || vec![route(51_820, "0.0.0.0/0")];
    let first = found(vec![all(25_999)], routes());
    assert_says(of(&first, "wg-quick"), &["takes all traffic", "Table = off"]);
    assert_eq!(first.len(), 1, "{first:#?}");
    let last = found(vec![all(32_765)], routes());
    assert_says(of(&last, "wg-quick"), &["come after linkbal's"]);
}

#[test]
fn pbr_comes_too_late() {
    let found = found(vec![marked(29_998, 0x10000, 0x00ff_0000, 256)], vec![]);
    assert_says(of(&found, "pbr"), &["not compatible", "[[rule]]"]);
}

fn listing(chain: &str, value: &serde_json::Value) -> Survey {
    let of = |name: &str| json!({"family": "ip", "table": "mangle", name: chain});
    let mut rule = of("chain");
    rule["expr"] = json!([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}]);
    Survey::of(&json!({"nftables": [{"chain": of("name")}, {"rule": rule}]}))
}

#[test]
fn calico_conflicts_only_with_the_bits_that_it_uses() {
    let mark = json!({"meta": {"key": "mark"}});
    let calico = |bits: u32| {
        let survey = listing("cali-PREROUTING", &json!({"|": [mark, bits]}));
        find(&config(), &machine(vec![], vec![]), &survey, &BTreeSet::new())
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert!(calico(0x0001_0000).iter().all(|conflict| conflict.compatible));
    let found = calico(0x0201_0000);
    assert!(found.iter().all(|conflict| conflict.owner == "Calico" && !conflict.compatible));
    assert!(found.iter().any(|conflict| conflict.advice.contains("iptablesMarkMask")));
}

#[test]
fn a_chain_that_overwrites_the_mark_is_named() {
    let survey = listing("mark_lan", &json!(1));
    let found: Vec<_> =
        find(&config(), &machine(vec![], vec![]), &survey, &BTreeSet::new()).into_iter().collect();
    assert_says(
        &found[0],
        &["firewall chain ip mangle mark_lan", "0x7f000000", "meta mark set meta mark &"],
    );
}
