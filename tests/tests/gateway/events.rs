//! Events, for clients that ask and for a program of the user's.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, OPEN};

fn parse(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Starts the usual pair, whose only events are that its uplinks come up.
fn pair() -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    Gateway::start(lab, |config| format!("{config}{OPEN}"))
}

/// Waits until the events that are kept satisfy `reached`, and returns them: a change is in the status
/// a moment before.
fn kept_until(gateway: &Gateway, reached: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait::until("the events", LIMIT, || {
        let events = parse(&gateway.daemon.run(&["events", "--json"])?);
        Ok(reached(&events).then_some(events))
    })
    .unwrap()
}

/// Waits until so many events are kept, and returns them.
fn kept(gateway: &Gateway, count: usize) -> Vec<Value> {
    kept_until(gateway, |events| events.len() == count)
}

/// Returns whether an event is a change of an uplink to a state in a family.
fn says(event: &Value, uplink: &str, family: &str, to: &str) -> bool {
    event["uplink"] == uplink && event["family"] == family && event["to"] == to
}

#[test]
fn a_cut_cable_is_an_event_with_its_reason_and_evidence() {
    let mut gateway = pair();
    // Both families of both uplinks came up.
    kept(&gateway, 4);
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    let events = kept(&gateway, 6);
    let sequence: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5, 6]);
    let down = events.iter().find(|event| says(event, "isp-a", "ipv4", "down")).unwrap();
    assert_eq!((&down["kind"], &down["from"]), (&"uplink".into(), &"up".into()));
    assert_eq!(down["reason"], "no carrier on wan-a");
    assert!(down["lasted_ms"].as_u64().unwrap() > 0 && down["interface"].is_null(), "{down}");
    assert!(down["evidence"]["latency_ms"].as_f64().unwrap() > 0.0, "{down}");
    let text = gateway.daemon.run(&["events"]).unwrap();
    let line = text.lines().last().unwrap();
    assert!(line.starts_with("! 2") && line.contains(" #6 "), "{text}");
    assert!(line.contains("no carrier on wan-a (after "), "{text}");
}

#[test]
fn a_black_hole_is_an_event_that_names_the_silent_targets() {
    let mut gateway = pair();
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    let is_down = |event: &&Value| says(event, "isp-b", "ipv4", "down");
    let events = kept_until(&gateway, |events| events.iter().any(|event| is_down(&event)));
    let down = events.iter().find(is_down).unwrap();
    let targets = down["evidence"]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2, "{down}");
    for target in targets {
        assert_eq!((&target["asked"], &target["answered"]), (&3.into(), &0.into()), "{down}");
    }
    assert!(down["evidence"]["loss"].as_f64().unwrap() > 0.0, "{down}");
}

#[test]
fn a_follower_gets_past_and_new_events_and_may_disconnect() {
    let mut gateway = pair();
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
    // A follower that does not read is not waited for, and one that is gone is forgotten.
    follower.signal(Signal::SIGSTOP).unwrap();
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    kept(&gateway, 8);
    follower.kill();
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    kept(&gateway, 10);
}

#[test]
fn a_follower_of_a_former_uplink_gets_its_events() {
    let gateway = pair();
    let config = gateway.daemon.config_path();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("uplink.isp-a", "uplink.fiber")).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("followed");
    let follow = |uplink: &str| {
        let mut command = gateway.lab.gateway.command(gateway.daemon.program());
        command.args(["events", "--follow", "--uplink", uplink]).stdin(Stdio::null());
        command.stdout(File::create(&path).unwrap());
        gateway.lab.gateway.spawn(&mut command).unwrap()
    };
    let mut follower = follow("isp-a");
    wait::until("its events", LIMIT, || {
        Ok(fs::read_to_string(&path)?.contains("targets answer").then_some(()))
    })
    .unwrap();
    follower.kill();
    let unknown = gateway.daemon.run(&["events", "--follow", "--uplink", "isp-x"]).unwrap_err();
    assert!(unknown.to_string().contains("there is no uplink"), "{unknown}");
}

