//! The loss of an uplink: its flows go on elsewhere, and no others are disturbed.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Result;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::FlowReport;

use crate::fixture::{
    Gateway, LIMIT, assert_undisturbed, is_ipv6, is_udp, on, uplink_status, wait_for_answers,
    wait_for_move,
};
use crate::kernel::{self, Tracked, fwmark, tracked_by, up_mask};

/// Number of long flows of each of the four kinds: 200 of TCP and 200 of UDP.
const FLOWS: usize = 100;

/// A way to lose an uplink, or to get it back.
type Action = fn(&Lab, usize) -> Result<SystemTime>;

#[test]
fn a_cut_cable_moves_only_its_own_flows() {
    lose_and_mend(0, Lab::cut_cable, Lab::plug_cable);
}

#[test]
fn a_black_hole_moves_only_its_own_flows() {
    lose_and_mend(1, Lab::blackhole, Lab::restore);
}

fn lose_and_mend(victim: usize, lose: Action, mend: Action) {
    let mut gateway = equal_uplinks();
    let other = 1 - victim;
    let flows = gateway.long_flows(FLOWS);
    let (before, rules) = (flows.reports(), kernel::rules(&gateway.lab.gateway));
    let healthy_entries = entries(&gateway, other);
    assert_masks(&gateway, [0b11, 0b11]);
    // These send no more: only linkbal deletes their conntrack entries.
    gateway.assert_uplinks(20, &[0, 1]);
    assert!(Family::ALL.iter().all(|family| !entries_of(&gateway, *family, victim).is_empty()));

    lose(&gateway.lab, victim).unwrap();
    gateway.wait_until_down(victim);
    assert_masks(&gateway, [1 << other, 1 << other]);
    let datagrams = |report: &FlowReport| is_udp(report) && on(victim)(report);
    wait_for_move(&flows, &before, datagrams, other);
    assert_undisturbed(&flows, &before, FLOWS, on(other));
    assert!(entries(&gateway, victim).is_empty(), "{:?}", entries(&gateway, victim));
    let lost: Vec<_> = healthy_entries.difference(&entries(&gateway, other)).cloned().collect();
    assert!(lost.is_empty(), "healthy connections were forgotten: {lost:?}");
    assert_eq!(kernel::rules(&gateway.lab.gateway), rules);
    gateway.assert_uplinks(20, &[other]);

    let alive = flows.reports();
    mend(&gateway.lab, victim).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    assert_masks(&gateway, [0b11, 0b11]);
    // TCP flows of the victim may still be silent, but datagrams and all flows by the other uplink
    // live.
    assert_undisturbed(&flows, &alive, 2 * FLOWS, on(other));
    assert_eq!(kernel::rules(&gateway.lab.gateway), rules);
}

#[test]
fn a_provider_that_loses_ipv6_keeps_its_ipv4_flows() {
    let mut gateway = equal_uplinks();
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    let ipv4_entries = entries_of(&gateway, Family::V4, 0);
    assert!(!ipv4_entries.is_empty());

    gateway.lab.blackhole_ipv6(0).unwrap();
    let status = gateway.wait_for_state(0, "ipv6", "down");
    let uplink = uplink_status(&status, "isp-a");
    assert_eq!((&uplink["ipv4"]["state"], &uplink["state"]), (&"up".into(), &"up".into()));
    assert_masks(&gateway, [0b11, 0b10]);
    let ipv6_of_victim = |report: &FlowReport| is_ipv6(report) && on(0)(report);
    wait_for_move(&flows, &before, |report| is_udp(report) && ipv6_of_victim(report), 1);
    assert_undisturbed(&flows, &before, 2 * FLOWS, |report| !ipv6_of_victim(report));
    assert!(entries_of(&gateway, Family::V6, 0).is_empty());
    assert!(ipv4_entries.is_subset(&entries_of(&gateway, Family::V4, 0)));
    gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
    gateway.wait_for_uplinks_of(Family::V6, &[1]);

    gateway.lab.restore(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks_of(Family::V6, &[0, 1]);
}

#[test]
fn with_all_uplinks_down_no_connection_is_deleted() {
    let mut gateway = equal_uplinks();
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    let tracked = entries(&gateway, 1);
    assert!(before.iter().all(on(1)) && tracked.len() >= before.len());

    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    assert_masks(&gateway, [0, 0]);
    assert!(tracked.is_subset(&entries(&gateway, 1)), "connections were forgotten");

    gateway.lab.restore(1).unwrap();
    gateway.wait_for_state(1, "ipv4", "up");
    gateway.wait_for_state(1, "ipv6", "up");
    wait_for_answers(&flows, &flows.reports(), 5, |_| true);
    for (old, new) in before.iter().zip(flows.reports()) {
        let stayed = (new.uplink(), new.moved, new.closed) == (Some(1), old.moved, false);
        assert!(stayed, "before: {old:?}\nnow: {new:?}");
    }
    assert!(tracked.is_subset(&entries(&gateway, 1)));
}

/// Starts a gateway with two uplinks that carry half of the flows each.
fn equal_uplinks() -> Gateway {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    Gateway::start(Lab::new(&specs).unwrap(), str::to_owned)
}

fn entries_of(gateway: &Gateway, family: Family, uplink: usize) -> BTreeSet<Tracked> {
    tracked_by(&gateway.lab.gateway, family, fwmark(uplink))
}

fn entries(gateway: &Gateway, uplink: usize) -> BTreeSet<Tracked> {
    Family::ALL.into_iter().flat_map(|family| entries_of(gateway, family, uplink)).collect()
}

/// Compares `UP_MASK` for IPv4 and IPv6, as `bpftool` reads it, with `masks`.
fn assert_masks(gateway: &Gateway, masks: [u16; 2]) {
    assert_eq!(Family::ALL.map(|family| up_mask(&gateway.lab.gateway, family)), masks);
}
