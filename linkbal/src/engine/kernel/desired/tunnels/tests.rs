//! Routing of outer packets, for tunnels of many kinds.

use super::*;
use crate::engine::kernel::{
    desired::{
        desired,
        tests::{config, held},
    },
    network::{Link, RouteKind},
};

const TUNNEL: &str = r#"
[lan]
interfaces = ["lan0"]
[uplink.cable]
interface = "wan1"
weight = 3
gateway = { ipv4 = "192.0.2.1", ipv6 = "2001:db8:b::1" }
[uplink.fiber]
interface = "wan0"
weight = 7
gateway = { ipv4 = "203.0.113.1", ipv6 = "2001:db8:a::1" }
[uplink.vpn]
interface = "tun0"
"#;

/// The indexes of interfaces, and the table of the tunnel, which is the third uplink.
const FIBER: u32 = 3;
const CABLE: u32 = 4;
const VPN: u32 = 5;
const TABLE: u32 = 2634;

fn machine(tunnel: Option<Tunnel>) -> Snapshot {
    let links =
        [Link::ethernet(FIBER, "wan0"), Link::ethernet(CABLE, "wan1"), Link::ethernet(VPN, "tun0")];
    Snapshot {
        links: links.map(|link| (link.ifindex, link)).into(),
        tunnels: tunnel.map(|tunnel| (VPN, tunnel)).into_iter().collect(),
        addresses: vec![
            held(FIBER, "203.0.113.2/24"),
            held(FIBER, "2001:db8:a::2/64"),
            held(CABLE, "192.0.2.2/24"),
            held(CABLE, "2001:db8:b::2/64"),
            held(VPN, "10.9.0.2/24"),
        ],
        ..Snapshot::default()
    }
}

fn to(endpoint: &str) -> Tunnel {
    let endpoints = [endpoint.parse().expect("an address")].into();
    Tunnel { endpoints, ..Tunnel::default() }
}

/// Returns the uplinks that are up: all but those of these indexes.
fn up_but(down: &[u32]) -> UpMask {
    let mut up = UpMask::default();
    for index in (0..3).filter(|index| !down.contains(index)) {
        for family in Family::ALL {
            up = up.with(index, family, true);
        }
    }
    up
}

/// Returns the rules as `ip rule` shows them, and the devices of the tunnel's table in order.
fn way(text: &str, snapshot: &Snapshot, up: UpMask, family: Family) -> (Vec<String>, Vec<u32>) {
    let (config, indexed) = config(text);
    let (mut routes, rules) = outer(&config, &indexed, snapshot, up, family);
    routes.sort_by_key(|route| route.metric);
    if let Some(last) = routes.pop() {
        assert_eq!((last.kind, last.table), (RouteKind::Unreachable, TABLE));
    }
    assert!(routes.iter().all(|route| route.table == TABLE && route.is_default()));
    let devices = routes.iter().filter_map(|route| route.ifindex).collect();
    (rules.iter().map(ToString::to_string).collect(), devices)
}

fn led_to(endpoint: &str) -> Vec<String> {
    vec![
        format!("26002: ipv4 to {endpoint}/32 iif lo lookup main suppress_prefixlength 1"),
        format!("26003: ipv4 to {endpoint}/32 iif lo lookup {TABLE}"),
    ]
}

fn devices(text: &str, tunnel: Tunnel, up: UpMask) -> Vec<u32> {
    way(text, &machine(Some(tunnel)), up, Family::Ipv4).1
}

#[test]
fn outer_packets_go_by_the_best_usable_uplink_and_never_by_the_tunnel() {
    let endpoint = "198.51.100.9";
    let snapshot = machine(Some(to(endpoint)));
    let at = |up| way(TUNNEL, &snapshot, up, Family::Ipv4);
    assert_eq!(at(up_but(&[])), (led_to(endpoint), vec![FIBER, CABLE]));
    assert_eq!(at(up_but(&[1])), (led_to(endpoint), vec![CABLE, FIBER]));
    assert_eq!(at(up_but(&[0, 1, 2])), (led_to(endpoint), vec![FIBER, CABLE]), "at the start");
    assert_eq!(way(TUNNEL, &snapshot, up_but(&[]), Family::Ipv6), (vec![], vec![]));
    let bare = machine(None);
    assert_eq!(way(TUNNEL, &bare, up_but(&[]), Family::Ipv4), (vec![], vec![]), "no tunnel");
}

