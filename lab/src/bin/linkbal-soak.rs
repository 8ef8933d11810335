//! A test of linkbal for hours in a small internet of network namespaces, with everything that can
//! happen to it, in an order that a seed repeats.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use linkbal_lab::interrupt;
use linkbal_lab::soak::{self, Options};
use nix::unistd::Uid;

/// See whether linkbal bears outages, crashes, floods and other people's rules for long.
///
/// Needs root. Everything happens in network namespaces of its own, which are removed at the end.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// For how long, like 10m
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Repeats the order of what happens
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The linkbal program [default: $LINKBAL_BIN, else the one built beside this program]
    #[arg(long, value_name = "PATH")]
    linkbal: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    ensure!(Uid::effective().is_root(), "linkbal-soak needs root to create network namespaces");
    interrupt::install()?;
    let Arguments { time, seed, linkbal } = arguments;
    soak::run(&Options { time, seed, linkbal })
}
