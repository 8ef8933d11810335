//! Decisions of a running linkbal, made again from its recording.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::fixture::{LIMIT, config, linkbal, text};

/// Returns the decisions that the daemon logged, in the form of `linkbal replay --all`.
fn decided(log: &str) -> Vec<String> {
    let decisions = log.lines().filter_map(|line| Some(line.split_once(" decided ")?.1.to_owned()));
    decisions.collect()
}

#[test]
fn a_replay_decides_exactly_what_the_daemon_decided() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("recording");
    let program = daemon::find_program().unwrap();
    let mut daemon = Daemon::start_recording(&program, &lab, &config(&lab), &path).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    lab.blackhole(0).unwrap();
    lab.cut_cable(1).unwrap();
    let down = |uplink: &serde_json::Value| uplink["state"] == "down";
    daemon
        .wait_for("both down", LIMIT, |status| {
            status["uplinks"].as_array().unwrap().iter().all(down)
        })
        .unwrap();
    lab.restore(0).unwrap();
    lab.plug_cable(1).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    daemon.run(&["disable", "isp-a"]).unwrap();
    daemon.run(&["enable", "isp-a"]).unwrap();
    daemon.run(&["drain", "isp-b"]).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let other = config(&lab).replace("isp-b", "fiber").replace("weight = 30", "weight = 40");
    fs::write(daemon.config_path(), other).unwrap();
    daemon.run(&["reload"]).unwrap();
    daemon.run(&["enable", "fiber"]).unwrap();
    daemon.stop(Signal::SIGTERM).unwrap();
    let replayed = daemon.run(&["replay", "--all", path.to_str().unwrap()]).unwrap();
    let live = decided(&daemon.log());
    assert!(live.len() > 100, "{live:?}");
    let replayed: Vec<_> = replayed.lines().collect();
    for (number, (live, replayed)) in live.iter().zip(&replayed).enumerate() {
        assert_eq!(live, replayed, "decision {number}");
    }
    assert_eq!(live.len(), replayed.len());
    let readable = daemon.run(&["replay", path.to_str().unwrap()]).unwrap();
    let line = "tell: uplink isp-a: enabled -> disabled: the administrator wants it so";
    assert!(readable.contains(line), "{readable}");
    assert!(readable.contains("tell: uplink fiber: drained -> enabled"), "{readable}");
}

/// A disk of one page, until it is dropped.
struct TinyDisk {
    folder: TempDir,
}

impl TinyDisk {
    fn mount() -> Self {
        let folder = TempDir::new().unwrap();
        let size = Some("size=4k");
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), size).unwrap();
        Self { folder }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.folder.path(), MntFlags::MNT_DETACH) {
            eprintln!("failed to unmount {}: {error}", self.folder.path().display());
        }
    }
}

#[test]
fn a_recording_that_cannot_be_written_ends_and_linkbal_goes_on() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let disk = TinyDisk::mount();
    let path = disk.folder.path().join("recording");
    let program = daemon::find_program().unwrap();
    let mut daemon = Daemon::start_recording(&program, &lab, &config(&lab), &path).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    wait::until("a word on the recording", LIMIT, || {
        Ok(daemon.log().contains("the recording ").then_some(()))
    })
    .unwrap();
    lab.cut_cable(0).unwrap();
    lab.plug_cable(0).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let log = daemon.log();
    assert_eq!(log.matches("the recording ").count(), 1, "{log}");
}

#[test]
fn invalid_recordings_and_unwritable_paths_are_refused() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("linkbal.toml");
    fs::write(&path, config(&lab)).unwrap();
    let path = path.to_str().unwrap();
    let refused = linkbal(&lab, &["replay", path]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("line 1: this is no recording of linkbal"), "{said}");
    let device = folder.path().join("device");
    symlink("/dev/null", &device).unwrap();
    for place in [device.to_str().unwrap(), "/nonexistent/recording"] {
        let refused = linkbal(&lab, &["run", "--config", path, "--record", place]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(place), "{}", text(&refused.stderr));
    }
}
