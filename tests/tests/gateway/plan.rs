//! `linkbal plan`, which shows what would change, and changes nothing.

use std::fs;
use std::path::Path;

use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, config, linkbal, linkbal_with, text};

/// Returns everything that linkbal could change: the network, sysctls, pins and files.
fn everything(lab: &Lab) -> String {
    let mut state = oracle::kernel_state(&lab.gateway).unwrap();
    let listings: [(&str, &[&str]); 4] = [
        ("ip", &["-j", "-d", "rule", "show"]),
        ("ip", &["-j", "-6", "-d", "route", "show", "table", "all"]),
        ("ip", &["-j", "-d", "link", "show"]),
        ("nft", &["-j", "list", "ruleset"]),
    ];
    for (program, args) in listings {
        state += &lab.gateway.run(program, args).unwrap();
    }
    for folder in [lab.gateway.bpf_dir(), lab.gateway.run_dir()] {
        state += &names(&folder).join("\n");
    }
    state
}

/// Returns the files of a folder with their modification times; none if there is no folder.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    // A daemon that runs writes events into its state at any time.
    let entries = entries.map(Result::unwrap).filter(|entry| entry.file_name() != "state");
    let mut names: Vec<_> = entries
        .map(|entry| {
            format!("{:?} {:?}", entry.path(), entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    names.sort();
    names
}

/// Returns the exit code and the lines of a plan, and checks that it has changed nothing.
fn plan(lab: &Lab, config: &Path) -> (i32, String) {
    let before = everything(lab);
    let path = config.to_str().unwrap();
    let output = linkbal(lab, &["plan", "--config", path]);
    let json = linkbal(lab, &["plan", "--json", "--config", path]);
    assert_eq!(everything(lab), before, "it has changed something");
    let code = output.status.code().unwrap();
    let lines = text(&output.stdout);
    assert_eq!(json.status.code().unwrap(), code, "{}{}", lines, text(&output.stderr));
    if code != 2 {
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        let differences = json["differences"].as_array().unwrap();
        assert_eq!(differences.is_empty(), code == 0, "{json}");
        for difference in differences {
            let what = difference["what"].as_str().unwrap();
            assert!(lines.contains(what), "{what} in {lines}");
        }
    }
    (code, lines)
}

fn written(folder: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let path = folder.path().join("linkbal.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn before_the_first_start_everything_is_to_be_added() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (code, lines) = plan(&lab, &written(&folder, &config(&lab)));
    assert_eq!(code, 3, "{lines}");
    for line in [
        "+ ip     -4 rule pref 26100 lookup main suppress_prefixlength 0 protocol 201",
        "+ ip     -6 rule pref 26199 lookup 2600 protocol 201",
        "dev wan-a onlink table 2601 metric 1 protocol 201",
        "+ nft    table inet linkbal {",
        "~ sysctl net.ipv4.ip_forward: 0 -> 1",
        "+ bpf    all 37 maps",
        "+ bpf    programs at ingress and egress of lan0",
        "nothing was changed",
    ] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    assert!(!lines.lines().any(|line| line.starts_with('-')), "{lines}");
}

#[test]
fn a_running_gateway_has_no_differences_until_the_configuration_changes() {
    let mut gateway = Gateway::pair();
    let path = gateway.daemon.config_path();
    let (code, lines) = plan(&gateway.lab, &path);
    assert_eq!(code, 0, "{lines}");
    let notes = lines.lines().filter(|line| line.starts_with("note: ")).count();
    assert_eq!(lines.lines().count(), notes + 1, "{lines}");

    let folder = tempfile::tempdir().unwrap();
    let other = config(&gateway.lab).replace("weight = 30", "weight = 60");
    let other = other.replace("hold = ", "limits = { loss = \"50%\" }\nhold = ");
    let (code, lines) = plan(&gateway.lab, &written(&folder, &other));
    assert_eq!(code, 3, "{lines}");
    assert!(lines.contains("~ bpf    map BUCKETS: "), "{lines}");
    let tables = format!("{}\n[kernel]\ntable_base = 3600\n", config(&gateway.lab));
    let (code, lines) = plan(&gateway.lab, &written(&folder, &tables));
    assert_eq!(code, 3, "{lines}");
    for line in [
        "- ip     -4 rule pref 26199 lookup 2600 protocol 201",
        "+ ip     -4 rule pref 26199 lookup 3600 protocol 201",
        "- ip     -4 route unreachable default table 2601 metric 4294967295 protocol 201",
    ] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    // The datapath that a daemon leaves behind is compared in the same way.
    gateway.daemon.stop(nix::sys::signal::Signal::SIGTERM).unwrap();
    let (code, lines) = plan(&gateway.lab, &path);
    assert_eq!(code, 0, "{lines}");
}

/// Checks a default route that is gone because a DHCP client knows of one only, that of the other
/// uplink.
#[test]
fn a_remembered_gateway_makes_no_difference() {
    let mut gateway = Gateway::pair();
    let path = gateway.daemon.config_path();
    let lab = &gateway.lab;
    let of_b = plan::nexthop(Family::V4, 1).to_string();
    lab.gateway.run("ip", &["-4", "route", "flush", "default"]).unwrap();
    lab.gateway
        .run(
            "ip",
            &["-4", "route", "add", "default", "via", &of_b, "dev", "wan-b", "metric", "100"],
        )
        .unwrap();
    // A plan may show differences until the daemon has followed.
    wait::until("a daemon that has followed", LIMIT, || {
        let output = linkbal_with(lab, "plan", &path);
        Ok(output.status.success().then_some(()))
    })
    .unwrap();
    let check = |lab: &Lab| {
        let (code, lines) = plan(lab, &path);
        assert_eq!(code, 0, "{lines}");
        let output = linkbal(lab, &["check", "--machine", "--config", path.to_str().unwrap()]);
        assert!(output.status.success());
        let lines = text(&output.stderr);
        assert!(lines.lines().all(|line| line.starts_with("note: forwarding of ")), "{lines}");
    };
    check(&gateway.lab);
    gateway.daemon.stop(nix::sys::signal::Signal::SIGTERM).unwrap();
    check(&gateway.lab);
}

#[test]
fn a_bad_configuration_has_no_plan() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (code, lines) = plan(&lab, &written(&folder, "[uplink.a]\nweight = 1\n"));
    assert_eq!((code, lines.as_str()), (2, ""));
}

#[test]
fn conflicts_are_part_of_the_plan_and_of_a_check_of_the_machine() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.run("ip", &["rule", "add", "pref", "1000", "lookup", "main"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &config(&lab));
    let conflict = "ip rule 1000: ipv4 lookup main";
    let (_, lines) = plan(&lab, &path);
    assert!(lines.contains(conflict), "{lines}");
    let check = |args: &[&str]| {
        let output = linkbal(&lab, &[args, &["--config", path.to_str().unwrap()]].concat());
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, printed) = check(&["check", "--machine"]);
    assert!(code == 4 && printed.contains(conflict) && !printed.contains("fine"), "{printed}");
    let (code, printed) = check(&["check"]);
    assert!(code == 0 && printed.contains("fine"), "the machine may be another one: {printed}");
}
