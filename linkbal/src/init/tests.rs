use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use linkbal_common::uplink::Family;
use proptest::prelude::*;

use super::*;
use crate::{
    config::{Config, Gateway},
    engine::{
        kernel::network::{Address, IpRule, Link, Route, RouteKind, Snapshot, TABLE_MAIN},
        mistakes::Device,
    },
};

/// A machine that is made step by step.
#[derive(Default)]
struct Machine(Facts);

impl Machine {
    /// Adds an interface of a kind with addresses like `10.0.0.1/24`.
    fn link(mut self, name: &str, kind: &str, addresses: &[&str]) -> Machine {
        let ifindex = self.0.snapshot.links.len() as u32 + 2;
        let device = Device { kind: kind.into(), ..Device::default() };
        self.0.devices.insert(ifindex, device);
        let point_to_point = ["ppp", "wireguard", "tun"].contains(&kind);
        let link =
            Link { point_to_point, ethernet: !point_to_point, ..Link::ethernet(ifindex, name) };
        self.0.snapshot.links.insert(ifindex, link);
        for text in addresses {
            let net: IpNet = text.parse().expect("an address with its length");
            let (address, prefix_length) = (net.addr(), net.prefix_len());
            let own = Address {
                ifindex,
                address,
                prefix_length,
                deprecated: false,
                temporary: false,
                held: false,
            };
            self.0.snapshot.addresses.push(own);
        }
        self
    }

    /// Adds a default route by the last interface.
    fn out(mut self, gateway: &str, table: u32, metric: u32, protocol: u8) -> Machine {
        let ifindex = self.0.snapshot.links.len() as u32 + 1;
        let nexthop: Option<IpAddr> = gateway.parse().ok();
        let all =
            if nexthop.is_some_and(|address| address.is_ipv6()) { "::/0" } else { "0.0.0.0/0" };
        self.0.snapshot.routes.push(Route {
            table,
            destination: all.parse().expect("a network"),
            metric,
            kind: RouteKind::Unicast,
            nexthop,
            ifindex: Some(ifindex),
            onlink: false,
            protocol,
            mtu: None,
        });
        self
    }

    fn text(&self) -> String {
        proposed(&self.0).0
    }

    fn config(&self) -> Config {
        proposed(&self.0).1
    }
}

fn proposed(facts: &Facts) -> (String, Config) {
    let proposal = propose(facts, &Choice::default());
    proposal.config().unwrap_or_else(|(text, error)| panic!("{error}\n{text}"))
}

fn pair() -> Machine {
    Machine::default()
        .link("lan0", "", &["10.0.0.1/24"])
        .link("wan-a", "", &["192.0.2.2/24"])
        .out("192.0.2.1", TABLE_MAIN, 100, 3)
        .link("wan-b", "", &["198.51.100.2/24", "2001:db8::2/64"])
        .out("198.51.100.1", TABLE_MAIN, 200, 3)
        .out("fe80::1", TABLE_MAIN, 1024, 9)
}

fn address(text: &str) -> Gateway {
    Gateway::Address(text.parse().expect("an address"))
}

