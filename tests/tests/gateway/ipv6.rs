//! IPv6 by uplink: addresses of the providers in the LAN, translated prefixes, or none of it.

use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::{
    FlowReport, FlowSpec, HTTP, HTTPS, LongFlows, Protocol, Servers, open_flows,
};
use linkbal_lab::wait;
use socket2::{Domain, Socket, Type};

use crate::fixture::{
    Gateway, LIMIT, OPEN, TICK, assert_undisturbed, is_udp, on, uplink_status, wait_for_answers,
    wait_for_move, with_key,
};

/// Number of hosts of the LAN with addresses of each provider.
const HOSTS: usize = 20;
/// The port of a server in the LAN.
const INSIDE: u16 = 8080;

/// Returns an address in the network `network` that provider `uplink` gave out.
fn given(uplink: usize, network: u16, host: u16) -> IpAddr {
    let provider = 0xa + u16::try_from(uplink).unwrap();
    Ipv6Addr::new(0x2001, 0xdb8, provider, network, 0, 0, 0, host).into()
}

/// The network that hosts of the LAN use; the provider routes it to the gateway.
const NATIVE: u16 = 0x100;
/// The network that the LAN's own prefix is translated to; the provider routes it to the gateway.
const MAPPED: u16 = 0x200;

fn host(uplink: usize, number: usize) -> IpAddr {
    given(uplink, NATIVE, 0x10 + u16::try_from(number % HOSTS).unwrap())
}

/// Returns the address that servers see of a client of the LAN's own prefix by way of `uplink`.
fn mapped(uplink: usize, client: IpAddr) -> IpAddr {
    let IpAddr::V6(client) = client else { panic!("{client} is no client of IPv6") };
    given(uplink, MAPPED, client.segments()[7])
}

/// Creates the usual pair, whose providers route a prefix to the gateway and drop other sources.
fn lab(network: u16) -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    for (index, uplink) in lab.uplinks.iter().enumerate() {
        let prefix = format!("{}/64", given(index, network, 0));
        let gateway = plan::uplink_address(Family::V6, index).to_string();
        uplink.provider.run("ip", &["route", "add", &prefix, "via", &gateway]).unwrap();
    }
    lab.filter_sources().unwrap();
    lab
}

/// Gives hosts of the LAN addresses of both providers.
fn add_hosts(lab: &Lab) {
    let add = |namespace: &Namespace, interface, address: IpAddr| {
        let address = format!("{address}/64");
        namespace.run("ip", &["address", "add", &address, "dev", interface, "nodad"]).unwrap();
    };
    for uplink in 0..lab.uplinks.len() {
        add(&lab.gateway, LAN_INTERFACE, given(uplink, NATIVE, 1));
        for number in 0..HOSTS {
            add(&lab.lan, CLIENT_INTERFACE, host(uplink, number));
        }
    }
}

/// Starts a gateway whose hosts have addresses of both providers; `more` ends the configuration.
fn native(more: &str) -> Gateway {
    native_with(more, "")
}

/// Starts a gateway like [`native`], with one more line for each uplink.
fn native_with(more: &str, line: &str) -> Gateway {
    let lab = lab(NATIVE);
    add_hosts(&lab);
    Gateway::start(lab, |config| {
        let lines = |index| {
            format!("ipv6 = \"prefix\"\nprefix = \"{}/64\"\n{line}", given(index, NATIVE, 0))
        };
        let config = with_key(config, "isp-a", &lines(0));
        with_key(&config, "isp-b", &lines(1)) + more
    })
}

/// Starts a gateway that translates the LAN's own prefix to one of each provider.
fn translated() -> Gateway {
    Gateway::start(lab(MAPPED), |config| {
        let lines = |index| {
            let prefix = given(index, MAPPED, 0);
            format!("ipv6 = \"prefix\"\nprefix = \"{prefix}/64\"\nnpt = \"fd77::/64\"")
        };
        let config = with_key(config, "isp-a", &lines(0));
        with_key(&config, "isp-b", &lines(1)) + OPEN
    })
}

