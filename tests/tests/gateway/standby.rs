//! Two gateways, one of which has the addresses: connections outlive the move of these to the
//! other.

use linkbal_lab::topology::{LAN_INTERFACE, StandbyGateway};
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
