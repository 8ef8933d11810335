//! Length of an outage for the clients: `cargo xtask bench failover`.
//!
//! Idle connections of LAN clients use one uplink, which then dies. Times are taken by the clients
//! and from the daemon's own log; clients, servers, providers and the gateway share the machine.
#![allow(missing_docs, reason = "a benchmark has no users")]

#[path = "../common/selection.rs"]
mod selection;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::purge_stale;
use linkbal_lab::topology::plan::{self, CLIENTS, Family, SERVERS};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, LongFlows, Protocol, Servers};
use linkbal_lab::wait;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::selection::is_wanted;

/// Number of runs of each case.
const RUNS: usize = 20;

const LIMIT: Duration = Duration::from_secs(60);

/// Configuration in which all connections use the first uplink while it works, with a short hold
/// time.
const RULE: &str =
    "hold = \"500ms\"\nhold_max = \"500ms\"\n[[rule]]\nuse = [\"isp-a\", \"isp-b\"]\n";

/// Probes so slow that the outage is found by other means first.
const SLOW_PROBES: &str = "interval = \"2s\"\nfailure_count = 1000\n";

/// Number of flows of each of the four kinds that keep an uplink busy, the interval of their
/// requests, and the answers to wait for on each flow.
const BUSY: usize = 20;
const TICK: Duration = Duration::from_millis(50);
const ANSWERS: u64 = 30;

/// A way in which the first uplink dies.
#[derive(Clone, Copy)]
enum Fault {
    Cable,
    BlackHole,
    /// The interface is deleted.
    Interface,
    /// The next hop does not answer ARP and neighbour solicitations any more.
    Nexthop,
}

impl Fault {
    /// Causes the fault and returns the moment just before it.
    fn inject(self, lab: &Lab) -> Result<SystemTime> {
        match self {
            Fault::Cable => lab.cut_cable(0),
            Fault::BlackHole => lab.blackhole(0),
            Fault::Interface => lab.delete_interface(0),
            Fault::Nexthop => lab.silence_nexthop(0),
        }
    }

    fn repair(self, lab: &Lab) -> Result<()> {
        match self {
            Fault::Cable => lab.plug_cable(0).map(drop),
            Fault::BlackHole => lab.restore(0).map(drop),
            Fault::Interface => lab.connect_customer(0),
            Fault::Nexthop => lab.restore_nexthop(0).map(drop),
        }
    }
}

fn main() -> Result<()> {
    purge_stale()?;
    println!("milliseconds over {RUNS} runs                                min  median     max");
    for (fault, what) in [(Fault::Cable, "cable cut"), (Fault::BlackHole, "silent black hole")] {
        for connections in [1_000, many()?].into_iter().filter(|_| is_wanted(what)) {
            measure(fault, connections)
                .with_context(|| format!("{what}, {connections}"))?
                .print(&format!("{what}, {connections} idle connections"));
        }
    }
    for (fault, busy, probes, what) in [
        (Fault::Interface, false, "", "interface deleted"),
        (Fault::BlackHole, false, "", "silent black hole of an idle uplink"),
        (Fault::BlackHole, true, "", "silent black hole under load"),
        (Fault::Nexthop, false, SLOW_PROBES, "gateway gone, of which the kernel asks for 300 ms"),
    ] {
        if !is_wanted(what) {
            continue;
        }
        let mut times = Times::default();
        time_verdicts(fault, busy, probes, &mut times).context(what)?;
        times.print(what);
    }
    Ok(())
}

/// Measures only the time from the fault to the verdict.
fn time_verdicts(fault: Fault, busy: bool, probes: &str, times: &mut Times) -> Result<()> {
    let lab = Lab::new(&UplinkSpec::pair())?;
    let mut daemon = Daemon::start(&lab, &(lab.config() + probes + RULE))?;
    let _servers = Servers::start(&lab.net)?;
    for _ in 0..RUNS {
        daemon.wait_until_up(LIMIT)?;
        let kinds = Family::ALL.into_iter().flat_map(|family| Protocol::ALL.map(|p| (family, p)));
        let flows =
            kinds.flat_map(|(family, protocol)| FlowSpec::spread(family, protocol, 80, BUSY));
        let flows: Vec<_> = flows.filter(|_| busy).collect();
        let flows = LongFlows::start(&lab.lan, &flows, TICK)?;
        // The load has lasted for more than a second.
        wait::until("answers", LIMIT, || {
            Ok(flows.reports().iter().all(|report| report.answers >= ANSWERS).then_some(()))
        })?;
        let known = verdicts(&daemon).len();
        let died = fault.inject(&lab)?;
        let verdict =
            wait::until("the verdict", LIMIT, || Ok(verdicts(&daemon).get(known).copied()))?;
        times.verdict.push(verdict.duration_since(died).unwrap_or_default());
        drop(flows);
        fault.repair(&lab)?;
    }
    Ok(())
}

