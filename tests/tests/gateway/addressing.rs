//! Uplinks whose interfaces, addresses and gateways are of all kinds, and change.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::dhcp::Server;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{
    Gateway, LIMIT, TICK, assert_undisturbed, is_udp, on, uplink_status, wait_for_answers, with_key,
};
use crate::kernel;

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

fn ip(namespace: &Namespace, command: &str) {
    namespace.run("ip", &command.split_whitespace().collect::<Vec<_>>()).unwrap();
}

fn wait_for(gateway: &Gateway, what: &str, condition: impl Fn() -> bool) {
    wait::until(what, LIMIT, || Ok(condition().then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
}

fn events(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.daemon.run(&["events", "--json"]).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["kind"] == kind).collect()
}

fn counter(gateway: &Gateway, name: &str) -> u64 {
    gateway.daemon.status().unwrap()["counters"][name].as_u64().unwrap()
}

/// Starts flows of one family that use both uplinks, half of them TCP.
fn flows(gateway: &Gateway, family: Family) -> LongFlows {
    let flow = |kind, n| FlowSpec::new(family, kind, n % 10, n, HTTP);
    let both = Protocol::ALL.into_iter();
    let flows: Vec<_> = both.flat_map(|kind| (0..60).map(move |n| flow(kind, n))).collect();
    LongFlows::start(&gateway.lab.lan, &flows, TICK).unwrap()
}

/// Waits until each flow of the first uplink has ended: TCP with a reset, UDP by getting another
/// address.
fn wait_for_the_end_of(flows: &LongFlows, before: &[linkbal_lab::traffic::FlowReport]) {
    wait::until("the end of the flows", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| on(0)(old));
        let over = pairs.all(|(old, new)| match is_udp(old) {
            true => new.peer.map(|peer| peer.ip()) != old.peer.map(|peer| peer.ip()),
            false => new.closed && new.errors == 1,
        });
        Ok(over.then_some(()))
    })
    .unwrap();
}

#[test]
fn a_point_to_point_uplink_without_a_gateway_comes_and_goes() {
    let lab = lab();
    lab.route_pool(0).unwrap();
    ip(&lab.gateway, "link delete wan-a");
    let peer = plan::pool(0, 1);
    let line = lab.dial(0, "ppp0", plan::pool(0, 7), peer).unwrap();
    let use_line = |config: &str| {
        let config = config.replace("\"wan-a\"", "\"ppp0\"");
        with_key(&config, "isp-a", "ipv6 = \"off\"")
    };
    let mut gateway = Gateway::start(lab, use_line);
    gateway.wait_for_state(0, "ipv4", "up");
    let index = |gateway: &Gateway| {
        let links = oracle::ip_json(&gateway.lab.gateway, &["link", "show", "dev", "ppp0"]);
        links.unwrap()[0]["ifindex"].as_u64().unwrap()
    };
    let first = index(&gateway);
    let flows = flows(&gateway, Family::V4);
    let before = flows.reports();
    drop(line);
    let status = gateway.wait_for_state(0, "ipv4", "down");
    let reason = &uplink_status(&status, "isp-a")["ipv4"]["reason"];
    assert_eq!(reason, "interface ppp0 does not exist");
    wait_for_the_end_of(&flows, &before);
    gateway.wait_for_uplinks_of(Family::V4, &[1]);
    // The next call has another address and another index.
    let _line = gateway.lab.dial(0, "ppp0", plan::pool(0, 9), peer).unwrap();
    assert_ne!(index(&gateway), first);
    gateway.wait_for_state(0, "ipv4", "up");
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
    assert_undisturbed(&flows, &before, 50, on(1));
    let told = events(&gateway, "address");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["from"], &told[0]["to"]), (&"100.64.0.7".into(), &"100.64.0.9".into()));
}

