//! firewalld, as Debian sets it up: its IPv6 filter is reported, and the advice works.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::plan::Family;
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::conflicts::{assert_conflict, uplinks, wait_for_conflicts, wait_for_no_conflict};
use crate::fixture::{Gateway, LIMIT};

/// Configuration of a system bus for one program; that of the machine is left alone.
const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=FOLDER/bus</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"#;

/// The settings with which firewalld starts.
const DEFAULTS: &str = "DefaultZone=public\nFirewallBackend=nftables\nCleanupModulesOnExit=no\n";

/// A firewalld in the gateway, with its bus and its settings in a folder.
struct Firewalld {
    daemon: Process,
    _bus: Process,
    folder: TempDir,
}

impl Firewalld {
    fn start(gateway: &Namespace) -> Self {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let path = folder.path().to_str().unwrap();
        fs::write(folder.path().join("bus.conf"), BUS.replace("FOLDER", path)).unwrap();
        fs::write(folder.path().join("firewalld.conf"), DEFAULTS).unwrap();
        let mut command = gateway.command("dbus-daemon");
        command.arg(format!("--config-file={path}/bus.conf")).args(["--nofork", "--nopidfile"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let bus = gateway.spawn(&mut command).unwrap();
        let socket = folder.path().join("bus");
        wait::until("a bus", LIMIT, || Ok(socket.exists().then_some(()))).unwrap();
        let daemon = firewalld(gateway, folder.path());
        let this = Self { daemon, _bus: bus, folder };
        this.let_lan_out(gateway);
        this
    }

    /// Waits until firewalld works, then lets hosts of the LAN out.
    fn let_lan_out(&self, gateway: &Namespace) {
        wait::until("firewalld", LIMIT, || {
            Ok(self.client(gateway, "--state").is_ok().then_some(()))
        })
        .unwrap();
        self.client(gateway, "--zone=trusted --add-interface=lan0").unwrap();
    }

    fn client(&self, gateway: &Namespace, arguments: &str) -> Result<String> {
        let bus = bus(self.folder.path());
        let command = format!("DBUS_SYSTEM_BUS_ADDRESS={bus} firewall-cmd --quiet {arguments}");
        gateway.run("sh", &["-ec", &command])
    }

    /// Restarts firewalld with one more setting.
    fn restart_with(&mut self, gateway: &Namespace, setting: &str) {
        let path = self.folder.path().join("firewalld.conf");
        fs::write(path, format!("{DEFAULTS}{setting}\n")).unwrap();
        self.daemon.signal(Signal::SIGTERM).unwrap();
        self.daemon.wait(LIMIT).unwrap();
        self.daemon = firewalld(gateway, self.folder.path());
        self.let_lan_out(gateway);
    }
}

fn bus(folder: &Path) -> String {
    format!("unix:path={}/bus", folder.display())
}

fn firewalld(namespace: &Namespace, folder: &Path) -> Process {
    let mut command = namespace.command("firewalld");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", bus(folder));
    command.args(["--nofork", "--nopid", "--system-config"]).arg(folder);
    command.arg("--log-file").arg(folder.join("log"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    namespace.spawn(&mut command).unwrap()
}

#[test]
fn the_ipv6_rpfilter_of_firewalld_is_reported_and_the_advice_works() {
    let mut gateway = Gateway::pair();
    let mut firewalld = Firewalld::start(&gateway.lab.gateway);
    wait_for_conflicts(&mut gateway, &["firewalld", "ipv6 answers", "IPv6_rpfilter=no"]);
    assert_conflict(&gateway, "reverse path filter");
    firewalld.restart_with(&gateway.lab.gateway, "IPv6_rpfilter=no");
    wait_for_no_conflict(&mut gateway);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    for family in [Family::V4, Family::V6] {
        assert_eq!(uplinks(&gateway, family), [true, true], "{family}");
    }
}
