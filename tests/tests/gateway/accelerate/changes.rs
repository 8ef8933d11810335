//! Changes of everything that a shortcut rests on, while packets take it.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use super::start;
use crate::fixture::{
    self, Gateway, LIMIT, assert_undisturbed, config, is_udp, linkbal, on, text, wait_for_move,
};
use crate::shortcuts::{
    accelerated, taken_by, wait_for_answers, wait_for_requests, wait_for_shortcuts,
};

/// Number of long flows of each of the four kinds.
const FLOWS: usize = 10;
/// Number of requests that a flow may lose without translation: about two seconds of them.
const REQUESTS: u64 = 10;
/// Number of packets that take shortcuts before anything happens.
const PACKETS: u64 = 300;

fn with_flows() -> (Gateway, LongFlows) {
    let gateway = start();
    let flows = gateway.long_flows(FLOWS);
    wait_for_shortcuts(&gateway, PACKETS);
    (gateway, flows)
}

/// Lets an interface tell its neighbours when its link-layer address changes, and changes it.
fn replace_card(namespace: &Namespace, interface: &str) {
    for sysctl in ["ipv4.conf.IF.arp_notify", "ipv6.conf.IF.ndisc_notify"] {
        let sysctl = format!("net.{}", sysctl.replace("IF", interface));
        namespace.set_sysctl(&sysctl, "1").unwrap();
    }
    let address = ["link", "set", interface, "address", "02:00:00:00:77:02"];
    namespace.run("ip", &address).unwrap();
}

#[test]
fn a_router_and_a_client_with_a_new_card_say_so_themselves() {
    let (gateway, flows) = with_flows();
    replace_card(&gateway.lab.uplinks[0].provider, CUSTOMER_INTERFACE);
    wait_for_answers(&flows);
    wait_for_shortcuts(&gateway, PACKETS);
    replace_card(&gateway.lab.lan, CLIENT_INTERFACE);
    wait_for_answers(&flows);
    wait_for_shortcuts(&gateway, PACKETS);
    wait_for_answers(&flows);
}

/// Checks that a route of the administrator ends flows that are shortcuts by now, until it goes.
#[test]
fn a_new_route_is_followed() {
    let (gateway, flows) = with_flows();
    let before = flows.reports();
    let probed = Family::ALL.map(|family| [0, 1].map(|number| plan::server(family, number)));
    let chosen = |report: &FlowReport| {
        is_udp(report) && !probed.as_flattened().contains(&report.spec.server.ip())
    };
    let routes = |action: &str| {
        let servers: BTreeSet<_> =
            before.iter().filter(|flow| chosen(flow)).map(|flow| flow.spec.server.ip()).collect();
        let route = |server: &IpAddr| format!("route {action} blackhole {server}\n");
        gateway.lab.gateway.ip_batch(&servers.iter().map(route).collect::<String>()).unwrap();
    };
    routes("add");
    wait::until("the end of the answers", LIMIT, || {
        let before = flows.reports();
        wait_for_requests(&flows, 5);
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| chosen(old));
        Ok(pairs.all(|(old, new)| old.answers == new.answers).then_some(()))
    })
    .unwrap();
    routes("delete");
    fixture::wait_for_answers(&flows, &flows.reports(), 5, chosen);
    wait_for_shortcuts(&gateway, PACKETS);
}

