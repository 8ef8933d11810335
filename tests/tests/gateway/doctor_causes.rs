//! `linkbal doctor` where this machine is at fault, and nobody else.

use std::fs;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use crate::doctor::{assert_mended, command_for, doctor, gateway};
use crate::fixture::{Gateway, LIMIT, linkbal, text, uplink_status, with_key};

/// Loads a base chain that drops everything at a hook.
fn close(hook: &str) -> String {
    format!(
        "nft 'add table inet fw; add chain inet fw c \
         {{ type filter hook {hook} priority 0; policy drop; }}'"
    )
}

fn shell(gateway: &Gateway, script: &str) {
    gateway.lab.gateway.run("sh", &["-ec", script]).unwrap();
}

fn wait_until_well(gateway: &Gateway) {
    wait::until("a gateway that is well again", LIMIT, || {
        Ok((doctor(gateway).0 == 0).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#}", doctor(gateway).1));
}

#[test]
fn a_firewall_that_forwards_nothing_is_named_and_its_command_lets_the_lan_out() {
    let gateway = gateway();
    assert_mended(&gateway, &close("forward"), "firewall chain inet fw c");
    // Whoever is behind it agrees.
    gateway.wait_for_uplinks(&[0, 1]);
    let path = gateway.daemon.config_path();
    shell(&gateway, "nft flush chain inet fw c");
    let args = ["check", "--machine", "--config", path.to_str().unwrap()];
    let output = linkbal(&gateway.lab, &args);
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{printed}");
    assert!(printed.contains("conflict: firewall chain inet fw c"), "{printed}");
    assert!(!printed.contains("no firewall filters what is forwarded"), "{printed}");
}

#[test]
fn a_firewall_that_drops_answers_is_blamed_and_not_the_lines() {
    let mut gateway = gateway();
    shell(&gateway, &close("input"));
    gateway
        .daemon
        .wait_for("uplinks that are down for the firewall", LIMIT, |status| {
            let health = &uplink_status(status, "isp-b")["ipv4"];
            let remedy = health["remedy"].as_str().unwrap_or_default();
            health["state"] == "down" && remedy.contains("chain inet fw c")
        })
        .unwrap();
    let (_, json) = doctor(&gateway);
    assert!(!json.to_string().contains("call the provider"), "{json:#}");
    assert_mended(&gateway, "true", "firewall chain inet fw c");
    shell(&gateway, "nft delete table inet fw");
    shell(&gateway, &close("output"));
    assert_mended(&gateway, "true", "firewall chain inet fw c");
}

#[test]
fn what_is_gone_for_a_moment_is_missing_at_once() {
    let mut gateway = gateway();
    let own = plan::uplink_address(Family::V4, 0).to_string();
    shell(&gateway, &format!("ip address show dev wan-a | grep -q {own}"));
    shell(&gateway, "ip -4 address flush dev wan-a");
    let said = || {
        let (code, json) = doctor(&gateway);
        assert_eq!(code, 4, "{json:#}");
        json.to_string()
    };
    // Whether the time has run out by now or not.
    let all = said();
    assert!(all.contains("no ipv4 address on wan-a"), "{all}");
    gateway
        .daemon
        .wait_for("an uplink without its address", LIMIT, |status| {
            let reason = uplink_status(status, "isp-a")["ipv4"]["reason"].to_string();
            reason.contains("no ipv4 address on wan-a")
        })
        .unwrap();
}

#[test]
fn a_default_route_that_was_deleted_is_set_again() {
    let gateway = gateway();
    assert_mended(
        &gateway,
        "ip -4 route delete default dev wan-a",
        "no ipv4 gateway known on wan-a",
    );
}

#[test]
fn with_a_broken_file_what_is_in_force_is_tried() {
    let mut gateway = gateway();
    let path = gateway.daemon.config_path().to_owned();
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("[lan]", "[lan")).unwrap();
    let command = command_for(&gateway, "the configuration file cannot be used");
    assert!(command.starts_with("linkbal check --config "), "{command}");
    let (_, json) = doctor(&gateway);
    assert_eq!(json["trials"].as_array().unwrap().len(), 4, "{json:#}");
    assert_eq!(
        json["findings"].as_array().unwrap().iter().filter(|it| it["severity"] == "error").count(),
        1
    );
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let args = ["doctor", "--config", path.to_str().unwrap()];
    let output = linkbal(&gateway.lab, &args);
    let said = text(&output.stderr);
    assert!(said.starts_with("linkbal: linkbal is not running"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}

#[test]
fn a_script_that_sleeps_is_found_by_its_file() {
    let gateway = gateway();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("failover-run.sh");
    // It waits without a child, which would outlive it.
    let text = "exec 3<> <(:)\nwhile true; do\n  read -r -u 3 line\n  \
                ip route replace default via $GW\ndone\n";
    fs::write(&script, text).unwrap();
    let mut command = gateway.lab.gateway.command("bash");
    command.arg("failover-run.sh").current_dir(folder.path());
    let mut old = gateway.lab.gateway.spawn(&mut command).unwrap();
    let command = wait::until("an old script that is found", LIMIT, || {
        let (_, json) = doctor(&gateway);
        let found = json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["what"].as_str().unwrap().contains("bash failover-run.sh"));
        Ok(found.map(|it| it["command"].as_str().unwrap().to_owned()))
    })
    .unwrap();
    shell(&gateway, &command);
    assert!(!old.wait(LIMIT).unwrap().success(), "it was ended");
    wait_until_well(&gateway);
}

fn finding(json: &serde_json::Value, what: &str) -> serde_json::Value {
    let findings = json["findings"].as_array().unwrap();
    let found = findings.iter().find(|it| it["what"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("nothing of {what}: {json:#}")).clone()
}

#[test]
fn a_file_that_was_not_reloaded_is_told_and_reload_says_what_of_it_does_not_fit() {
    let gateway = gateway();
    let path = gateway.daemon.config_path();
    let good = fs::read_to_string(&path).unwrap();
    // There are no others in so small a network, and the daemon has another one in force.
    let outside = plan::client(Family::V4, 9);
    fs::write(&path, with_key(&good, "isp-b", &format!("gateway = {{ ipv4 = \"{outside}\" }}")))
        .unwrap();
    let (code, json) = doctor(&gateway);
    let changed = finding(&json, "has changed since it was loaded");
    assert_eq!((code, &changed["severity"]), (0, &serde_json::json!("hint")), "{json:#}");
    let output = linkbal(&gateway.lab, &["reload"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains(&outside.to_string()) && said.contains("wan-b"), "{said}");
    fs::write(&path, good).unwrap();
    let output = linkbal(&gateway.lab, &["reload"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("wan-b"), "{said}");
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn a_daemon_that_hangs_is_named_and_what_is_looked_at_instead() {
    let gateway = gateway();
    gateway.daemon.signal(Signal::SIGSTOP).unwrap();
    let (code, json) = doctor(&gateway);
    let hanging = finding(&json, "runs, but does not answer");
    assert_eq!((code, &hanging["severity"]), (4, &serde_json::json!("error")), "{json:#}");
    assert_eq!(hanging["command"], "systemctl restart linkbal");
    let output = linkbal(&gateway.lab, &["check"]);
    let said = text(&output.stderr);
    assert!(said.contains("does not answer: /etc/linkbal/linkbal.toml is used"), "{said}");
    gateway.daemon.signal(Signal::SIGCONT).unwrap();
    wait_until_well(&gateway);
}
