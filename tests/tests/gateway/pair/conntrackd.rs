//! conntrackd of one gateway, with the file of `examples/ha`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::{Lab, StandbyGateway};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::files::{self, CONNTRACKD};
use crate::fixture::LIMIT;

/// A running conntrackd.
pub(crate) struct Conntrackd {
    namespace: Arc<Namespace>,
    process: Process,
    folder: TempDir,
}

impl Conntrackd {
    pub(super) fn start(lab: &Lab, namespace: &Arc<Namespace>, number: usize) -> Self {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut replacements = files::replacements(lab);
        let (own, partner) = ("192.168.255.1", "192.168.255.2");
        replacements.add(own, StandbyGateway::sync_address(number));
        replacements.add(partner, StandbyGateway::sync_address(1 - number));
        let (lock, socket) = ("/var/lock/conntrackd.lock", "/var/run/conntrackd.ctl");
        replacements.add(lock, path("lock"));
        replacements.add(socket, path("socket"));
        let config = replacements.apply(CONNTRACKD, &[own, partner, "eth3", lock, socket]);
        fs::write(path("config"), config).unwrap();
        let mut command = namespace.command("conntrackd");
        let log = fs::File::create(path("log")).unwrap();
        command.args(["-C", &path("config")]).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = namespace.spawn(&mut command).unwrap();
        wait::until("conntrackd", LIMIT, || {
            let log = fs::read_to_string(path("log")).unwrap_or_default();
            assert!(process.ended()?.is_none(), "conntrackd ended: {log}");
            Ok(folder.path().join("socket").exists().then_some(()))
        })
        .unwrap();
        Self { namespace: Arc::clone(namespace), process, folder }
    }

    /// Returns the path of its configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    pub(crate) fn ask(&self, action: &str) -> String {
        let config = self.config().display().to_string();
        self.namespace.run("conntrackd", &["-C", &config, action]).unwrap()
    }
}