#[test]
fn a_flushed_ruleset_moves_no_flow() {
    let (gateway, flows) = with_flows();
    let before = flows.reports();
    gateway.lab.gateway.run("nft", &["flush", "ruleset"]).unwrap();
    wait::until("the repair", LIMIT, || {
        let tables = gateway.lab.gateway.run("nft", &["list", "tables"])?;
        Ok(tables.contains("inet linkbal").then_some(()))
    })
    .unwrap();
    wait_for_shortcuts(&gateway, PACKETS);
    wait_for_answers(&flows);
    // The packet of a second that is left to the kernel may have met it without translation. If that made
    // a connection just after the look at those without a mark, the next one, a second later, forgets it.
    let gone = |old: &FlowReport, new: &FlowReport| new.losses > old.losses + REQUESTS;
    let now = flows.reports();
    let gone: Vec<_> = before.iter().zip(&now).filter(|(old, new)| gone(old, new)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    assert!(now.iter().all(|flow| !flow.closed && flow.moved == 0), "{now:?}");
}

#[test]
fn an_interface_of_the_lan_goes_and_comes() {
    let (gateway, flows) = with_flows();
    let keep = format!("net.ipv6.conf.{LAN_INTERFACE}.keep_addr_on_down");
    gateway.lab.gateway.set_sysctl(&keep, "1").unwrap();
    gateway.lab.gateway.ip_batch(&format!("link set {LAN_INTERFACE} down\n")).unwrap();
    gateway.lab.gateway.ip_batch(&format!("link set {LAN_INTERFACE} up\n")).unwrap();
    fixture::wait_for_answers(&flows, &flows.reports(), 5, |_| true);
    assert!(flows.reports().iter().all(|flow| !flow.closed && flow.moved == 0));
    wait_for_shortcuts(&gateway, PACKETS);
}

/// Checks that a daemon may be killed, started, stopped and told of other weights.
#[test]
fn nothing_that_happens_to_the_daemon_disturbs_flows() {
    let (mut gateway, flows) = with_flows();
    let before = flows.reports();
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        gateway.daemon.stop(signal).unwrap();
        wait_for_shortcuts(&gateway, PACKETS);
        let mut next = Daemon::start(&gateway.lab, &accelerated(&config(&gateway.lab))).unwrap();
        next.wait_until_up(LIMIT).unwrap();
        gateway.daemon = next;
        wait_for_shortcuts(&gateway, PACKETS);
    }
    let path = gateway.daemon.config_path();
    let text = fs::read_to_string(&path).unwrap().replace("weight = 30", "weight = 1");
    fs::write(&path, text).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    wait_for_shortcuts(&gateway, PACKETS);
    assert_undisturbed(&flows, &before, 4 * FLOWS, |_| true);
}

/// Checks that no packet takes a shortcut of an uplink after this, though flows go on.
fn assert_left(gateway: &Gateway, flows: &LongFlows, uplink: usize) {
    let before = taken_by(gateway)[uplink];
    wait_for_requests(flows, 5);
    assert_eq!(taken_by(gateway)[uplink], before);
}

/// Waits until an uplink has shortcuts for new flows, and ends these.
fn wait_for_return(gateway: &Gateway, uplink: usize) {
    let before = taken_by(gateway)[uplink];
    let _flows = gateway.long_flows(FLOWS);
    wait::until("shortcuts of the uplink", LIMIT, || {
        let now = taken_by(gateway)[uplink];
        Ok((0..2).all(|way| now[way] > before[way]).then_some(()))
    })
    .unwrap();
}

#[test]
fn an_uplink_that_is_taken_away_has_no_packets_by_shortcuts_and_gets_them_back() {
    let (mut gateway, flows) = with_flows();
    let before = flows.reports();
    gateway.daemon.run(&["drain", "isp-a"]).unwrap();
    wait_for_shortcuts(&gateway, PACKETS);
    assert_undisturbed(&flows, &before, 4 * FLOWS, |_| true);
    gateway.daemon.run(&["disable", "isp-a"]).unwrap();
    let moves = |report: &FlowReport| is_udp(report) && on(0)(report);
    wait_for_move(&flows, &before, moves, 1);
    assert_left(&gateway, &flows, 0);
    gateway.daemon.run(&["enable", "isp-a"]).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    wait_for_return(&gateway, 0);

    let drilled = gateway.long_flows(FLOWS);
    let began = drilled.reports();
    wait_for_shortcuts(&gateway, PACKETS);
    let drill = linkbal(&gateway.lab, &["drill", "isp-a", "--for", "4s"]);
    assert!(drill.status.success(), "{}", text(&drill.stderr));
    wait_for_move(&drilled, &began, moves, 1);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    wait_for_return(&gateway, 0);

    let cut = gateway.long_flows(FLOWS);
    let began = cut.reports();
    wait_for_shortcuts(&gateway, PACKETS);
    gateway.lab.cut_cable(0).unwrap();
    wait_for_move(&cut, &began, moves, 1);
    gateway.wait_until_down(0);
    assert_left(&gateway, &flows, 0);
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    wait_for_return(&gateway, 0);
    // All the while, the flows of the other uplink noticed nothing.
    assert_undisturbed(&flows, &before, FLOWS, on(1));
}
