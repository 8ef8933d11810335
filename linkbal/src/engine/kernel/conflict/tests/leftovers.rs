//! Leftovers of scripts, VPN clients and firewalls.

use proptest::prelude::*;

use super::*;
use crate::{
    engine::{
        indexed::Indexed,
        kernel::{
            conflict::{
                lookup::{LookedUpRoute, RouteAnswer},
                path::questions,
                survey::{Filter, FilterKind},
            },
            network::{Address, Link, PROTOCOL},
        },
    },
    per_family::PerFamily,
};

const LAN: u32 = 5;
const WAN: u32 = 9;

fn link(ifindex: u32, name: &str) -> (u32, Link) {
    let name = name.into();
    let link = Link {
        ifindex,
        name,
        up: true,
        carrier: true,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    };
    (ifindex, link)
}

fn address(ifindex: u32, address: &str, prefix_length: u8) -> Address {
    let address = address.parse().expect("an address");
    Address { ifindex, address, prefix_length, deprecated: false, temporary: false, held: false }
}

/// Creates a gateway with 10.0.0.1/24 and fd00::1/64 in the LAN, and 203.0.113.2 at its uplink.
fn gateway(rules: Vec<IpRule>, routes: Vec<Route>) -> Snapshot {
    Snapshot {
        links: [link(LAN, "lan0"), link(WAN, "wan-a"), link(11, "tun0")].into(),
        addresses: vec![
            address(LAN, "10.0.0.1", 24),
            address(LAN, "fd00::1", 64),
            address(WAN, "203.0.113.2", 24),
        ],
        ..machine(rules, routes)
    }
}

fn conflicts(snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let found = find(&config(), snapshot, survey, &BTreeSet::new());
    found.into_iter().filter(|conflict| !conflict.compatible).collect()
}

fn more(words: &str) -> IpRule {
    IpRule { more: words.into(), ..rule(3, 201) }
}

fn from(source: &str) -> IpRule {
    IpRule { source: Some(source.parse().expect("a prefix")), ..rule(3, 201) }
}

fn of_rules(rules: Vec<IpRule>) -> Vec<Conflict> {
    conflicts(&gateway(rules, vec![route(201, "0.0.0.0/0")]), &Survey::default())
}

#[test]
fn rules_that_take_packets_of_the_lan_are_named_with_what_deletes_them() {
    for (taking, delete) in [
        (from("10.0.0.0/24"), "`ip rule delete pref 3 from 10.0.0.0/24 lookup 201`"),
        (from("10.0.0.66/32"), "`ip rule delete pref 3 from 10.0.0.66/32 lookup 201`"),
        (from("10.0.0.0/8"), "from 10.0.0.0/8"),
        (more("iif lan0"), "`ip rule delete pref 3 iif lan0 lookup 201`"),
        (more("not iif tun0"), "`ip rule delete pref 3 not iif tun0 lookup 201`"),
        (more("tos 0x10"), "tos 0x10"),
        (more("ipproto Tcp dport 80-80"), "ipproto tcp dport 80-80"),
        (more("uidrange 0-65535"), "uidrange 0-65535"),
        (more("to 198.51.100.0/24"), "to 198.51.100.0/24"),
        (marked(3, 0, 0xff, 201), "fwmark 0x0/0xff"),
        (marked(3, 0x0100_0000, u32::MAX, 201), "fwmark 0x1000000/0xffffffff"),
        (IpRule { table: 0, ..more("goto 30000") }, "goto 30000"),
        (IpRule { table: 0, ..more("iif lan0 prohibit") }, "iif lan0 prohibit"),
    ] {
        let found = of_rules(vec![taking]);
        assert_eq!(found.len(), 1, "{delete}: {found:#?}");
        assert_says(&found[0], &["comes before linkbal's rules", delete]);
    }
}

