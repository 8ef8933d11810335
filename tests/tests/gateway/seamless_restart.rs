//! A stream of 5,000 datagrams a second while the daemon ends, starts, and changes its
//! configuration: none is lost, and no flow moves.

use std::fs;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::traffic::{ConstantRate, LossReport};
use nix::sys::signal::Signal;

use crate::fixture::{Gateway, LIMIT, config};

const RATE: u32 = 5000;
const FLOWS: usize = 500;
/// Number of datagrams, those of a second, before, between and after the changes.
const PAUSE: u64 = RATE as u64;

/// Sends datagrams while `disturb` does its work, and checks that none is lost and no flow moves.
fn flow(gateway: &mut Gateway, what: &str, disturb: impl FnOnce(&mut Gateway, &ConstantRate)) {
    let flows = ConstantRate::start(&gateway.lab.lan, &gateway.lab.net, FLOWS, RATE).unwrap();
    flows.wait_for(PAUSE).unwrap();
    disturb(gateway, &flows);
    flows.wait_for(PAUSE).unwrap();
    let report = flows.end();
    println!("{what}: {report:?}");
    let LossReport { sent, lost, moved } = report;
    assert!(sent > 2 * PAUSE, "{sent}");
    assert_eq!((lost, moved), (0, 0), "{what}: {}", gateway.daemon.log());
}

/// Stops the daemon by `signal`, and starts another one, which would send new flows elsewhere.
fn restart(signal: Signal) {
    let mut gateway = Gateway::pair();
    flow(&mut gateway, &format!("{signal} and a start"), |gateway, flows| {
        gateway.daemon.stop(signal).unwrap();
        flows.wait_for(PAUSE).unwrap();
        let next = config(&gateway.lab).replace("weight = 30", "weight = 0");
        let mut next = Daemon::start(&gateway.lab, &next).unwrap();
        next.wait_until_up(LIMIT).unwrap();
        // The old daemon is dropped while its successor runs, so it cannot tear anything down.
        gateway.daemon = next;
    });
}

#[test]
fn a_crash_and_a_start_lose_no_packet() {
    restart(Signal::SIGKILL);
}

#[test]
fn a_stop_and_a_start_lose_no_packet() {
    restart(Signal::SIGTERM);
}

#[test]
fn reloads_lose_no_packet() {
    let mut gateway = Gateway::pair();
    let good = config(&gateway.lab);
    flow(&mut gateway, "five reloads", |gateway, flows| {
        let rules = "\n[[rule]]\nmatch = { dport = [7007] }\nuse = \"isp-b\"\n";
        let sizes = "\n[kernel]\nflow_table_size = 8192\n";
        for next in [
            good.replace("weight = 30", "weight = 0"),
            format!("{good}{rules}"),
            format!("{good}{sizes}"),
            format!("{good}{rules}{sizes}"),
            good.clone(),
        ] {
            fs::write(gateway.daemon.config_path(), next).unwrap();
            gateway.daemon.run(&["reload"]).unwrap();
            flows.wait_for(PAUSE / 2).unwrap();
        }
    });
    let log = gateway.daemon.log();
    let times =
        log.lines().filter_map(|line| line.split_once("is in force, ").map(|found| found.1));
    println!("{:?}", times.collect::<Vec<_>>());
}
