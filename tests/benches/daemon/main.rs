//! Memory and CPU time of the daemon: `cargo xtask bench daemon`.
//!
//! Memory is measured on a gateway with the maximum number of uplinks and a hundred thousand flows,
//! before and after an uplink dies. CPU time is measured on an idle gateway with four uplinks and
//! the default probe intervals, without the work of providers and servers.
#![allow(missing_docs, reason = "a benchmark has no users")]

#[path = "../common/selection.rs"]
mod selection;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::purge_stale;
use linkbal_lab::topology::plan::{self, CLIENTS, Family, MAX_UPLINKS};
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::selection::is_wanted;

const LIMIT: Duration = Duration::from_secs(60);

const FLOWS: usize = 100_000;

/// Number of uplinks of the idle gateway, and the time for which it is measured.
const IDLE_UPLINKS: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Maximum memory of the daemon in KiB, and its maximum share of a core in percent.
const MAX_MEMORY: u64 = 30 * 1024;
const MAX_CPU: f64 = 0.5;

fn main() -> Result<()> {
    purge_stale()?;
    if is_wanted("memory") {
        let peak = memory().context("memory")?;
        ensure!(peak <= MAX_MEMORY, "the daemon takes more than {MAX_MEMORY} KiB");
    }
    if is_wanted("cpu") {
        let share = cpu().context("CPU time")?;
        ensure!(share <= MAX_CPU, "the daemon takes more than {MAX_CPU} % of a core at rest");
    }
    Ok(())
}

fn uplinks(count: usize) -> Vec<UplinkSpec> {
    let spec = |number| UplinkSpec::new(&format!("isp-{number}"), &format!("wan-{number}"), 1);
    (0..count).map(spec).collect()
}

/// Returns the peak memory of the daemon, in KiB.
fn memory() -> Result<u64> {
    let lab = Lab::new(&uplinks(MAX_UPLINKS))?;
    let mut daemon = Daemon::start(&lab, &lab.config())?;
    daemon.wait_until_up(LIMIT)?;
    let pid = daemon.id();
    let say = |what: &str| -> Result<u64> {
        let of = |field: &str| status_field(pid, field);
        let (now, peak) = (of("VmRSS:")?, of("VmHWM:")?);
        println!("  {what:<50}{now:>8} KiB, at most so far {peak:>8} KiB");
        Ok(peak)
    };
    println!("resident memory with {MAX_UPLINKS} uplinks");
    say("all up")?;
    begin_flows(&lab)?;
    let known = daemon.status()?["counters"]["flow_new"].as_u64().context("no counter")?;
    ensure!(known >= FLOWS as u64, "only {known} flows began");
    say(&format!("{FLOWS} flows"))?;
    lab.cut_cable(0)?;
    daemon.wait_for("a verdict", LIMIT, |status| status["uplinks"][0]["state"] == "down")?;
    say("an uplink died")
}

/// Starts flows with one packet each, which no server answers.
fn begin_flows(lab: &Lab) -> Result<()> {
    let _entered = lab.lan.enter()?;
    for number in 0..FLOWS {
        let client = plan::client(Family::V4, number % usize::from(CLIENTS));
        let socket = UdpSocket::bind(SocketAddr::new(client, 0))?;
        let server = plan::server(Family::V4, number / 7);
        let port = u16::try_from(10_000 + number / usize::from(CLIENTS))?;
        socket.send_to(b"hello", SocketAddr::new(server, port))?;
    }
    Ok(())
}

/// Returns the daemon's share of a core, in percent.
fn cpu() -> Result<f64> {
    let lab = Lab::new(&uplinks(IDLE_UPLINKS))?;
    let mut daemon = Daemon::start(&lab, &lab.config())?;
    daemon.wait_until_up(LIMIT)?;
    pin_to_one_cpu(&lab, daemon.id())?;
    let (before, start) = (ticks(daemon.id())?, Instant::now());
    sleep(IDLE_TIME);
    let (after, time) = (ticks(daemon.id())?, start.elapsed());
    let second = sysconf(SysconfVar::CLK_TCK)?.context("no length of a tick")?;
    let share =
        |at: usize| (after[at] - before[at]) as f64 / second as f64 / time.as_secs_f64() * 100.0;
    let (user, kernel) = (share(0), share(1));
    println!(
        "CPU time of {IDLE_UPLINKS} uplinks at rest over {} s: {:.2} % of a core, {kernel:.2} of them in \
         the kernel",
        time.as_secs(),
        user + kernel
    );
    Ok(user + kernel)
}

/// Pins the daemon to the first CPU and moves the processing of its packets to the second one. In
/// the lab, the path to the targets and back is in this machine's kernel, which would otherwise do
/// all of it within the daemon's system calls (RPS, Documentation/networking/scaling.rst).
fn pin_to_one_cpu(lab: &Lab, daemon: u32) -> Result<()> {
    const STEER: &str = "mount -t sysfs sysfs /sys
        for cpus in /sys/class/net/*/queues/rx-*/rps_cpus; do echo 2 >$cpus || exit; done";
    let mut first = CpuSet::new();
    first.set(0)?;
    sched_setaffinity(Pid::from_raw(daemon.try_into()?), &first)?;
    lab.namespaces().try_for_each(|namespace| {
        namespace.run("unshare", &["--mount", "sh", "-c", STEER]).map(drop)
    })
}

/// Returns a field of /proc/PID/status in KiB.
fn status_field(pid: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    let value = value.and_then(|value| value.split_whitespace().next());
    Ok(value.with_context(|| format!("no {field}"))?.parse()?)
}

/// Returns the clock ticks that a process has run in user mode and in the kernel
/// (proc_pid_stat(5)).
fn ticks(pid: u32) -> Result<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before the last parenthesis may hold anything.
    let (_, fields) = text.rsplit_once(')').context("no fields")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let [user, kernel] = [11, 12].map(|at| fields.get(at).context("too few fields"));
    Ok([user?.parse()?, kernel?.parse()?])
}
