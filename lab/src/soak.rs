//! The soak test: hours of traffic with outages, crashes, floods and rules that other programs delete.
//! It ends with the number of flows that broke though no fault concerned them, and with what is left
//! in the kernel.

mod fault;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use self::fault::Fault;
use crate::daemon::{self, Daemon};
use crate::oracle;
use crate::topology::plan::Family;
use crate::topology::{Lab, UplinkSpec};
use crate::traffic::{
    FlowReport, FlowSpec, HTTP, LongFlows, Protocol, Servers, flows_per_uplink, open_flows,
};
use crate::wait;

/// Maximum time until the gateway is as before.
const LIMIT: Duration = Duration::from_secs(120);

/// Pause between two requests of a flow.
const TICK: Duration = Duration::from_millis(200);

/// Number of flows of each kind that are open during a fault, and of new ones after it.
const LONG_FLOWS: usize = 10;
const NEW_FLOWS: usize = 10;

/// Choices of the user.
#[derive(Clone, Debug)]
pub struct Options {
    /// Duration of the run, the last round not counted.
    pub time: Duration,
    /// Seed of the sequence of faults.
    pub seed: u64,
    /// The program; found beside this one without it.
    pub linkbal: Option<PathBuf>,
}

/// Results so far.
#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    of: [u64; Fault::ALL.len()],
    flows: u64,
    new_flows: u64,
    lost_requests: [u64; Fault::ALL.len()],
}

/// A gateway under test.
struct Soak {
    daemon: Daemon,
    disk: Disk,
    _servers: Servers,
    lab: Lab,
    program: PathBuf,
    config: String,
    random: Random,
}

/// A small disk for the state files, gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        mount(Some("soak"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        Ok(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("failed to unmount {}: {error}", self.0.display());
        }
        // Whatever else is there is of the namespace, which removes it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Runs the soak test. Needs root and a process with one thread.
///
/// # Errors
/// When the gateway does not come back, a flow breaks that nothing was done to, or something is left in
/// the kernel.
pub fn run(options: &Options) -> Result<()> {
    // So that the small disk below is nobody else's.
    unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let program = options.linkbal.clone().map_or_else(daemon::find_program, Ok)?;
    let lab = Lab::new(&UplinkSpec::pair())?;
    let before = oracle::kernel_state(&lab.gateway)?;
    let disk = Disk::mount(lab.gateway.run_dir())?;
    let config = lab.config() + "hold = \"500ms\"\n[kernel]\nflow_table_size = 16384\n";
    let servers = Servers::start(&lab.net)?;
    let daemon = Daemon::start_program(&program, &lab, &config)?;
    let random = Random(options.seed | 1);
    let mut soak = Soak { daemon, disk, _servers: servers, lab, program, config, random };
    soak.daemon.wait_until_up(LIMIT)?;
    let mut counts = Counts::default();
    let end = Instant::now() + options.time;
    let ended = soak.run_until(end, &mut counts);
    println!("{}", summary(&counts));
    ended?;
    soak.daemon.stop(Signal::SIGINT)?;
    let after = oracle::kernel_state(&soak.lab.gateway)?;
    let (before, after) = (without_link_local(&before), without_link_local(&after));
    ensure!(before == after, "the kernel's state differs:\n{}", difference(&before, &after));
    println!("the kernel's state is as before");
    Ok(())
}

impl Soak {
    fn run_until(&mut self, end: Instant, counts: &mut Counts) -> Result<()> {
        while Instant::now() < end {
            let number = self.random.below(Fault::ALL.len());
            let fault = Fault::ALL[number];
            let uplink = self.random.below(self.lab.uplinks.len());
            counts.rounds += 1;
            counts.of[number] += 1;
            let lost = self.round(fault, uplink, counts);
            counts.lost_requests[number] += lost.with_context(|| {
                format!("round {}: {fault:?} at uplink {uplink}", counts.rounds)
            })?;
            if counts.rounds.is_multiple_of(50) {
                println!("{}", summary(counts));
            }
        }
        Ok(())
    }

