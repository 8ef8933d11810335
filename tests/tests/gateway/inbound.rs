//! Connections from outside, answered by the uplink that they came in by: providers drop packets
//! with another one's address.

use std::net::{SocketAddr, UdpSocket};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, LongFlows, Protocol, Servers, open_flows};

use crate::fixture::{Gateway, LIMIT, TICK, assert_undisturbed, ping, wait_for_answers};
use crate::topologies::{put_on_one_hub, share_wan_a};

/// Number of connections of each protocol and family by each uplink.
const CONNECTIONS: usize = 100;
/// The port that the gateway forwards to a LAN server, for TCP and UDP.
const FORWARDED: u16 = 8080;
/// A port of the gateway itself.
const OWN: u16 = 9090;
/// The number of the LAN's server.
const HOST: usize = 3;

/// A gateway with what its administrator has set up beside linkbal: forwarded ports and pings, a
/// server in the LAN, and one on the gateway.
struct Site {
    gateway: Gateway,
    _servers: [Servers; 2],
}

impl Site {
    fn new(gateway: Gateway) -> Self {
        let lab = &gateway.lab;
        lab.filter_sources().unwrap();
        lab.net.set_sysctl("net.ipv4.ping_group_range", "0 2147483647").unwrap();
        let at = |ip, port| SocketAddr::new(ip, port);
        let inside = Family::ALL.map(|family| at(plan::client(family, HOST), FORWARDED));
        let on_gateway: Vec<_> = uplinks(lab)
            .flat_map(|uplink| Family::ALL.map(|f| at(plan::uplink_address(f, uplink), OWN)))
            .collect();
        let servers = [
            Servers::start_at(&lab.lan, &inside).unwrap(),
            Servers::start_at(&lab.gateway, &on_gateway).unwrap(),
        ];
        Self { gateway, _servers: servers }
    }

    /// Forwards TCP and UDP to the LAN's server, and pings from outside as well.
    fn forward(&self) {
        let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, HOST));
        let table = format!(
            "table inet admin {{
                chain prerouting {{
                    type nat hook prerouting priority dstnat;
                    iifname != \"wan-*\" accept
                    meta l4proto {{ tcp, udp }} th dport {FORWARDED} dnat ip to {ipv4}
                    meta l4proto {{ tcp, udp }} th dport {FORWARDED} dnat ip6 to {ipv6}
                    icmp type echo-request dnat ip to {ipv4}
                    icmpv6 type echo-request dnat ip6 to {ipv6}
                }}
            }}"
        );
        self.gateway.lab.gateway.load_nft(&table).unwrap();
    }

    /// Returns connections from servers on the internet by way of `uplink`.
    fn connections(&self, uplink: usize, port: u16, count: usize) -> Vec<FlowSpec> {
        let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
        let flow = move |(family, protocol)| {
            let server = SocketAddr::new(plan::uplink_address(family, uplink), port);
            (0..count).map(move |n| FlowSpec { protocol, source: plan::server(family, n), server })
        };
        kinds.flat_map(flow).collect()
    }

    /// Opens connections and sends pings by way of `uplink`; each must be answered by the same way.
    fn assert_answered_by(&self, uplink: usize, port: u16, count: usize) {
        let lab = &self.gateway.lab;
        let before: Vec<_> = uplinks(lab).map(|uplink| lab.filtered(uplink).unwrap()).collect();
        let specs = self.connections(uplink, port, count);
        let seen = open_flows(&lab.net, &specs).unwrap();
        let lost: Vec<_> = specs
            .iter()
            .zip(&seen)
            .filter(|(spec, seen)| {
                seen.peer.map(|peer| peer.ip().to_canonical()) != Some(spec.source)
            })
            .collect();
        assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(3)]);
        let entered = lab.net.enter().unwrap();
        for family in Family::ALL {
            for client in 0..count / 5 {
                ping(plan::server(family, client), plan::uplink_address(family, uplink));
            }
        }
        drop(entered);
        for (other, (own, foreign)) in before.into_iter().enumerate() {
            let now = lab.filtered(other).unwrap();
            assert_eq!(now.1, foreign, "foreign addresses at provider {other}");
            let answers = (now.0 - own) as usize;
            // Probes have an address of their own uplink, too: only the minimum is known.
            assert!(other != uplink || answers >= specs.len(), "{answers} at provider {other}");
        }
    }

    fn long_connections(&self, uplink: usize) -> LongFlows {
        let specs = self.connections(uplink, FORWARDED, 10);
        LongFlows::start(&self.gateway.lab.net, &specs, TICK).unwrap()
    }

    fn learned(&self) -> u64 {
        let status = self.gateway.daemon.status().unwrap();
        status["counters"]["flow_inbound"].as_u64().unwrap()
    }
}