#[test]
fn rules_that_take_nothing_of_the_lan_are_silent() {
    for silent in [
        from("10.9.0.0/24"),
        more("iif tun0"),
        more("oif wan-a"),
        more("l3mdev"),
        more("uidrange 1000-1000"),
        more("to 10.8.0.0/16"),
        more("not from 0.0.0.0/0 iif lan0"),
        marked(3, 0x20, u32::MAX, 201),
        // Its own interface is where table 201 leads.
        from("203.0.113.2/32"),
        IpRule { table: 0, ..more("goto 25000") },
        rule(3, 202),
        rule(27_000, 201),
    ] {
        assert_eq!(of_rules(vec![silent.clone()]), [], "{silent}");
    }
    let elsewhere = Route { ifindex: Some(11), ..route(201, "0.0.0.0/0") };
    let found =
        conflicts(&gateway(vec![from("203.0.113.2/32")], vec![elsewhere]), &Survey::default());
    assert_says(&found[0], &["out of another interface"]);
}

fn saved(text: &str) -> Survey {
    let mut survey = Survey::default();
    survey.read_iptables("iptables-nft-save", text);
    survey
}

const ARTICLE: &str = "*mangle\n-A PREROUTING -s 10.0.0.0/24 -i lan0 -p tcp -m multiport --dports \
                       80,443 -j MARK --set-xmark 0x20/0xffffffff\n";

#[test]
fn a_mark_and_the_rule_that_it_feeds_are_both_named() {
    let snapshot = gateway(vec![marked(3, 0x20, u32::MAX, 201)], vec![route(201, "0.0.0.0/0")]);
    let found = conflicts(&snapshot, &saved(ARTICLE));
    let all: String = found.iter().map(ToString::to_string).collect();
    for words in [
        "`iptables-nft -t mangle -D PREROUTING -s 10.0.0.0/24 -i lan0",
        "`ip rule delete pref 3 fwmark 0x20/0xffffffff lookup 201`",
        "--set-xmark 0x20/0x80ffffff",
    ] {
        assert!(all.contains(words), "{words} in {all}");
    }
    // A mark that leaves our bits alone, and feeds nothing, is no conflict.
    let other = ARTICLE.replace("0x20/0xffffffff", "0x40/0xff");
    assert_eq!(conflicts(&gateway(vec![], vec![]), &saved(&other)), []);
    let fed = conflicts(&snapshot, &saved(&ARTICLE.replace("0xffffffff", "0xff")));
    assert_eq!(fed.len(), 0, "no packet of the LAN without linkbal's bits: {fed:#?}");
}

#[test]
fn a_transparent_proxy_is_compatible() {
    let local = Route { kind: RouteKind::Local, ..route(100, "0.0.0.0/0") };
    let snapshot = gateway(vec![marked(3, 1, u32::MAX, 100)], vec![local]);
    let found = find(&config(), &snapshot, &listing("divert", &json!(1)), &BTreeSet::new());
    assert!(!found.is_empty() && found.iter().all(|conflict| conflict.compatible), "{found:#?}");
    // With nothing that delivers it, it only loses its uplink.
    let lost = conflicts(&gateway(vec![], vec![]), &listing("divert", &json!(1)));
    assert_says(&lost[0], &["`nft delete rule ip mangle divert handle 0`"]);
}

#[test]
fn routes_that_are_a_default_route_together_are_named() {
    let by = |destination: &str| Route { ifindex: Some(11), ..route(TABLE_MAIN, destination) };
    let halves = gateway(vec![], vec![by("0.0.0.0/1"), by("128.0.0.0/1")]);
    assert_says(
        &conflicts(&halves, &Survey::default())[0],
        &["OpenVPN", "`ip route delete 0.0.0.0/1 dev tun0 table main`", "pull-filter"],
    );
    let six = gateway(vec![], vec![by("2000::/3")]);
    assert_says(&conflicts(&six, &Survey::default())[0], &["`ip -6 route delete 2000::/3"]);
    let networks = gateway(vec![], vec![by("10.0.0.0/8"), by("198.51.100.0/24"), by("fc00::/7")]);
    assert_eq!(conflicts(&networks, &Survey::default()), []);
}

