//! The last good configuration, what a reload shows, and events of former runs.

use std::fs;
use std::path::Path;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, OPEN, config, linkbal, text};

/// Waits until the configuration in force is kept as the last good one, with these words.
fn wait_until_kept(gateway: &Gateway, words: &str) {
    let path = gateway.lab.gateway.run_dir().join("state/last-good.json");
    let kept =
        || Ok(fs::read_to_string(&path).is_ok_and(|text| text.contains(words)).then_some(()));
    wait::until(&format!("{words:?} in the last good configuration"), LIMIT, kept)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
}

fn weight(status: &Value) -> &Value {
    &status["uplinks"][0]["weight"]
}

/// Starts another daemon with a text as its file, in the place of one that has ended.
fn restart_with(gateway: &mut Gateway, text: &str) {
    let mut next = Daemon::start(&gateway.lab, text).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
}

fn events(gateway: &Gateway, args: &[&str]) -> Vec<Value> {
    let printed = gateway.daemon.run(&[&["events", "--json"], args].concat()).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_start_with_a_broken_file_uses_the_last_good_configuration_and_says_so() {
    let mut gateway = Gateway::pair();
    let good = config(&gateway.lab);
    wait_until_kept(&gateway, "weight = 30");
    let change = |gateway: &Gateway, text: &str| {
        fs::write(gateway.daemon.config_path(), text).unwrap();
    };
    // Neither one that is refused nor one on trial is kept.
    change(&gateway, &good.replace("weight = 30", "weight = 77"));
    gateway.daemon.run(&["reload", "--confirm", "1h"]).unwrap();
    change(&gateway, &good.replace("weight = 30", "weight = 31"));
    gateway.daemon.run(&["reload"]).unwrap();
    wait_until_kept(&gateway, "weight = 31");
    gateway.daemon.stop(Signal::SIGTERM).unwrap();

    let broken = good.replace("weight = 30", "weight = \"much\"");
    restart_with(&mut gateway, &broken);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(weight(&status), 31, "{status}");
    let file = gateway.daemon.config_path().display().to_string();
    let last_good = &status["configuration"]["last_good"];
    assert_eq!(status["configuration"]["file"], *file);
    assert!(last_good["reason"].as_str().unwrap().starts_with(&format!("{file}:")), "{last_good}");
    let words = "expected a whole number, found a text";
    for said in [gateway.daemon.log(), gateway.daemon.run(&["status"]).unwrap()] {
        assert!(said.contains("last good") && said.contains(words), "{said}");
    }
    // Events are for everybody: a value may be a secret.
    let said = gateway.daemon.run(&["events"]).unwrap();
    assert!(said.contains("last good") && said.contains(&format!("{file}:")), "{said}");
    assert!(!said.contains(words) && !said.contains("much"), "{said}");
    let check = linkbal(&gateway.lab, &["check"]);
    assert_eq!(check.status.code(), Some(2));
    let said = text(&check.stderr);
    assert!(
        said.contains("runs with the last good configuration") && said.contains(words),
        "{said}"
    );
    gateway.assert_uplinks(20, &[0, 1]);

    // It stays the last good one, and a reload with a mended file ends it.
    let refused = linkbal(&gateway.lab, &["reload"]);
    assert_eq!(refused.status.code(), Some(2));
    change(&gateway, &good.replace("weight = 30", "weight = 32"));
    let said = gateway.daemon.run(&["reload"]).unwrap();
    for line in
        [&*format!("{file}, compared with"), "  [uplink.isp-a]", "- weight = 31", "+ weight = 32"]
    {
        assert!(said.lines().any(|shown| shown.starts_with(line)), "{line:?} in {said}");
    }
    assert!(said.ends_with("the configuration is in force, with 2 uplinks\n"), "{said}");
    assert_eq!(
        gateway.daemon.run(&["reload"]).unwrap().lines().next().unwrap(),
        format!("{file} is as it was")
    );
    let status = gateway.daemon.status().unwrap();
    assert!(status["configuration"]["last_good"].is_null(), "{status}");
    wait_until_kept(&gateway, "weight = 32");
}

#[test]
fn strict_refuses_and_a_missing_file_does_not_cost_the_gateway() {
    let mut gateway = Gateway::pair();
    wait_until_kept(&gateway, "weight = 30");
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let missing = Path::new("/no/such/linkbal.toml").to_str().unwrap();
    let strict = linkbal(&gateway.lab, &["run", "--strict", "--config", missing]);
    assert_eq!(strict.status.code(), Some(2));
    assert!(text(&strict.stderr).contains("failed to read configuration"));
    // A relative path is one of this moment: whoever asks the daemon later may be elsewhere.
    let strict = linkbal(&gateway.lab, &["run", "--strict", "--config", "no-such.toml"]);
    let whole = std::env::current_dir().unwrap().join("no-such.toml").display().to_string();
    assert!(text(&strict.stderr).contains(&whole), "{}", text(&strict.stderr));
    // One that the kernel refuses: a seed that is not there.
    let lacking = config(&gateway.lab) + "[kernel]\nhash_seed_file = \"/no/such/seed\"\n";
    restart_with(&mut gateway, &lacking);
    let status = gateway.daemon.status().unwrap();
    let reason = status["configuration"]["last_good"]["reason"].as_str().unwrap();
    assert!(reason.contains("/no/such/seed"), "{reason}");
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let path = gateway.daemon.config_path();
    fs::write(&path, &lacking).unwrap();
    let strict = linkbal(&gateway.lab, &["run", "--strict", "--config", path.to_str().unwrap()]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stderr).contains("/no/such/seed"), "{}", text(&strict.stderr));
}

