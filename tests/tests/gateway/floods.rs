//! Floods of packets from the LAN and from outside: connections and sessions of others stay as they
//! are.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::topology::{
    CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec,
};
use linkbal_tests::traffic::forged::{self, Forger};
use linkbal_tests::traffic::{FlowReport, FlowSpec, LongFlows, Protocol};

use crate::fixture::{Gateway, on, wait_for_answers};

const HTTPS: u16 = 443;

/// Longer than it takes for a connection to count as quiet.
const QUIET: Duration = Duration::from_secs(12);

/// Few entries, so that a short flood is a large one.
const SMALL_TABLES: &str = "\n[kernel]\nflow_table_size = 4096\n";

/// Packets of a flood, many times what the tables hold.
const FLOOD: u32 = 60_000;

/// Opens connections that then say nothing for a while.
fn quiet_flows(gateway: &Gateway, port: u16) -> LongFlows {
    let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
    let flows: Vec<_> =
        kinds.flat_map(|(family, protocol)| FlowSpec::spread(family, protocol, port, 20)).collect();
    let flows = LongFlows::begin(&gateway.lab.lan, &flows, QUIET).unwrap();
    wait_for_answers(&flows, &flows.reports(), 1, |_| true);
    flows
}

#[test]
fn nobody_at_one_line_answers_for_servers_asked_by_another() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    let flows = quiet_flows(&gateway, 80);
    let before = flows.reports();
    std::thread::sleep(QUIET * 5 / 6);
    let by = &lab.uplinks[1];
    let forger =
        Forger::new(&by.provider, CUSTOMER_INTERFACE, &lab.gateway, &by.spec.interface).unwrap();
    let mut forgeries = 0;
    for report in before.iter().filter(|report| on(0)(report)) {
        let (server, peer) = (report.spec.server, report.peer.unwrap());
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let packet = match report.spec.protocol {
            Protocol::Tcp => forged::tcp_syn(server, peer, true).unwrap(),
            Protocol::Udp => forged::udp(server, peer, b"nonsense").unwrap(),
        };
        forger.send(&packet).unwrap();
        forgeries += 1;
    }
    assert!(forgeries > 20, "{forgeries}");
    assert_undisturbed_once(&flows, &before);
}

/// All of them, after one more answer each.
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

/// A flood of datagrams of one host of the LAN, two of each tuple, that looks like QUIC.
fn flood_from_lan(lab: &Lab) {
    let forger = Forger::new(&lab.lan, CLIENT_INTERFACE, &lab.gateway, LAN_INTERFACE).unwrap();
    for n in 0..FLOOD {
        let port = 1024 + u16::try_from(n % 60_000).unwrap();
        let source = SocketAddr::new(plan::client(Family::V4, 50), port);
        // Addresses that nobody has, each a session of its own.
        let server = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
        let server = SocketAddr::new(server.into(), HTTPS);
        let packet = forged::udp(source, server, b"flood").unwrap();
        forger.send(&packet).unwrap();
        forger.send(&packet).unwrap();
    }
}

#[test]
fn a_flood_of_one_host_moves_nothing_of_others() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}{SMALL_TABLES}"));
    // Sessions that are where no hash would lead them.
    gateway.daemon.run(&["drain", "isp-a"]).unwrap();
    gateway.wait_for_uplinks(&[1]);
    let sticky = FlowSpec::spread(Family::V4, Protocol::Tcp, HTTPS, 60);
    let counts = gateway.open(&sticky);
    assert_eq!(counts, [0, 60]);
    gateway.daemon.run(&["enable", "isp-a"]).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let flows = quiet_flows(&gateway, 80);
    let before = flows.reports();
    flood_from_lan(&gateway.lab);
    assert_eq!(gateway.open(&sticky), [0, 60], "sessions");
    assert_undisturbed_once(&flows, &before);
}
