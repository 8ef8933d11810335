//! DHCP: dnsmasq at a provider, udhcpc in the gateway.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::namespace::{Namespace, Process};
use crate::topology::CUSTOMER_INTERFACE;
use crate::wait;

/// Time that a client may take on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

/// A running dnsmasq that serves no names; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts dnsmasq on a provider's interface towards its customer, with `lines` added to its
    /// configuration; returns once it serves. A client that asks before that may ask again minutes
    /// later only (RFC 2131, section 4.4.5).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(provider: &Namespace, lines: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("linkbal-dhcp-").context("failed to make a folder")?;
        let path = folder.path().join("dnsmasq.conf");
        let leases = folder.path().join("leases");
        let log = folder.path().join("log");
        let text = format!(
            "port=0\nno-hosts\nno-resolv\nuser=root\npid-file=\ninterface={CUSTOMER_INTERFACE}\n\
             bind-dynamic\nno-ping\ndhcp-authoritative\ndhcp-leasefile={}\nlog-facility={}\n\
             {lines}",
            leases.display(),
            log.display()
        );
        fs::write(&path, text).context("failed to write the configuration of dnsmasq")?;
        let mut command = provider.command("dnsmasq");
        command.arg("--keep-in-foreground").arg(format!("--conf-file={}", path.display()));
        let process = provider.spawn(&mut command)?;
        let started = || fs::read_to_string(&log).is_ok_and(|text| text.contains("started"));
        wait::until("dnsmasq", LIMIT, || Ok(started().then_some(())))?;
        Ok(Self { _process: process, _folder: folder })
    }

    /// Starts a server that gives out `address` of a /24, with these routers.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn lease(provider: &Namespace, address: Ipv4Addr, routers: &[Ipv4Addr]) -> Result<Self> {
        let mut lines = format!("dhcp-range={address},{address},255.255.255.0,10m\n");
        let routers: String = routers.iter().map(|router| format!(",{router}")).collect();
        // Without a value, dnsmasq names no router, not even itself.
        let _ = writeln!(lines, "dhcp-option=option:router{routers}");
        Self::start(provider, &lines)
    }
}

/// The way in which a client changes addresses and routes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientBehaviour {
    /// The metric of its default routes; without one they replace those of others.
    pub metric: Option<u32>,
    /// Set if the client removes its address before it sets it again, not only its default route.
    pub removes_address: bool,
    /// Time between removing and setting, in tenths of a second.
    pub pause_tenths: u32,
}

/// A running udhcpc; dropping it ends it, but leaves what it has set.
#[derive(Debug)]
pub struct Client {
    process: Process,
    folder: TempDir,
}

impl Client {
    /// Starts udhcpc on `interface`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(gateway: &Namespace, interface: &str, behaviour: ClientBehaviour) -> Result<Self> {
        let folder = TempDir::with_prefix("linkbal-dhcp-").context("failed to make a folder")?;
        let path = folder.path().join("script");
        fs::write(&path, script(&done(&folder), behaviour)).context("failed to write a script")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let mut command = gateway.command("busybox");
        command.args(["udhcpc", "-f", "-i", interface, "-T", "1", "-A", "1", "-s"]).arg(&path);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Ok(Self { process: gateway.spawn(&mut command)?, folder })
    }

    /// Renews the lease, and waits until the client's script has finished.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn renew(&self) -> Result<()> {
        let before = self.done("renew") + self.done("bound");
        self.process.signal(Signal::SIGUSR1)?;
        wait::until("a renewed lease", LIMIT, || {
            Ok((self.done("renew") + self.done("bound") > before).then_some(()))
        })
    }

    /// Releases the lease, and waits until the client has removed the address.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn release(&self) -> Result<()> {
        let before = self.done("deconfig");
        self.process.signal(Signal::SIGUSR2)?;
        wait::until(
            "a released lease",
            LIMIT,
            || Ok((self.done("deconfig") > before).then_some(())),
        )
    }

    /// Returns how often the client's script has finished with `event`.
    fn done(&self, event: &str) -> usize {
        let text = fs::read_to_string(done(&self.folder)).unwrap_or_default();
        text.lines().filter(|line| *line == event).count()
    }
}

fn done(folder: &TempDir) -> PathBuf {
    folder.path().join("done")
}

/// Returns the script that udhcpc calls with an event and the lease in variables.
fn script(done: &std::path::Path, behaviour: ClientBehaviour) -> String {
    let metric = behaviour.metric.map_or(String::new(), |metric| format!("metric {metric}"));
    let ClientBehaviour { removes_address, pause_tenths, .. } = behaviour;
    let forget = if removes_address { "ip -4 address flush dev $interface\n" } else { "" };
    format!(
        "#!/bin/sh
case $1 in
deconfig) ip -4 address flush dev $interface ;;
bound|renew)
    {forget}while ip -4 route delete default dev $interface 2>/dev/null; do :; done
    busybox usleep {}
    ip -4 address replace $ip/$mask dev $interface
    for address in $(ip -4 -oneline address show dev $interface | awk '{{ print $4 }}'); do
        [ $address = $ip/$mask ] || ip -4 address delete $address dev $interface
    done
    for one in $router; do
        ip -4 route replace default via $one dev $interface proto dhcp {metric}
    done ;;
esac
echo $1 >> {}
",
        pause_tenths * 100_000,
        done.display()
    )
}
