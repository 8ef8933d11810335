//! `cargo xtask screenshots`: pictures of the page for the documents, from the lab.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    build::release_binary,
    process::{become_program, cargo, require_root, succeed, target_dir, workspace},
    setup::{Need, setup},
};

/// Arguments of `cargo xtask screenshots`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Make one of each section, width, language and colour, in `target/screenshots`
    #[arg(long)]
    all: bool,
}

/// Sets up, builds, and becomes the lab that makes the pictures.
///
/// # Errors
/// If a step fails; never returns otherwise.
pub(crate) fn screenshots(arguments: &Arguments) -> Result<()> {
    require_root("screenshots", "to load eBPF programs and make network namespaces")?;
    setup(Need::Test)?;
    let linkbal = release_binary()?;
    let build = ["build", "--release", "--package", "linkbal-lab", "--bin", "linkbal-lab"];
    succeed(&mut cargo(build))?;
    let mut lab = Command::new(target_dir()?.join("release/linkbal-lab"));
    lab.arg("--linkbal").arg(linkbal).arg("--screenshots").arg(folder(arguments.all)?);
    if arguments.all {
        lab.arg("--all");
    }
    become_program(&mut lab)
}

fn folder(all: bool) -> Result<PathBuf> {
    Ok(match all {
        true => target_dir()?.join("screenshots"),
        false => workspace().join("docs/images"),
    })
}