    /// Injects a fault while flows are open, and opens new ones afterwards; returns the number of
    /// requests without an answer on flows that the fault does not concern.
    fn round(&mut self, fault: Fault, uplink: usize, counts: &mut Counts) -> Result<u64> {
        let specs = self.specs(LONG_FLOWS);
        let flows = LongFlows::start(&self.lab.lan, &specs, TICK)?;
        let before = flows.reports();
        fault.inject(self, uplink)?;
        self.daemon.wait_until_up(LIMIT)?;
        let spared = |report: &FlowReport| !fault.may_end_flows(report.uplink() == Some(uplink));
        wait::until("answers on flows that were spared", LIMIT, || {
            let now = flows.reports();
            let mut pairs = before.iter().zip(&now).filter(|(old, _)| spared(old));
            let goes_on =
                |old: &FlowReport, new: &FlowReport| new.closed || new.answers >= old.answers + 3;
            Ok(pairs.all(|(old, new)| goes_on(old, new)).then_some(()))
        })?;
        let now = flows.settle()?;
        let mut lost = 0;
        for (old, new) in before.iter().zip(&now).filter(|(old, _)| spared(old)) {
            counts.flows += 1;
            lost += new.losses - old.losses;
            if new.closed || new.moved != old.moved {
                bail!("a flow broke: before {old:?}, now {new:?}\n{}", self.daemon.log());
            }
        }
        drop(flows);
        let specs = self.specs(NEW_FLOWS);
        wait::until("answers to new flows by both uplinks", LIMIT, || {
            let seen = open_flows(&self.lab.lan, &specs)?;
            counts.new_flows += seen.len() as u64;
            let by = flows_per_uplink(&seen, self.lab.uplinks.len());
            let all = by.iter().sum::<usize>() == seen.len();
            Ok((all && by.iter().all(|count| *count > 0)).then_some(()))
        })?;
        Ok(lost)
    }

    /// Flows of all kinds between ends that change.
    fn specs(&mut self, count: usize) -> Vec<FlowSpec> {
        let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
        let kinds: Vec<_> = kinds.collect();
        let mut specs = Vec::new();
        for (family, protocol) in kinds {
            for _ in 0..count {
                let (client, server) = (self.random.below(100), self.random.below(100));
                specs.push(FlowSpec::new(family, protocol, client, server, HTTP));
            }
        }
        specs
    }

    /// Starts another daemon in the place of one that has ended, or is about to be replaced.
    fn restart_daemon(&mut self) -> Result<()> {
        let next = Daemon::start_program(&self.program, &self.lab, &self.config)?;
        // The former one is dropped while its successor runs: it can tear nothing down.
        let former = std::mem::replace(&mut self.daemon, next);
        self.daemon.wait_until_up(LIMIT)?;
        drop(former);
        Ok(())
    }
}

/// Returns the state without IPv6 link-local lines, which the kernel numbers anew.
fn without_link_local(state: &str) -> String {
    let kept = state.lines().filter(|line| !line.contains("fe80::"));
    kept.collect::<Vec<_>>().join("\n")
}

fn difference(before: &str, after: &str) -> String {
    let only = |of: &str, other: &str, sign: char| {
        let lines = of.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{sign} {line}");
            text
        })
    };
    only(before, after, '-') + &only(after, before, '+')
}

fn summary(counts: &Counts) -> String {
    let each = |of: &[u64]| {
        let each = Fault::ALL.iter().zip(of).filter(|(_, count)| **count > 0);
        let each: Vec<_> = each.map(|(fault, count)| format!("{count} {fault:?}")).collect();
        each.join(", ")
    };
    let lost = match counts.lost_requests.iter().sum::<u64>() {
        0 => "no lost request".into(),
        sum => format!("{sum} lost requests ({})", each(&counts.lost_requests)),
    };
    format!(
        "{} rounds ({}): {} flows that no fault concerned went on, with {lost}; {} new flows",
        counts.rounds,
        each(&counts.of),
        counts.flows,
        counts.new_flows
    )
}

/// A sequence that a seed repeats (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}
