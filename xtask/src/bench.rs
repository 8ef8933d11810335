//! `cargo xtask bench`: the cost of linkbal, in figures of this machine.

use anyhow::Result;

use crate::{
    process::{cargo, require_root, succeed},
    setup::{Need, setup},
};

/// The measurements.
#[derive(Clone, Copy, clap::Subcommand)]
pub(crate) enum Bench {
    /// Nanoseconds for each packet, verified instructions and memory (the default)
    Datapath,
    /// Time until the clients of a dead uplink know
    Failover,
    /// Memory and CPU time of the daemon
    Daemon,
}

/// Sets up, builds as for a release, and measures.
///
/// # Errors
/// If a step fails, or something costs more than it may.
pub(crate) fn bench(which: Option<Bench>) -> Result<()> {
    require_root("bench", "to load eBPF programs")?;
    setup(Need::Run)?;
    match which.unwrap_or(Bench::Datapath) {
        Bench::Datapath => run("datapath"),
        Bench::Failover => run_with_daemon("failover"),
        Bench::Daemon => run_with_daemon("daemon"),
    }
}

fn run_with_daemon(name: &str) -> Result<()> {
    succeed(&mut cargo(["build", "--release", "--package", "linkbal"]))?;
    run(name)
}

fn run(name: &str) -> Result<()> {
    succeed(&mut cargo(["bench", "--package", "linkbal-tests", "--bench", name]))
}