fn uplinks(lab: &Lab) -> std::ops::Range<usize> {
    0..lab.uplinks.len()
}

#[test]
fn a_port_forward_answers_by_the_uplink_of_the_request() {
    let site = Site::new(Gateway::pair());
    site.forward();
    for (round, uplink) in (1..).zip([0, 1]) {
        site.assert_answered_by(uplink, FORWARDED, CONNECTIONS);
        // Four kinds of connections, and a fifth as many pings of two families.
        let each = 4 * CONNECTIONS + 2 * (CONNECTIONS / 5);
        assert_eq!(site.learned(), round * each as u64);
    }
    let flows = site.gateway.counted_flows();
    assert_eq!(flows, [0, 0], "answers are no new flows");
    site.gateway.assert_uplinks(20, &[0, 1]);
    assert_eq!(site.learned(), 2 * (4 * CONNECTIONS + 2 * (CONNECTIONS / 5)) as u64);
}

/// Checks a masquerade towards the LAN as well, for servers whose default route leads elsewhere: they
/// answer to the gateway's own address.
#[test]
fn a_server_that_answers_to_the_gateway_itself_is_led_to_the_uplink_of_the_request() {
    let site = Site::new(Gateway::pair());
    site.forward();
    let lab = &site.gateway.lab;
    let inside = "table inet inside {
            chain postrouting {
                type nat hook postrouting priority srcnat;
                oifname \"lan0\" ct status dnat masquerade
            }
        }";
    lab.gateway.load_nft(inside).unwrap();
    for uplink in [0, 1] {
        let seen = open_flows(&lab.net, &site.connections(uplink, FORWARDED, CONNECTIONS)).unwrap();
        let lost = seen.iter().filter(|seen| seen.peer.is_none()).count();
        assert_eq!(lost, 0, "of {}", seen.len());
        for seen in &seen {
            let peer = seen.peer.map(|peer| peer.ip().to_canonical());
            assert!(Family::ALL.map(plan::lan_gateway).map(Some).contains(&peer), "{peer:?}");
        }
    }
}

#[test]
fn a_first_datagram_in_fragments_is_answered_too() {
    let site = Site::new(Gateway::pair());
    site.forward();
    let lab = &site.gateway.lab;
    let _entered = lab.net.enter().unwrap();
    // A request as the servers expect it, of flow 0, with much data behind it.
    let request = [&b"lb-flow?"[..], &[0; 4000]].concat();
    for uplink in uplinks(lab) {
        for family in Family::ALL {
            for client in 0..20 {
                let socket = UdpSocket::bind((plan::server(family, client), 0)).unwrap();
                socket.connect((plan::uplink_address(family, uplink), FORWARDED)).unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket.send(&request).unwrap();
                assert!(socket.recv(&mut [0; 64]).unwrap() > 0, "{family}, {uplink}, {client}");
            }
        }
    }
    assert_eq!(site.learned(), 2 * 2 * 20);
}

#[test]
fn a_local_server_answers_by_the_uplink_of_the_request() {
    let mut site = Site::new(Gateway::pair());
    for uplink in [0, 1] {
        site.assert_answered_by(uplink, OWN, CONNECTIONS);
    }
    site.gateway.lab.cut_cable(0).unwrap();
    site.gateway.wait_until_down(0);
    site.assert_answered_by(1, OWN, 10);
}

#[test]
fn a_forwarded_port_stays_open_by_the_other_uplink() {
    let mut site = Site::new(Gateway::pair());
    site.forward();
    let flows = site.long_connections(1);
    let before = flows.reports();
    site.gateway.lab.cut_cable(0).unwrap();
    site.gateway.wait_until_down(0);
    site.assert_answered_by(1, FORWARDED, 10);
    assert_undisturbed(&flows, &before, 40, |_| true);
    site.gateway.lab.plug_cable(0).unwrap();
    site.gateway.daemon.wait_until_up(LIMIT).unwrap();
    for uplink in [0, 1] {
        site.assert_answered_by(uplink, FORWARDED, 10);
    }
    assert_undisturbed(&flows, &before, 40, |_| true);
}

