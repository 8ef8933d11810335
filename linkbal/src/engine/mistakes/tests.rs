//! Machines that a configuration does not fit.

use std::net::IpAddr;

use super::*;
use crate::{
    config::Severity,
    engine::kernel::network::{Route, RouteKind, TABLE_MAIN},
};

const CONFIG: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
    [uplink.b]\ninterface = \"wan-b\"\n";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Creates a machine with a LAN and two uplinks that fits the configuration.
fn machine() -> MachineFacts {
    let mut facts = MachineFacts::default();
    let links = [
        (1, "lo", "127.0.0.1/8", None),
        (2, "lan0", "192.168.1.1/24", None),
        (3, "wan-a", "192.0.2.2/24", Some("192.0.2.1")),
        (4, "wan-b", "198.51.100.2/24", Some("198.51.100.1")),
        (5, "spare", "10.9.0.1/24", None),
    ];
    for (ifindex, name, own, gateway) in links {
        facts.snapshot.links.insert(ifindex, Link::ethernet(ifindex, name));
        own_address(&mut facts, ifindex, own);
        if let Some(gateway) = gateway {
            facts.snapshot.routes.push(default_route(ifindex, gateway));
            facts.asked.insert((ifindex, address(gateway)), true);
        }
    }
    facts
}

fn own_address(facts: &mut MachineFacts, ifindex: u32, own: &str) {
    let network: IpNet = own.parse().expect("an address with its length");
    facts.snapshot.addresses.push(Address {
        ifindex,
        address: network.addr(),
        prefix_length: network.prefix_len(),
        deprecated: false,
        temporary: false,
        held: false,
    });
}

fn default_route(ifindex: u32, gateway: &str) -> Route {
    let gateway = address(gateway);
    let destination = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    Route {
        table: TABLE_MAIN,
        destination: destination.parse().expect("a prefix"),
        metric: ifindex,
        kind: RouteKind::Unicast,
        nexthop: Some(gateway),
        ifindex: Some(ifindex),
        onlink: false,
        protocol: 3,
        mtu: None,
    }
}

/// Returns what is found with a configuration, as severity, message and advice in one line.
fn found(config: &str, facts: &MachineFacts) -> Vec<String> {
    let config = Config::parse(config, "test").expect("a valid configuration");
    let found = find(&config, facts);
    found.iter().map(|it| format!("{:?}: {} ({})", it.severity, it.message, it.help)).collect()
}

