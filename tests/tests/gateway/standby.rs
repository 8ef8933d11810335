//! Two gateways, one of which has the addresses: connections outlive the move of these to the
//! other.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, StandbyGateway};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol, open_flows};
use linkbal_lab::turn;

use crate::fixture::{is_udp, wait_for_answers};
use crate::pair::{Conntrackd, Pair, assert_alive};

/// Number of flows of each kind.
const FLOWS: usize = 20;

/// Runs the actions of a new master's script, except those for the addresses.
fn promote(sync: &Conntrackd) {
    for action in ["-c", "-f", "-R", "-B"] {
        sync.ask(action);
    }
}

/// Moves the addresses as keepalived does when mastership is handed over.
fn switch_over(pair: &Pair, from: usize, to: usize) {
    let [old, new] = [from, to].map(|number| pair.namespaces()[number]);
    pair.gateway.lab.remove_addresses(old).unwrap();
    // A script may commit first; keepalived by itself brings the addresses first.
    if to == 0 {
        promote(&pair.sync[to]);
    }
    pair.gateway.lab.assign_addresses(new).unwrap();
    if to == 1 {
        promote(&pair.sync[to]);
    }
    for action in ["-t", "-n"] {
        pair.sync[from].ask(action);
    }
}

#[test]
fn connections_survive_a_switchover_and_the_way_back() {
    let _turn = turn::alone();
    let mut pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        let before = flows.settle().unwrap();
        if from == 0 && to == 1 {
            pair.wait_until_synchronised(1, 4 * FLOWS);
        }
        switch_over(&pair, from, to);
        assert_alive(&pair, &flows, &before, FLOWS, |_| true);
        pair.wait_until_up(to);
        // New flows are shared by both uplinks, and all answered.
        pair.gateway.assert_uplinks(20, &[0, 1]);
        assert_alive(&pair, &flows, &before, FLOWS, |_| true);
    }
}

#[test]
fn connections_survive_a_power_loss_of_the_active_gateway() {
    let _turn = turn::alone();
    let mut pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    let before = flows.settle().unwrap();
    pair.wait_until_synchronised(1, 4 * FLOWS);
    let lab = &pair.gateway.lab;
    let uplinks = lab.uplinks.iter().map(|uplink| uplink.spec.interface.as_str());
    for interface in [LAN_INTERFACE, StandbyGateway::sync_interface()].into_iter().chain(uplinks) {
        lab.gateway.run("ip", &["link", "set", interface, "down"]).unwrap();
    }
    promote(&pair.sync[1]);
    lab.assign_addresses(&pair.partner.gateway).unwrap();
    assert_alive(&pair, &flows, &before, FLOWS, |_| true);
    pair.wait_until_up(1);
    pair.gateway.assert_uplinks(20, &[0, 1]);
    assert_alive(&pair, &flows, &before, FLOWS, |_| true);
}

/// Checks the default route that the guide has for a gateway on standby.
#[test]
fn a_gateway_on_standby_reaches_the_internet_by_its_partner() {
    let _turn = turn::alone();
    let mut pair = Pair::start_without_addresses();
    let lab = &pair.gateway.lab;
    lab.assign_addresses(&lab.gateway).unwrap();
    pair.wait_until_up(0);
    let standby = &pair.partner.gateway;
    let flows = Family::ALL.map(|family| {
        let partner = plan::own_lan_address(family, 0).to_string();
        let route = [family.flag(), "route", "add", "default", "via", &partner, "metric", "1000"];
        standby.run("ip", &route).unwrap();
        [Protocol::Tcp, Protocol::Udp].map(|protocol| FlowSpec {
            source: plan::own_lan_address(family, 1),
            ..FlowSpec::new(family, protocol, 0, 0, HTTP)
        })
    });
    let seen = open_flows(standby, flows.as_flattened()).unwrap();
    assert!(seen.iter().all(|seen| seen.uplink().is_some()), "{seen:?}\n{}", pair.logs());
    // Without an address of its own choice, too: it must not take one of an uplink's.
    let server = plan::server(Family::V4, 0).to_string();
    let way = standby.run("ip", &["route", "get", &server]).unwrap();
    assert!(way.contains(LAN_INTERFACE), "{way}");
}

#[test]
fn udp_flows_that_were_never_synchronised_keep_their_uplink_by_the_seed() {
    let _turn = turn::alone();
    let pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    let before = flows.settle().unwrap();
    let [old, new] = pair.namespaces();
    pair.gateway.lab.remove_addresses(old).unwrap();
    // Nothing is committed.
    pair.gateway.lab.assign_addresses(new).unwrap();
    wait_for_answers(&flows, &before, 5, is_udp);
    let now = flows.settle().unwrap();
    // Their port may be another one: a new connection takes what is free.
    let moved =
        before.iter().zip(&now).filter(|(old, new)| is_udp(old) && old.uplink() != new.uplink());
    let moved: Vec<_> = moved.map(|(old, new)| (old.spec, old.uplink(), new.uplink())).collect();
    assert!(moved.is_empty(), "{} flows: {moved:?}\n{}", moved.len(), pair.logs());
}