#[test]
fn connections_of_an_uplink_that_comes_back_go_on() {
    let mut site = Site::new(Gateway::pair());
    site.forward();
    let flows = site.long_connections(0);
    site.gateway.lab.blackhole(0).unwrap();
    site.gateway.wait_until_down(0);
    let silent = flows.reports();
    site.gateway.lab.restore(0).unwrap();
    wait_for_answers(&flows, &silent, 5, |_| true);
    assert!(flows.reports().iter().all(|report| !report.closed && report.moved == 0));
    assert_eq!(site.gateway.lab.filtered(1).unwrap().1, 0, "none tried the other uplink");
}

#[test]
fn providers_on_one_interface_are_told_apart_by_the_address_that_was_asked() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let hub = put_on_one_hub(&lab);
    let site = Site::new(Gateway::start(lab, share_wan_a));
    site.forward();
    for uplink in [0, 1] {
        site.assert_answered_by(uplink, FORWARDED, CONNECTIONS);
        site.assert_answered_by(uplink, OWN, 10);
    }
    drop(site);
    drop(hub);
}

fn ip(gateway: &Gateway, command: &str) {
    gateway.lab.gateway.run("ip", &command.split_whitespace().collect::<Vec<_>>()).unwrap();
}

/// Puts the LAN behind a bridge, as container engines do.
fn bridge_lan(gateway: &Gateway, name: &str) {
    ip(gateway, &format!("link add {name} type bridge"));
    for family in Family::ALL {
        let length = if family == Family::V4 { 24 } else { 64 };
        let address = format!("{}/{length}", plan::lan_gateway(family));
        ip(gateway, &format!("address del {address} dev lan0"));
        ip(gateway, &format!("address add {address} dev {name}"));
    }
    ip(gateway, &format!("link set lan0 master {name}"));
    ip(gateway, &format!("link set {name} up"));
}

fn wait_for_lan(gateway: &mut Gateway, wanted: &[&str]) {
    let is_there = |status: &serde_json::Value| {
        let lan = status["lan"].as_array().unwrap();
        let names = lan.iter().map(|lan| lan["interface"].as_str().unwrap());
        names.eq(wanted.iter().copied())
    };
    gateway.daemon.wait_for("the interfaces of the LAN", LIMIT, is_there).unwrap();
}

/// Checks bridges of a container engine, whose names are new each time. A port of the bridge
/// matches, too, and is not taken.
#[test]
fn a_late_bridge_belongs_to_the_lan_if_its_name_matches() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, |config| config.replace("\"lan0\"", "\"br-*\", \"la*\""));
    wait_for_lan(&mut gateway, &["lan0"]);
    bridge_lan(&gateway, "br-1f2e");
    wait_for_lan(&mut gateway, &["br-1f2e"]);
    // The kernel needs a while until the addresses of a bridge are usable.
    gateway.wait_for_uplinks(&[0, 1]);
    gateway.assert_uplinks(20, &[0, 1]);
    let site = Site::new(gateway);
    site.forward();
    for uplink in [0, 1] {
        site.assert_answered_by(uplink, FORWARDED, 20);
    }
    let mut gateway = site.gateway;
    ip(&gateway, "link set br-1f2e down");
    ip(&gateway, "link set br-1f2e name br-9a");
    ip(&gateway, "link set br-9a up");
    wait_for_lan(&mut gateway, &["br-9a"]);
    ip(&gateway, "link del br-9a");
    wait_for_lan(&mut gateway, &["lan0"]);
    bridge_lan_again(&gateway);
    wait_for_lan(&mut gateway, &["br-3"]);
    gateway.wait_for_uplinks(&[0, 1]);
    gateway.assert_uplinks(20, &[0, 1]);
    let log = gateway.daemon.log();
    assert!(!log.contains(" WARN "), "{log}");
}

/// Puts the LAN behind another bridge, once its addresses are gone with the one before.
fn bridge_lan_again(gateway: &Gateway) {
    for family in Family::ALL {
        let length = if family == Family::V4 { 24 } else { 64 };
        let address = format!("{}/{length}", plan::lan_gateway(family));
        ip(gateway, &format!("address add {address} dev lan0"));
    }
    bridge_lan(gateway, "br-3");
}
