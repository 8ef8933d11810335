//! The `linkbal` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    linkbal::cli::run(linkbal::cli::Cli::parse())
}
