//! A daemon that ends and starts again while packets flow.

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::traffic::FlowReport;
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, assert_undisturbed, config, uplink_status};
use crate::kernel;

#[test]
fn a_restart_loses_no_packet_moves_no_flow_and_keeps_the_seed() {
    let gateway = restart(Signal::SIGTERM, str::to_owned);
    gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn a_crash_loses_no_packet_either() {
    let gateway = restart(Signal::SIGKILL, str::to_owned);
    gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn live_flows_stay_where_they_are_when_weights_change() {
    let gateway = restart(Signal::SIGTERM, |config| config.replace("weight = 30", "weight = 0"));
    gateway.wait_for_uplinks(&[1]);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["target_share"], 0.0);
}

/// Stops the daemon by `signal`, starts it with the configuration as `tune` changes it, and checks
/// that live flows notice neither.
fn restart(signal: Signal, tune: impl FnOnce(&str) -> String) -> Gateway {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    let seed = seed(&gateway);
    let rules = kernel::rules(&namespace);

    gateway.daemon.stop(signal).unwrap();
    assert_undisturbed(&flows, &before, 100, |_| true);
    gateway.assert_uplinks(20, &[0, 1]);

    let mut next = Daemon::start(&gateway.lab, &tune(&config(&gateway.lab))).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
    assert_undisturbed(&flows, &before, 100, |_| true);
    assert_eq!(self::seed(&gateway), seed);
    assert_eq!(kernel::rules(&namespace), rules);
    assert!(namespace.socket().exists());
    drop(flows);
    gateway
}

/// Returns the seed as `bpftool` reads it from `SETTINGS`, by the names of its BTF.
fn seed(gateway: &Gateway) -> Value {
    let settings = kernel::map(&gateway.lab.gateway, "SETTINGS");
    let seed = settings[0]["formatted"]["value"]["seed"].clone();
    assert!(seed.is_array(), "{settings}");
    seed
}

/// Checks a start with a configuration that no longer has an uplink of the datapath, which went on
/// forwarding: its flows end, as after a reload, and those of the other one notice nothing.
#[test]
fn a_start_ends_the_flows_of_an_uplink_that_was_removed_meanwhile() {
    let mut gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    let on = |uplink: usize| move |report: &FlowReport| report.uplink() == Some(uplink);
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let both = config(&gateway.lab);
    let (_, removed) = both.split_once("[uplink.isp-b]").unwrap();
    let removed = removed.split_once("\n[").unwrap().0;
    let one = both.replace(&format!("[uplink.isp-b]{removed}"), "");
    let mut next = Daemon::start(&gateway.lab, &one).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
    assert_undisturbed(&flows, &before, 8, on(0));
    wait::until("the end of the removed uplink's flows", LIMIT, || {
        let now = flows.reports();
        let mut old = before.iter().zip(&now).filter(|(old, _)| on(1)(old));
        let ended = old.all(|(_, new)| new.closed || new.uplink() == Some(0));
        Ok(ended.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    gateway.wait_for_uplinks(&[0]);
    let up = Family::ALL.map(|family| kernel::up_mask(&gateway.lab.gateway, family));
    assert_eq!(up, [1, 1], "nothing else counts as usable");
}
