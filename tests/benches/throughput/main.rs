//! Bulk TCP through the gateway, and the latency beside it: `cargo xtask bench throughput`.
//!
//! A gateway for each mode of `accelerate`, one after the other in each round, so that what disturbs
//! the machine disturbs all of them. Clients, servers, providers and gateways share its processors: only
//! the ratios of one run mean something.
#![allow(missing_docs, reason = "a benchmark has no users")]

#[path = "../common/selection.rs"]
mod selection;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::{Process, purge_stale};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::Value;

use crate::selection::is_wanted;

/// Modes of `accelerate`; the first one is the measure of the others.
const MODES: [&str; 2] = ["off", "ebpf"];

/// Number of rounds, of which the median counts.
const ROUNDS: usize = 5;

/// Numbers of streams.
const STREAMS: [u32; 3] = [1, 8, 64];

const PORT: &str = "5201";
/// The UDP port that sends back what it gets (RFC 862).
const ECHO: u16 = 7;
const LIMIT: Duration = Duration::from_secs(60);

/// Seconds of a measurement.
const SECONDS: &str = "3";

/// Time between two datagrams whose round trip is taken, and the time to wait for an answer.
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(1);

/// A gateway between a client and an iperf3.
struct Gateway {
    mode: &'static str,
    lab: Lab,
    _daemon: Daemon,
    _server: Process,
}

impl Gateway {
    fn new(mode: &'static str) -> Result<Self> {
        let lab = Lab::new(&UplinkSpec::pair())?;
        let section = format!("[accelerate]\nmode = \"{mode}\"\n");
        let mut daemon = Daemon::start(&lab, &(section + &lab.config()))?;
        daemon.wait_until_up(LIMIT)?;
        let mut server = lab.net.command("iperf3");
        let server =
            lab.net.spawn(server.args(["--server", "--port", PORT]).stdout(Stdio::null()))?;
        let target = target();
        wait::until("iperf3", LIMIT, || {
            let asked = ["--client", &target, "--port", PORT, "--bytes", "1K"];
            Ok(lab.lan.run("iperf3", &asked).ok().map(drop))
        })?;
        Ok(Self { mode, lab, _daemon: daemon, _server: server })
    }

    /// Measures streams from the LAN (up) or to it.
    fn measure(&self, streams: u32, down: bool) -> Result<Sample> {
        let (target, streams) = (target(), streams.to_string());
        let asked = ["--client", &target, "--port", PORT, "--json", "--time", SECONDS];
        let way: &[&str] = if down { &["--reverse"] } else { &[] };
        let ended = AtomicBool::new(false);
        let (report, times) = thread::scope(|scope| {
            scope.spawn(|| self.echo(&ended));
            let times = scope.spawn(|| self.round_trips(&ended));
            let asked = [&asked[..], &["--parallel", &streams], way].concat();
            let report = self.lab.lan.run("iperf3", &asked);
            ended.store(true, Ordering::Relaxed);
            (report, times.join())
        });
        let times = times.map_err(|_| anyhow!("the thread that takes round trips panicked"))??;
        let report: Value = serde_json::from_str(&report?).context("iperf3 reported no JSON")?;
        Sample::of(&report, times)
    }

    /// Sends datagrams back to the client.
    fn echo(&self, ended: &AtomicBool) -> Result<()> {
        let _inside = self.lab.net.enter()?;
        let socket = UdpSocket::bind((target(), ECHO))?;
        socket.set_read_timeout(Some(TICK))?;
        let mut bytes = [0; 64];
        while !ended.load(Ordering::Relaxed) {
            if let Ok((length, client)) = socket.recv_from(&mut bytes) {
                socket.send_to(&bytes[..length], client)?;
            }
        }
        Ok(())
    }

    /// Returns the round trips of datagrams, one at a time, in milliseconds; a lost one counts as the
    /// time for which it was waited.
    fn round_trips(&self, ended: &AtomicBool) -> Result<Vec<f64>> {
        let _inside = self.lab.lan.enter()?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((target(), ECHO))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut times = Vec::new();
        let mut answer = [0; 64];
        while !ended.load(Ordering::Relaxed) {
            let sent = Instant::now();
            socket.send(b"request")?;
            match socket.recv(&mut answer) {
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock) => {
                    return Err(error).context("failed to wait for an answer");
                }
                _ => times.push(sent.elapsed().as_secs_f64() * 1e3),
            }
            thread::sleep(TICK);
        }
        Ok(times)
    }
}

fn target() -> String {
    plan::server(Family::V4, 0).to_string()
}

/// The result of one measurement.
#[derive(Clone, Copy)]
struct Sample {
    gigabits: f64,
    retransmissions: f64,
    /// Median and 99th percentile of the round trips of datagrams, in milliseconds.
    half: f64,
    nearly_all: f64,
}

impl Sample {
    fn of(report: &Value, mut times: Vec<f64>) -> Result<Self> {
        let end = &report["end"];
        let bits = end["sum_received"]["bits_per_second"].as_f64();
        times.sort_by(f64::total_cmp);
        ensure!(!times.is_empty(), "no datagram was sent");
        Ok(Self {
            gigabits: bits.context("iperf3 tells no speed")? / 1e9,
            retransmissions: end["sum_sent"]["retransmits"].as_f64().unwrap_or(0.0),
            half: times[times.len() / 2],
            nearly_all: times[times.len() * 99 / 100],
        })
    }
}

fn main() -> Result<()> {
    purge_stale()?;
    let gateways: Vec<_> = MODES
        .into_iter()
        .filter(|mode| *mode == MODES[0] || is_wanted(mode))
        .map(|mode| Gateway::new(mode).with_context(|| format!("mode {mode}")))
        .collect::<Result<_>>()?;
    println!("medians over {ROUNDS} rounds; ratios are medians of those of one round");
    println!("                              Gbit/s          again   UDP, median and 99 % in ms");
    for streams in STREAMS {
        for down in [false, true] {
            let way = if down { "to the LAN" } else { "from the LAN" };
            println!("{streams} streams {way}");
            let mut rounds = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                let round = gateways.iter().map(|gateway| gateway.measure(streams, down));
                rounds.push(round.collect::<Result<Vec<_>>>()?);
            }
            for (at, gateway) in gateways.iter().enumerate() {
                print(gateway.mode, at, &rounds);
            }
        }
    }
    Ok(())
}

/// Prints the medians of one gateway.
fn print(mode: &str, at: usize, rounds: &[Vec<Sample>]) {
    let of = |what: fn(&Sample) -> f64| median(rounds.iter().map(|round| what(&round[at])));
    let ratio = median(rounds.iter().map(|round| round[at].gigabits / round[0].gigabits));
    println!(
        "  {mode:<24}{:>9.2} {ratio:.2}x {:>10.0}   {:.2} {:.2}",
        of(|sample| sample.gigabits),
        of(|sample| sample.retransmissions),
        of(|sample| sample.half),
        of(|sample| sample.nearly_all),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