/// Checks that one thing is found, which has all of the texts.
fn only(config: &str, facts: &MachineFacts, texts: &[&str]) {
    let found = found(config, facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    for text in texts {
        assert!(found[0].contains(text), "{text} in {}", found[0]);
    }
}

fn with(uplink: &str, line: &str) -> String {
    let start = format!("[uplink.{uplink}]\n");
    CONFIG.replace(&start, &format!("{start}{line}\n"))
}

#[test]
fn a_machine_that_fits_has_nothing() {
    assert_eq!(found(CONFIG, &machine()), [""; 0]);
    let gateways = with("a", "gateway = \"192.0.2.1\"");
    assert_eq!(found(&gateways, &machine()), [""; 0]);
    let none = "[uplink.a]\ninterface = \"wan-a\"\n[uplink.b]\ninterface = \"wan-b\"\n";
    let mut pc = machine();
    pc.snapshot.links.retain(|_, link| link.name.starts_with("wan") || link.name == "lo");
    assert_eq!(found(none, &pc), [""; 0]);
}

#[test]
fn interfaces_that_do_not_exist_are_named_with_the_nearest() {
    let missing = CONFIG.replace("wan-a", "wan_a");
    only(
        &missing,
        &machine(),
        &["Error: interface wan_a does not exist", "did you mean \"wan-a\"?"],
    );
    let missing = CONFIG.replace("lan0", "lan1");
    only(&missing, &machine(), &["interface lan1 does not exist", "did you mean \"lan0\"?"]);
    let vlan = CONFIG.replace("wan-a", "wan-a.7");
    only(&vlan, &machine(), &["`ip link add link wan-a name wan-a.7 type vlan id 7` creates it"]);
    let dialled = CONFIG.replace("wan-a", "ppp0");
    only(&dialled, &machine(), &["Warning: interface ppp0 does not exist", "pppd"]);
    let pattern = CONFIG.replace("\"lan0\"", "\"lan0\", \"br-*\"");
    only(&pattern, &machine(), &["Hint: no interface matches br-*"]);
    let mut facts = machine();
    let names = Device { alternative_names: vec!["enp3s0".into()], ..Device::default() };
    facts.devices.insert(3, names);
    only(&CONFIG.replace("wan-a", "enp3s0"), &facts, &["write \"wan-a\": enp3s0 is another name"]);
}

#[test]
fn what_linkbal_creates_need_not_exist_but_its_members_do() {
    let bond = "[bond.bond0]\nmode = \"active-backup\"\nmembers = [\"spare\"]\nmiimon = 100\n";
    let config = CONFIG.replace("wan-a", "bond0") + bond;
    assert_eq!(found(&config, &machine()), [""; 0]);
    let config = config.replace("\"spare\"", "\"spar\"");
    only(&config, &machine(), &["interface spar does not exist", "did you mean \"spare\"?"]);
}

#[test]
fn parts_of_a_bridge_or_bond_lead_to_it() {
    for at in [2, 3] {
        let mut facts = machine();
        let port = facts.snapshot.links.get_mut(&at).expect("it exists");
        port.port = true;
        let name = port.name.clone();
        facts.devices.insert(at, Device { master: Some(5), ..Device::default() });
        only(CONFIG, &facts, &[&format!("{name} is part of spare"), "write \"spare\" instead"]);
    }
}

#[test]
fn interfaces_in_a_vrf_are_routed_by_that() {
    for at in [2, 3] {
        let mut facts = machine();
        facts.snapshot.links.get_mut(&at).expect("it exists").vrf = Some(5);
        let name = facts.snapshot.links[&at].name.clone();
        let nomaster = format!("`ip link set {name} nomaster`");
        only(CONFIG, &facts, &[&format!("{name} is in VRF spare"), &nomaster]);
    }
}

#[test]
fn interfaces_that_are_down_or_have_no_address() {
    for at in [2, 3] {
        let mut facts = machine();
        facts.snapshot.links.get_mut(&at).expect("it exists").up = false;
        only(CONFIG, &facts, &["Warning", "is down", "`ip link set "]);
        let mut facts = machine();
        facts.snapshot.links.get_mut(&at).expect("it exists").carrier = false;
        only(CONFIG, &facts, &["Warning", "has no carrier"]);
        let mut facts = machine();
        facts.snapshot.addresses.retain(|own| own.ifindex != at);
        // A link-local one is no use.
        own_address(&mut facts, at, "fe80::1/64");
        only(CONFIG, &facts, &["Warning", "has no address", "`ip address add "]);
    }
}

#[test]
fn swapped_gateways_are_told_as_such() {
    let both = with("a", "gateway = \"198.51.100.1\"")
        .replace("[uplink.b]\n", "[uplink.b]\ngateway = \"192.0.2.1\"\n");
    let found = found(&both, &machine());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("gateways of a and b are swapped: 198.51.100.1 is in the network of b")
    );
    assert!(found[0].contains("write gateway = \"192.0.2.1\" here"), "{}", found[0]);
    // That of one alone is at the wrong place.
    let one = with("a", "gateway = \"198.51.100.1\"");
    only(
        &one,
        &machine(),
        &["gateway 198.51.100.1 is not on wan-a", "that of uplink b, on wan-b", "192.0.2.1"],
    );
    let lan = with("a", "gateway = \"192.168.1.9\"");
    only(&lan, &machine(), &["its network is that of the LAN, on lan0"]);
}

#[test]
fn gateways_that_cannot_be_one() {
    let own = with("a", "gateway = \"192.0.2.2\"");
    only(&own, &machine(), &["192.0.2.2 is this machine's own address, on wan-a", "\"192.0.2.1\""]);
    let broadcast = with("a", "gateway = \"192.0.2.255\"");
    only(&broadcast, &machine(), &["the number of a whole network"]);
    let outside = with("a", "gateway = \"203.0.113.9\"");
    only(
        &outside,
        &machine(),
        &["outside of the networks of wan-a (192.0.2.0/24)", "\"192.0.2.1\""],
    );
    // Some providers have it so, and it answers.
    let mut facts = machine();
    facts.asked.insert((3, address("203.0.113.9")), true);
    assert_eq!(found(&outside, &facts), [""; 0]);
    let family = with("a", "gateway = \"2001:db8::1\"");
    only(&family, &machine(), &["wan-a has no ipv6 address for gateway 2001:db8::1"]);
}