#[test]
fn an_endpoint_of_ipv6_has_its_rules_there() {
    let snapshot = machine(Some(to("2001:db8:ff::9")));
    let (rules, devices) = way(TUNNEL, &snapshot, up_but(&[1]), Family::Ipv6);
    assert_eq!(
        rules.last().expect("rules"),
        "26003: ipv6 to 2001:db8:ff::9/128 iif lo lookup 2634"
    );
    assert_eq!(devices, [CABLE, FIBER]);
}

#[test]
fn the_configuration_names_the_uplinks_in_order_and_the_endpoints() {
    let over = TUNNEL.to_owned() + "over = [\"cable\", \"fiber\"]\n";
    let tunnel = || to("198.51.100.9");
    assert_eq!(devices(&over, tunnel(), up_but(&[])), [CABLE, FIBER]);
    assert_eq!(devices(&over, tunnel(), up_but(&[0])), [FIBER, CABLE]);
    let one = TUNNEL.to_owned() + "over = \"cable\"\n";
    assert_eq!(devices(&one, tunnel(), up_but(&[0])), [CABLE], "never by another one");
    let unknown = TUNNEL.to_owned() + "endpoint = \"198.51.100.7\"\n";
    let expected = (led_to("198.51.100.7"), vec![FIBER, CABLE]);
    assert_eq!(way(&unknown, &machine(None), up_but(&[]), Family::Ipv4), expected);
    let (rules, _) = way(&unknown, &machine(Some(tunnel())), up_but(&[]), Family::Ipv4);
    assert_eq!(rules, led_to("198.51.100.7"), "what is written counts");
}

#[test]
fn a_tunnel_that_is_tied_to_a_line_uses_that_one() {
    let tied = |tunnel: Tunnel| devices(TUNNEL, tunnel, up_but(&[]));
    let local = |text: &str| Some(text.parse().expect("an address"));
    let far = || to("198.51.100.9");
    assert_eq!(tied(Tunnel { local: local("192.0.2.2"), ..far() }), [CABLE]);
    assert_eq!(tied(Tunnel { local: local("10.0.0.1"), ..far() }), [FIBER, CABLE], "of no uplink");
    assert_eq!(tied(Tunnel { device: Some(CABLE), ..far() }), [CABLE]);
    assert_eq!(tied(Tunnel { device: Some(99), ..far() }), [0; 0], "nothing to choose");
    assert_eq!(tied(Tunnel { fwmark: 0x0100_0000, ..far() }), [0; 0], "it has chosen");
    assert_eq!(tied(Tunnel { fwmark: 0xca6c, ..far() }), [FIBER, CABLE]);
    let over = TUNNEL.to_owned() + "over = \"cable\"\n";
    let marked = Tunnel { fwmark: 0x0100_0000, ..far() };
    assert_eq!(devices(&over, marked, up_but(&[])), [CABLE]);
}

#[test]
fn with_no_other_uplinks_outer_packets_go_where_the_main_table_says() {
    let text = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.vpn]\ninterface = \"tun0\"\n";
    let snapshot = machine(Some(to("198.51.100.9")));
    let (rules, devices) = way(text, &snapshot, up_but(&[]), Family::Ipv4);
    assert_eq!(rules[1], "26003: ipv4 to 198.51.100.9/32 iif lo lookup main");
    assert_eq!(devices, [0; 0]);
}

#[test]
fn another_endpoint_takes_the_place_of_the_former_one() {
    use crate::engine::kernel::{diff, network::Change};
    let (config, indexed) = config(TUNNEL);
    let wanted = |endpoint: &str| {
        let mut snapshot = machine(Some(to(endpoint)));
        snapshot.rules.push(rule(&config, Family::Ipv4, 1000));
        desired(&config, &indexed, &snapshot, up_but(&[]))
    };
    let mut kernel = machine(Some(to("198.51.100.8")));
    let before = wanted("198.51.100.9");
    diff::assume(&mut kernel, &diff::diff(&before, &Snapshot::default()));
    let changes = diff::diff(&wanted("198.51.100.8"), &kernel);
    let rules: Vec<String> = changes
        .iter()
        .filter_map(|change| match change {
            Change::AddRule(rule) => Some(format!("add {rule}")),
            Change::DeleteRule(rule) => Some(format!("delete {rule}")),
            _ => None,
        })
        .collect();
    let of = |verb: &str, endpoint: &str| {
        led_to(endpoint).into_iter().map(|rule| format!("{verb} {rule}")).collect::<Vec<_>>()
    };
    assert_eq!(rules, [of("add", "198.51.100.8"), of("delete", "198.51.100.9")].concat());
    assert!(changes.iter().all(|change| !matches!(change, Change::DeleteRoute(_))), "{changes:?}");
}
