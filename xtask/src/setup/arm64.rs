//! Debian's standard library of Rust for arm64, beside a system of another architecture.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{apt::Archive, architecture::Architecture, process::ask};

/// The package that names the one with the library, whose name has the compiler's version.
const DEVELOPMENT: &str = "libstd-rust-web-dev";

/// Downloads the library that fits Debian's compiler on this machine, and unpacks it to `root`.
///
/// # Errors
/// If apt has no such package, or a program fails.
pub(super) fn unpack(root: &Path) -> Result<()> {
    let version = installed(DEVELOPMENT).context("Debian's compiler is not installed")?;
    let release = version.split('.').take(2).collect::<Vec<_>>().join(".");
    let archive = Archive::of(Architecture::Arm64)?;
    for package in [DEVELOPMENT, &format!("libstd-rust-web-{release}")] {
        archive.unpack(&format!("{package}={version}"), root)?;
    }
    Ok(())
}

fn installed(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    let version = ask(query.args(["--show", "--showformat=${Version}", package]))?;
    Some(version).filter(|version| !version.is_empty())
}
