//! `cargo xtask soak`: a run of linkbal for hours, with everything that can happen to it.

use std::{ffi::OsString, process::Command};

use anyhow::Result;

use crate::{
    build::release_binary,
    process::{become_program, cargo, require_root, succeed, target_dir},
    setup::{Need, setup},
};

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Duration of the run
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    time: OsString,
    /// Seed of the order of events; the same seed repeats it
    #[arg(long, value_name = "N", default_value = "1")]
    seed: OsString,
}

/// Sets up, builds, and becomes `linkbal-soak`.
///
/// # Errors
/// If a step fails; never returns otherwise.
pub(crate) fn soak(arguments: &Arguments) -> Result<()> {
    require_root("soak", "to load eBPF programs and make network namespaces")?;
    setup(Need::Run)?;
    let linkbal = release_binary()?;
    let build = ["build", "--release", "--package", "linkbal-lab", "--bin", "linkbal-soak"];
    succeed(&mut cargo(build))?;
    let mut soak = Command::new(target_dir()?.join("release/linkbal-soak"));
    soak.arg("--linkbal").arg(linkbal).arg("--for").arg(&arguments.time);
    soak.arg("--seed").arg(&arguments.seed);
    become_program(&mut soak)
}