/// Returns a flow of each protocol and port from every host with an address of provider `uplink`.
fn flows_of(uplink: usize) -> Vec<FlowSpec> {
    let kinds = Protocol::ALL.into_iter().flat_map(|p| [HTTP, HTTPS].map(|port| (p, port)));
    let flow = |(protocol, port)| {
        let server = move |n| SocketAddr::new(plan::server(Family::V6, n), port);
        let flow = move |n| FlowSpec { protocol, source: host(uplink, n), server: server(n) };
        (0..HOSTS).map(flow)
    };
    kinds.flat_map(flow).collect()
}

/// Opens flows, and returns the addresses that the servers saw.
fn seen(gateway: &Gateway, flows: &[FlowSpec]) -> Vec<IpAddr> {
    let seen = gateway.try_open(flows);
    let peers = flows.iter().zip(&seen).map(|(flow, seen)| {
        let peer = seen.peer.unwrap_or_else(|| panic!("{flow:?}\n{}", gateway.daemon.log()));
        peer.ip().to_canonical()
    });
    peers.collect()
}

/// Checks that no provider got packets with an address of another.
fn assert_no_foreign_sources(lab: &Lab) {
    for uplink in 0..lab.uplinks.len() {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses at provider {uplink}");
    }
}

/// Checks that hosts on the internet reach `inside` as `outside`, and are answered from there.
fn assert_reached(gateway: &Gateway, inside: IpAddr, outside: [IpAddr; 2]) {
    let server = Servers::start_at(&gateway.lab.lan, &[SocketAddr::new(inside, INSIDE)]).unwrap();
    for (uplink, outside) in outside.into_iter().enumerate() {
        let before = gateway.lab.filtered(uplink).unwrap().0;
        let flow = |(protocol, n)| FlowSpec {
            protocol,
            source: plan::server(Family::V6, n),
            server: SocketAddr::new(outside, INSIDE),
        };
        let kinds = Protocol::ALL.into_iter().flat_map(|p| (0..HOSTS).map(move |n| (p, n)));
        let flows: Vec<_> = kinds.map(flow).collect();
        let seen = open_flows(&gateway.lab.net, &flows).unwrap();
        for (flow, seen) in flows.iter().zip(seen) {
            assert_eq!(seen.peer.map(|peer| peer.ip()), Some(flow.source), "{flow:?}");
        }
        let answers = gateway.lab.filtered(uplink).unwrap().0 - before;
        assert!(answers >= flows.len() as u64, "{answers} packets at provider {uplink}");
    }
    drop(server);
    assert_no_foreign_sources(&gateway.lab);
}

#[test]
fn hosts_use_the_provider_of_their_address_despite_rules() {
    let gateway = native("\n[[rule]]\nuse = \"isp-b\"\n");
    for uplink in [0, 1] {
        let flows = flows_of(uplink);
        let expected: Vec<_> = flows.iter().map(|flow| flow.source).collect();
        assert_eq!(seen(&gateway, &flows), expected);
    }
    // Other hosts follow the rule, and leave with the uplink's address as always.
    let others = FlowSpec::spread(Family::V6, Protocol::Tcp, HTTP, 40);
    let own = plan::uplink_address(Family::V6, 1);
    assert!(seen(&gateway, &others).iter().all(|address| *address == own));
    assert_eq!(gateway.open(&FlowSpec::spread(Family::V4, Protocol::Udp, HTTP, 40)), [0, 40]);
    assert_no_foreign_sources(&gateway.lab);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["ipv6_mode"], "prefix");
}

