//! Outages of the lab, recorded for `linkbal replay`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::topology::{Lab, UplinkSpec, UpstreamOutage};
use crate::traffic::{Clients, ProviderHosts, Servers};
use crate::wait;

/// Time limit of each step of an outage.
const LIMIT: Duration = Duration::from_secs(60);
/// Maximum size of a recording in bytes: recordings are kept with the code.
const MAX_SIZE: u64 = 300 << 10;
/// Share of lost probes that shows a brown-out.
const LOSS: f64 = 0.2;

/// A function that breaks an uplink, and repairs it again.
type Outage = fn(&Lab, &mut Daemon) -> Result<()>;

const OUTAGES: [(&str, Outage); 5] = [
    ("cable", cable),
    ("black-hole", black_hole),
    ("brown-out", brown_out),
    ("flapping", flapping),
    ("all-down", all_down),
];

/// Names of recordings, the behaviour of a provider that is cut off while hosts of its own answer,
/// and the time between two connections that the LAN tries, in milliseconds.
const UPSTREAM_OUTAGES: [(&str, UpstreamOutage, Option<u64>); 6] = [
    ("dead-end-40-a-second", UpstreamOutage::Silent, Some(25)),
    ("dead-end-5-a-second", UpstreamOutage::Silent, Some(200)),
    ("dead-end-1-in-3-seconds", UpstreamOutage::Silent, Some(3000)),
    ("dead-end-dns-alone", UpstreamOutage::Silent, None),
    ("dead-end-resets", UpstreamOutage::Reset, Some(25)),
    ("dead-end-portal", UpstreamOutage::Portal, Some(25)),
];

/// Records each outage to `NAME.jsonl` in `folder`, and the decisions to `NAME.txt` beside it.
///
/// # Errors
/// When one cannot be brought about or is longer than 300 KiB.
pub fn run(linkbal: Option<&Path>, folder: &Path) -> Result<()> {
    let found = linkbal.map_or_else(daemon::find_program, |path| Ok(path.to_owned()))?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for (name, outage) in OUTAGES {
        let path = folder.join(name).with_extension("jsonl");
        let config = |lab: &Lab| lab.config();
        record(&found, &path, config, outage)
            .with_context(|| format!("failed to record {name}"))?;
    }
    for (name, how, pause) in UPSTREAM_OUTAGES {
        let path = folder.join(name).with_extension("jsonl");
        let config = |lab: &Lab| ProviderHosts::config(&lab.config(), lab, 0);
        let pause = pause.map(Duration::from_millis);
        let outage = |lab: &Lab, daemon: &mut Daemon| cut_upstream(lab, daemon, how, pause);
        record(&found, &path, config, outage)
            .with_context(|| format!("failed to record {name}"))?;
    }
    Ok(())
}

fn record(
    program: &Path,
    path: &Path,
    config: impl FnOnce(&Lab) -> String,
    outage: impl FnOnce(&Lab, &mut Daemon) -> Result<()>,
) -> Result<()> {
    let lab = Lab::new(&UplinkSpec::pair())?;
    let config = config(&lab) + "hold = \"500ms\"\n";
    let mut daemon = Daemon::start_recording(program, &lab, &config, path)?;
    daemon.wait_until_up(LIMIT)?;
    outage(&lab, &mut daemon)?;
    daemon.wait_until_up(LIMIT)?;
    daemon.stop(Signal::SIGTERM)?;
    let size = fs::metadata(path)?.len();
    ensure!(size <= MAX_SIZE, "it is too long: {size} bytes");
    let decisions = daemon.run(&["replay", &path.to_string_lossy()])?;
    fs::write(path.with_extension("txt"), decisions)?;
    println!("{}", path.display());
    Ok(())
}

fn cable(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    lab.cut_cable(0)?;
    wait_until_down(daemon, "isp-a")?;
    lab.plug_cable(0)?;
    Ok(())
}

fn black_hole(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    lab.blackhole(1)?;
    wait_until_down(daemon, "isp-b")?;
    lab.restore(1)?;
    Ok(())
}

fn brown_out(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    lab.brown_out(0)?;
    let lossy = |family: &Value| family["loss"].as_f64() >= Some(LOSS);
    wait_for(daemon, "a lossy isp-a", "isp-a", lossy)?;
    lab.restore(0)?;
    Ok(())
}

fn flapping(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    for _ in 0..3 {
        lab.cut_cable(1)?;
        wait_until_down(daemon, "isp-b")?;
        lab.plug_cable(1)?;
        daemon.wait_until_up(LIMIT)?;
    }
    Ok(())
}

fn all_down(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    lab.blackhole(0)?;
    lab.cut_cable(1)?;
    wait_until_down(daemon, "isp-a")?;
    wait_until_down(daemon, "isp-b")?;
    lab.restore(0)?;
    lab.plug_cable(1)?;
    Ok(())
}

fn cut_upstream(
    lab: &Lab,
    daemon: &mut Daemon,
    how: UpstreamOutage,
    pause: Option<Duration>,
) -> Result<()> {
    let (_hosts, _servers) = (ProviderHosts::start(lab, 0)?, Servers::start(&lab.net)?);
    let clients = Clients::start(lab, 0, pause)?;
    wait::until("answers", LIMIT, || Ok(clients.are_answered().then_some(())))?;
    lab.cut_upstream(0, how)?;
    wait_until_down(daemon, "isp-a")?;
    drop(clients);
    lab.restore(0)?;
    Ok(())
}

fn wait_until_down(daemon: &mut Daemon, uplink: &str) -> Result<()> {
    wait_for(daemon, &format!("{uplink} down"), uplink, |family| family["state"] == "down")
}

/// Waits until both families of an uplink satisfy `condition`.
fn wait_for(
    daemon: &mut Daemon,
    what: &str,
    uplink: &str,
    condition: impl Fn(&Value) -> bool,
) -> Result<()> {
    let satisfied = |status: &Value| {
        let mut uplinks = status["uplinks"].as_array().into_iter().flatten();
        let uplink = uplinks.find(|known| known["name"] == uplink);
        uplink.is_some_and(|uplink| ["ipv4", "ipv6"].iter().all(|key| condition(&uplink[key])))
    };
    daemon.wait_for(what, LIMIT, satisfied).map(drop)
}