/// Returns 10,000, or fewer if this process may not have both ends of so many connections.
fn many() -> Result<usize> {
    let (_, sockets) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(usize::try_from(sockets.saturating_sub(2_000) / 2)?.min(10_000))
}

/// Times of all runs of a case.
#[derive(Default)]
struct Times {
    verdict: Vec<Duration>,
    half: Vec<Duration>,
    all: Vec<Duration>,
}

impl Times {
    fn print(mut self, case: &str) {
        println!("  {case}");
        for (what, times) in [
            ("from the fault to the verdict", &mut self.verdict),
            ("from the verdict to half of the clients reset", &mut self.half),
            ("from the verdict to all of the clients reset", &mut self.all),
        ] {
            if times.is_empty() {
                continue;
            }
            times.sort_unstable();
            let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
            let (median, last) = (times.len() / 2, times.len() - 1);
            println!("    {what:<46}{:>8.1}{:>8.1}{:>8.1}", ms(0), ms(median), ms(last));
        }
    }
}

fn measure(fault: Fault, connections: usize) -> Result<Times> {
    let lab = Lab::new(&UplinkSpec::pair())?;
    let mut daemon = Daemon::start(&lab, &(lab.config() + RULE))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = Times::default();
    for _ in 0..RUNS {
        daemon.wait_until_up(LIMIT)?;
        // The previous run's servers keep connections that they do not know to be over.
        let servers = Servers::start(&lab.net)?;
        let verdicts = verdicts(&daemon).len();
        let entered = lab.lan.enter()?;
        let clients = runtime.block_on(connect(connections))?;
        drop(entered);
        let died = fault.inject(&lab)?;
        let mut resets = runtime.block_on(resets(clients))?;
        resets.sort_unstable();
        let verdict = *self::verdicts(&daemon).get(verdicts).context("no verdict in the log")?;
        let since = |later: SystemTime, earlier| later.duration_since(earlier).unwrap_or_default();
        times.verdict.push(since(verdict, died));
        times.half.push(since(resets[connections / 2], verdict));
        times.all.push(since(resets[connections - 1], verdict));
        fault.repair(&lab)?;
        drop(servers);
    }
    Ok(times)
}

async fn connect(count: usize) -> Result<Vec<TcpStream>> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = plan::client(Family::V4, number % usize::from(CLIENTS));
        let server = plan::server(Family::V4, number / 7 % usize::from(SERVERS));
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(client, 0))?;
        clients.push(socket.connect(SocketAddr::new(server, 80)).await?);
    }
    Ok(clients)
}

/// Waits until each of the connections is reset and returns the times.
async fn resets(clients: Vec<TcpStream>) -> Result<Vec<SystemTime>> {
    let mut waiting = JoinSet::new();
    for client in clients {
        waiting.spawn(async move {
            client.readable().await.map(|()| (SystemTime::now(), client.try_read(&mut [0])))
        });
    }
    let mut times = Vec::new();
    let all = async {
        while let Some(outcome) = waiting.join_next().await {
            let (at, read) = outcome??;
            let error = read.err().context("a server said something")?;
            ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
            times.push(at);
        }
        anyhow::Ok(())
    };
    let outcome = tokio::time::timeout(LIMIT, all).await;
    outcome.with_context(|| format!("{} connections reset", times.len()))??;
    Ok(times)
}

/// Returns the times at which IPv4 of the first uplink was found down, according to the log.
fn verdicts(daemon: &Daemon) -> Vec<SystemTime> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("isp-a ipv4: up -> down"));
    let times = lines.filter_map(|line| line.split_whitespace().next());
    times.filter_map(|time| humantime::parse_rfc3339(time).ok()).collect()
}