#[test]
fn two_uplinks_may_have_the_same_address_and_gateway() {
    let lab = lab();
    for uplink in [0, 1] {
        lab.use_private_network(uplink, "192.168.1.2", "192.168.1.1").unwrap();
    }
    let mut gateway = Gateway::start(lab, str::to_owned);
    for uplink in [0, 1] {
        gateway.wait_for_state(uplink, "ipv4", "up");
    }
    let flows = flows(&gateway, Family::V4);
    let before = flows.reports();
    for uplink in [0, 1] {
        assert!(before.iter().filter(|report| on(uplink)(report)).count() > 20);
    }
    // Local connections are routed by their mark.
    let entered = gateway.lab.gateway.enter().unwrap();
    let mut seen = [0; 2];
    for number in 0..40 {
        let server = SocketAddr::new(plan::server(Family::V4, number), HTTP);
        let socket = SocketKind::Tcp.socket(server).unwrap();
        seen[plan::uplink_of(SocketKind::Tcp.ask(&socket, server).unwrap().ip()).unwrap()] += 1;
    }
    drop(entered);
    assert!(!seen.contains(&0), "{seen:?}");
    let told = events(&gateway, "trouble");
    let named = "isp-a and isp-b have it: ";
    let reason = |event: &Value| event["reason"].as_str().unwrap().to_owned();
    assert!(told.iter().any(|event| reason(event).starts_with(named)), "{told:?}");
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_for_state(1, "ipv4", "down");
    gateway.wait_for_uplinks_of(Family::V4, &[0]);
    assert_undisturbed(&flows, &before, 20, on(0));
    wait::until("the datagrams by the other one", LIMIT, || {
        let now = flows.reports();
        let mut moved = before.iter().zip(&now).filter(|(old, _)| is_udp(old) && on(1)(old));
        Ok(moved.all(|(_, new)| on(0)(new)).then_some(()))
    })
    .unwrap();
    gateway.lab.restore(1).unwrap();
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
}

#[test]
fn interfaces_may_be_renamed_while_they_work() {
    let mut gateway = Gateway::pair();
    let flows = flows(&gateway, Family::V4);
    let before = flows.reports();
    ip(&gateway.lab.gateway, "link set wan-a name other");
    gateway.wait_until_down(0);
    gateway.assert_uplinks(5, &[1]);
    let log = gateway.daemon.log();
    assert!(log.contains("interface wan-a does not exist"), "{log}");
    ip(&gateway.lab.gateway, "link set other name wan-a");
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);

    let pin = format!("link_{}", kernel::ifindex(&gateway.lab.gateway, LAN_INTERFACE));
    let pin = gateway.lab.gateway.bpf_dir().join(pin);
    ip(&gateway.lab.gateway, &format!("link set {LAN_INTERFACE} name other"));
    let missing = |status: &Value| status["lan"][0]["exists"] == false;
    gateway.daemon.wait_for("a LAN that is missing", LIMIT, missing).unwrap();
    let attached = || pin.exists();
    wait_for(&gateway, "no program at another interface", || !attached());
    ip(&gateway.lab.gateway, &format!("link set other name {LAN_INTERFACE}"));
    wait_for(&gateway, "the program at the LAN", attached);
    gateway.wait_for_uplinks(&[0, 1]);
    assert_undisturbed(&flows, &before, 50, on(1));
}

/// Checks default routes with several next hops, with nexthop objects, and by way of IPv6.
#[test]
fn gateways_are_found_in_default_routes_of_all_kinds() {
    let lab = lab();
    let next = [0, 1].map(|index| plan::nexthop(Family::V4, index));
    let both = format!("nexthop via {} dev wan-a nexthop via {} dev wan-b", next[0], next[1]);
    let change = |gateway: &Namespace, routes: &[&str]| {
        ip(gateway, "-4 route flush default");
        routes.iter().for_each(|route| ip(gateway, route));
    };
    change(&lab.gateway, &[&format!("-4 route add default {both}")]);
    let mut gateway = Gateway::start(lab, str::to_owned);
    for uplink in [0, 1] {
        gateway.wait_for_state(uplink, "ipv4", "up");
    }
    let gateways = |gateway: &Gateway| {
        let status = gateway.daemon.status().unwrap();
        let of = |name| uplink_status(&status, name)["ipv4"]["gateway"].as_str().map(str::to_owned);
        [of("isp-a"), of("isp-b")].map(Option::unwrap_or_default)
    };
    assert_eq!(gateways(&gateway), next.map(|next| next.to_string()));
    let link_local = |uplink: usize| {
        let provider = &gateway.lab.uplinks[uplink].provider;
        let addresses = oracle::ip_json(provider, &["-6", "address", "show", "dev", "cust0"]);
        let addresses = addresses.unwrap()[0]["addr_info"].clone();
        let mut local = addresses.as_array().unwrap().iter().filter(|one| one["scope"] == "link");
        local.next().unwrap()["local"].as_str().unwrap().to_owned()
    };
    let locals = [0, 1].map(link_local);
    change(
        &gateway.lab.gateway,
        &[
            &format!("-4 route add default via inet6 {} dev wan-a metric 10", locals[0]),
            &format!("-4 route add default via inet6 {} dev wan-b metric 20", locals[1]),
        ],
    );
    wait_for(&gateway, "gateways of the other family", || gateways(&gateway) == locals);
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
    change(
        &gateway.lab.gateway,
        &[
            &format!("nexthop add id 1 via {} dev wan-a", next[0]),
            &format!("nexthop add id 2 via {} dev wan-b", next[1]),
            "nexthop add id 3 group 1/2",
            "-4 route add default nhid 3",
        ],
    );
    let wanted = next.map(|next| next.to_string());
    wait_for(&gateway, "gateways of objects", || gateways(&gateway) == wanted);
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
    assert!(!gateway.daemon.log().contains("-> down"), "{}", gateway.daemon.log());
    // Without the next hops in the route, an object is rejected with its reason.
    gateway.lab.gateway.set_sysctl("net.ipv4.nexthop_compat_mode", "0").unwrap();
    ip(&gateway.lab.gateway, "-4 route replace default nhid 3");
    let status = gateway.wait_for_state(0, "ipv4", "down");
    let reason = uplink_status(&status, "isp-a")["ipv4"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("nexthop_compat_mode"), "{reason}");
}

