//! FRR in a namespace.

use std::fs::{self, File};
use std::process::Stdio;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::wait;
use tempfile::TempDir;

use crate::fixture::LIMIT;
use crate::shipped::write_script;

/// Folder of FRR's daemons in Debian's package.
const PROGRAMS: &str = "/usr/lib/frr";

/// The daemons of a router.
pub(super) struct Frr {
    _processes: Vec<Process>,
    folder: TempDir,
}

impl Frr {
    /// Starts them with a configuration.
    pub(super) fn start(namespace: &Namespace, config: &str) -> Self {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        // The daemons change to their own user.
        namespace.run("chown", &["frr:frr", &path("")]).unwrap();
        let processes = ["zebra", "bgpd", "bfdd"].map(|daemon| {
            let mut command = namespace.command(format!("{PROGRAMS}/{daemon}"));
            command.args(["--vty_socket", &path(""), "--socket", &path("zserv")]);
            command.args(["--config_file", &path("none"), "--pid_file", &path(daemon)]);
            command.args(["--vty_port", "0", "--log", "stdout"]);
            if daemon == "bfdd" {
                command.args(["--bfdctl", &path("bfdd.sock")]);
            }
            let log = path(&format!("{daemon}.log"));
            let file = File::create(&log).unwrap();
            command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
            let mut process = namespace.spawn(&mut command).unwrap();
            let socket = folder.path().join(format!("{daemon}.vty"));
            wait::until(daemon, LIMIT, || {
                let log = fs::read_to_string(&log).unwrap_or_default();
                assert!(process.ended()?.is_none(), "{daemon} ended: {log}");
                Ok(socket.exists().then_some(()))
            })
            .unwrap();
            process
        });
        fs::write(path("frr.conf"), config).unwrap();
        write_script(
            &path("vtysh"),
            &format!("#!/bin/sh\nexec vtysh --vty_socket {} \"$@\"\n", path("")),
        );
        let frr = Self { _processes: processes.into(), folder };
        let loaded = namespace.run(&frr.path("vtysh"), &["-f", &frr.path("frr.conf")]).unwrap();
        assert!(!loaded.contains('%'), "{loaded}");
        frr
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Returns the answer to a command.
    pub(super) fn ask(&self, namespace: &Namespace, command: &str) -> String {
        namespace.run(&self.path("vtysh"), &["-c", command]).unwrap()
    }
}
