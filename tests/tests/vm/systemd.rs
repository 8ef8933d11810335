//! `linkbal.service` as systemd itself understands it.

use std::fs;

use linkbal_tests::wait;

use crate::fixture::{LIMIT, assert_undisturbed, config, on, text};
use crate::lines::calm;
use crate::machine::{Machine, UNIT};

/// The numbers of include/uapi/linux/capability.h.
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// The capabilities that the unit gives, as proc_pid_status(5) shows them.
fn granted() -> String {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let bit = |name| CAPABILITIES.iter().find(|(known, _)| *known == name).unwrap().1;
    let mask: u64 = line.split(' ').map(|name| 1 << bit(name)).sum();
    format!("{mask:016x}")
}

fn rules(machine: &Machine) -> String {
    machine.lab.gateway.run("ip", &["-4", "rule", "show"]).unwrap()
}

/// Waits until linkbal is another process than `old`, and ready; answers which one.
fn wait_for_another(machine: &Machine, old: &str) -> String {
    let pid = wait::until("another process", LIMIT, || {
        let pid = machine.property("linkbal", "MainPID");
        let ready = machine.property("linkbal", "ActiveState") == "active";
        Ok((ready && pid != old && pid != "0").then_some(pid))
    });
    pid.unwrap_or_else(|error| panic!("{error:#}\n{}", machine.log()))
}

/// What the kernel says of the running daemon, and what it made all the same.
#[test]
fn the_service_is_ready_when_it_works_and_may_do_little_else() {
    let machine = Machine::start();
    machine.systemctl_well(&["start", "linkbal"]);
    // At once.
    assert!(rules(&machine).contains("26199:"), "{}", rules(&machine));
    assert!(machine.run("nft", &["list", "tables"]).contains("inet linkbal"));
    machine.wait_until_up();
    let shown = text(&machine.systemctl(&["status", "--no-pager", "linkbal"]).stdout);
    assert!(shown.contains("active (running)"), "{shown}");
    assert!(shown.contains("Status: \"2 of 2 uplinks are up\""), "{shown}");
    let process = format!("/proc/{}/status", machine.property("linkbal", "MainPID"));
    let shown = machine.run("cat", &[&process]);
    let value = |key: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!([value("CapEff"), value("CapBnd")], [granted(), granted()]);
    assert_eq!([value("NoNewPrivs"), value("Seccomp")], ["1", "2"]);

    machine.assert_spread();
    machine.run("ls", &["/run/linkbal/linkbal.sock", "/sys/fs/bpf/linkbal/FLOWS"]);
    let flows = machine.long_flows();
    let before = flows.reports();
    machine.lab.cut_cable(0).unwrap();
    machine.wait_for("a failover", |status| status["uplinks"][0]["state"] == "down");
    assert_undisturbed(&flows, &before, 10, on(1));
    machine.lab.plug_cable(0).unwrap();
    machine.wait_until_up();
    machine.run("linkbal", &["disable", "isp-a"]);
    machine.run("ls", &["/var/lib/linkbal/admin.json"]);
    machine.run("linkbal", &["enable", "isp-a"]);
    let log = machine.log();
    assert!(!log.contains("Operation not permitted") && !log.contains("Permission denied"), "{log}");
    let analysis = ["security", "--no-pager", "--offline=true"];
    let unit = "/etc/systemd/system/linkbal.service";
    let analysed = machine.run("systemd-analyze", &[&analysis[..], &[unit]].concat());
    let exposed = analysed.lines().find(|line| line.contains("exposure level")).unwrap();
    println!("{exposed}");
    keep(&machine, "service", &analysed);
}

fn keep(machine: &Machine, name: &str, more: &str) {
    let folder = std::env::var("LINKBAL_RESULTS").unwrap();
    fs::write(format!("{folder}/systemd-{name}.txt"), machine.log() + more).unwrap();
}

#[test]
fn a_reload_by_systemd_fails_with_the_configuration() {
    let machine = Machine::start();
    machine.start_linkbal();
    let good = calm(&config(&machine.lab));
    machine.configure(&good.replace("weight = 30", "weight = 1"));
    machine.systemctl_well(&["reload", "linkbal"]);
    let weight = || machine.status().unwrap()["uplinks"][0]["weight"].clone();
    assert_eq!(weight(), 1);
    machine.configure(&good.replace("weight = 30", "weight = \"heavy\""));
    let refused = machine.systemctl(&["reload", "linkbal"]);
    assert!(!refused.status.success());
    assert!(machine.log().contains("the old one stays in force"), "{}", machine.log());
    assert_eq!(machine.property("linkbal", "ActiveState"), "active");
    assert_eq!(weight(), 1);
    machine.configure(&good);
    machine.systemctl_well(&["reload", "linkbal"]);
    assert_eq!(weight(), 30);
    // One that cannot be used is not tried again and again.
    machine.configure("[uplink]\n");
    assert!(!machine.systemctl(&["restart", "linkbal"]).status.success());
    assert_eq!(machine.property("linkbal", "ActiveState"), "failed");
    assert_eq!(machine.property("linkbal", "NRestarts"), "0");
    keep(&machine, "reload", "");
}

#[test]
fn what_is_killed_or_hangs_is_started_again_and_no_flow_notices() {
    let machine = Machine::start();
    machine.add_unit("linkbal.service.d/short.conf", "[Service]\nWatchdogSec=3s\n");
    machine.systemctl_well(&["daemon-reload"]);
    machine.start_linkbal();
    let flows = machine.long_flows();
    let before = flows.reports();
    let first = machine.property("linkbal", "MainPID");
    machine.run("kill", &["-KILL", &first]);
    let second = wait_for_another(&machine, &first);
    machine.run("kill", &["-STOP", &second]);
    let third = wait_for_another(&machine, &second);
    assert_eq!(machine.property("linkbal", "NRestarts"), "2");
    machine.wait_until_up();
    assert_undisturbed(&flows, &before, 40, |_| true);
    machine.assert_spread();
    assert_eq!(machine.property("linkbal", "MainPID"), third);
    keep(&machine, "killed", "");
}

#[test]
fn a_stop_leaves_the_datapath_and_a_teardown_takes_it() {
    let machine = Machine::start();
    machine.start_linkbal();
    let flows = machine.long_flows();
    let before = flows.reports();
    machine.systemctl_well(&["stop", "linkbal"]);
    assert_eq!(machine.property("linkbal", "ActiveState"), "inactive");
    assert_eq!(machine.property("linkbal", "Result"), "success");
    assert_undisturbed(&flows, &before, 40, |_| true);
    machine.assert_spread();
    machine.run("linkbal", &["teardown"]);
    assert!(!rules(&machine).contains("26199:"));
    assert!(!machine.run("ls", &["/sys/fs/bpf"]).contains("linkbal"));
    keep(&machine, "stop", "");
}
