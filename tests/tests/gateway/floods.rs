//! Floods of packets from the LAN and from outside: connections and sessions of others stay as they
//! are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{
    CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab, Uplink, UplinkSpec,
};
use linkbal_lab::traffic::forged::{self, Forger};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTPS, LongFlows, Protocol, Servers};
use linkbal_lab::turn;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, wait_for_answers};
use crate::kernel;

/// Time between two requests of a quiet connection: longer than the 10 s after which the flow of a
/// silent host is checked again.
const QUIET: Duration = Duration::from_secs(12);

/// A small flow table, so that a short flood is a large one.
const SMALL_TABLES: &str = "\n[kernel]\nflow_table_size = 4096\n";

/// Number of packets of a flood, many times what the tables hold.
const FLOOD: u32 = 40_000;

/// The number of the client that floods, or is flooded.
const FLOODER: usize = 50;

/// A port that the gateway forwards to that client.
const FORWARDED: u16 = 8080;

/// Opens connections that are silent for a while after their first request.
fn idle_flows(gateway: &Gateway, port: u16) -> LongFlows {
    let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
    let flows: Vec<_> =
        kinds.flat_map(|(family, protocol)| FlowSpec::spread(family, protocol, port, 20)).collect();
    let flows = LongFlows::begin(&gateway.lab.lan, &flows, QUIET).unwrap();
    wait_for_answers(&flows, &flows.reports(), 1, |_| true);
    flows
}

#[test]
fn replies_forged_at_one_uplink_do_not_answer_requests_by_another() {
    let _turn = turn::alone();
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    let flows = idle_flows(&gateway, 80);
    let before = flows.reports();
    std::thread::sleep(QUIET * 5 / 6);
    let strangers = [0, 1].map(|uplink| {
        let Uplink { spec, provider } = &lab.uplinks[uplink];
        Forger::new(provider, CUSTOMER_INTERFACE, &lab.gateway, &spec.interface).unwrap()
    });
    for report in &before {
        let (server, peer) = (report.spec.server, report.peer.unwrap());
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let packet = match report.spec.protocol {
            Protocol::Tcp => forged::tcp_syn(server, peer, true).unwrap(),
            Protocol::Udp => forged::udp(server, peer, b"nonsense").unwrap(),
        };
        strangers[1 - report.uplink().unwrap()].send(&packet).unwrap();
    }
    assert_undisturbed_once(&flows, &before);
}

/// Checks that no flow was disturbed, after one more answer on each.
fn assert_undisturbed_once(flows: &LongFlows, before: &[FlowReport]) {
    wait_for_answers(flows, before, 1, |_| true);
    let now = flows.reports();
    let disturbed: Vec<_> = before
        .iter()
        .zip(&now)
        .filter(|(old, new)| new.closed || new.disturbed_since(old))
        .map(|(_, new)| new)
        .collect();
    assert!(disturbed.is_empty(), "{} of {}: {disturbed:#?}", disturbed.len(), now.len());
}

/// Sends a flood of datagrams from one host of the LAN, two of each tuple, that looks like QUIC.
fn flood_from_lan(lab: &Lab, family: Family) {
    let forger = Forger::new(&lab.lan, CLIENT_INTERFACE, &lab.gateway, LAN_INTERFACE).unwrap();
    for n in 0..FLOOD {
        let source = SocketAddr::new(plan::client(family, FLOODER), port(n));
        let packet =
            forged::udp(source, SocketAddr::new(unused_address(family, n), HTTPS), b"x").unwrap();
        forger.send(&packet).unwrap();
        forger.send(&packet).unwrap();
    }
}

/// Sends a flood of connections from made-up addresses at one provider to a forwarded port.
fn flood_from_outside(lab: &Lab, family: Family) {
    let by = &lab.uplinks[1];
    let forger =
        Forger::new(&by.provider, CUSTOMER_INTERFACE, &lab.gateway, &by.spec.interface).unwrap();
    let to = SocketAddr::new(plan::uplink_address(family, 1), FORWARDED);
    for n in 0..FLOOD {
        let source = SocketAddr::new(unused_address(family, n), port(n));
        forger.send(&forged::tcp_syn(source, to, false).unwrap()).unwrap();
    }
}