/// Creates a lab whose first uplink has its IPv6 by router advertisements alone.
fn advertised(network: u16, lifetime: u32) -> (Lab, Server) {
    let lab = lab();
    let gateway = &lab.gateway;
    ip(gateway, "-6 address flush dev wan-a scope global");
    ip(gateway, "-6 route delete default dev wan-a");
    let server = advertise(&lab, network, lifetime);
    (lab, server)
}

fn advertise(lab: &Lab, network: u16, lifetime: u32) -> Server {
    let provider = &lab.uplinks[0].provider;
    // The former prefix is no longer advertised.
    ip(provider, "-6 address flush dev cust0 to 2001:db8:a:4::/62");
    ip(provider, "-6 route replace 2001:db8:a:4::/62 dev cust0");
    ip(provider, &format!("address add 2001:db8:a:{network:x}::1/64 dev cust0 nodad"));
    Server::start(
        provider,
        &format!(
            "enable-ra\nra-param=cust0,high,4,{lifetime}\n\
             dhcp-range=2001:db8:a:{network:x}::,ra-only,64,10m\n"
        ),
    )
    .unwrap()
}

/// Returns whether the uplink has an address in a network of its provider.
fn has_address(gateway: &Gateway, network: u16) -> bool {
    let addresses = gateway.lab.gateway.run("ip", &["-6", "address", "show", "dev", "wan-a"]);
    addresses.unwrap().contains(&format!("2001:db8:a:{network:x}:"))
}

fn is_of(address: IpAddr, network: u16) -> bool {
    matches!(address, IpAddr::V6(address) if address.segments()[..4] == [0x2001, 0xdb8, 0xa, network])
}

#[test]
fn a_router_with_lifetime_zero_is_abandoned() {
    let (lab, server) = advertised(5, 1800);
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.wait_for_state(0, "ipv6", "up");
    gateway.wait_for_uplinks_of(Family::V6, &[0, 1]);
    let status = gateway.daemon.status().unwrap();
    let router = uplink_status(&status, "isp-a")["ipv6"]["gateway"].as_str().unwrap().to_owned();
    assert!(router.starts_with("fe80::"), "{router}");
    drop(server);
    let server = advertise(&gateway.lab, 5, 0);
    let status = gateway.wait_for_state(0, "ipv6", "down");
    let reason = uplink_status(&status, "isp-a")["ipv6"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("no ipv6 gateway known on wan-a"), "{reason}");
    gateway.wait_for_uplinks_of(Family::V6, &[1]);
    assert_eq!(uplink_status(&gateway.daemon.status().unwrap(), "isp-a")["ipv4"]["state"], "up");
    drop(server);
    let _server = advertise(&gateway.lab, 5, 1800);
    gateway.wait_for_state(0, "ipv6", "up");
    gateway.wait_for_uplinks_of(Family::V6, &[0, 1]);
}