#[test]
fn a_follower_is_told_when_linkbal_ends() {
    let mut gateway = pair();
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
    // It may still be about to end.
    assert!(said.contains("has stopped; start it") || said.contains("about to stop"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Starts a gateway whose hook is the shell script `script`; returns it with a folder, the script's
/// `$1`.
fn hooked(script: &str) -> (Gateway, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("hook");
    fs::write(&path, script).unwrap();
    let path = path.to_str().unwrap();
    let own = folder.path().to_str().unwrap();
    let hook = format!("[hooks]\non_change = [\"/bin/sh\", {path:?}, {own:?}]\n");
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    // `OPEN` avoids other events.
    (Gateway::start(lab, |config| format!("{config}{hook}{OPEN}")), folder)
}

/// Waits until the text of a file satisfies `condition`, and returns it.
fn wait_for_text(path: &Path, condition: impl Fn(&str) -> bool) -> String {
    wait::until("what the hook writes", LIMIT, || {
        let text = fs::read_to_string(path).unwrap_or_default();
        Ok(condition(&text).then_some(text))
    })
    .unwrap()
}

#[test]
fn a_hook_gets_each_event_in_order_in_its_environment_and_as_json() {
    let (mut gateway, folder) = hooked(
        "env | grep ^LINKBAL_ | sort >> $1/environment; cat >> $1/input; \
         echo done with $LINKBAL_SEQUENCE; exit $LINKBAL_SEQUENCE",
    );
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    let input = wait_for_text(&folder.path().join("input"), |text| text.lines().count() == 6);
    let events = kept(&gateway, 6);
    assert_eq!(parse(&input), events);
    let environment = fs::read_to_string(folder.path().join("environment")).unwrap();
    let lines: Vec<_> = environment.lines().collect();
    let last = &events[5];
    let text = |key: &str| last[key].as_str().unwrap().to_owned();
    let expected = [
        "LINKBAL_EVENT=uplink".to_owned(),
        format!("LINKBAL_FAMILY={}", text("family")),
        "LINKBAL_FROM=up".to_owned(),
        "LINKBAL_REASON=no carrier on wan-a".to_owned(),
        "LINKBAL_SEQUENCE=6".to_owned(),
        "LINKBAL_SEVERITY=warning".to_owned(),
        format!("LINKBAL_TIME={}", text("time")),
        "LINKBAL_TO=down".to_owned(),
        "LINKBAL_UPLINK=isp-a".to_owned(),
    ];
    assert_eq!(lines[lines.len() - expected.len()..], expected);
    let said =
        ["hook: done with 6", "the hook failed for event 6: /bin/sh ended with exit status: 6"];
    wait::until("what the hook printed in the log", LIMIT, || {
        Ok(said.iter().all(|line| gateway.daemon.log().contains(line)).then_some(()))
    })
    .unwrap();
    assert_eq!(gateway.daemon.status().unwrap()["events_not_hooked"], 0);
}

#[test]
fn a_hook_that_hangs_is_killed_with_its_children_and_the_next_event_gets_its_turn() {
    let (gateway, folder) = hooked(
        "[ $LINKBAL_SEQUENCE = 1 ] && { sleep 1000 & echo $! > $1/child; wait; }; \
         echo $LINKBAL_SEQUENCE >> $1/turns",
    );
    let child = wait_for_text(&folder.path().join("child"), |text| text.ends_with('\n'));
    let process = Path::new("/proc").join(child.trim());
    assert!(process.exists());
    // The daemon goes on in the meantime.
    kept(&gateway, 4);
    assert!(process.exists(), "the events waited for the hook");
    let turns = wait_for_text(&folder.path().join("turns"), |text| text.lines().count() == 3);
    assert_eq!(turns, "2\n3\n4\n");
    wait::until("the end of the hook's child", LIMIT, || {
        Ok((!process.join("exe").exists()).then_some(()))
    })
    .unwrap();
    let log = gateway.daemon.log();
    assert!(log.contains("the hook failed for event 1: it was killed after 10 s"), "{log}");
}

#[test]
fn a_hook_that_floods_its_output_fills_no_log() {
    let (gateway, folder) = hooked(
        "[ $LINKBAL_SEQUENCE = 1 ] && yes a line of output; echo $LINKBAL_SEQUENCE >> $1/turns",
    );
    wait_for_text(&folder.path().join("turns"), |text| text.lines().count() >= 4);
    let log = gateway.daemon.log();
    assert!(log.contains("hook: its output is cut off after 16384 bytes"), "{log}");
    assert!(log.len() < 200_000, "{} bytes", log.len());
}
