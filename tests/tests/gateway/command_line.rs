//! The command line, and access to the socket of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use linkbal_lab::oracle;
use linkbal_lab::topology::{Lab, UplinkSpec};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, config, linkbal, linkbal_with, text};

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

fn write(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("linkbal.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_bad_configuration_is_reported_with_its_line_and_changes_nothing() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    let good = config(&lab);
    let path = write(&folder, &good.replace("weight = 70", "weight = \"much\""));
    let line = 1 + good.lines().position(|line| line == "weight = 70").unwrap();
    let before = oracle::kernel_state(&lab.gateway).unwrap();
    for action in ["run", "check"] {
        let output = linkbal_with(&lab, action, &path);
        assert_eq!(output.status.code(), Some(2), "{action}");
        let place = format!("{}:{line}:10", path.display());
        assert!(text(&output.stderr).contains(&place), "{action}: {}", text(&output.stderr));
    }
    let missing = linkbal_with(&lab, "run", &folder.path().join("missing.toml"));
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("missing.toml"), "{}", text(&missing.stderr));
    assert_eq!(oracle::kernel_state(&lab.gateway).unwrap(), before);
}

#[test]
fn check_changes_nothing_and_needs_no_daemon() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    let before = oracle::kernel_state(&lab.gateway).unwrap();
    let output = linkbal_with(&lab, "check", &write(&folder, &config(&lab)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("2 uplinks"), "{}", text(&output.stdout));
    assert_eq!(oracle::kernel_state(&lab.gateway).unwrap(), before);
}

#[test]
fn a_status_without_a_daemon_says_so() {
    let output = linkbal(&lab(), &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("no linkbal runs in this network namespace"), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn status_prints_a_table_and_the_socket_is_private() {
    let gateway = Gateway::pair();
    let table = gateway.daemon.run(&["status"]).unwrap();
    let row =
        |words: [&str; 4]| table.lines().any(|line| line.split_whitespace().take(4).eq(words));
    assert!(row(["isp-a", "wan-a", "ipv4", "up"]), "{table}");
    assert!(row(["isp-b", "wan-b", "ipv4", "up"]), "{table}");
    let socket = gateway.lab.gateway.run_dir().join("linkbal.sock");
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o7777, 0o660);
    let listeners = gateway.lab.gateway.run("ss", &["-H", "-lntu"]).unwrap();
    assert_eq!(listeners, "", "nothing listens on the network");
}

#[test]
fn map_memory_is_what_bpftool_measures() {
    let gateway = Gateway::pair();
    let memory = gateway.daemon.status().unwrap()["memory"].clone();
    let folder = gateway.lab.gateway.bpf_dir();
    for map in ["FLOWS", "SESSIONS", "BUCKETS"] {
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["-j", "map", "show", "pinned"]).arg(folder.join(map));
        let shown = bpftool.output();
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
        assert_eq!(memory["maps"][map], shown["bytes_memlock"], "{memory}");
    }
    let maps = memory["maps"].as_object().unwrap();
    let total: u64 = maps.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(memory["bytes"], total);
    let line = format!("map memory: {:.1} MiB", total as f64 / f64::from(1 << 20));
    let table = gateway.daemon.run(&["status"]).unwrap();
    assert!(table.lines().any(|had| had == line), "{line}: {table}");
    let log = gateway.daemon.log();
    assert!(log.contains("map memory: ") && log.contains(", most of it FLOWS "), "{log}");
}