#[test]
fn a_host_route_by_a_dead_uplink_is_named() {
    let host = Route {
        nexthop: Some("203.0.113.1".parse().expect("an address")),
        ..route(TABLE_MAIN, "198.18.7.7/32")
    };
    let snapshot = gateway(vec![], vec![host]);
    let named = |down: BTreeSet<_>| find(&config(), &snapshot, &Survey::default(), &down);
    assert_eq!(named(BTreeSet::new()), BTreeSet::new());
    let found = named([("wan-a".to_owned(), Family::Ipv4)].into());
    let delete = "`ip route delete 198.18.7.7/32 via 203.0.113.1 dev wan-a table main`";
    assert_says(found.first().expect("a conflict"), &["uplink a is down", delete]);
}

#[test]
fn reverse_path_filters_and_their_like() {
    let config = format!("{CONFIG}[uplink.b]\ninterface = \"wan-b\"\n");
    let config = Config::parse(&config, "test").expect("a valid configuration");
    let filter = |chain: &str, kind, interface: Option<&str>| Survey {
        filters: vec![Filter {
            chain: chain.into(),
            kind,
            family: Some("ipv6".into()),
            interface: interface.map(str::to_owned),
            narrow: false,
            delete: "nft delete rule x".into(),
        }],
        ..Survey::default()
    };
    let of = |survey: &Survey| find(&config, &machine(vec![], vec![]), survey, &BTreeSet::new());
    let firewalld = of(&filter("inet firewalld mangle_PREROUTING", FilterKind::ReversePath, None));
    let words = &["firewalld", "ipv6 answers", "IPv6_rpfilter=no"];
    assert_says(firewalld.first().expect("a conflict"), words);
    let other = of(&filter("inet fw p", FilterKind::ReversePath, Some("wan-b")));
    assert_says(other.first().expect("a conflict"), &["`nft delete rule x`"]);
    assert!(of(&filter("inet fw p", FilterKind::ReversePath, Some("tun0"))).is_empty());
    assert!(of(&filter("inet fw p", FilterKind::ReversePath, Some("lan0"))).is_empty());
    for (kind, compatible) in [
        (FilterKind::NoTrack, false),
        (FilterKind::Forward, false),
        (FilterKind::Duplicate, true),
        (FilterKind::Offload, true),
    ] {
        let found = of(&filter("inet fw p", kind, None));
        assert_eq!(found.first().map(|conflict| conflict.compatible), Some(compatible));
    }
}

#[test]
fn what_counts_each_packet_conflicts_with_shortcuts() {
    let rule = |chain: &str, statements: serde_json::Value| {
        let rule = serde_json::json!({"family": "inet", "table": "fw", "chain": chain, "expr": statements});
        let chain = |name: &str| {
            serde_json::json!({"chain": {
                "family": "inet", "table": "fw", "name": name, "type": "filter", "hook": name,
            }})
        };
        let listing =
            serde_json::json!({"nftables": [chain("forward"), chain("input"), {"rule": rule}]});
        Survey::of(&listing)
    };
    let found = |mode: &str, survey: &Survey| {
        let config = format!("{CONFIG}[accelerate]\nmode = \"{mode}\"\n");
        let config = Config::parse(&config, "test").expect("a valid configuration");
        find(&config, &machine(vec![], vec![]), survey, &BTreeSet::new())
    };
    let state = |states: &[&str]| serde_json::json!({"match": {"left": {"ct": {"key": "state"}}, "right": states}});
    let [limit, queue] = ["limit", "queue"].map(|name| serde_json::json!({name: {}}));
    let drop = serde_json::json!({"drop": null});
    for statements in [
        serde_json::json!([limit, drop]),
        serde_json::json!([queue]),
        serde_json::json!([state(&["new", "established"]), queue]),
    ] {
        let survey = rule("forward", statements.clone());
        let conflict = found("ebpf", &survey).pop_first().expect("a conflict");
        assert_says(&conflict, &["inet fw forward", "one a second", "except in [accelerate]"]);
        let conflict = found("flowtable", &survey).pop_first().expect("a conflict");
        assert_says(&conflict, &["it sees none", "accelerate = false"]);
        assert_eq!(found("off", &survey), BTreeSet::new());
        assert_eq!(found("ebpf", &rule("input", statements)), BTreeSet::new(), "not forwarded");
    }
    for statements in [
        serde_json::json!([limit, {"log": null}]),
        serde_json::json!([state(&["new"]), limit, drop]),
        serde_json::json!([drop]),
    ] {
        assert_eq!(found("ebpf", &rule("forward", statements)), BTreeSet::new());
    }
}