#[test]
fn hosts_with_addresses_of_providers_are_reached_by_them() {
    let gateway = native(OPEN);
    for uplink in [0, 1] {
        let inside = host(uplink, 3);
        let server = [SocketAddr::new(inside, INSIDE)];
        let _server = Servers::start_at(&gateway.lab.lan, &server).unwrap();
        let flow = |n| FlowSpec {
            protocol: Protocol::ALL[n % 2],
            source: plan::server(Family::V6, n),
            server: server[0],
        };
        let flows: Vec<_> = (0..HOSTS).map(flow).collect();
        let seen = open_flows(&gateway.lab.net, &flows).unwrap();
        for (flow, seen) in flows.iter().zip(seen) {
            assert_eq!(seen.peer.map(|peer| peer.ip()), Some(flow.source), "{flow:?}");
        }
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks local traffic with a provider's address: without a mark, the ip rules route it by its
/// source.
#[test]
fn local_sockets_with_a_providers_address_use_its_uplink() {
    let gateway = native("");
    for uplink in [0, 1] {
        let source = given(uplink, NATIVE, 1);
        let flow = |n| FlowSpec {
            protocol: Protocol::ALL[n % 2],
            source,
            server: SocketAddr::new(plan::server(Family::V6, n), HTTP),
        };
        let flows: Vec<_> = (0..HOSTS).map(flow).collect();
        for seen in open_flows(&gateway.lab.gateway, &flows).unwrap() {
            assert_eq!(seen.peer.map(|peer| peer.ip()), Some(source));
        }
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Connects by TCP or sends a request by UDP from `source`; returns the error if it is refused or
/// not answered in time.
fn ask(protocol: Protocol, source: IpAddr) -> Result<()> {
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let server = SocketAddr::new(plan::server(family, 1), HTTP);
    let patience = Duration::from_secs(10);
    match protocol {
        Protocol::Tcp => {
            let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&server.into(), patience)?;
            drop(TcpStream::from(socket));
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(patience))?;
            socket.send(b"no request")?;
            socket.recv(&mut [0; 64])?;
        }
    }
    Ok(())
}

/// Checks that while the first provider is dead, new connections from its addresses fail with
/// `told`, and existing ones wait for it; `flows` and `hosts` are those of each provider.
pub(crate) fn assert_bound_to_their_provider(
    gateway: &mut Gateway,
    flows: [&[FlowSpec]; 2],
    hosts: [IpAddr; 2],
    told: ErrorKind,
) {
    let start = |flows: &[FlowSpec]| LongFlows::start(&gateway.lab.lan, flows, TICK).unwrap();
    let [dead, others] = flows.map(start);
    let (before, healthy) = (dead.reports(), others.reports());
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    let entered = gateway.lab.lan.enter().unwrap();
    for protocol in Protocol::ALL {
        let error = ask(protocol, hosts[0]).unwrap_err();
        assert_eq!(error.kind(), told, "{protocol:?}: {error}");
    }
    ask(Protocol::Tcp, hosts[1]).unwrap();
    drop(entered);
    let status = gateway.daemon.status().unwrap();
    assert!(status["counters"]["source_rejected"].as_u64() >= Some(2), "{status}");
    assert_undisturbed(&others, &healthy, flows[1].len(), |_| true);

    gateway.lab.restore(0).unwrap();
    let family = if hosts[0].is_ipv4() { "ipv4" } else { "ipv6" };
    gateway.wait_for_state(0, family, "up");
    wait_for_answers(&dead, &dead.reports(), 3, |_| true);
    let stayed = |(old, new): (&FlowReport, FlowReport)| new.moved == old.moved && !new.closed;
    assert!(before.iter().zip(dead.reports()).all(stayed), "{:#?}", dead.reports());
    assert_no_foreign_sources(&gateway.lab);
}

#[test]
fn hosts_of_a_dead_provider_get_an_error_at_once_and_their_connections_stay() {
    let mut gateway = native_with("", "on_down = \"keep\"");
    // Linux maps the ICMPv6 code "source address failed ingress/egress policy" to EACCES.
    let told = ErrorKind::PermissionDenied;
    let hosts = [host(0, 5), host(1, 5)];
    assert_bound_to_their_provider(&mut gateway, [&flows_of(0), &flows_of(1)], hosts, told);
}

#[test]
fn a_translated_prefix_keeps_the_rest_of_each_address() {
    let gateway = translated();
    let flows: Vec<_> = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| FlowSpec::spread(Family::V6, protocol, HTTP, 60))
        .collect();
    let seen = seen(&gateway, &flows);
    for (flow, seen) in flows.iter().zip(&seen) {
        assert!(
            [0, 1].map(|uplink| mapped(uplink, flow.source)).contains(seen),
            "{seen}: {flow:?}"
        );
    }
    for uplink in [0, 1] {
        let used = seen.iter().filter(|address| plan::uplink_of(**address) == Some(uplink));
        assert!(used.count() > 10, "uplink {uplink} of {seen:?}");
    }
    assert_no_foreign_sources(&gateway.lab);
}

#[test]
fn hosts_behind_a_translated_prefix_are_reached_and_answer_by_the_same_uplink() {
    let gateway = translated();
    let client = plan::client(Family::V6, 3);
    assert_reached(&gateway, client, [0, 1].map(|uplink| mapped(uplink, client)));
    // The gateway's own address in that network is not translated to a client.
    let own = plan::uplink_address(Family::V6, 0);
    let _server = Servers::start_at(&gateway.lab.gateway, &[SocketAddr::new(own, INSIDE)]).unwrap();
    let flow = FlowSpec {
        protocol: Protocol::Tcp,
        source: plan::server(Family::V6, 0),
        server: SocketAddr::new(own, INSIDE),
    };
    assert!(open_flows(&gateway.lab.net, &[flow]).unwrap()[0].peer.is_some());
}

#[test]
fn translated_flows_of_a_dead_uplink_go_on_with_the_others_prefix() {
    let mut gateway = translated();
    let specs = FlowSpec::spread(Family::V6, Protocol::Udp, HTTP, 60);
    let flows = LongFlows::start(&gateway.lab.lan, &specs, TICK).unwrap();
    let before = flows.reports();
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    wait_for_move(&flows, &before, |report| is_udp(report) && on(0)(report), 1);
    for report in flows.reports() {
        let seen = report.peer.map(|peer| peer.ip());
        assert_eq!(seen, Some(mapped(1, report.spec.source)), "{report:?}");
    }
}

#[test]
fn an_uplink_without_ipv6_carries_ipv4_alone() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let off = |config: &str| with_key(config, "isp-a", "ipv6 = \"off\"");
    let mut gateway = Gateway::start(lab, off);
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
    gateway.wait_for_uplinks_of(Family::V6, &[1]);
    let status = gateway.daemon.status().unwrap();
    let uplink = uplink_status(&status, "isp-a");
    assert_eq!((&uplink["state"], &uplink["ipv6_mode"]), (&"up".into(), &"off".into()));
    assert!(uplink["ipv6"].is_null());
    let text = gateway.daemon.run(&["status"]).unwrap();
    assert!(text.contains("isp-a ipv6 is off: the configuration says so\n"), "{text}");
    assert!(!gateway.daemon.log().contains("isp-a ipv6"), "{}", gateway.daemon.log());
    let rules = oracle::ip_json(&gateway.lab.gateway, &["-6", "rule", "show"]).unwrap();
    let tables = |table| rules.as_array().unwrap().iter().filter(|r| r["table"] == table).count();
    assert_eq!((tables("2601"), tables("2602")), (0, 3), "{rules}");

    // Without the other uplink, IPv6 has no way left, and IPv4 has this one.
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    gateway.wait_for_uplinks_of(Family::V4, &[0]);
    let ipv6 = gateway.try_open(&FlowSpec::spread(Family::V6, Protocol::Udp, HTTP, 20));
    assert!(ipv6.iter().all(|seen| seen.peer.is_none()), "{ipv6:?}");
    wait::until("isp-a up", LIMIT, || {
        let status = gateway.daemon.status()?;
        Ok((uplink_status(&status, "isp-a")["state"] == "up").then_some(()))
    })
    .unwrap();
}
