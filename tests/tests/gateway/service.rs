//! linkbal as a service: its capabilities, and its messages to the service manager.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::fixture::{LIMIT, config, text};

/// The unit for systemd.
const UNIT: &str = include_str!("../../../linkbal/linkbal.service");

/// Returns a command that runs a program in the gateway of `lab` with exactly these capabilities.
fn with_capabilities(lab: &Lab, capabilities: &[&str], program: &Path) -> Command {
    let set = capabilities.iter().map(|name| format!(",+{name}")).collect::<String>();
    let set = format!("-all{set}");
    let mut command = lab.gateway.command("setpriv");
    command.args(["--bounding-set", &set, "--inh-caps", "-all", "--no-new-privs"]).arg(program);
    command
}

/// Returns the capabilities that the unit gives.
fn granted() -> Vec<String> {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    line.split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

#[test]
fn the_capabilities_of_the_unit_are_enough_and_each_is_needed() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let before = oracle::kernel_state(&lab.gateway).unwrap();
    let program = daemon::find_program().unwrap();
    let granted = granted();
    let all: Vec<&str> = granted.iter().map(String::as_str).collect();
    let text_of = config(&lab) + "\n[local]\nbalance = true\n";
    let command = with_capabilities(&lab, &all, &program);
    let mut daemon = Daemon::start_command(command, &program, &lab, &text_of).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let log = daemon.log();
    assert!(!log.contains("WARN"), "{log}");
    lab.cut_cable(0).unwrap();
    daemon.wait_for("a failover", LIMIT, |status| status["uplinks"][0]["state"] == "down").unwrap();
    lab.plug_cable(0).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    daemon.stop(Signal::SIGTERM).unwrap();
    let teardown = with_capabilities(&lab, &all, &program).arg("teardown").output().unwrap();
    assert!(teardown.status.success(), "{}", text(&teardown.stderr));
    assert_eq!(oracle::kernel_state(&lab.gateway).unwrap(), before);

    let path = daemon.config_path();
    for missing in &all {
        let others: Vec<&str> = all.iter().copied().filter(|name| name != missing).collect();
        let mut command = with_capabilities(&lab, &others, &program);
        let refused = command.arg("run").arg("--config").arg(&path).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        let sentence = format!("linkbal lacks CAP_{} to ", missing.to_uppercase());
        assert!(said.contains(&sentence), "{said}");
    }
}

/// A stand-in for systemd.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { folder, socket, heard: Vec::new() }
    }

    /// Waits until a notification from now on has a line that begins so, and returns it.
    fn wait_for(&mut self, begin: &str) -> String {
        let what = format!("a notification {begin}");
        wait::until(&what, LIMIT, || {
            let mut datagram = [0; 4096];
            let Ok(size) = self.socket.recv(&mut datagram) else { return Ok(None) };
            let lines: Vec<_> = text(&datagram[..size]).lines().map(str::to_owned).collect();
            self.heard.extend(lines.iter().cloned());
            Ok(lines.into_iter().find(|line| line.starts_with(begin)))
        })
        .unwrap()
    }
}

#[test]
fn the_service_manager_gets_the_state() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let program = daemon::find_program().unwrap();
    let mut manager = Manager::new();
    let mut command = lab.gateway.command(&program);
    command.env("NOTIFY_SOCKET", manager.folder.path().join("notify"));
    command.env("WATCHDOG_USEC", "1000000");
    let daemon = Daemon::start_command(command, &program, &lab, &config(&lab)).unwrap();
    manager.wait_for("READY=1");
    // Routes, ip rules and NAT were there before.
    let rules = lab.gateway.run("ip", &["-4", "rule", "show"]).unwrap();
    assert!(rules.contains("26199:"), "{rules}");
    assert!(lab.gateway.run("nft", &["list", "tables"]).unwrap().contains("inet linkbal"));
    manager.wait_for("STATUS=2 of 2 uplinks are up");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    fs::write(daemon.config_path(), config(&lab).replace("weight = 30", "weight = 1")).unwrap();
    daemon.run(&["reload"]).unwrap();
    manager.wait_for("MONOTONIC_USEC=");
    manager.wait_for("READY=1");
    lab.cut_cable(1).unwrap();
    manager.wait_for("STATUS=1 of 2 uplinks are up");
    // A daemon that hangs does not feed the watchdog.
    daemon.signal(Signal::SIGSTOP).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    let silent = std::time::Instant::now();
    while silent.elapsed() < Duration::from_secs(2) {
        assert!(manager.socket.recv(&mut [0; 4096]).is_err(), "it is stopped, and says something");
    }
    daemon.signal(Signal::SIGCONT).unwrap();
    manager.wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM).unwrap();
    manager.wait_for("STOPPING=1");
    assert!(manager.heard.iter().any(|line| line == "RELOADING=1"), "{:?}", manager.heard);
}