#[test]
fn silent_gateways() {
    let mut facts = machine();
    facts.asked.insert((3, address("192.0.2.1")), false);
    let help = "see whether the cable is at the right port";
    only(CONFIG, &facts, &["Error: gateway 192.0.2.1 does not answer ARP on wan-a", help]);
    facts.asked.insert((3, address("192.0.2.9")), false);
    let configured = with("a", "gateway = \"192.0.2.9\"");
    only(
        &configured,
        &facts,
        &["gateway 192.0.2.9 does not answer ARP", "write gateway = \"192.0.2.1\""],
    );
    let mut facts = machine();
    own_address(&mut facts, 3, "2001:db8:a::2/64");
    facts.snapshot.routes.push(default_route(3, "fe80::1"));
    facts.asked.insert((3, address("fe80::1")), false);
    only(CONFIG, &facts, &["gateway fe80::1 does not answer neighbour solicitations on wan-a"]);
}

#[test]
fn a_gateway_to_be_found_out_that_is_nowhere() {
    let mut facts = machine();
    facts.snapshot.routes.retain(|route| route.ifindex != Some(3));
    only(
        CONFIG,
        &facts,
        &["no ipv4 gateway known on wan-a", "write gateway = \"..\"", "192.0.2.0/24"],
    );
    // Nobody else is there on a line with two ends.
    facts.snapshot.links.get_mut(&3).expect("it exists").point_to_point = true;
    assert_eq!(found(CONFIG, &facts), [""; 0]);
    // An uplink with IPv6 alone needs a router for that.
    let mut facts = machine();
    facts.snapshot.routes.retain(|route| route.ifindex != Some(3));
    facts.snapshot.addresses.retain(|own| own.ifindex != 3);
    own_address(&mut facts, 3, "2001:db8:a::2/64");
    only(CONFIG, &facts, &["no ipv6 gateway known on wan-a", "accept_ra=2"]);
    facts.snapshot.routes.push(default_route(3, "fe80::1"));
    assert_eq!(found(CONFIG, &facts), [""; 0]);
}

#[test]
fn targets_that_are_not_beyond_the_uplink() {
    let targets =
        |list: &str| format!("{CONFIG}[probe]\ntargets = [{list}, \"9.9.9.9\", \"1.1.1.1\"]\n");
    only(
        &targets("\"192.168.1.7\""),
        &machine(),
        &["target 192.168.1.7 is inside of the LAN (192.168.1.0/24 on lan0)"],
    );
    only(
        &targets("\"tcp://192.168.1.1:80\""),
        &machine(),
        &["192.168.1.1 is this machine's own address, on lan0"],
    );
    let other = with("a", "probe = { targets = [\"198.51.100.1\"] }");
    only(&other, &machine(), &["Warning: target 198.51.100.1 is in the network of uplink b"]);
    let resolvers = with("a", "resolvers = [\"192.168.1.7\"]");
    only(&resolvers, &machine(), &["Error: resolver 192.168.1.7 is inside of the LAN"]);
}

#[test]
fn a_lan_that_is_not_named_or_leads_out() {
    let none = "[uplink.a]\ninterface = \"wan-a\"\n[uplink.b]\ninterface = \"wan-b\"\n";
    only(
        none,
        &machine(),
        &["Warning: no LAN is named", "lan0 (192.168.1.1)", "interfaces = [\"lan0\"]"],
    );
    let mut facts = machine();
    facts.snapshot.routes.push(default_route(2, "192.168.1.254"));
    only(CONFIG, &facts, &["a default route via 192.168.1.254 leads by lan0", "[uplink.lan0]"]);
}

#[test]
fn the_way_of_a_gateway_on_standby_leads_by_its_partner() {
    let mut facts = machine();
    facts.snapshot.routes.push(default_route(2, "192.168.1.3"));
    let config = with("a", "virtual_addresses = [\"192.0.2.2\"]");
    assert_eq!(found(&config, &facts), [""; 0]);
}

#[test]
fn networks_that_overlap_and_addresses_that_are_there_twice() {
    let mut facts = machine();
    own_address(&mut facts, 2, "192.0.2.129/25");
    only(
        CONFIG,
        &facts,
        &[
            "Error: the network 192.0.2.128/25 of the LAN, on lan0, overlaps 192.0.2.0/24 of uplink a",
        ],
    );
    let mut facts = machine();
    own_address(&mut facts, 4, "192.0.2.3/24");
    only(CONFIG, &facts, &["Hint: uplinks a and b are in the same network 192.0.2.0/24"]);
    own_address(&mut facts, 4, "192.0.2.2/24");
    only(CONFIG, &facts, &["Warning: uplinks a and b have the same address 192.0.2.2"]);
    let mut facts = machine();
    own_address(&mut facts, 2, "192.0.2.2/24");
    only(
        CONFIG,
        &facts,
        &["Error: address 192.0.2.2 is on lan0 of the LAN and on wan-a of uplink a"],
    );
    let mut facts = machine();
    own_address(&mut facts, 3, "2001:db8::2/48");
    own_address(&mut facts, 2, "2001:db8:0:1::1/64");
    facts.snapshot.routes.push(default_route(3, "fe80::1"));
    only(CONFIG, &facts, &["2001:db8:0:1::/64 of the LAN, on lan0, overlaps 2001:db8::/48"]);
}