#[test]
fn two_lines_and_a_lan_become_a_gateway() {
    let config = pair().config();
    assert_eq!(config.lan_interfaces, ["lan0"]);
    let [a, b] = &config.uplinks[..] else { panic!("two uplinks: {config:?}") };
    assert_eq!((&*a.name, &*a.interface, a.weight, a.tier), ("wan-a", "wan-a", 1, 1));
    assert_eq!((a.gateway.ipv4, a.gateway.ipv6), (address("192.0.2.1"), Gateway::Auto));
    assert_eq!((b.gateway.ipv4, b.gateway.ipv6), (address("198.51.100.1"), Gateway::Auto));
    let text = pair().text();
    for words in [
        "# 10.0.0.1/24; no default route",
        "default route via 192.0.2.1, metric 100, by hand or by a script",
        "# Its default route has metric 200, another one 100",
        "IPv6: default route via fe80::1, metric 1024, by a router advertisement",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
}

#[test]
fn two_routers_at_one_card_keep_their_order_in_words() {
    let machine = Machine::default()
        .link("lan0", "", &["10.0.0.1/24"])
        .link("wan", "", &["192.0.2.2/24"])
        .out("192.0.2.1", TABLE_MAIN, 10, 3)
        .out("192.0.2.3", TABLE_MAIN, 20, 3);
    let text = machine.text();
    assert_eq!(
        text.matches("# Its default route has metric 20, another one 10").count(),
        1,
        "{text}"
    );
}

#[test]
fn gateways_that_change_are_left_to_their_clients() {
    let mut machine = Machine::default()
        .link("eth0", "", &["192.0.2.2/24"])
        .out("192.0.2.1", TABLE_MAIN, 1024, 16)
        .link("eth1", "", &["198.51.100.9/24"])
        .out("198.51.100.1", TABLE_MAIN, 0, 3)
        .link("ppp0", "ppp", &["203.0.113.7/32"])
        .link("eth2", "", &["192.168.7.20/24"]);
    let seen = "dhclient (process 7)".to_owned();
    machine.0.clients.insert("eth1".into(), Client { seen: seen.clone(), routers: vec![] });
    let routers = vec!["192.168.7.1".parse().expect("an address")];
    machine.0.clients.insert("eth2".into(), Client { seen, routers });
    let config = machine.config();
    let gateways: Vec<_> =
        config.uplinks.iter().map(|uplink| (&*uplink.name, uplink.gateway.ipv4)).collect();
    let expected = [
        ("eth0", Gateway::Auto),
        ("eth1", Gateway::Auto),
        ("eth2", address("192.168.7.1")),
        ("ppp0", Gateway::Auto),
    ];
    assert_eq!(gateways, expected);
    assert!(machine.text().contains("of dhclient (process 7)"), "{}", machine.text());
    assert!(machine.text().contains("Its DHCP client made no default route"), "{}", machine.text());
}

#[test]
fn several_routers_of_a_lease_are_one_line() {
    let eth0 = || Machine::default().link("eth0", "", &["192.0.2.2/24"]);
    let mut machine =
        eth0().out("192.0.2.1", TABLE_MAIN, 0, 3).out("192.0.2.254", TABLE_MAIN, 0, 3);
    let seen = "dhclient (process 7)".to_owned();
    machine.0.clients.insert("eth0".into(), Client { seen, routers: vec![] });
    let gateways = |machine: &Machine| -> Vec<Gateway> {
        machine.config().uplinks.iter().map(|uplink| uplink.gateway.ipv4).collect()
    };
    assert_eq!(gateways(&machine), [Gateway::Auto]);
    let mixed = eth0().out("192.0.2.1", TABLE_MAIN, 100, 16).out("192.0.2.254", TABLE_MAIN, 200, 3);
    assert_eq!(gateways(&mixed), [address("192.0.2.1"), address("192.0.2.254")]);
}

#[test]
fn an_own_address_is_no_router() {
    let mut machine = pair();
    let routers = vec!["10.0.0.1".parse().expect("an address")];
    machine.0.clients.insert("lan0".into(), Client { seen: "dhclient (x)".into(), routers });
    assert_eq!(machine.config().lan_interfaces, ["lan0"]);
}

#[test]
fn clients_that_dial_in_are_no_lines() {
    let machine = pair()
        .link("ppp0", "ppp", &["10.9.0.1/32"])
        .link("ppp1", "ppp", &["203.0.113.1/32"])
        .link("ppp2", "ppp", &["203.0.113.1/32"])
        .link("ppp3", "ppp", &["10.64.0.7/32"])
        .out("", TABLE_MAIN, 0, 3)
        .link("ppp4", "ppp", &["198.51.100.77/32"]);
    let config = machine.config();
    let names: Vec<&str> = config.uplinks.iter().map(|uplink| &*uplink.name).collect();
    assert_eq!(names, ["ppp3", "ppp4", "wan-a", "wan-b"]);
    assert!(machine.text().contains("# - ppp0: PPP without a default route"), "{}", machine.text());
}

#[test]
fn modems_stand_behind_lines_and_weights_of_next_hops_are_kept() {
    let mut machine = pair().link("wwan0", "", &["10.64.0.9/30"]).out("", TABLE_MAIN, 700, 3);
    machine.0.weights = [(3, "192.0.2.1", 30), (4, "198.51.100.1", 70)]
        .map(|(ifindex, gateway, weight)| Weight { ifindex, gateway: gateway.parse().ok(), weight })
        .into();
    let config = machine.config();
    let shares: Vec<_> =
        config.uplinks.iter().map(|uplink| (&*uplink.name, uplink.tier, uplink.weight)).collect();
    assert_eq!(shares, [("wan-a", 1, 30), ("wan-b", 1, 70), ("wwan0", 2, 1)]);
}

#[test]
fn tables_of_scripts_show_uplinks_too() {
    let machine = Machine::default()
        .link("lan0", "bridge", &["10.0.0.1/24"])
        .link("eth0", "", &["192.168.1.2/24", "192.168.2.2/24"])
        .out("192.168.1.1", 101, 0, 3)
        .out("192.168.2.1", 102, 0, 3);
    let config = machine.config();
    let found: Vec<_> =
        config.uplinks.iter().map(|uplink| (&*uplink.name, uplink.gateway.ipv4)).collect();
    assert_eq!(found, [("eth0", address("192.168.1.1")), ("eth0-2", address("192.168.2.1"))]);
    assert!(machine.text().contains("in table 101"), "{}", machine.text());
}

#[test]
fn every_interface_that_is_left_out_says_why() {
    let mut machine = pair()
        .link("docker0", "bridge", &["172.17.0.1/16"])
        .link("br-0123456789ab", "bridge", &["172.18.0.1/16"])
        .link("wg0", "wireguard", &["10.9.0.1/24"])
        .link("tun0", "tun", &["10.8.0.1/24"])
        .link("eth7", "", &[])
        .link("dmz0", "", &["203.0.113.1/28"])
        .link("dummy0", "dummy", &["10.5.0.1/32"])
        .link("br-lan", "bridge", &["10.1.0.1/24"]);
    let port = Link { port: true, ..Link::ethernet(90, "eth8") };
    machine.0.snapshot.links.insert(90, port);
    let master = machine.0.snapshot.link("br-lan").expect("the bridge").ifindex;
    machine.0.devices.insert(90, Device { master: Some(master), ..Device::default() });
    machine = machine
        .link("mgmt", "vrf", &[])
        .link("eth9", "", &["10.6.0.1/24"])
        .out("10.6.0.254", 100, 0, 3)
        .link("eth10", "", &["10.7.0.1/24"]);
    let vrf = machine.0.snapshot.link("mgmt").map(|link| link.ifindex);
    for link in machine.0.snapshot.links.values_mut() {
        link.vrf = vrf.filter(|_| ["eth9", "eth10"].contains(&&*link.name));
    }
    let config = machine.config();
    assert_eq!(config.lan_interfaces, ["lan0", "br-lan"]);
    assert!(config.uplinks.iter().all(|uplink| uplink.interface != "eth9"), "{config:?}");
    let text = machine.text();
    for words in [
        "# - docker0: a network of Docker",
        "# - br-0123456789ab: a network of Docker",
        "# - wg0: a tunnel (WireGuard)",
        "# - tun0: a tunnel (tun)",
        "# - eth7: it has no address",
        "# - dmz0: 203.0.113.1/28 is public",
        "# - dummy0: no machines are behind it",
        "# - eth8: part of br-lan, which takes its packets",
        "# - eth9: in VRF mgmt",
        "# - eth10: in VRF mgmt",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
}

#[test]
fn a_machine_without_lines_or_lan_is_told_what_is_missing() {
    let nothing = propose(&Facts::default(), &Choice::default());
    let (text, error) = nothing.config().expect_err("no uplink");
    assert_eq!(error.problems().len(), 1, "{error}");
    assert!(text.contains("# [uplink.fiber]") && text.contains("# [lan]"), "{text}");
    let without: String =
        text.lines().map(|line| line.trim_start_matches("# ").to_owned() + "\n").collect();
    let cut = without.find("[lan]").expect("the LAN");
    let commented: String = without[cut..]
        .lines()
        .filter(|line| line.contains(['[', '=']))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(Config::parse(&commented, "x").is_ok(), "{commented}");
    let one =
        Machine::default().link("eth0", "", &["192.0.2.2/24"]).out("192.0.2.1", TABLE_MAIN, 0, 3);
    assert_eq!(one.config().uplinks.len(), 1);
    assert!(one.text().contains("Only one line was found"), "{}", one.text());
}

#[test]
fn what_is_special_about_a_machine_is_said() {
    let mut machine = pair();
    machine.0.kernel = "5.10.0-8-amd64".into();
    machine.0.ipsec = Some("IPsec policies exist".into());
    let values = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv4/conf/wan-a/rp_filter", "1"),
        ("net/netfilter/nf_conntrack_max", "8192"),
    ];
    machine.0.snapshot.sysctls =
        values.map(|(path, value)| (path.to_owned(), value.to_owned())).into();
    machine.0.survey.chains.insert("inet firewalld filter_FORWARD".into());
    let text = machine.text();
    for words in [
        "# - Linux 5.10.0-8-amd64 is too old: linkbal needs 6.1 or later",
        "# - it does not forward packets yet",
        "# - its reverse path filter is strict",
        "# - firewalld filters packets here",
        "# - IPsec policies exist: the networks that it reaches",
        "# - it tracks at most 8192 connections",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
    assert!(!pair().text().contains("This machine"));
}

#[test]
fn a_router_beside_the_network_is_taken_from_its_route() {
    let machine = Machine::default().link("eth0", "", &["203.0.113.7/32"]).out(
        "203.0.113.1",
        TABLE_MAIN,
        0,
        3,
    );
    assert_eq!(machine.config().uplinks[0].gateway.ipv4, Gateway::Auto);
}

#[test]
fn numbers_that_others_use_are_left_to_them() {
    let mut machine = pair();
    let rule = |priority, table, fwmark| IpRule { fwmark, ..IpRule::by_hand(priority, table) };
    assert!(!machine.text().contains("[kernel]"));
    machine.0.snapshot.rules = vec![rule(26_010, 2605, Some((0x0100_0000, 0xff00_0000)))];
    let kernel = machine.config().kernel;
    assert_eq!((kernel.table_base, kernel.rule_priority), (2500, 25_800));
    assert_eq!(kernel.fwmark_mask & 0xff00_0000, 0);
    // Tables in the gap before those of tunnels, and behind these, are no trouble.
    machine.0.snapshot.rules = [2619, 2648].map(|table| rule(5000, table, None)).into();
    assert!(!machine.text().contains("table_base"));
    // Marks of a firewall that no ip rule asks for, such as those of a shaper.
    let mut machine = pair();
    machine.0.survey.read_iptables(
        "iptables-save",
        "*mangle\n-A FORWARD -p udp -j MARK --set-xmark 0x1000000/0xff000000\n\
         -A FORWARD -p tcp -j MARK --set-xmark 0x20000/0xffffffff\nCOMMIT\n",
    );
    assert_eq!(machine.config().kernel.fwmark_mask, 0x0000_ff00);
}

#[test]
fn what_a_person_says_prevails() {
    let choice = Choice {
        uplinks: Some(vec!["wan-b".into(), "lan0".into()]),
        lan: Some(vec!["wan-a".into()]),
        weights: BTreeMap::from([("wan-b".into(), 70), ("lan0".into(), 30)]),
    };
    let (text, config) = propose(&pair().0, &choice).config().expect("a configuration");
    assert_eq!(config.lan_interfaces, ["wan-a"]);
    let shares: Vec<_> =
        config.uplinks.iter().map(|uplink| (&*uplink.name, uplink.weight)).collect();
    assert_eq!(shares, [("lan0", 30), ("wan-b", 70)], "{text}");
}

fn name() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        Just("lo"),
        Just("eth0"),
        Just("eth0.5"),
        Just("wwan0"),
        Just("ppp0"),
        Just("br-lan"),
        Just("docker0"),
        Just("all"),
        Just("a*"),
        Just("*"),
        Just("we\"ird\\"),
        Just("tab\tin"),
        Just("wg0"),
        Just("\u{e9}th"),
        Just("'"),
        Just("#x"),
        Just("[a]"),
        Just("line\nend"),
        Just("-"),
    ];
    prop_oneof![known.prop_map(str::to_owned), any::<String>(), "[a-z]{1,4}[0-9.]{0,14}"]
}

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<IpAddr>(),
        Just("10.0.0.1".parse().expect("it")),
        Just("10.0.0.2".parse().expect("it")),
        Just("fe80::1".parse().expect("it")),
        Just("::ffff:10.0.0.1".parse().expect("it")),
        Just("0.0.0.0".parse().expect("it")),
    ]
}

