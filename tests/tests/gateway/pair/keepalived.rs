//! keepalived of one gateway, with the files of `examples/ha`.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::Lab;
use linkbal_lab::{daemon, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::conntrackd::Conntrackd;
use super::files::{self, KEEPALIVED, NOTIFY};
use crate::fixture::LIMIT;
use crate::shipped::write_script;

/// A running keepalived; dropping it ends it as a service manager does.
pub(crate) struct Keepalived {
    process: Process,
    folder: TempDir,
}

impl Keepalived {
    pub(super) fn start(lab: &Lab, namespace: &Arc<Namespace>, sync: &Conntrackd) -> Self {
        // A folder that root alone can change, with all above it: scripts are not run else.
        let folder = TempDir::with_prefix_in("linkbal-lab-", "/run").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let program = daemon::find_program().unwrap().canonicalize().unwrap();
        let mut replacements = files::replacements(lab);
        let [health, conntrackd, notify] =
            ["/usr/sbin/linkbal", "/etc/conntrackd/conntrackd.conf", "/etc/keepalived/notify.sh"];
        replacements.add(health, path("linkbal"));
        replacements.add(conntrackd, sync.config().display().to_string());
        replacements.add(notify, path("notify.sh"));
        let lock = "/run/linkbal-notify.lock";
        replacements.add(lock, path("lock"));
        write_script(&path("linkbal"), &format!("#!/bin/sh\nexec {program:?} \"$@\"\n"));
        let script = replacements.apply(NOTIFY, &[conntrackd, lock, "eth0", "192.168.1.1"]);
        write_script(&path("notify.sh"), &script);
        let wanted = [
            "eth0",
            "eth1",
            "eth2",
            "192.168.1.1",
            "fd00:1::1",
            "203.0.113.2",
            "2001:db8:a::2",
            "198.51.100.2",
            "2001:db8:b::2",
            health,
            notify,
        ];
        fs::write(path("config"), replacements.apply(KEEPALIVED, &wanted)).unwrap();
        let mut command = namespace.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--no-syslog"]);
        command.args(["--use-file", &path("config"), "--pid", &path("pid")]);
        command.args(["--vrrp_pid", &path("vrrp.pid")]).current_dir(folder.path());
        let log = fs::File::create(path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = namespace.spawn(&mut command).unwrap();
        let keepalived = Self { process, folder };
        wait::until("keepalived", LIMIT, || {
            Ok(keepalived.log().contains("Entering BACKUP STATE").then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", keepalived.log()));
        keepalived
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it, as a stop of the service does.
    pub(crate) fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(LIMIT).unwrap();
    }

    /// Runs what the drop-in for the firewall's service runs after a reload.
    pub(crate) fn refresh(&self, namespace: &Namespace) {
        let script = self.folder.path().join("notify.sh").display().to_string();
        namespace.run(&script, &["INSTANCE", "gateway", "REFRESH"]).unwrap();
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal_all(&self, signal: Signal) {
        self.try_signal_all(signal).unwrap();
    }

    fn try_signal_all(&self, signal: Signal) -> anyhow::Result<()> {
        let child = fs::read_to_string(self.folder.path().join("vrrp.pid"))?;
        self.process.signal(signal)?;
        Ok(kill(Pid::from_raw(child.trim().parse()?), signal)?)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // A test that failed may have left it stopped.
        let _ = self.try_signal_all(Signal::SIGCONT);
        // Killed at once, its child would be left behind.
        if self.process.signal(Signal::SIGTERM).is_ok() {
            let _ = self.process.wait(LIMIT);
        }
    }
}
