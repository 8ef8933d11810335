//! A machine that is out of threads: an uplink that dies is failed over all the same, and the daemon
//! answers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::{Gateway, LIMIT};

/// A control group whose processes can start no thread, nor another process, until this is dropped.
struct NoThreads(PathBuf);

impl NoThreads {
    fn of(process: u32) -> Self {
        let version1 = Path::new("/sys/fs/cgroup/pids");
        let root = if version1.exists() { version1 } else { Path::new("/sys/fs/cgroup") };
        // Version 1 has no such file.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+pids");
        let group = Self(root.join(format!("linkbal-lab-{process}")));
        fs::create_dir(&group.0).unwrap();
        fs::write(group.0.join("cgroup.procs"), process.to_string()).unwrap();
        fs::write(group.0.join("pids.max"), "1").unwrap();
        group
    }
}

impl Drop for NoThreads {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let root = self.0.parent().unwrap_or(Path::new("/"));
        for member in members.lines() {
            let _ = fs::write(root.join("cgroup.procs"), member);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_machine_out_of_threads_fails_over_and_answers() {
    let mut gateway = Gateway::pair();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let flows = gateway.long_flows(25);
    let limited = NoThreads::of(gateway.daemon.id());
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    let log = gateway.daemon.log();
    assert!(log.contains("failed to start the thread \"reset\""), "{log}");
    assert!(log.contains("failed to start the thread \"count\""), "{log}");
    drop(limited);
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    drop(flows);
}
