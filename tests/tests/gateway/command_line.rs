//! The command line, and access to the socket of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use linkbal_lab::oracle;
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sys::signal::Signal;
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
    for words in ["linkbal is not running", "nothing of it is installed", "systemctl start linkbal"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn where_nothing_runs_every_verb_says_what_packets_do_and_teardown_what_it_removed() {
    let mut gateway = Gateway::pair();
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let kept = linkbal(&gateway.lab, &["events"]);
    let said = text(&kept.stderr);
    assert!(kept.status.success() && said.contains("linkbal is not running"), "{said}");
    assert!(text(&kept.stdout).contains("uplink isp-a"), "{}", text(&kept.stdout));
    let verbs: [&[&str]; 7] = [
        &["status"],
        &["reload"],
        &["confirm"],
        &["undo"],
        &["drain", "isp-a"],
        &["enable", "--now", "isp-a"],
        &["drill", "isp-a"],
    ];
    for verb in verbs {
        let output = linkbal(&gateway.lab, verb);
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        let words =
            "packets go on with the last state, without failover; start it: systemctl start";
        assert!(said.contains("linkbal is not running") && said.contains(words), "{said}");
    }
    let rules = gateway.lab.gateway.run("ip", &["rule", "show"]).unwrap();
    let rules = rules.lines().filter(|line| line.contains("proto 201")).count();
    let rules6 = gateway.lab.gateway.run("ip", &["-6", "rule", "show"]).unwrap();
    let rules = rules + rules6.lines().filter(|line| line.contains("proto 201")).count();
    let output = linkbal(&gateway.lab, &["teardown"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for words in [
        "removed the eBPF programs on ",
        "lan0",
        "pins on bpffs",
        &format!("removed {rules} ip rules\n"),
        "removed the nft tables inet linkbal\n",
        "net.ipv4.ip_forward = 0",
    ] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    let again = linkbal(&gateway.lab, &["teardown"]);
    assert_eq!(text(&again.stdout), "linkbal has nothing to remove here\n");
}

/// Checks verbs as a user without rights, in a namespace where everything is in place.
#[test]
fn whoever_is_not_root_is_told_so_in_one_sentence() {
    let gateway = Gateway::pair();
    // A place where everybody may run it.
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("linkbal");
    fs::copy(gateway.daemon.program(), &program).unwrap();
    let path = folder.path().join("linkbal.toml");
    fs::write(&path, config(&gateway.lab)).unwrap();
    let path = path.to_str().unwrap();
    let nobody = |args: &[&str]| {
        let mut command = gateway.lab.gateway.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(&program).args(args).output().unwrap()
    };
    let verbs: [&[&str]; 8] = [
        &["run", "--config", path],
        &["plan", "--config", path],
        &["check", "--machine", "--config", path],
        &["status"],
        &["events"],
        &["reload"],
        &["disable", "isp-a"],
        &["teardown"],
    ];
    for verb in verbs {
        let output = nobody(verb);
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        let said = text(&output.stderr);
        let again = format!("only root may do this: run `sudo {}", program.display());
        assert!(said.contains(&again) && said.lines().count() == 1, "{verb:?}: {said}");
    }
    for verb in
        [&["check", "--config", path][..], &["init"], &["example"], &["schema"], &["--help"]]
    {
        let output = nobody(verb);
        assert!(output.status.success(), "{verb:?}: {}", text(&output.stderr));
    }
    assert_eq!(gateway.daemon.status().unwrap()["uplinks"][0]["admin"], "enabled");
}

#[test]
fn check_without_a_file_takes_that_of_the_daemon() {
    let gateway = Gateway::pair();
    let said = gateway.daemon.run(&["check"]).unwrap();
    let path = gateway.daemon.config_path();
    let expected =
        format!("{}: fine, 2 uplinks (the file of the running daemon)\n", path.display());
    assert_eq!(said, expected);
    let said = gateway.daemon.run(&["plan"]).unwrap();
    assert!(said.contains(&path.display().to_string()), "{said}");
    fs::write(&path, "[lan\n").unwrap();
    let output = linkbal(&gateway.lab, &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(&format!("{}:1:5", path.display())));
}

#[test]
fn the_printed_example_is_valid_and_keys_are_explained() {
    let lab = lab();
    let folder = TempDir::new().unwrap();
    for args in [&["example"][..], &["example", "two-lines-30-70"]] {
        let printed = linkbal(&lab, args);
        let path = write(&folder, text(&printed.stdout).as_ref());
        let output = linkbal_with(&lab, "check", &path);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let output = linkbal(&lab, &["check", "--explain", "uplink.fiber.weight"]);
    assert!(text(&output.stdout).contains("default: 1\n"), "{}", text(&output.stdout));
    let output = linkbal(&lab, &["check", "--explain", "uplink.wieght"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the nearest are: uplink.weight"));
}

#[test]
fn status_prints_a_table_and_the_socket_is_private() {
    let gateway = Gateway::pair();
    let table = gateway.daemon.run(&["status"]).unwrap();
    let row =
        |words: [&str; 4]| table.lines().any(|line| line.split_whitespace().take(4).eq(words));
    assert!(row(["isp-a", "1", "ipv4", "up"]), "{table}");
    assert!(row(["isp-b", "1", "ipv4", "up"]), "{table}");
    let socket = gateway.lab.gateway.socket();
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

/// Checks that what was asked for is done, and told by the exit code, where messages can be written nowhere.
#[test]
fn a_full_standard_error_changes_no_outcome() {
    let gateway = Gateway::pair();
    let code = |args: &[&str]| {
        let mut command = gateway.lab.gateway.command(gateway.daemon.program());
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        command.args(args).stdout(Stdio::null()).stderr(full);
        command.status().unwrap().code()
    };
    assert_eq!(code(&["flows"]), Some(0));
    assert_eq!(code(&["events", "--since", "1s"]), Some(0));
    assert_eq!(code(&["explain", "10.77.0.10"]), Some(2));
    assert_eq!(code(&["disable", "isp-x"]), Some(2));
    let folder = TempDir::new().unwrap();
    let broken = write(&folder, "[uplink]\n");
    assert_eq!(code(&["check", "--config", broken.to_str().unwrap()]), Some(2));
}
