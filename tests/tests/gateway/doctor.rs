//! `linkbal doctor`: what is wrong is found, and the command that it names mends it.

use std::process::Command;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::drill::endless_drill;
use crate::fixture::{Gateway, LIMIT, linkbal, text, uplink_status, with_targets};

/// Starts a gateway whose targets are pinged and connected to.
pub(crate) fn gateway() -> Gateway {
    let lab = linkbal_lab::topology::Lab::new(&linkbal_lab::topology::UplinkSpec::pair()).unwrap();
    Gateway::start(lab, |config| {
        let targets = Family::ALL.map(|family| {
            let server = plan::server(family, 0);
            let end = if server.is_ipv4() { format!("{server}") } else { format!("[{server}]") };
            format!("\"{server}\", \"tcp://{end}:80\"")
        });
        with_targets(config, &targets.join(", "))
    })
}

/// Returns the exit code and what was found.
pub(crate) fn doctor(gateway: &Gateway) -> (i32, Value) {
    let path = gateway.daemon.config_path();
    let output = linkbal(&gateway.lab, &["doctor", "--json", "--config", path.to_str().unwrap()]);
    let printed = text(&output.stdout);
    let json = serde_json::from_str(&printed);
    let json = json.unwrap_or_else(|_| panic!("{printed}{}", text(&output.stderr)));
    (output.status.code().unwrap(), json)
}

fn assert_fine(gateway: &Gateway) {
    let (code, found) = doctor(gateway);
    assert_eq!(code, 0, "{found:#}");
}

/// Checks that something is found, and returns the command that mends it.
pub(crate) fn command_for(gateway: &Gateway, words: &str) -> String {
    let (code, json) = doctor(gateway);
    assert_eq!(code, 4, "{json:#}");
    let mut found = json["findings"].as_array().unwrap().iter();
    let is_it = |finding: &&Value| finding["what"].as_str().unwrap().contains(words);
    let finding = found.find(is_it).unwrap_or_else(|| panic!("{words} in {json:#}"));
    finding["command"].as_str().unwrap().to_owned()
}

