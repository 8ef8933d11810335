//! The package for Debian: dpkg installs, upgrades and removes it, on a machine with systemd.

use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{ConstantRate, LossReport};

use crate::fixture::{assert_undisturbed, config, text};
use crate::lines::with_slow_probes;
use crate::machine::Machine;

/// Two versions of the package, which `cargo xtask dist --try` brings.
const OLDER: &str = "/packages/1.deb";
const NEWER: &str = "/packages/2.deb";
const CONFIG: &str = "/etc/linkbal/linkbal.toml";
/// Debian's name of the machine's architecture.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// Packages that linkbal depends on, and versions that are enough.
const DEPENDENCIES: [(&str, &str); 3] = [("nftables", "1.0"), ("iproute2", "6.1"), ("kmod", "30")];
/// Datagrams of a second: a guest without an accelerator has no time for more.
const RATE: u32 = 200;
const FLOWS: usize = 50;
/// Number of datagrams before and after a change.
const PAUSE: u64 = 2 * RATE as u64;

/// Returns the database of a machine that has what linkbal depends on.
fn status() -> String {
    let entry = |(name, version): (&str, &str)| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: {ARCHITECTURE}\n\
             Maintainer: nobody\nVersion: {version}\nDescription: none\n\n"
        )
    };
    DEPENDENCIES.map(entry).concat()
}

/// Runs dpkg.
fn dpkg(machine: &Machine, args: &[&str]) {
    let mut dpkg = machine.command("dpkg");
    // Programs that the guest lacks, and linkbal does not need.
    let output = dpkg.arg("--force-bad-path").args(args).output().unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    println!("dpkg {args:?}: {said}{errors}");
    assert!(output.status.success(), "dpkg {args:?}: {said}{errors}\n{}", machine.log());
}

/// Installs another version while datagrams pass: none is lost, no flow moves, and the daemon is another
/// one.
fn replace(machine: &Machine, package: &str) {
    let version = || machine.run("dpkg-query", &["--show", "--showformat=${Version}", "linkbal"]);
    let former = version();
    let before = machine.property("linkbal", "MainPID");
    let flows = ConstantRate::start(&machine.lab.lan, &machine.lab.net, FLOWS, RATE).unwrap();
    flows.wait_for(PAUSE).unwrap();
    dpkg(machine, &["--install", package]);
    machine.wait_until_up();
    flows.wait_for(PAUSE).unwrap();
    let LossReport { sent, lost, moved } = flows.end();
    assert!(sent >= 2 * PAUSE, "{sent}");
    assert_eq!((lost, moved), (0, 0), "{}", machine.log());
    assert_ne!(machine.property("linkbal", "MainPID"), before);
    assert_ne!(version(), former);
}

/// Returns what the kernel has of linkbal.
fn kernel_state(machine: &Machine) -> [bool; 3] {
    let rules = machine.run("ip", &["rule", "show"]);
    let tables = machine.run("nft", &["list", "tables"]);
    let pins = machine.run("ls", &["/sys/fs/bpf"]);
    [rules.contains("26199:"), tables.contains("inet linkbal"), pins.contains("linkbal")]
}

#[test]
#[ignore = "needs packages: `cargo xtask dist --arch amd64 --try`"]
fn the_package_is_installed_upgraded_downgraded_removed_and_purged() {
    let machine = Machine::start_without_linkbal(Lab::new(&UplinkSpec::pair()).unwrap());
    machine.run("mkdir", &["-p", "/var/lib/dpkg/info", "/var/lib/dpkg/updates"]);
    machine.write("/var/lib/dpkg/status", &status());
    dpkg(&machine, &["--install", OLDER]);
    // An edited configuration comes first.
    assert_eq!(machine.property("linkbal", "ActiveState"), "inactive");
    assert_eq!(machine.property("linkbal", "UnitFileState"), "disabled");
    assert_eq!(kernel_state(&machine), [false; 3]);
    let edited = with_slow_probes(&config(&machine.lab));
    machine.write(CONFIG, &edited);
    machine.systemctl_ok(&["enable", "--now", "linkbal"]);
    machine.wait_until_up();
    machine.assert_spread();
    let flows = machine.long_flows();
    let before = flows.reports();
    replace(&machine, NEWER);
    replace(&machine, OLDER);
    assert_undisturbed(&flows, &before, 10, |_| true);
    assert_eq!(machine.run("cat", &[CONFIG]), edited);
    machine.assert_spread();

    dpkg(&machine, &["--remove", "linkbal"]);
    assert_eq!(machine.property("linkbal", "ActiveState"), "inactive");
    assert_eq!(kernel_state(&machine), [false; 3]);
    assert_eq!(machine.run("cat", &[CONFIG]), edited);
    machine.run("test", &["-d", "/var/lib/linkbal"]);
    // What was stored is used again.
    dpkg(&machine, &["--install", NEWER]);
    machine.systemctl_ok(&["enable", "--now", "linkbal"]);
    machine.wait_until_up();
    machine.assert_spread();
    dpkg(&machine, &["--purge", "linkbal"]);
    assert_eq!(kernel_state(&machine), [false; 3]);
    for gone in ["/etc/linkbal", "/var/lib/linkbal"] {
        machine.run("test", &["!", "-e", gone]);
    }
}