#[test]
fn packets_that_the_kernel_leads_elsewhere_are_named() {
    let ours = |rule: IpRule| IpRule { protocol: PROTOCOL, ..rule };
    let gate = "203.0.113.1".parse().ok();
    let way = |table| Route { nexthop: gate, protocol: PROTOCOL, ..route(table, "0.0.0.0/0") };
    let snapshot = gateway(
        vec![
            rule(1000, 201),
            ours(marked(26_100, 0x0100_0000, 0x3f00_0000, 2601)),
            ours(rule(26_199, 2600)),
        ],
        vec![way(2601), way(2600)],
    );
    let config = config();
    let uplink = config.uplinks[0].clone();
    let asked = questions(&config, &[Indexed { index: 0, config: uplink.into() }], &snapshot);
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert_eq!((asked[0].fwmark, asked[0].oif, asked[0].table), (0x0100_0000, WAN, 2601));
    assert_eq!(asked[0].source.to_string(), "10.0.0.3", "neither its own nor the network's");
    assert_eq!(asked[1].fwmark, 0);
    let told = |answer: RouteAnswer| {
        let path = LookedUpRoute { question: asked[0].clone(), answer };
        path::find(&config, &snapshot, &[path])
    };
    let route = |table, oif, gateway| RouteAnswer::Route { table, oif, gateway };
    assert_eq!(told(route(2601, Some(WAN), gate)), []);
    let found = told(route(201, Some(11), None));
    let words = [
        "from 10.0.0.3 iif lan0 mark 0x1000000",
        "uplink a",
        "tun0, by table 201",
        "`ip rule delete pref 1000 lookup 201`",
    ];
    assert_says(&found[0], &words);
    assert_says(&told(RouteAnswer::Refused("prohibit".into()))[0], &["no way for it: prohibit"]);
    // Another uplink took its place while the kernel was asked.
    assert_eq!(told(route(2602, Some(11), None)), []);
    // Nothing is forwarded: the kernel refuses every packet of the LAN.
    let off = BTreeMap::from([("net/ipv4/ip_forward".to_owned(), "0".to_owned())]);
    let off = Snapshot { sysctls: off, ..snapshot.clone() };
    let uplink = config.uplinks[0].clone();
    assert_eq!(questions(&config, &[Indexed { index: 0, config: uplink.into() }], &off), []);
    let refused = RouteAnswer::Refused("No route to host".into());
    let path = LookedUpRoute { question: asked[0].clone(), answer: refused };
    assert_eq!(path::find(&config, &off, &[path]), []);
}

proptest! {
    #[test]
    fn any_rule_is_judged(
        words in "((not|to|iif|oif|goto|uidrange|dport|l3mdev|prohibit|lan0|[0-9a-f:./-]{0,12}) ){0,6}",
        mark in any::<Option<(u32, u32)>>(),
        priority in any::<u32>(),
        table in any::<u32>(),
    ) {
        of_rules(vec![IpRule { fwmark: mark, priority, table, ..more(&words) }]);
    }
}