#[test]
fn an_mtu_beyond_the_device() {
    only(
        &with("a", "mtu = 9000"),
        &machine(),
        &["mtu = 9000 is more than wan-a carries: 1500 bytes"],
    );
    assert_eq!(found(&with("a", "mtu = 1492"), &machine()), [""; 0]);
}

#[test]
fn only_routers_that_can_be_asked_are_asked() {
    let config = Config::parse(&with("a", "gateway = \"203.0.113.9\""), "test").expect("valid");
    let mut facts = machine();
    own_address(&mut facts, 3, "fe80::2/64");
    own_address(&mut facts, 3, "2001:db8::2/64");
    facts.snapshot.routes.push(default_route(3, "fe80::1"));
    let asked = |facts: &MachineFacts| -> Vec<String> {
        let each = questions(&config, &facts.snapshot).into_iter();
        each.map(|it| format!("{} {} from {}", it.ifindex, it.gateway, it.local)).collect()
    };
    let all = [
        "3 203.0.113.9 from 192.0.2.2",
        "3 fe80::1 from fe80::2",
        "4 198.51.100.1 from 198.51.100.2",
    ];
    assert_eq!(asked(&facts), all);
    facts.snapshot.links.get_mut(&3).expect("it exists").carrier = false;
    assert_eq!(asked(&facts), all[2..]);
    let finding = find(&config, &machine());
    assert!(finding.iter().all(|it| it.severity == Severity::Error));
}

#[test]
fn a_gateway_that_linkbal_knew_before_is_known() {
    let mut facts = machine();
    facts.snapshot.routes.retain(|route| route.ifindex != Some(3));
    let ours = Route { table: 2601, protocol: 201, ..default_route(3, "192.0.2.1") };
    facts.snapshot.routes.push(ours);
    assert_eq!(found(CONFIG, &facts), [""; 0]);
    facts.asked.insert((3, address("192.0.2.1")), false);
    only(CONFIG, &facts, &["gateway 192.0.2.1 does not answer ARP on wan-a"]);
}

#[test]
fn an_address_that_another_host_has() {
    let config = Config::parse(CONFIG, "test").expect("valid");
    let asked = |facts: &MachineFacts| -> Vec<String> {
        claims(&config, &facts.snapshot).iter().map(|it| it.gateway.to_string()).collect()
    };
    let mut facts = machine();
    assert_eq!(asked(&facts), ["192.168.1.1", "192.0.2.2", "198.51.100.2"]);
    facts.claimed.insert((3, address("192.0.2.2")), true);
    facts.claimed.insert((4, address("198.51.100.2")), false);
    only(CONFIG, &facts, &["Error: another host on wan-a has this machine's address 192.0.2.2"]);
    // Here one interface would answer for the other.
    own_address(&mut facts, 4, "192.0.2.3/24");
    assert_eq!(asked(&facts), ["192.168.1.1", "198.51.100.2"]);
}

#[test]
fn dns_servers_that_no_uplink_leads_to_are_told_if_targets_have_names() {
    let page = format!("{CONFIG}[probe]\ntargets = [\"https://www.example/\"]\n");
    let mut facts = machine();
    for (server, place) in [
        ("127.0.0.1", "on this machine"),
        ("192.168.1.1", "on this machine"),
        ("192.168.1.9", "in the LAN"),
    ] {
        if !address(server).is_loopback() {
            let listed = format!("{page}[dns]\nresolvers = [\"{server}\", \"203.0.113.53\"]\n");
            only(&listed, &facts, &["Hint", &format!("DNS server {server} is {place}")]);
        }
        facts.resolvers = [address(server), address("203.0.113.53")].into();
        let told = format!("DNS server {server} of /etc/resolv.conf is {place}");
        only(&page, &facts, &["Hint", &told, "public servers"]);
        assert_eq!(found(CONFIG, &facts), [""; 0], "no name is looked up");
        let own = with("a", "resolvers = [\"192.0.2.53\"]")
            .replace("[uplink.b]\n", "[uplink.b]\nresolvers = [\"198.51.100.53\"]\n");
        assert_eq!(found(&page.replace(CONFIG, &own), &facts), [""; 0]);
    }
}
