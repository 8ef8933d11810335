//! Faults of a gateway and around it.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::{LIMIT, Soak};
use crate::topology::plan::{self, Family};
use crate::topology::{CLIENT_INTERFACE, LAN_INTERFACE};
use crate::traffic::forged::{self, Forger};
use crate::wait;

/// Number of packets of a flood.
const FLOOD: u32 = 30_000;

/// Time for which a stopped daemon stands still.
const FREEZE_TIME: Duration = Duration::from_secs(2);

/// A fault that happens to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A provider loses all packets for a while.
    BlackHole,
    /// A cable is out for a while.
    CutCable,
    /// The daemon is killed, and started again.
    Kill,
    /// The daemon ends in order, and is started again.
    Restart,
    /// The daemon stands still for a while.
    Freeze,
    /// The daemon reads its configuration again.
    Reload,
    /// A drill takes an uplink down.
    Drill,
    /// A host floods from the LAN.
    Flood,
    /// Another program deletes rules and routes.
    DeleteRules,
    /// Another program flushes the firewall: without NAT, the kernel itself resets connections.
    FlushRuleset,
    /// The disk of the state files is full while the daemon is started again.
    FullDisk,
}

impl Fault {
    pub(super) const ALL: [Fault; 11] = [
        Fault::BlackHole,
        Fault::CutCable,
        Fault::Kill,
        Fault::Restart,
        Fault::Freeze,
        Fault::Reload,
        Fault::Drill,
        Fault::Flood,
        Fault::DeleteRules,
        Fault::FlushRuleset,
        Fault::FullDisk,
    ];

    /// Returns whether flows may end by the fault; `same_uplink` is set for those of the uplink it
    /// happens to.
    pub(super) fn may_end_flows(self, same_uplink: bool) -> bool {
        match self {
            Fault::BlackHole | Fault::CutCable | Fault::Drill => same_uplink,
            Fault::FlushRuleset => true,
            _ => false,
        }
    }

    /// Causes the fault and ends it; the recovery is up to the gateway.
    pub(super) fn inject(self, soak: &mut Soak, uplink: usize) -> Result<()> {
        let lab = &soak.lab;
        match self {
            Fault::BlackHole => {
                lab.blackhole(uplink)?;
                wait_until_down(soak, uplink)?;
                soak.lab.restore(uplink)?;
            }
            Fault::CutCable => {
                lab.cut_cable(uplink)?;
                wait_until_down(soak, uplink)?;
                soak.lab.plug_cable(uplink)?;
            }
            Fault::Kill | Fault::Restart => {
                let signal = if self == Fault::Kill { Signal::SIGKILL } else { Signal::SIGTERM };
                soak.daemon.stop(signal)?;
                soak.restart_daemon()?;
            }
            Fault::Freeze => {
                soak.daemon.signal(Signal::SIGSTOP)?;
                sleep(FREEZE_TIME);
                soak.daemon.signal(Signal::SIGCONT)?;
            }
            Fault::Reload => {
                let other = soak.config.replace("weight = 30", "weight = 60");
                fs::write(soak.daemon.config_path(), other)?;
                soak.daemon.run(&["reload"])?;
                fs::write(soak.daemon.config_path(), &soak.config)?;
                soak.daemon.run(&["reload"])?;
            }
            Fault::Drill => {
                let name = lab.uplinks[uplink].spec.name.clone();
                soak.daemon.run(&["drill", &name, "--for", "2s"])?;
            }
            Fault::Flood => flood(soak)?,
            Fault::DeleteRules => delete_rules(soak),
            Fault::FlushRuleset => {
                lab.gateway.run("nft", &["flush", "ruleset"])?;
                wait_for_table(soak)?;
            }
            Fault::FullDisk => full_disk(soak)?,
        }
        Ok(())
    }
}

fn wait_until_down(soak: &mut Soak, uplink: usize) -> Result<()> {
    let down = |status: &serde_json::Value| {
        let of = &status["uplinks"][uplink];
        of["ipv4"]["state"] == "down" && of["ipv6"]["state"] == "down"
    };
    soak.daemon.wait_for("an uplink that is down", LIMIT, down).map(drop)
}

/// Waits for linkbal's nft table: without it, new connections would have no NAT.
fn wait_for_table(soak: &Soak) -> Result<()> {
    wait::until("linkbal's nft table", LIMIT, || {
        let listed = soak.lab.gateway.run("nft", &["list", "tables"])?;
        Ok(listed.contains("linkbal").then_some(()))
    })
}

fn flood(soak: &Soak) -> Result<()> {
    let lab = &soak.lab;
    let forger = Forger::new(&lab.lan, CLIENT_INTERFACE, &lab.gateway, LAN_INTERFACE)?;
    for n in 0..FLOOD {
        let port = 1024 + u16::try_from(n % 60_000)?;
        let source = SocketAddr::new(plan::client(Family::V4, 50), port);
        let server = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
        let packet = forged::udp(source, SocketAddr::new(server.into(), 443), b"flood")?;
        forger.send(&packet)?;
    }
    Ok(())
}

/// Deletes rules and routes of linkbal, as far as they exist, and changes other nft tables.
fn delete_rules(soak: &Soak) {
    let gateway = &soak.lab.gateway;
    for command in [
        "ip rule delete pref 26199",
        "ip -6 rule delete pref 26100",
        "ip route flush table 2601",
        "nft add table inet somebody",
        "nft delete table inet somebody",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        // The object may be gone already.
        let _ = gateway.run(words[0], &words[1..]);
    }
}

fn full_disk(soak: &mut Soak) -> Result<()> {
    let path = soak.disk.0.join("full");
    let mut file = fs::File::create(&path)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    soak.daemon.stop(Signal::SIGKILL)?;
    let started = soak.restart_daemon();
    fs::remove_file(&path)?;
    started?;
    wait::until("a file that can be written again", LIMIT, || {
        let written = soak.daemon.run(&["enable", "isp-a"]);
        Ok(written.is_ok().then_some(()))
    })?;
    if !soak.disk.0.join("linkbal.sock").exists() {
        bail!("no socket on the disk that was full");
    }
    Ok(())
}
