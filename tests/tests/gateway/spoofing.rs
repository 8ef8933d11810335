//! Packets that come in by an uplink and should not: with sources behind the gateway, for addresses
//! of other uplinks, for the internet, and for hosts that are not open.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::forged::{self, Forger};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT};

/// The port of the first forged packet; each has a port of its own.
const FIRST: u16 = 4000;
/// The last port: packets to it and to the one before may pass, and are sent after all others.
const LAST: u16 = 4999;

/// Records the ports of forged packets that reach a namespace, at a hook of its own.
fn watch(namespace: &Namespace, hook: &str) {
    let table = format!(
        "table inet seen {{
            set ports {{ type inet_service; size 1024; flags dynamic; }}
            chain {hook} {{
                type filter hook {hook} priority 300;
                meta l4proto {{ tcp, udp }} th dport {FIRST}-{LAST} add @ports {{ th dport }}
            }}
        }}"
    );
    namespace.load_nft(&table).unwrap();
}

fn seen(namespace: &Namespace) -> BTreeSet<u16> {
    let text = namespace.run("nft", &["-j", "list", "set", "inet", "seen", "ports"]).unwrap();
    let listing: Value = serde_json::from_str(&text).unwrap();
    let sets = listing["nftables"].as_array().unwrap().iter();
    let mut sets = sets.filter_map(|object| object["set"]["elem"].as_array());
    let ports = sets.next().into_iter().flatten();
    // Elements of such a set may carry more than their value.
    let port = |element: &Value| element.as_u64().or(element["elem"]["val"].as_u64()).unwrap();
    ports.map(|element| u16::try_from(port(element)).unwrap()).collect()
}

/// Creates a forger at the provider of an uplink.
fn outside_host(lab: &Lab, uplink: usize) -> Forger {
    let Lab { uplinks, gateway, .. } = lab;
    let at = &uplinks[uplink].spec.interface;
    Forger::new(&uplinks[uplink].provider, CUSTOMER_INTERFACE, gateway, at).unwrap()
}

/// Sends packets in order, the first to port [`FIRST`]; returns those of their ports that `to`
/// sees. The last packet of each family must arrive.
fn arriving(
    forger: &Forger,
    packets: &[(IpAddr, IpAddr)],
    allowed: [(IpAddr, IpAddr); 2],
    to: &Namespace,
) -> BTreeSet<u16> {
    to.run("nft", &["flush", "set", "inet", "seen", "ports"]).unwrap();
    let send = |(source, destination): (IpAddr, IpAddr), port| {
        let [source, destination] = [(source, 5000), (destination, port)].map(SocketAddr::from);
        forger.send(&forged::udp(source, destination, b"forged").unwrap()).unwrap();
    };
    packets.iter().zip(FIRST..).for_each(|(ends, port)| send(*ends, port));
    let mut seen_now = BTreeSet::new();
    for (ends, port) in allowed.into_iter().zip([LAST - 1, LAST]) {
        wait::until("a packet that may pass", LIMIT, || {
            send(ends, port);
            seen_now = seen(to);
            Ok(seen_now.contains(&port).then_some(()))
        })
        .unwrap();
    }
    seen_now.retain(|port| *port < LAST - 1);
    seen_now
}

/// Returns the ends of packets that a host at the second provider may send to the gateway.
fn allowed() -> [(IpAddr, IpAddr); 2] {
    Family::ALL.map(|family| (plan::server(family, 9), plan::uplink_address(family, 1)))
}

#[test]
fn packets_with_inside_sources_are_dropped_at_uplinks() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    watch(&lab.gateway, "input");
    let each = |family| {
        let own = plan::uplink_address(family, 1);
        [
            // Hosts of the LAN, the gateway itself, and the neighbours of another uplink.
            (plan::client(family, 3), own),
            (plan::client(family, 3), plan::lan_gateway(family)),
            (plan::lan_gateway(family), own),
            (plan::uplink_address(family, 0), own),
            (plan::nexthop(family, 0), plan::lan_gateway(family)),
            // For the address of another uplink, from any sender.
            (plan::server(family, 9), plan::uplink_address(family, 0)),
        ]
    };
    let packets: Vec<_> = Family::ALL.into_iter().flat_map(each).collect();
    let seen = arriving(&outside_host(lab, 1), &packets, allowed(), &lab.gateway);
    assert_eq!(seen, BTreeSet::new(), "of {packets:?}");
}

