//! Interfaces, daemons and instances come and go.

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{
    Gateway, LIMIT, assert_undisturbed, config, left_over, linkbal, linkbal_with, text,
    uplink_status,
};

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

fn delete(lab: &Lab, interface: &str) {
    lab.gateway.run("ip", &["link", "delete", interface]).unwrap();
}

#[test]
fn a_missing_uplink_is_reported_and_picked_up_later() {
    let lab = lab();
    delete(&lab, "wan-b");
    let mut gateway = Gateway::start_degraded(lab, str::to_owned);
    gateway.wait_for_state(0, "ipv4", "up");
    gateway.wait_for_state(0, "ipv6", "up");
    let status = gateway.wait_for_state(1, "ipv4", "down");
    let reason = "interface wan-b does not exist";
    assert_eq!(uplink_status(&status, "isp-b")["ipv4"]["reason"], reason);
    assert!(gateway.daemon.log().contains(reason), "{}", gateway.daemon.log());
    gateway.assert_uplinks(20, &[0]);

    gateway.lab.connect_customer(1).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn an_uplink_interface_may_be_deleted_and_made_again() {
    let mut gateway = Gateway::pair();
    for _ in 0..2 {
        delete(&gateway.lab, "wan-a");
        gateway.wait_until_down(0);
        gateway.assert_uplinks(20, &[1]);
        gateway.lab.connect_customer(0).unwrap();
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        gateway.wait_for_uplinks(&[0, 1]);
    }
}

#[test]
fn a_lan_interface_may_appear_later_and_be_made_again() {
    let lab = lab();
    delete(&lab, LAN_INTERFACE);
    let mut gateway = Gateway::start(lab, str::to_owned);
    for _ in 0..2 {
        let missing = |status: &Value| status["lan"][0]["exists"] == false;
        gateway.daemon.wait_for("a LAN that is missing", LIMIT, missing).unwrap();
        gateway.lab.connect_lan().unwrap();
        gateway.wait_for_uplinks(&[0, 1]);
        delete(&gateway.lab, LAN_INTERFACE);
    }
    let log = gateway.daemon.log();
    assert!(log.contains("LAN interface lan0 does not exist"), "{log}");
}

#[test]
fn a_second_daemon_and_a_teardown_are_refused_while_one_runs() {
    let gateway = Gateway::pair();
    let before = state(&gateway.lab);
    let pid = format!("pid {}", gateway.daemon.id());
    let second = linkbal_with(&gateway.lab, "run", &gateway.daemon.config_path());
    let teardown = linkbal(&gateway.lab, &["teardown"]);
    for refused in [second, teardown] {
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(&pid), "{}", text(&refused.stderr));
    }
    assert_eq!(state(&gateway.lab), before);
    gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn two_gateways_on_one_machine_do_not_interfere() {
    let mut first = Gateway::pair();
    let second = Gateway::pair();
    let flows = second.long_flows(10);
    let before = flows.reports();
    first.assert_uplinks(20, &[0, 1]);
    assert!(first.daemon.stop(Signal::SIGINT).unwrap().success());
    assert_undisturbed(&flows, &before, 40, |_| true);
    second.assert_uplinks(20, &[0, 1]);
    assert_eq!(second.daemon.status().unwrap()["pid"], second.daemon.id());
}

/// Adds settings of other programs, which linkbal must leave alone.
fn add_foreign_things(lab: &Lab) {
    let ipv4 = "rule add pref 100 from 192.0.2.77 lookup 77\n\
                rule add pref 26050 fwmark 0x7 lookup 77\n\
                route add 192.0.2.128/25 via 203.0.113.1 table 77\n\
                route add default via 203.0.113.5 table 77\n\
                route add unreachable 192.0.2.64/26 table 2601\n";
    let ipv6 = "rule add pref 100 from 2001:db8:77::1 lookup 77\n\
                route add 2001:db8:77::/64 via 2001:db8:a::1 table 77\n";
    for (flag, batch) in [("-4", ipv4), ("-6", ipv6)] {
        lab.gateway.run_with_input("ip", &[flag, "-batch", "-"], batch).unwrap();
    }
    let table = "table inet foreign {
        chain forward { type filter hook forward priority 0; ct mark 7 counter; }
        chain postrouting { type nat hook postrouting priority 90; oifname nowhere masquerade; }
    }";
    lab.gateway.load_nft(table).unwrap();
    lab.gateway.set_sysctl("net.ipv4.conf.wan-a.rp_filter", "1").unwrap();
    lab.gateway.set_sysctl("net.ipv6.conf.wan-b.accept_ra", "0").unwrap();
}

#[test]
fn an_interrupted_daemon_leaves_the_kernel_as_it_was() {
    let lab = lab();
    add_foreign_things(&lab);
    let before = state(&lab);
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.assert_uplinks(20, &[0, 1]);
    assert_ne!(state(&gateway.lab), before);
    assert!(gateway.daemon.stop(Signal::SIGINT).unwrap().success());
    assert_state(&gateway.lab, &before);
}

#[test]
fn teardown_cleans_up_after_a_daemon_that_was_killed() {
    let lab = lab();
    add_foreign_things(&lab);
    let before = state(&lab);
    let mut gateway = Gateway::start(lab, str::to_owned);
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    gateway.assert_uplinks(20, &[0, 1]);
    let teardown = linkbal(&gateway.lab, &["teardown"]);
    assert!(teardown.status.success(), "{}", text(&teardown.stderr));
    assert_state(&gateway.lab, &before);
    let again = linkbal(&gateway.lab, &["teardown"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}

fn state(lab: &Lab) -> String {
    oracle::kernel_state(&lab.gateway).unwrap()
}

/// Waits until the network is as in `before`, and checks that pins and files of linkbal are gone.
fn assert_state(lab: &Lab, before: &str) {
    let same =
        wait::until("the state of before", LIMIT, || Ok((state(lab) == before).then_some(())));
    if same.is_err() {
        let now = state(lab);
        let only = |one: &str, other: &str| {
            let lines = one.lines().filter(|line| !other.lines().any(|same| same == *line));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        panic!("gone:\n{}new:\n{}", only(before, &now), only(&now, before));
    }
    assert_eq!(left_over(&lab.gateway), [""; 0]);
}

#[test]
fn a_daemon_started_by_ip_netns_exec_is_found_from_nsenter_and_the_reverse() {
    let lab = lab();
    let program = daemon::find_program().unwrap();
    let inside = || {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", lab.gateway.name()]).arg(&program);
        command
    };
    let handle = format!("--net=/run/netns/{}", lab.gateway.name());
    let entered = || {
        let mut command = std::process::Command::new("nsenter");
        command.arg(&handle).arg(&program);
        command
    };
    // Started one way and asked the other way; then the reverse.
    for (start, ask) in [(inside(), &entered as &dyn Fn() -> _), (entered(), &inside)] {
        let before = state(&lab);
        let mut daemon = Daemon::start_command(start, &program, &lab, &config(&lab)).unwrap();
        daemon.wait_until_up(LIMIT).unwrap();
        let answer = ask().args(["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(status["pid"], daemon.id());
        assert!(daemon.stop(Signal::SIGINT).unwrap().success());
        assert_state(&lab, &before);
    }
}
