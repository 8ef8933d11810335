//! Uplinks that the administrator takes out of use and back.

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{
    Gateway, LIMIT, assert_undisturbed, config, is_udp, linkbal, on, text, uplink_status,
    wait_for_move,
};

/// Number of long flows of each of the four kinds.
const FLOWS: usize = 25;

fn equal_uplinks() -> Gateway {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    Gateway::start(Lab::new(&specs).unwrap(), str::to_owned)
}

/// Stops the daemon by `signal` and starts its successor.
fn restart(gateway: &mut Gateway, signal: Signal) {
    gateway.daemon.stop(signal).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    let next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
    let former = std::mem::replace(&mut gateway.daemon, next);
    gateway.daemon.wait_for("a status", LIMIT, |_| true).unwrap();
    drop(former);
}

fn admin(status: &Value, uplink: &str) -> String {
    uplink_status(status, uplink)["admin"].as_str().unwrap().to_owned()
}

#[test]
fn a_disabled_uplink_loses_its_flows_to_the_others_until_it_is_enabled() {
    let mut gateway = equal_uplinks();
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    assert_eq!(gateway.daemon.run(&["disable", "isp-a"]).unwrap(), "isp-a is now disabled\n");
    gateway.wait_for_state(0, "ipv4", "admin-down");
    let status = gateway.wait_for_state(0, "ipv6", "admin-down");
    assert_eq!(admin(&status, "isp-a"), "disabled");
    assert_eq!(uplink_status(&status, "isp-a")["state"], "admin-down");
    wait_for_move(&flows, &before, |report| is_udp(report) && on(0)(report), 1);
    assert_undisturbed(&flows, &before, FLOWS, on(1));
    gateway.assert_uplinks(20, &[1]);
    let table = gateway.daemon.run(&["status"]).unwrap();
    assert!(table.contains("isp-a ipv4 is admin-down since "), "{table}");
    assert!(table.contains(": disabled by the administrator"), "{table}");
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(events.contains("uplink isp-a: enabled -> disabled"), "{events}");

    let alive = flows.reports();
    restart(&mut gateway, Signal::SIGTERM);
    gateway.wait_for_state(1, "ipv4", "up");
    let status = gateway.wait_for_state(1, "ipv6", "up");
    assert_eq!(admin(&status, "isp-a"), "disabled");
    assert_eq!(uplink_status(&status, "isp-a")["state"], "admin-down");
    gateway.assert_uplinks(20, &[1]);
    assert_undisturbed(&flows, &alive, 2 * FLOWS, on(1));

    assert_eq!(gateway.daemon.run(&["enable", "isp-a"]).unwrap(), "isp-a is now enabled\n");
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(events.contains("uplink isp-a ipv4: admin-down -> down: re-enabled by"), "{events}");
    assert!(events.contains("uplink isp-a ipv4: down -> up: "), "{events}");
}

#[test]
fn a_drained_uplink_keeps_its_flows_and_its_state_even_over_a_teardown() {
    let mut gateway = equal_uplinks();
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    assert_eq!(gateway.daemon.run(&["drain", "isp-b"]).unwrap(), "isp-b is now drained\n");
    let status = gateway.daemon.status().unwrap();
    assert_eq!(admin(&status, "isp-b"), "drained");
    assert!(status["uplinks"].as_array().unwrap().iter().all(daemon::is_up), "{status}");
    assert_eq!(uplink_status(&status, "isp-b")["target_share"], 0.0);
    gateway.wait_for_uplinks(&[0]);
    gateway.assert_uplinks(20, &[0]);
    assert_undisturbed(&flows, &before, 4 * FLOWS, |_| true);
    let table = gateway.daemon.run(&["status"]).unwrap();
    assert!(table.contains("isp-b is draining: new flows avoid it"), "{table}");
    drop(flows);
    restart(&mut gateway, Signal::SIGINT);
    assert_eq!(admin(&gateway.daemon.status().unwrap(), "isp-b"), "drained");
    assert_eq!(gateway.daemon.run(&["drain", "isp-b"]).unwrap(), "isp-b is already drained\n");
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0]);
    gateway.daemon.run(&["enable", "isp-b"]).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    assert_eq!(admin(&gateway.daemon.status().unwrap(), "isp-b"), "enabled");
}

#[test]
fn a_wrong_name_is_refused_with_a_suggestion_and_the_last_uplink_warned_of() {
    let mut gateway = Gateway::pair();
    let refused = linkbal(&gateway.lab, &["disable", "isp-c"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("there is no uplink \"isp-c\": did you mean \"isp-"), "{said}");
    assert!(text(&linkbal(&gateway.lab, &["drain", "../ä"]).stderr).contains("no uplink"));
    let first = linkbal(&gateway.lab, &["disable", "isp-a"]);
    assert!(first.status.success() && first.stderr.is_empty(), "{}", text(&first.stderr));
    let last = linkbal(&gateway.lab, &["disable", "isp-b"]);
    assert!(last.status.success());
    let warning = "warning: every uplink is down or drained for ipv4 and ipv6";
    assert!(text(&last.stderr).contains(warning), "{}", text(&last.stderr));
    gateway.wait_for_state(1, "ipv4", "admin-down");
}