fn port(n: u32) -> u16 {
    1024 + u16::try_from(n % 60_000).unwrap()
}

/// Returns an address that no host has (RFC 2544, RFC 5180).
fn unused_address(family: Family, n: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n).into(),
        Family::V6 => {
            let low = u128::from(n);
            Ipv6Addr::from(u128::from(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)) + low).into()
        }
    }
}

/// A gateway with sticky sessions that are all on isp-b, whatever their hash, and with quiet
/// connections.
struct IdleConnections {
    gateway: Gateway,
    sticky: Vec<FlowSpec>,
    flows: LongFlows,
    before: Vec<FlowReport>,
}

impl IdleConnections {
    fn new() -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let gateway = Gateway::start(lab, |config| format!("{config}{SMALL_TABLES}"));
        gateway.daemon.run(&["drain", "isp-a"]).unwrap();
        gateway.wait_for_uplinks(&[1]);
        let of = |family| FlowSpec::spread(family, Protocol::Tcp, HTTPS, 30);
        let sticky: Vec<_> = Family::ALL.into_iter().flat_map(of).collect();
        assert_eq!(gateway.open(&sticky), [0, 60]);
        gateway.daemon.run(&["enable", "isp-a"]).unwrap();
        gateway.wait_for_uplinks(&[0, 1]);
        let flows = idle_flows(&gateway, 80);
        let before = flows.reports();
        Self { gateway, sticky, flows, before }
    }

    fn assert_untouched(&self) {
        assert_eq!(self.gateway.open(&self.sticky), [0, 60], "sessions");
        assert_undisturbed_once(&self.flows, &self.before);
    }
}

#[test]
fn a_flood_of_one_host_moves_no_flow_of_others_and_the_host_is_reported() {
    let _turn = turn::alone();
    let mut quiet = IdleConnections::new();
    for (family, name) in Family::ALL.into_iter().zip(["10.77.0.60", "fd77::/64"]) {
        flood_from_lan(&quiet.gateway.lab, family);
        quiet.assert_untouched();
        let named = |status: &Value| {
            let mut limited = status["limited_hosts"].as_array().unwrap().iter();
            limited.any(|limited| limited["host"] == name && limited["not_stored"] != 0)
        };
        quiet.gateway.daemon.wait_for("the host's name", LIMIT, named).unwrap();
        let events = quiet.gateway.daemon.run(&["events"]).unwrap();
        assert!(events.contains(&format!("host {name}: begins more than its quota")), "{events}");
    }
}

/// Returns whether an entry of the flow table is of a connection from outside: the second word of
/// its value is 2^32 - 2.
fn is_inbound(entry: &Value) -> bool {
    let byte = |at: usize| entry["value"][at].as_str().unwrap().to_owned();
    [4, 5, 6, 7].map(byte) == ["0xfe", "0xff", "0xff", "0xff"]
}

#[test]
fn a_flood_to_a_forwarded_port_moves_no_flow_of_others() {
    let _turn = turn::alone();
    let quiet = IdleConnections::new();
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, FLOODER));
    let table = format!(
        "table inet admin {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                iifname \"wan-b\" tcp dport {FORWARDED} dnat ip to {ipv4}
                iifname \"wan-b\" tcp dport {FORWARDED} dnat ip6 to {ipv6}
            }}
        }}"
    );
    let lab = &quiet.gateway.lab;
    lab.gateway.load_nft(&table).unwrap();
    let inside = [ipv4, ipv6].map(|ip| SocketAddr::new(ip, FORWARDED));
    let _server = Servers::start_at(&lab.lan, &inside).unwrap();
    Family::ALL.into_iter().for_each(|family| flood_from_outside(lab, family));
    quiet.assert_untouched();
    // The table still has their entries: a client that only waits is told when its uplink dies.
    let flows = kernel::map(&quiet.gateway.lab.gateway, "FLOWS");
    let of_lan = flows.as_array().unwrap().iter().filter(|entry| !is_inbound(entry)).count();
    assert!(of_lan >= quiet.before.len(), "only {of_lan} of {}", quiet.before.len());
    let status = quiet.gateway.daemon.status().unwrap();
    let answered = status["counters"]["flow_inbound"].as_u64().unwrap();
    assert!(answered > 4096, "only {answered} of the connections were answered");
}
