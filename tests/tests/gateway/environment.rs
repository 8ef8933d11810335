//! Machines and containers that lack something: reported in a clear sentence, with what to do.

use std::process::{Command, Output};

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, config, text};

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

/// Returns a command for linkbal in a shell within the gateway that prepares its mounts first.
fn prepared(lab: &Lab, preparation: &str) -> Command {
    let handle = format!("--net=/run/netns/{}", lab.gateway.name());
    let program = daemon::find_program().unwrap();
    let script = format!("{preparation} && exec \"$0\" \"$@\"");
    let mut command = Command::new("nsenter");
    command.args([&handle, "unshare", "--mount", "sh", "-c", &script]).arg(program);
    command
}

/// Returns the errors of `linkbal run` if it cannot start under a wrapper such as `setpriv`.
fn refused(lab: &Lab, wrapper: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linkbal.toml");
    std::fs::write(&path, config(lab)).unwrap();
    let mut command = lab.gateway.command("timeout");
    command.args(["20"]).args(wrapper).arg(daemon::find_program().unwrap());
    let Output { status, stderr, .. } =
        command.args(["run", "--config"]).arg(&path).output().unwrap();
    let errors = text(&stderr);
    assert_eq!(status.code(), Some(1), "{errors}");
    errors
}

#[test]
fn sysctls_that_cannot_be_set_are_reported_once_and_the_rest_works() {
    let lab = lab();
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "0").unwrap();
    let command =
        prepared(&lab, "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys");
    let program = daemon::find_program().unwrap();
    let mut daemon = Daemon::start_command(command, &program, &lab, &config(&lab)).unwrap();
    let what = "sysctl net.ipv4.ip_forward = 1";
    let status = daemon
        .wait_for("a refusal", LIMIT, |status: &Value| status["refused"][what].is_string())
        .unwrap();
    let why = status["refused"][what].as_str().unwrap();
    for words in ["does not forward", "read-only here", "docker run --sysctl net.ipv4.ip_forward=1"]
    {
        assert!(why.contains(words), "{words} in {why}");
    }
    daemon.wait_until_up(LIMIT).unwrap();
    assert!(daemon.run(&["status"]).unwrap().contains(&format!("refused: {what}: ")));
    // As soon as another program sets it, all is well.
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    daemon
        .wait_for("no refusal", LIMIT, |status: &Value| status["refused"][what].is_null())
        .unwrap();
    let log = daemon.log();
    assert_eq!(log.matches(&format!("{what}: this machine does not forward")).count(), 1, "{log}");
}

#[test]
fn missing_capabilities_are_reported() {
    let lab = lab();
    for (lost, named) in [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-perfmon,-sys_admin", "CAP_PERFMON"),
        ("-net_raw", "CAP_NET_RAW"),
    ] {
        let bounding = format!("--bounding-set={lost}");
        let errors = refused(&lab, &["setpriv", &bounding]);
        assert!(errors.contains(named) && errors.contains("--cap-add"), "{lost}: {errors}");
    }
}

#[test]
fn a_user_namespace_is_reported() {
    let errors = refused(&lab(), &["unshare", "--user", "--map-root-user"]);
    assert!(errors.contains("user namespace") && errors.contains("rootless"), "{errors}");
}

#[test]
fn a_gateway_works_without_the_capabilities_that_it_does_not_need() {
    let lab = lab();
    let program = daemon::find_program().unwrap();
    let mut command = lab.gateway.command("setpriv");
    command.args(["--bounding-set=-sys_resource,-sys_module,-sys_ptrace"]).arg(&program);
    let mut daemon = Daemon::start_command(command, &program, &lab, &config(&lab)).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
}

#[test]
fn conflicts_are_reported_in_log_status_and_events_and_not_changed() {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    let ip = |words: &str| namespace.run("ip", &words.split(' ').collect::<Vec<_>>()).unwrap();
    // The rules of wg-quick get the priorities before the first existing one.
    ip("route add default dev wan-a table 51820");
    ip("rule add not fwmark 51820 lookup 51820");
    ip("rule add pref 26055 fwmark 0x7 lookup 77 protocol 18");
    let table = "table ip mangle {
        chain mark_lan {
            type filter hook prerouting priority mangle; meta mark set 0x1
        }
    }";
    namespace.load_nft(table).unwrap();
    let named = |status: &Value, owner: &str, words: &str| {
        let mut all = status["conflicts"].as_array().unwrap().iter();
        all.any(|conflict| {
            conflict["owner"].as_str().unwrap().starts_with(owner)
                && conflict.to_string().contains(words)
        })
    };
    let all = |status: &Value| {
        named(status, "wg-quick", "takes all traffic")
            && named(status, "keepalived", "26055")
            && named(status, "nft (process ", "mark_lan")
    };
    gateway.daemon.wait_for("three conflicts", LIMIT, all).unwrap();
    let events = gateway.daemon.run(&["events"]).unwrap();
    let shown = gateway.daemon.run(&["status"]).unwrap();
    for text in [events, gateway.daemon.log(), shown] {
        for words in ["wg-quick", "keepalived", "mark_lan"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }
    let rules = ip("rule show");
    assert!(rules.contains("not from all fwmark 0xca6c lookup 51820"), "{rules}");
    assert!(namespace.run("nft", &["list", "ruleset"]).unwrap().contains("mark_lan"));
    ip("rule delete lookup 51820");
    ip("rule delete pref 26055");
    namespace.run("nft", &["delete", "table", "ip", "mangle"]).unwrap();
    let conflicts = |conflict: &Value| conflict["compatible"] == false;
    let none = |status: &Value| !status["conflicts"].as_array().unwrap().iter().any(conflicts);
    gateway.daemon.wait_for("no conflicts", LIMIT, none).unwrap();
    wait::until("events of their end", LIMIT, || {
        let events = gateway.daemon.run(&["events", "--json"])?;
        Ok((events.matches("\"to\":\"settled\"").count() >= 3).then_some(()))
    })
    .unwrap();
}