#[test]
fn events_survive_restarts_and_kills() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let open = |config: &str| format!("{config}{OPEN}");
    let mut gateway = Gateway::start(lab, open);
    let before = events(&gateway, &[]);
    assert_eq!(before.len(), 4, "{before:?}");
    let file = gateway.lab.gateway.run_dir().join("state/events.jsonl");
    let written = || Ok((fs::read_to_string(&file)?.lines().count() == 4).then_some(()));
    wait::until("events in the file", LIMIT, written).unwrap();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    // Torn by the crash.
    let torn = fs::read_to_string(&file).unwrap() + "{\"sequence\":5,\"time\":\"20";
    fs::write(&file, torn).unwrap();
    let text = open(&config(&gateway.lab));
    restart_with(&mut gateway, &text);
    assert_eq!(events(&gateway, &[]), before, "nothing happened, and the torn line is left out");
    gateway.daemon.run(&["drain", "isp-b"]).unwrap();
    let after = events(&gateway, &[]);
    assert_eq!((after[..4].to_vec(), &after[4]["sequence"]), (before, &5.into()));

    let of_b = events(&gateway, &["--uplink", "isp-b"]);
    assert!(of_b.len() == 3 && of_b.iter().all(|event| event["uplink"] == "isp-b"), "{of_b:?}");
    let since = after[4]["time"].as_str().unwrap();
    assert_eq!(events(&gateway, &["--since", since]), after[4..]);
    assert_eq!(events(&gateway, &["--since", "1h"]).len(), 5);
    let none = linkbal(&gateway.lab, &["events", "--uplink", "isp-x"]);
    assert_eq!(none.status.code(), Some(2));
    let said = crate::fixture::text(&none.stderr);
    assert!(
        said.contains("there is no uplink \"isp-x\"") && said.contains("isp-a, isp-b"),
        "{said}"
    );
}

#[test]
fn an_uplink_is_enabled_without_its_hold_time() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, |config| {
        config.replace("hold = ", "#") + "hold = \"1h\"\nhold_max = \"1h\"\n"
    });
    gateway.daemon.run(&["disable", "isp-a"]).unwrap();
    gateway.wait_for_uplinks(&[1]);
    let said = gateway.daemon.run(&["enable", "--now", "isp-a"]).unwrap();
    assert!(said.starts_with("isp-a is now enabled, and used with its first good round"), "{said}");
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.assert_uplinks(20, &[0, 1]);
    // One that is down stays so, and need not wait once it answers.
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.daemon.run(&["enable", "--now", "isp-a"]).unwrap();
    gateway.wait_for_uplinks(&[1]);
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
}
