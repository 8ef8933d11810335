//! Values from outside that no honest client sends: they are refused, and everything goes on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fixture::{Gateway, LIMIT, linkbal, text};

fn folder(gateway: &Gateway) -> PathBuf {
    gateway.lab.gateway.run_dir()
}

/// Sends a request with bytes that linkbal's own client would not send; returns the answer.
fn post(gateway: &Gateway, target: &str) -> String {
    let mut stream = UnixStream::connect(gateway.lab.gateway.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "POST {target} HTTP/1.1\r\nhost: linkbal\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn durations_out_of_range_are_refused() {
    let mut gateway = Gateway::pair();
    let status = gateway.daemon.status().unwrap();
    for time in ["18446744073709551615s", "8days", "0s", "999ms", "-1s", "s"] {
        let error = gateway.daemon.run(&["reload", &format!("--confirm={time}")]).unwrap_err();
        let error = format!("{error:#}");
        let clear = error.contains("1 second to 7 days") || error.contains("not a time like");
        assert!(clear, "{time}: {error}");
    }
    for time in ["18446744073709551615s", "601s", "0s"] {
        let error = gateway.daemon.run(&["drill", "isp-a", &format!("--for={time}")]).unwrap_err();
        assert!(format!("{error:#}").contains("from 1s to 10m"), "{time}: {error:#}");
    }
    let most = u64::MAX;
    for target in [
        format!("/v1/reload?confirm={most}"),
        format!("/v1/reload?confirm={most}0"),
        "/v1/reload?confirm=".into(),
        "/v1/reload?%ff".into(),
        format!("/v1/uplinks/isp-a/drill?time_ms={most}"),
        format!("/v1/uplinks/isp-a/drill?time_ms={most}0"),
        "/v1/uplinks/isp-a/drill".into(),
        "/v1/uplinks/%00%ff/drain".into(),
        format!("/v1/uplinks/{}/drain", "a".repeat(10_000)),
        format!("/{}", "a/".repeat(5000)),
    ] {
        let answer = post(&gateway, &target);
        assert!(answer.starts_with("HTTP/1.1 4"), "{target}: {answer}");
    }
    gateway.daemon.check_running().unwrap();
    assert_eq!(gateway.daemon.status().unwrap()["pid"], status["pid"]);
    assert!(!gateway.daemon.log().contains("panicked"), "{}", gateway.daemon.log());
    gateway.assert_uplinks(20, &[0, 1]);
    // A long trial is allowed.
    gateway.daemon.run(&["reload", "--confirm", "7days"]).unwrap();
    gateway.daemon.run(&["confirm"]).unwrap();
}

/// Checks a trial whose file says that it never ends, and a reload by signal that continues it.
#[test]
fn a_damaged_trial_still_ends() {
    let mut gateway = Gateway::pair();
    gateway.daemon.run(&["reload", "--confirm", "1h"]).unwrap();
    let path = folder(&gateway).join("state/trial.json");
    let mut trial: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    trial["until"] = json!({ "secs": u64::MAX, "nanos": 999_999_999 });
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    fs::write(&path, trial.to_string()).unwrap();
    let config = fs::read_to_string(gateway.daemon.config_path()).unwrap();
    let mut next = Daemon::start(&gateway.lab, &config).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
    let left = gateway.daemon.status().unwrap()["confirm_within_s"].as_u64().unwrap();
    assert!(left <= 7 * 24 * 3600, "{left}");
    gateway.daemon.signal(Signal::SIGHUP).unwrap();
    wait::until("the reload", LIMIT, || {
        let events = gateway.daemon.run(&["events", "--json"])?;
        Ok(events.contains("on-trial").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    gateway.daemon.check_running().unwrap();
}

#[test]
fn a_corrupt_pid_file_is_harmless() {
    let gateway = Gateway::pair();
    let path = folder(&gateway).join("linkbal.pid");
    let config = gateway.daemon.config_path();
    let config = config.to_str().unwrap();
    for written in ["", "1", "nonsense", "../self"] {
        fs::write(&path, written).unwrap();
        let second = linkbal(&gateway.lab, &["run", "--config", config]);
        let said = text(&second.stderr);
        assert!(!second.status.success());
        let pid = gateway.daemon.id();
        assert!(said.contains("already runs") && said.contains(&format!("pid {pid};")), "{said}");
    }
    gateway.assert_uplinks(20, &[0, 1]);
}
