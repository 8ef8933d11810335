//! Connections from outside whose answers would leave elsewhere by the routes alone.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, Protocol, Servers, open_flows};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, ping};

/// Number of connections of each protocol and family.
const CONNECTIONS: usize = 20;
/// A port of the gateway itself, and one that it forwards.
const OWN: u16 = 9090;
const FORWARDED: u16 = 8080;

fn load(lab: &Lab, table: &str) {
    lab.gateway.load_nft(table).unwrap();
}

/// Forwards a TCP and UDP port to a host of each family.
fn forward(lab: &Lab, [ipv4, ipv6]: [IpAddr; 2]) {
    load(
        lab,
        &format!(
            "table inet admin {{
                chain prerouting {{
                    type nat hook prerouting priority dstnat;
                    iifname != \"wan-*\" accept
                    meta l4proto {{ tcp, udp }} th dport {FORWARDED} dnat ip to {ipv4}
                    meta l4proto {{ tcp, udp }} th dport {FORWARDED} dnat ip6 to {ipv6}
                }}
            }}"
        ),
    );
}

/// Opens connections from `source` in a namespace to `server`; each must be answered.
fn assert_answers(from: &Namespace, source: impl Fn(usize) -> IpAddr, server: SocketAddr) {
    for protocol in Protocol::ALL {
        let flow = |n| FlowSpec { protocol, source: source(n), server };
        let specs: Vec<_> = (0..CONNECTIONS).map(flow).collect();
        let seen = open_flows(from, &specs).unwrap();
        let lost = seen.iter().filter(|seen| seen.peer.is_none()).count();
        assert_eq!(lost, 0, "of {CONNECTIONS} {protocol:?} to {server}");
    }
}

/// Lets every user ping from a namespace.
fn allow_pings(namespace: &Namespace) {
    namespace.set_sysctl("net.ipv4.ping_group_range", "0 2147483647").unwrap();
}

/// Returns the number of packets with the uplink's own addresses that its provider got.
fn own(lab: &Lab, uplink: usize) -> u64 {
    lab.filtered(uplink).unwrap().0
}

#[test]
fn a_neighbour_on_one_uplink_that_asks_an_address_of_another_is_answered_by_that_one() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    lab.route_customers().unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    let lab = &gateway.lab;
    forward(lab, Family::ALL.map(|family| plan::client(family, 3)));
    let at = |ip, port| SocketAddr::new(ip, port);
    let inside = Family::ALL.map(|family| at(plan::client(family, 3), FORWARDED));
    let on_gateway = [0, 1]
        .map(|uplink| Family::ALL.map(|family| at(plan::uplink_address(family, uplink), OWN)));
    let _servers = [
        Servers::start_at(&lab.lan, &inside).unwrap(),
        Servers::start_at(&lab.gateway, on_gateway.as_flattened()).unwrap(),
    ];
    for (asked, neighbour_on) in [(0, 1), (1, 0)] {
        let provider = &lab.uplinks[neighbour_on].provider;
        allow_pings(provider);
        for family in Family::ALL {
            let neighbour = plan::nexthop(family, neighbour_on);
            let address = plan::uplink_address(family, asked);
            for port in [OWN, FORWARDED] {
                let before = own(lab, asked);
                assert_answers(provider, |_| neighbour, at(address, port));
                let answers = own(lab, asked) - before;
                // At least SYN-ACK, answer and end of TCP; probes make it more.
                assert!(answers >= 4 * CONNECTIONS as u64, "{answers} by uplink {asked}");
            }
            let before = own(lab, asked);
            let entered = provider.enter().unwrap();
            (0..CONNECTIONS).for_each(|_| ping(neighbour, address));
            drop(entered);
            assert!(own(lab, asked) - before >= CONNECTIONS as u64);
        }
    }
    for uplink in [0, 1] {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses");
    }
    // Connections of the LAN to the neighbours go there directly.
    let before = own(lab, 1);
    for family in Family::ALL {
        let router =
            Servers::start_at(&lab.uplinks[0].provider, &[at(plan::nexthop(family, 0), OWN)]);
        let client = |n| plan::client(family, n);
        assert_answers(&lab.lan, client, at(plan::nexthop(family, 0), OWN));
        drop(router.unwrap());
    }
    assert!(own(lab, 1) - before < CONNECTIONS as u64, "by way of the other line");
}

