//! `linkbal.service` as systemd itself understands it.

use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;

use crate::fixture::{LIMIT, assert_undisturbed, config, is_udp, on, text, wait_for_move};
use crate::kernel::{fwmark, tracked_by};
use crate::lines::with_slow_probes;
use crate::machine::{Machine, UNIT};

/// The numbers of include/uapi/linux/capability.h.
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Returns the capabilities that the unit gives, as proc_pid_status(5) shows them.
fn granted() -> String {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let bit = |name| CAPABILITIES.iter().find(|(known, _)| *known == name).unwrap().1;
    let mask: u64 = line.split(' ').map(|name| 1 << bit(name)).sum();
    format!("{mask:016x}")
}

fn pair() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

fn rules(machine: &Machine) -> String {
    machine.lab.gateway.run("ip", &["-4", "rule", "show"]).unwrap()
}

#[test]
fn the_service_is_ready_once_it_works_is_sandboxed_and_leaves_the_datapath() {
    let machine = Machine::start(pair());
    machine.systemctl_ok(&["start", "linkbal"]);
    // At once.
    assert!(rules(&machine).contains("26199:"), "{}", rules(&machine));
    assert!(machine.run("nft", &["list", "tables"]).contains("inet linkbal"));
    machine.wait_until_up();
    let shown = text(&machine.systemctl(&["status", "--no-pager", "linkbal"]).stdout);
    assert!(shown.contains("active (running)"), "{shown}");
    assert!(shown.contains("Status: \"2 of 2 uplinks are up\""), "{shown}");
    assert_confined(&machine);
    machine.run("ls", &["/run/linkbal/linkbal.sock", "/sys/fs/bpf/linkbal/FLOWS"]);
    let flows = machine.long_flows();
    let before = flows.reports();
    machine.systemctl_ok(&["stop", "linkbal"]);
    assert_eq!(machine.property("linkbal", "Result"), "success");
    assert_undisturbed(&flows, &before, 40, |_| true);
    machine.assert_spread();
    machine.run("linkbal", &["teardown"]);
    assert!(!rules(&machine).contains("26199:"));
    assert!(!machine.run("ls", &["/sys/fs/bpf"]).contains("linkbal"));
    assert_free_of_refusals(&machine);
}

/// Checks that nothing that linkbal tried was refused for want of rights.
fn assert_free_of_refusals(machine: &Machine) {
    let log = machine.log();
    assert!(!log.contains("not permitted") && !log.contains("denied"), "{log}");
}

/// Checks that linkbal has the rights that the unit gives, and no others.
fn assert_confined(machine: &Machine) {
    let process = format!("/proc/{}/status", machine.property("linkbal", "MainPID"));
    let shown = machine.run("cat", &[&process]);
    let value = |key: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!([value("CapEff"), value("CapBnd")], [granted(), granted()]);
    assert_eq!([value("NoNewPrivs"), value("Seccomp")], ["1", "2"]);
    let unit = ["security", "--no-pager", "--offline=true", "/etc/systemd/system/linkbal.service"];
    let analysed = machine.run("systemd-analyze", &unit);
    let exposure = analysed.lines().find(|line| line.contains("exposure level")).unwrap();
    let level = exposure.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    assert!(level.unwrap() < 3.0, "{analysed}");
}

/// Checks that disabling an uplink moves or ends its flows, removes its conntrack entries, and is
/// stored.
fn assert_ends_connections(machine: &Machine, flows: &LongFlows) {
    let before = flows.reports();
    machine.run("linkbal", &["disable", "isp-a"]);
    machine.run("ls", &["/var/lib/linkbal/admin.json"]);
    wait_for_move(flows, &before, |report| is_udp(report) && on(0)(report), 1);
    let closed = || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now);
        let over = |(old, new): (&FlowReport, &FlowReport)| is_udp(old) || on(1)(old) || new.closed;
        Ok(pairs.all(over).then_some(()))
    };
    wait::until("the end of the connections", LIMIT, closed).unwrap();
    let left = |family| tracked_by(&machine.lab.gateway, family, fwmark(0));
    assert!(Family::ALL.iter().all(|family| left(*family).is_empty()), "{:?}", left(Family::V4));
}

#[test]
fn systemd_reloads_and_restarts_the_service() {
    let machine = Machine::start(pair());
    machine.start_linkbal();
    let flows = machine.long_flows();
    let before = flows.reports();
    assert_reloads(&machine);
    machine.add_unit("linkbal.service.d/watchdog.conf", "[Service]\nWatchdogSec=5s\n");
    machine.systemctl_ok(&["daemon-reload"]);
    machine.run("kill", &["-KILL", &machine.property("linkbal", "MainPID")]);
    let started = || Ok((machine.logged("INFO running with") == 2).then_some(()));
    wait::until("another start", LIMIT, started).unwrap();
    machine.wait_until_up();
    assert_eq!(machine.property("linkbal", "NRestarts"), "1");
    assert_undisturbed(&flows, &before, 40, |_| true);
    machine.assert_spread();
    assert_ends_connections(&machine, &flows);
    // It cannot even die before it is told to go on.
    machine.run("kill", &["-STOP", &machine.property("linkbal", "MainPID")]);
    let again = || Ok((machine.property("linkbal", "NRestarts") == "2").then_some(()));
    wait::until("the watchdog's bite", LIMIT, again).unwrap();
    // A file that cannot be used is replaced by the last good configuration.
    machine.configure("[uplink]\n");
    machine.systemctl_ok(&["restart", "linkbal"]);
    assert!(machine.status().unwrap()["configuration"]["last_good"]["reason"].is_string());
    // What cannot be used without one is not tried again and again.
    machine.systemctl_ok(&["stop", "linkbal"]);
    machine.run("rm", &["/var/lib/linkbal/last-good.json"]);
    assert!(!machine.systemctl(&["restart", "linkbal"]).status.success());
    assert_eq!(machine.property("linkbal", "ActiveState"), "failed");
    assert_undisturbed(&flows, &before, 10, on(1));
    assert_free_of_refusals(&machine);
}

fn assert_reloads(machine: &Machine) {
    let good = with_slow_probes(&config(&machine.lab));
    let weight = || machine.status().unwrap()["uplinks"][0]["weight"].clone();
    machine.configure(&good.replace("weight = 30", "weight = 40"));
    machine.systemctl_ok(&["reload", "linkbal"]);
    assert_eq!(weight(), 40);
    machine.configure(&good.replace("weight = 30", "weight = \"heavy\""));
    let refused = machine.systemctl(&["reload", "linkbal"]);
    assert!(!refused.status.success());
    machine.wait_for("the reason", |_| machine.log().contains("the old one stays in force"));
    assert_eq!(machine.property("linkbal", "ActiveState"), "active");
    assert_eq!(weight(), 40);
    machine.configure(&good);
}