fn kind() -> impl Strategy<Value = String> {
    let known = ["", "bridge", "ppp", "wireguard", "tun", "wwan", "veth", "dummy"];
    proptest::sample::select(known.to_vec()).prop_map(str::to_owned)
}

fn route(links: u32) -> impl Strategy<Value = Route> {
    let table = prop_oneof![Just(TABLE_MAIN), Just(101_u32), any::<u32>()];
    let protocol = prop_oneof![Just(3_u8), Just(9_u8), Just(16_u8), any::<u8>()];
    let family = any::<bool>();
    (table, protocol, family, proptest::option::of(host()), 0..links + 2, any::<u32>()).prop_map(
        |(table, protocol, six, nexthop, ifindex, metric)| Route {
            table,
            destination: if six { "::/0" } else { "0.0.0.0/0" }.parse().expect("a network"),
            metric,
            kind: RouteKind::Unicast,
            nexthop,
            ifindex: Some(ifindex),
            onlink: false,
            protocol,
            mtu: None,
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let links = proptest::collection::vec((name(), kind(), any::<[bool; 3]>()), 0..40);
    let addresses = proptest::collection::vec((0..42_u32, host(), 0..129_u8), 0..60);
    let routes = proptest::collection::vec(route(40), 0..60);
    let clients = proptest::collection::vec((name(), any::<String>(), host()), 0..4);
    let weights = proptest::collection::vec((0..42_u32, host(), any::<u32>()), 0..4);
    let rules = proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..6);
    (links, addresses, routes, clients, weights, rules, any::<String>()).prop_map(
        |(links, addresses, routes, clients, weights, rules, word)| {
            let mut facts = Facts { host: word.clone(), kernel: word.clone(), ..Facts::default() };
            for (ifindex, (name, kind, [up, port, point_to_point])) in (1..).zip(links) {
                let link = Link { up, port, point_to_point, ..Link::ethernet(ifindex, &name) };
                facts.snapshot.links.insert(ifindex, link);
                facts
                    .devices
                    .insert(ifindex, Device { kind, master: Some(1), ..Device::default() });
            }
            let own = |(ifindex, address, prefix_length)| Address {
                ifindex,
                address,
                prefix_length,
                deprecated: false,
                temporary: false,
                held: false,
            };
            let rule = |(priority, table, mask)| IpRule {
                family: Family::Ipv4,
                priority,
                source: None,
                destination: None,
                from_here: false,
                fwmark: Some((1, mask)),
                device: None,
                table,
                suppress_prefix_length: None,
                forwarded_goto: None,
                protocol: 3,
                more: word.clone(),
            };
            facts.snapshot = Snapshot {
                addresses: addresses.into_iter().map(own).collect(),
                routes,
                rules: rules.into_iter().map(rule).collect(),
                ..facts.snapshot
            };
            let client = |(name, seen, router)| (name, Client { seen, routers: vec![router] });
            facts.clients = clients.into_iter().map(client).collect();
            let weight =
                |(ifindex, gateway, weight)| Weight { ifindex, gateway: Some(gateway), weight };
            facts.weights = weights.into_iter().map(weight).collect();
            facts
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_machine_gets_a_configuration_that_is_accepted(
        facts in facts(),
        uplinks in proptest::option::of(proptest::collection::vec(name(), 0..4)),
        lan in proptest::option::of(proptest::collection::vec(name(), 0..4)),
        weights in proptest::collection::btree_map(name(), any::<u32>(), 0..4),
    ) {
        for choice in [Choice::default(), Choice { uplinks, lan, weights }] {
            let proposal = propose(&facts, &choice);
            match proposal.config() {
                Ok((_, config)) => prop_assert!(!config.uplinks.is_empty()),
                Err((text, error)) => {
                    prop_assert!(proposal.uplinks().next().is_none(), "{error}\n{text}");
                    prop_assert_eq!(error.problems().len(), 1, "{}\n{}", error, text);
                }
            }
        }
    }
}