#[test]
fn a_service_on_an_address_that_a_provider_routes_here_answers_by_that_provider() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    let lab = &gateway.lab;
    allow_pings(&lab.net);
    for uplink in [0, 1] {
        lab.route_pool(uplink).unwrap();
        let ipv4 = IpAddr::from(plan::pool(uplink, 9));
        let IpAddr::V6(own) = plan::uplink_address(Family::V6, uplink) else { unreachable!() };
        let mut segments = own.segments();
        segments[3] = 0x77;
        let ipv6 = IpAddr::from(segments);
        let pool =
            format!("insert rule inet sources forward ip saddr {ipv4} counter name own accept");
        lab.uplinks[uplink].provider.load_nft(&pool).unwrap();
        for (address, length) in [(ipv4, 32), (ipv6, 128)] {
            lab.route_to_customer(uplink, address).unwrap();
            let own = format!("{address}/{length}");
            lab.gateway.run("ip", &["address", "add", &own, "dev", "lo"]).unwrap();
            wait::until("an address to listen at", LIMIT, || {
                let shown =
                    lab.gateway.run("ip", &["address", "show", "dev", "lo", "tentative"])?;
                Ok(shown.is_empty().then_some(()))
            })
            .unwrap();
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            let server = SocketAddr::new(address, OWN);
            let _servers = Servers::start_at(&lab.gateway, &[server]).unwrap();
            assert_answers(&lab.net, |n| plan::server(family, n), server);
            let entered = lab.net.enter().unwrap();
            (0..CONNECTIONS).for_each(|n| ping(plan::server(family, n), address));
            drop(entered);
        }
    }
    for uplink in [0, 1] {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses");
    }
}

#[test]
fn a_port_forward_to_a_network_that_is_not_of_the_lan_is_answered_by_its_uplink() {
    let gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), str::to_owned);
    let lab = &gateway.lab;
    lab.filter_sources().unwrap();
    let container = Namespace::new("container").unwrap();
    let name = container.name();
    let addresses = ["172.30.0.9", "fd30::9"].map(|text| text.parse::<IpAddr>().unwrap());
    // A bridge with a random name after linkbal's start, as container engines create it.
    let links = format!(
        "link add br-4f2a type bridge\nlink set br-4f2a up\n\
         address add 172.30.0.1/24 dev br-4f2a\naddress add fd30::1/64 dev br-4f2a nodad\n\
         link add veth0 master br-4f2a type veth peer name eth0 netns {name}\nlink set veth0 up\n"
    );
    lab.gateway.ip_batch(&links).unwrap();
    let links = "link set eth0 up\naddress add 172.30.0.9/24 dev eth0\n\
                 address add fd30::9/64 dev eth0 nodad\nroute add default via 172.30.0.1\n\
                 route add default via fd30::1\n";
    container.ip_batch(links).unwrap();
    forward(lab, addresses);
    wait::until("the answers of other networks to be looked at", LIMIT, || {
        let table = lab.gateway.run("nft", &["list", "table", "inet", "linkbal"])?;
        Ok(table.contains("iifname !=").then_some(()))
    })
    .unwrap();
    let inside = addresses.map(|address| SocketAddr::new(address, FORWARDED));
    let _servers = Servers::start_at(&container, &inside).unwrap();
    for uplink in [0, 1] {
        for family in Family::ALL {
            let server = SocketAddr::new(plan::uplink_address(family, uplink), FORWARDED);
            assert_answers(&lab.net, |n| plan::server(family, n), server);
        }
    }
    for uplink in [0, 1] {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses");
    }
    // Connections from the container follow the best uplink, as before.
    for family in Family::ALL {
        let source = addresses[usize::from(family == Family::V6)];
        let specs = [FlowSpec {
            protocol: Protocol::Udp,
            source,
            server: SocketAddr::new(plan::server(family, 1), 80),
        }];
        let seen = open_flows(&container, &specs).unwrap();
        assert_eq!(seen[0].uplink(), Some(1), "{family}");
    }
}
