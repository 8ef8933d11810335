//! Subnets that a provider routes to the gateway, whose hosts keep their addresses.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, HTTPS, Protocol, Servers, open_flows};

use super::{INSIDE, LAN, assert_no_foreign_sources, reach_by, route, seen, uplinks};
use crate::fixture::{Gateway, OPEN, with_key};
use crate::ipv6::assert_bound_to_their_provider;
use crate::topologies::{put_on_one_hub, share_wan_a};

/// Number of hosts with addresses that a provider routes to the gateway.
const HOSTS: usize = 20;

/// Returns the address of a host that provider `uplink` routes to the gateway.
fn host(uplink: usize, number: usize) -> IpAddr {
    plan::pool(uplink, 0x10 + u8::try_from(number % HOSTS).unwrap()).into()
}

/// Routes a subnet of each provider to the gateway, where hosts get addresses of both.
fn add_hosts(lab: &Lab) {
    for uplink in [0, 1] {
        route(lab, uplink, &format!("{}/24", plan::pool(uplink, 0)));
        lab.route_pool(uplink).unwrap();
        let inside = format!("{}/24", plan::pool(uplink, 2));
        lab.gateway.run("ip", &["address", "add", &inside, "dev", LAN_INTERFACE]).unwrap();
        for number in 0..HOSTS {
            let address = format!("{}/24", host(uplink, number));
            lab.lan.run("ip", &["address", "add", &address, "dev", CLIENT_INTERFACE]).unwrap();
        }
    }
}

fn prefix_of(uplink: usize) -> String {
    format!("prefix = \"{}/24\"", plan::pool(uplink, 0))
}

/// Starts the usual pair with a subnet of each provider; `line` is added to both uplinks, `more` to
/// the end of the configuration.
fn subnets(line: &str, more: &str) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    add_hosts(&lab);
    Gateway::start(lab, |config| {
        let lines = |uplink| format!("{}\n{line}", prefix_of(uplink));
        let config = with_key(config, "isp-a", &lines(0));
        with_key(&config, "isp-b", &lines(1)) + more
    })
}

fn flows_of(uplink: usize) -> Vec<FlowSpec> {
    let kinds = Protocol::ALL.into_iter().flat_map(|p| [HTTP, HTTPS].map(|port| (p, port)));
    let flow = |(protocol, port)| {
        let server = move |n| SocketAddr::new(plan::server(Family::V4, n), port);
        let flow = move |n| FlowSpec { protocol, source: host(uplink, n), server: server(n) };
        (0..HOSTS).map(flow)
    };
    kinds.flat_map(flow).collect()
}

#[test]
fn hosts_of_a_routed_subnet_use_its_provider_despite_rules() {
    let gateway = subnets("", "\n[[rule]]\nuse = \"isp-b\"\n");
    for uplink in [0, 1] {
        let flows = flows_of(uplink);
        let expected: Vec<_> = flows.iter().map(|flow| flow.source).collect();
        assert_eq!(seen(&gateway, &flows), expected);
    }
    let others = FlowSpec::spread(Family::V4, Protocol::Tcp, HTTP, 40);
    let own = plan::uplink_address(Family::V4, 1);
    assert!(seen(&gateway, &others).iter().all(|address| *address == own));
    // Local traffic that is bound to a source has no mark: the ip rules route it by that source.
    for uplink in [0, 1] {
        let source = IpAddr::from(plan::pool(uplink, 2));
        let flow = |n| FlowSpec {
            protocol: Protocol::ALL[n % 2],
            source,
            server: SocketAddr::new(plan::server(Family::V4, n), HTTP),
        };
        let flows: Vec<_> = (0..HOSTS).map(flow).collect();
        for seen in open_flows(&gateway.lab.gateway, &flows).unwrap() {
            assert_eq!(seen.peer.map(|peer| peer.ip().to_canonical()), Some(source));
        }
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks that servers on the internet reach a host of the subnet, whose answers leave by its
/// provider.
fn assert_reached(gateway: &Gateway, uplink: usize) {
    let server = [SocketAddr::new(host(uplink, 3), INSIDE)];
    let _server = Servers::start_at(&gateway.lab.lan, &server).unwrap();
    let flow = |n| FlowSpec {
        protocol: Protocol::ALL[n % 2],
        source: plan::server(Family::V4, n),
        server: server[0],
    };
    let flows: Vec<_> = (0..HOSTS).map(flow).collect();
    let before = gateway.lab.filtered(uplink).unwrap().0;
    let seen = open_flows(&gateway.lab.net, &flows).unwrap();
    for (flow, seen) in flows.iter().zip(seen) {
        assert_eq!(seen.peer.map(|peer| peer.ip().to_canonical()), Some(flow.source), "{flow:?}");
    }
    let answers = gateway.lab.filtered(uplink).unwrap().0 - before;
    assert!(answers >= flows.len() as u64, "{answers} packets at provider {uplink}");
}

#[test]
fn hosts_of_a_routed_subnet_are_reached_and_answer_by_its_provider() {
    let gateway = subnets("", OPEN);
    for uplink in [0, 1] {
        assert_reached(&gateway, uplink);
    }
    let status = gateway.daemon.status().unwrap();
    assert_eq!(status["counters"]["flow_inbound"], 2 * HOSTS, "{status}");
    assert_no_foreign_sources(&gateway.lab);
}

#[test]
fn hosts_of_a_dead_providers_subnet_get_an_error_at_once_and_their_connections_stay() {
    let mut gateway = subnets("on_down = \"keep\"", "");
    let (flows, hosts) = ([&*flows_of(0), &flows_of(1)], [host(0, 5), host(1, 5)]);
    assert_bound_to_their_provider(&mut gateway, flows, hosts, ErrorKind::HostUnreachable);
}

/// Checks two uplinks on one interface: the fwmark tells what is translated, and the address which
/// uplink a connection came in by.
#[test]
fn on_a_shared_interface_each_uplink_has_its_own_subnet_and_translation() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    let hub = put_on_one_hub(&lab);
    for prefix in LAN {
        route(&lab, 1, prefix);
        reach_by(&lab, 1, prefix);
    }
    add_hosts(&lab);
    let gateway = Gateway::start(lab, |config| {
        let config = share_wan_a(config);
        let config = with_key(&config, "isp-a", &prefix_of(0));
        with_key(&config, "isp-b", &format!("nat = \"off\"\n{}", prefix_of(1))) + OPEN
    });
    for uplink in [0, 1] {
        let flows = flows_of(uplink);
        let expected: Vec<_> = flows.iter().map(|flow| flow.source).collect();
        assert_eq!(seen(&gateway, &flows), expected);
        assert_reached(&gateway, uplink);
    }
    let flows = FlowSpec::mixed(HTTP, 40);
    let uplinks = uplinks(&flows, &seen(&gateway, &flows));
    assert!([0, 1].iter().all(|uplink| uplinks.iter().filter(|at| *at == uplink).count() > 20));
    assert_no_foreign_sources(&gateway.lab);
    drop(gateway);
    drop(hub);
}