#[test]
fn a_new_ipv6_prefix_is_used_at_once_and_ends_no_flow_that_can_go_on() {
    let (lab, server) = advertised(5, 1800);
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.wait_for_state(0, "ipv6", "up");
    let flows = flows(&gateway, Family::V6);
    let before = flows.reports();
    assert!(
        before
            .iter()
            .filter(|report| on(0)(report))
            .all(|report| { report.peer.is_some_and(|peer| is_of(peer.ip(), 5)) })
    );
    drop(server);
    let _server = advertise(&gateway.lab, 6, 1800);
    wait_for(&gateway, "an address of the new prefix", || has_address(&gateway, 6));
    // Deprecated, as a router announces a prefix that it has lost: not for new connections.
    let old = oracle::ip_json(&gateway.lab.gateway, &["-6", "address", "show", "dev", "wan-a"]);
    let old = old.unwrap()[0]["addr_info"].clone();
    let old = old.as_array().unwrap().iter().find_map(|one| {
        let text = one["local"].as_str()?;
        text.starts_with("2001:db8:a:5:").then(|| text.to_owned())
    });
    let old = old.unwrap();
    ip(
        &gateway.lab.gateway,
        &format!("address change {old}/64 dev wan-a preferred_lft 0 valid_lft 7200"),
    );
    wait_for(&gateway, "news of the address", || events(&gateway, "address").len() == 1);
    wait_for_answers(&flows, &flows.reports(), 5, |_| true);
    assert_undisturbed(&flows, &before, 120, |_| true);
    let seen = gateway.try_open(&FlowSpec::spread(Family::V6, Protocol::Udp, 5001, 60));
    let by_first: Vec<_> = seen.iter().filter(|seen| seen.uplink() == Some(0)).collect();
    assert!(by_first.len() > 5);
    assert!(by_first.iter().all(|seen| seen.peer.is_some_and(|peer| is_of(peer.ip(), 6))));
    assert_eq!((counter(&gateway, "flow_reset"), counter(&gateway, "flow_moved")), (0, 0));
    assert!(!gateway.daemon.log().contains("-> down"), "{}", gateway.daemon.log());
}

#[test]
fn a_removed_address_ends_its_flows_though_the_uplink_has_another() {
    let (lab, server) = advertised(5, 1800);
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.wait_for_state(0, "ipv6", "up");
    // The next advertisement would bring the address back.
    drop(server);
    let flows = flows(&gateway, Family::V6);
    let before = flows.reports();
    ip(&gateway.lab.gateway, "address add 2001:db8:a::77/64 dev wan-a nodad");
    // Packets may have the address before it can be resolved, and a router asks once a second.
    wait_for(&gateway, "the group of the address (RFC 4291 section 2.7.1)", || {
        let groups = ["-6", "maddress", "show", "dev", "wan-a"];
        gateway.lab.gateway.run("ip", &groups).unwrap().contains("ff02::1:ff00:77")
    });
    ip(&gateway.lab.uplinks[0].provider, "-6 neighbour flush dev cust0");
    ip(&gateway.lab.gateway, "-6 address flush dev wan-a to 2001:db8:a:5::/64");
    wait_for_the_end_of(&flows, &before);
    assert_undisturbed(&flows, &before, 50, on(1));
    assert!(!gateway.daemon.log().contains("-> down"), "{}", gateway.daemon.log());
}

/// Checks an interface that is created later: by default, a router's kernel accepts no
/// advertisements there.
#[test]
fn a_late_interface_gets_ipv6_by_router_advertisements() {
    let (lab, _server) = advertised(5, 1800);
    lab.gateway.set_sysctl("net.ipv6.conf.default.accept_dad", "1").unwrap();
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.wait_for_state(0, "ipv6", "up");
    ip(&gateway.lab.gateway, "link delete wan-a");
    gateway.wait_until_down(0);
    gateway.lab.connect_customer(0).unwrap();
    ip(&gateway.lab.gateway, "-6 address flush dev wan-a scope global");
    ip(&gateway.lab.gateway, "-6 route delete default dev wan-a");
    let _server = advertise(&gateway.lab, 6, 1800);
    wait_for(&gateway, "an address of the router's prefix", || has_address(&gateway, 6));
    gateway.wait_for_state(0, "ipv6", "up");
    gateway.wait_for_uplinks_of(Family::V6, &[0, 1]);
    let routes = kernel::routes(&gateway.lab.gateway, Family::V6, 2601);
    let mut routes = routes.as_array().unwrap().iter();
    assert!(routes.any(|route| route["gateway"].as_str().is_some_and(|to| to.starts_with("fe80"))));
}
