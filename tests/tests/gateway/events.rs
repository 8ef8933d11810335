//! What happened, told to those who ask, and to a program of the user's.

use std::fs::{self, File};
use std::process::Stdio;

use linkbal_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT};

fn parse(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kept(gateway: &Gateway) -> Vec<Value> {
    parse(&gateway.daemon.run(&["events", "--json"]).unwrap())
}

/// Whether an event says that both an uplink and a family went to a state.
fn says(event: &Value, uplink: &str, family: &str, to: &str) -> bool {
    event["uplink"] == uplink && event["family"] == family && event["to"] == to
}

#[test]
fn a_cut_cable_is_an_event_with_its_reason_and_evidence() {
    let mut gateway = Gateway::pair();
    let first = kept(&gateway);
    assert_eq!(first.len(), 4, "both families of both uplinks came up: {first:?}");
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    let events = kept(&gateway);
    let sequence: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5, 6]);
    let down = events.iter().find(|event| says(event, "isp-a", "ipv4", "down")).unwrap();
    assert_eq!((&down["kind"], &down["from"]), (&"uplink".into(), &"up".into()));
    assert_eq!(down["reason"], "no carrier on wan-a");
    assert!(down["lasted_ms"].as_u64().unwrap() > 0 && down["interface"].is_null(), "{down}");
    assert!(down["evidence"]["latency_ms"].as_f64().unwrap() > 0.0, "{down}");
    let text = gateway.daemon.run(&["events"]).unwrap();
    let line = text.lines().last().unwrap();
    let time = events[5]["time"].as_str().unwrap();
    assert!(line.starts_with(time) && line.contains("no carrier on wan-a (after "), "{text}");
}

#[test]
fn a_black_hole_is_an_event_that_names_the_silent_targets() {
    let mut gateway = Gateway::pair();
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    let events = kept(&gateway);
    let down = events.iter().find(|event| says(event, "isp-b", "ipv4", "down")).unwrap();
    let targets = down["evidence"]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2, "{down}");
    for target in targets {
        assert_eq!((&target["asked"], &target["answered"]), (&3.into(), &0.into()), "{down}");
    }
    assert!(down["evidence"]["loss"].as_f64().unwrap() > 0.0, "{down}");
}

#[test]
fn a_follower_hears_what_was_and_what_comes_and_may_leave_at_any_time() {
    let mut gateway = Gateway::pair();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("followed");
    let mut command = gateway.lab.gateway.command(gateway.daemon.program());
    command.args(["events", "--follow", "--json"]).stdin(Stdio::null());
    command.stdout(File::create(&path).unwrap());
    let mut follower = gateway.lab.gateway.spawn(&mut command).unwrap();
    let heard = |count: usize| {
        wait::until("events of the follower", LIMIT, || {
            let text = fs::read_to_string(&path)?;
            Ok((text.lines().count() >= count && text.ends_with('\n')).then(|| parse(&text)))
        })
        .unwrap()
    };
    assert_eq!(heard(4).len(), 4);
    gateway.lab.cut_cable(0).unwrap();
    assert!(heard(6)[4..].iter().all(|event| event["to"] == "down"));
    // One that does not read at all is not waited for, and one that is gone is forgotten.
    follower.signal(Signal::SIGSTOP).unwrap();
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert_eq!(kept(&gateway).len(), 8);
    follower.kill();
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    assert_eq!(kept(&gateway).len(), 10);
}

#[test]
fn a_follower_is_told_when_linkbal_ends() {
    let mut gateway = Gateway::pair();
    let mut command = gateway.lab.gateway.command(gateway.daemon.program());
    let folder = TempDir::new().unwrap();
    let [printed, said] = ["printed", "said"].map(|name| folder.path().join(name));
    command.args(["events", "--follow"]).stdin(Stdio::null());
    command.stdout(File::create(&printed).unwrap()).stderr(File::create(&said).unwrap());
    let mut follower = gateway.lab.gateway.spawn(&mut command).unwrap();
    wait::until("the first events", LIMIT, || Ok((!fs::read(&printed)?.is_empty()).then_some(())))
        .unwrap();
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    assert_eq!(follower.wait(LIMIT).unwrap().code(), Some(1));
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.contains("linkbal ended"), "{said}");
}