/// Starts a gateway whose nft table validates the sources of the LAN.
fn validated_by_nft(rp_filter: &str) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.set_sysctl("net.ipv4.conf.lan0.rp_filter", rp_filter).unwrap();
    // Hosts of the LAN are reached from outside, as they were before.
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    wait::until("source validation by nft", LIMIT, || {
        let value = gateway.lab.gateway.sysctl("net.ipv4.conf.lan0.accept_local")?;
        Ok((value == "1").then_some(()))
    })
    .unwrap();
    gateway
}

#[test]
fn programs_of_the_gateway_hear_the_multicast_of_each_other() {
    let gateway = validated_by_nft("2");
    let IpAddr::V4(own) = plan::lan_gateway(Family::V4) else { unreachable!("it is of IPv4") };
    let _entered = gateway.lab.gateway.enter().unwrap();
    for destination in ["224.0.0.251", "255.255.255.255"] {
        let destination: Ipv4Addr = destination.parse().unwrap();
        let listener = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).unwrap();
        listener.set_read_timeout(Some(LIMIT)).unwrap();
        if destination.is_multicast() {
            listener.join_multicast_v4(&destination, &own).unwrap();
        }
        // The kernel sends it by the interface that has this address.
        let sender = UdpSocket::bind((own, 0)).unwrap();
        sender.set_broadcast(true).unwrap();
        sender.send_to(b"anybody?", (destination, 5353)).unwrap();
        let mut buffer = [0; 16];
        let heard = listener.recv_from(&mut buffer).map(|(length, from)| (length, from.ip()));
        assert_eq!(heard.unwrap(), (8, own.into()), "{destination}");
    }
}

#[test]
fn addresses_of_the_gateway_are_no_sources_of_hosts() {
    for rp_filter in ["0", "2"] {
        let gateway = validated_by_nft(rp_filter);
        let lab = &gateway.lab;
        let host = plan::client(Family::V4, 3);
        let internet = plan::server(Family::V4, 7);
        let own = [plan::lan_gateway(Family::V4), plan::uplink_address(Family::V4, 0)];
        let inside = Forger::new(&lab.lan, CLIENT_INTERFACE, &lab.gateway, LAN_INTERFACE).unwrap();
        let outside = outside_host(lab, 1);
        let server = plan::server(Family::V4, 9);
        for (forger, honest, destination, to) in [
            (&inside, host, internet, &lab.net),
            (&inside, host, own[0], &lab.gateway),
            (&inside, host, plan::uplink_address(Family::V4, 1), &lab.gateway),
            (&outside, server, own[0], &lab.gateway),
            (&outside, server, plan::uplink_address(Family::V4, 1), &lab.gateway),
            (&outside, server, host, &lab.lan),
        ] {
            watch(to, "input");
            for (source, port) in own.into_iter().zip((FIRST..).step_by(2)) {
                let ends =
                    |port| (SocketAddr::new(source, 5000), SocketAddr::new(destination, port));
                let (from, at) = ends(port);
                forger.send(&forged::udp(from, at, b"forged").unwrap()).unwrap();
                // An answer that nobody waits for: no connection begins with it.
                let (from, at) = ends(port + 1);
                forger.send(&forged::tcp_syn(from, at, true).unwrap()).unwrap();
            }
            // A packet that may pass, on the same way, shows that all before it were handled.
            wait::until("a packet that may pass", LIMIT, || {
                let [from, at] = [(honest, 5000), (destination, LAST)].map(SocketAddr::from);
                forger.send(&forged::udp(from, at, b"honest").unwrap()).unwrap();
                Ok(seen(to).contains(&LAST).then_some(()))
            })
            .unwrap();
            let forged: BTreeSet<u16> = seen(to).into_iter().filter(|port| *port < LAST).collect();
            assert_eq!(forged, BTreeSet::new(), "to {destination}, rp_filter {rp_filter}");
            to.run("nft", &["delete", "table", "inet", "seen"]).unwrap();
        }
    }
}

