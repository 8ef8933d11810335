//! `cargo xtask bench`: the cost of linkbal, in figures of this machine.

mod instructions;

use anyhow::Result;

use crate::{
    process::{cargo, require_root, succeed},
    setup::{Need, setup},
};

/// The measurements.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Nanoseconds for each packet, verified instructions and memory (the default)
    Datapath,
    /// Time until the clients of a dead uplink know
    Failover,
    /// Memory and CPU time of the daemon
    Daemon,
    /// Bulk TCP and the latency beside it, in each mode of `accelerate`
    Throughput,
    /// Instructions of whole gateways for each packet, beside those of others
    Instructions(instructions::Arguments),
}

/// Sets up, builds as for a release, and measures.
///
/// # Errors
/// If a step fails, or something costs more than it may.
pub(crate) fn bench(which: Option<Bench>) -> Result<()> {
    require_root("bench", "to load eBPF programs")?;
    let which = which.unwrap_or(Bench::Datapath);
    setup(if matches!(which, Bench::Instructions(_)) { Need::Vm } else { Need::Run })?;
    match which {
        Bench::Datapath => run("datapath"),
        Bench::Failover => run_with_daemon("failover"),
        Bench::Daemon => run_with_daemon("daemon"),
        Bench::Throughput => run_with_daemon("throughput"),
        Bench::Instructions(arguments) => instructions::instructions(&arguments),
    }
}

fn run_with_daemon(name: &str) -> Result<()> {
    succeed(&mut cargo(["build", "--release", "--package", "linkbal"]))?;
    run(name)
}

fn run(name: &str) -> Result<()> {
    succeed(&mut cargo(["bench", "--package", "linkbal-tests", "--bench", name]))
}
