//! `cargo xtask build`: the daemon with optimizations.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    process::{cargo, succeed, target_dir},
    setup::{Need, setup},
};

/// Sets up the toolchain, builds the release binary and says where it is.
///
/// # Errors
/// If a step fails.
pub(crate) fn build() -> Result<()> {
    setup(Need::Build)?;
    let binary = release_binary()?;
    let size = binary.metadata().with_context(|| format!("failed to stat {}", binary.display()))?;
    println!("{} ({:.1} MB)", binary.display(), size.len() as f64 / 1e6);
    Ok(())
}

/// Builds the release binary; returns its path.
///
/// # Errors
/// If cargo fails.
pub(crate) fn release_binary() -> Result<PathBuf> {
    succeed(&mut cargo(["build", "--release", "--locked", "--package", "linkbal"]))?;
    Ok(target_dir()?.join("release/linkbal"))
}