/// Breaks something, and checks that it is found and that the command mends it.
pub(crate) fn assert_mended(gateway: &Gateway, script: &str, words: &str) {
    gateway.lab.gateway.run("sh", &["-ec", script]).unwrap();
    let command = command_for(gateway, words);
    gateway.lab.gateway.run("sh", &["-ec", &command]).unwrap();
    // What the daemon follows, such as an MTU, takes it a moment.
    wait::until("a gateway that is well again", LIMIT, || {
        Ok((doctor(gateway).0 == 0).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{words}: {error:#}: {:#}", doctor(gateway).1));
}

#[test]
fn a_healthy_gateway_passes_everything() {
    let gateway = gateway();
    let (code, json) = doctor(&gateway);
    assert_eq!(code, 0, "{json:#}");
    let trials = json["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4, "two uplinks, two families");
    for trial in trials {
        let tried = &trial["tried"];
        assert_eq!(tried["gateway"], true, "{trial}");
        assert!(tried["ping"]["answered"] == 1 && tried["tcp"]["answered"] == 1, "{trial}");
        assert_eq!(tried["path_mtu"], tried["device_mtu"], "{trial}");
        let family = if trial["family"] == "ipv4" { Family::V4 } else { Family::V6 };
        let index = usize::from(trial["uplink"] == "isp-b");
        let own = plan::uplink_address(family, index).to_string();
        assert_eq!(tried["sources"], serde_json::json!([own]));
    }
}

#[test]
fn the_command_of_a_finding_mends_it() {
    let mut gateway = gateway();
    let pid = gateway.daemon.id();
    assert_mended(
        &gateway,
        &format!("prlimit --pid {pid} --nofile=1024:20000"),
        "may have only 1024 files open",
    );
    assert_mended(&gateway, "ip rule add pref 1000 lookup main", "ip rule 1000: ipv4 lookup main");
    let narrow = [&gateway.lab.uplinks[0].provider];
    narrow[0].run("ip", &["link", "set", "core0", "mtu", "1400"]).unwrap();
    assert_mended(
        &gateway,
        "true",
        "isp-a ipv4: packets of 1500 bytes do not pass, those of 1400 do",
    );

    let target = plan::server(Family::V4, 0).to_string();
    let mut ping = gateway.lab.gateway.command("busybox");
    let mut old =
        gateway.lab.gateway.spawn(ping.args(["ping", "-q", "-I", "wan-a", &target])).unwrap();
    assert_mended(&gateway, "true", "looks like an old script for several uplinks");
    assert!(!old.wait(LIMIT).unwrap().success(), "it was ended");

    // What linkbal itself keeps right is only wrong without it.
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let strict = "sysctl -w net.ipv4.conf.wan-b.rp_filter=1";
    gateway.lab.gateway.run("sh", &["-ec", strict]).unwrap();
    assert_eq!(command_for(&gateway, "is not running"), "systemctl start linkbal");
    let command = command_for(&gateway, "wan-b has a strict reverse path filter");
    gateway.lab.gateway.run("sh", &["-ec", &command]).unwrap();
    let (_, json) = doctor(&gateway);
    assert!(!json.to_string().contains("reverse path filter"), "{json:#}");
}

#[test]
fn what_does_not_pass_is_named_by_kind() {
    let mut gateway = gateway();
    let block = |rule: &str| {
        let chain = "type filter hook output priority 10;";
        let table = format!(
            "table inet block {{\nchain out {{\n{chain}\noifname wan-a {rule} drop\n}}\n}}\n"
        );
        gateway.lab.gateway.load_nft(&table).unwrap();
    };
    block("meta nfproto ipv4 tcp dport 80");
    let command = command_for(&gateway, "isp-a ipv4: TCP connections do not pass");
    assert_eq!(command, "nft list ruleset");
    gateway.lab.gateway.load_nft("delete table inet block").unwrap();
    gateway.lab.silence_nexthop(1).unwrap();
    gateway.wait_until_down(1);
    let command = command_for(&gateway, "isp-b ipv4 and ipv6 are down, nothing passes: ");
    assert_eq!(command, "ip neigh show dev wan-b");
    let (_, json) = doctor(&gateway);
    assert_eq!(errors(&json).len(), 1, "one line, one fault: {json:#}");
    gateway.lab.restore_nexthop(1).unwrap();
    wait::until("a gateway that is well again", LIMIT, || {
        Ok((doctor(&gateway).0 == 0).then_some(()))
    })
    .unwrap();
    assert_fine(&gateway);
}

/// Returns the findings that are errors.
fn errors(json: &Value) -> Vec<&Value> {
    let findings = json["findings"].as_array().unwrap().iter();
    findings.filter(|finding| finding["severity"] == "error").collect()
}

#[test]
fn uplinks_that_the_administrator_took_out_of_use_are_told() {
    let mut gateway = gateway();
    gateway.daemon.run(&["disable", "isp-a"]).unwrap();
    let (code, json) = doctor(&gateway);
    assert_eq!(code, 0, "a hint: {json:#}");
    assert!(json.to_string().contains("isp-a is disabled"), "{json:#}");
    gateway.daemon.run(&["disable", "isp-b"]).unwrap();
    let command = command_for(&gateway, "no uplink is usable for ipv4 and ipv6");
    assert_eq!(command, "linkbal enable isp-a");
    gateway.daemon.run(&["enable", "isp-a", "--now"]).unwrap();
    gateway.daemon.run(&["enable", "isp-b", "--now"]).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.daemon.run(&["drain", "isp-a"]).unwrap();
    gateway.daemon.run(&["drain", "isp-b"]).unwrap();
    let command = command_for(&gateway, "no uplink is left for new flows of ipv4 and ipv6");
    assert_eq!(command, "linkbal enable isp-a");
}

#[test]
fn a_drill_is_named_first_and_no_line_is_blamed() {
    let mut gateway = gateway();
    let drill = endless_drill(&gateway.lab);
    let status = gateway.wait_until_down(0);
    for family in ["ipv4", "ipv6"] {
        let health = &uplink_status(&status, "isp-a")[family];
        let reason = health["reason"].as_str().unwrap();
        assert!(
            reason.contains("a drill of it is under way") && !reason.contains("cable"),
            "{health}"
        );
        assert_eq!(health["drilled"], true, "{health}");
    }
    let (_, json) = doctor(&gateway);
    let first = json["findings"][0]["what"].as_str().unwrap();
    assert!(first.contains("a drill of isp-a is under way"), "{json:#}");
    assert!(errors(&json).is_empty(), "{json:#}");
    drop(drill);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert_fine(&gateway);
}

#[test]
fn without_root_one_sentence_says_so() {
    let gateway = gateway();
    let path = gateway.daemon.config_path();
    let program = linkbal_lab::daemon::find_program().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]).arg(program);
    command.args(["doctor", "--config", path.to_str().unwrap()]);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run it as root") && said.lines().count() == 1, "{said}");
}
