//! A demonstration of linkbal that needs no configuration: `linkbal-lab` builds a small internet of
//! network namespaces, runs linkbal in it, and measures what it does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use linkbal_lab::demo::{self, Options};
use linkbal_lab::interrupt::{self, Interrupted};
use linkbal_lab::{record, screenshots};
use nix::unistd::Uid;

/// The exit status of a program ended by Ctrl-C, as shells count.
const INTERRUPTED: u8 = 130;

/// See linkbal balance two uplinks and survive the loss of each.
///
/// Needs root. Everything happens in network namespaces of its own, which are removed at the end.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only build the lab and start linkbal; keep both until Ctrl-C
    #[arg(long)]
    hold: bool,
    /// Only record outages for `linkbal replay` into this folder, with what was decided beside them
    #[arg(long, value_name = "FOLDER", conflicts_with = "hold")]
    record: Option<PathBuf>,
    /// Only make pictures of the page, into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["hold", "record"])]
    screenshots: Option<PathBuf>,
    /// Make one of each section, width, language and colour
    #[arg(long, requires = "screenshots")]
    all: bool,
    /// The linkbal program [default: $LINKBAL_BIN, else the one built beside this program]
    #[arg(long, value_name = "PATH")]
    linkbal: Option<PathBuf>,
    /// New flows of each family to open in the balancing step
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = parse_flows)]
    flows: usize,
}

fn parse_flows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(flows @ 100..=100_000) => Ok(flows),
        _ => Err("a number from 100 to 100000 is needed".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() => {
            println!("\ninterrupted: everything is removed again");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    ensure!(Uid::effective().is_root(), "linkbal-lab needs root to create network namespaces");
    interrupt::install()?;
    let Arguments { hold, record, screenshots, all, linkbal, flows } = arguments;
    if let Some(folder) = screenshots {
        screenshots::run(&screenshots::Options { folder, all, linkbal })?;
        return Ok(true);
    }
    if let Some(folder) = record {
        record::run(linkbal.as_deref(), &folder)?;
        return Ok(true);
    }
    demo::run(&Options { hold, linkbal, flows })
}