#[test]
fn hosts_of_the_lan_are_reached_by_port_forwards_only() {
    // A LAN host that answers everyone, reached by the addresses of an uplink.
    let first = LAST - 1;
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, 3));
    let forwarded = format!(
        "table inet admin {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                iifname \"wan-b\" udp dport {first}-{LAST} dnat ip to {ipv4}
                iifname \"wan-b\" udp dport {first}-{LAST} dnat ip6 to {ipv6}
            }}
        }}"
    );
    let each = |family| {
        let host = plan::client(family, 3);
        [(plan::server(family, 9), host), (plan::client(family, 4), host)]
    };
    let packets: Vec<_> = Family::ALL.into_iter().flat_map(each).collect();
    let reached = |lab: &Lab| {
        lab.gateway.load_nft(&forwarded).unwrap();
        watch(&lab.lan, "input");
        arriving(&outside_host(lab, 1), &packets, allowed(), &lab.lan)
    };
    let open = BTreeSet::from([FIRST, FIRST + 2]);

    let gateway = Gateway::pair();
    assert_eq!(reached(&gateway.lab), BTreeSet::new(), "by default");

    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}[firewall]\ninbound = \"open\"\n"));
    assert_eq!(reached(&gateway.lab), open, "as configured");

    // A gateway that forwarded before is left as it was.
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    assert_eq!(reached(&gateway.lab), BTreeSet::from([FIRST]), "IPv4 was forwarded before");

    // A gateway with a filter of its own is left to that.
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let policy = "table ip6 fw {
        chain forward {
            type filter hook forward priority 0;
            iifname \"wan-a\" drop
        }
    }";
    lab.gateway.load_nft(policy).unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    wait::until("the table that follows the firewall", LIMIT, || {
        Ok((reached_rules(&gateway.lab) == ["ipv4"]).then_some(()))
    })
    .unwrap();
    assert_eq!(reached(&gateway.lab), BTreeSet::from([FIRST + 2]), "IPv6 is filtered");
}

/// Returns the families in which linkbal's table closes the hosts behind the gateway.
fn reached_rules(lab: &Lab) -> Vec<&'static str> {
    let table = lab.gateway.run("nft", &["list", "table", "inet", "linkbal"]).unwrap();
    let closed = |family: &&str| {
        table.lines().any(|line| line.contains(&format!("meta nfproto {family} oifname !=")))
    };
    ["ipv4", "ipv6"].into_iter().filter(closed).collect()
}

#[test]
fn transit_between_uplinks_is_dropped() {
    let through = |config: &str| {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let gateway = Gateway::start(lab, |base| format!("{base}{config}"));
        let lab = &gateway.lab;
        watch(&lab.net, "input");
        watch(&lab.gateway, "input");
        let packets = Family::ALL.map(|family| {
            let neighbour = plan::nexthop(family, 1);
            [(neighbour, plan::server(family, 7)), (neighbour, plan::nexthop(family, 0))]
        });
        let forger = outside_host(lab, 1);
        // A packet that may pass shows that all before it were handled.
        arriving(&forger, packets.as_flattened(), allowed(), &lab.gateway);
        seen(&lab.net)
    };
    assert_eq!(through(""), BTreeSet::new());
    assert!(!through("[firewall]\ntransit = true\n").is_empty(), "as configured");
}

#[test]
fn uplinks_in_one_segment_or_network_are_no_spoofing() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    // Two routers that both have the address 192.168.1.1; the gateway has 192.168.1.2 and .3.
    lab.use_private_network(0, "192.168.1.2", "192.168.1.1").unwrap();
    lab.use_private_network(1, "192.168.1.3", "192.168.1.1").unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    let lab = &gateway.lab;
    watch(&lab.gateway, "input");
    let router: IpAddr = "192.168.1.1".parse().unwrap();
    let [other, own]: [IpAddr; 2] = ["192.168.1.2", "192.168.1.3"].map(|ip| ip.parse().unwrap());
    let ipv6 = (plan::server(Family::V6, 9), plan::uplink_address(Family::V6, 1));
    let packets = [(router, own), (router, other)];
    let seen = arriving(&outside_host(lab, 1), &packets, [(router, own), ipv6], &lab.gateway);
    assert_eq!(seen, BTreeSet::from([FIRST, FIRST + 1]));
}
