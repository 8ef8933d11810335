//! Debian's standard library of Rust for arm64, beside a system of another architecture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{ask, succeed};

/// The package that names the one with the library, whose name has the compiler's version.
const DEVELOPMENT: &str = "libstd-rust-web-dev";

/// Downloads the library that fits Debian's compiler on this machine, and unpacks it to `root`.
///
/// # Errors
/// If apt has no such package, or a program fails.
pub(super) fn unpack(root: &Path) -> Result<()> {
    let state = root.join("apt");
    let lists = state.join("lists/partial");
    fs::create_dir_all(&lists).with_context(|| format!("failed to create {}", lists.display()))?;
    let version = installed(DEVELOPMENT).context("Debian's compiler is not installed")?;
    let release = version.split('.').take(2).collect::<Vec<_>>().join(".");
    succeed(apt(&state).arg("update"))?;
    let packages = [
        format!("{DEVELOPMENT}:arm64={version}"),
        format!("libstd-rust-web-{release}:arm64={version}"),
    ];
    succeed(apt(&state).arg("download").args(&packages).current_dir(&state))?;
    let mut unpacked = 0;
    for package in fs::read_dir(&state)? {
        let package: PathBuf = package?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg").arg("-x").arg(&package).arg(root))?;
            unpacked += 1;
        }
    }
    ensure!(unpacked == packages.len(), "apt has downloaded {unpacked} packages");
    fs::remove_dir_all(&state).with_context(|| format!("failed to remove {}", state.display()))
}

/// Returns an apt that knows arm64, with lists of its own: the system's stay as they are.
fn apt(state: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "APT::Architectures::=arm64", "-o", "Debug::NoLocking=1"]);
    apt.arg("-o").arg(format!("Dir::State::lists={}", state.join("lists").display()));
    apt.arg("-o").arg(format!("Dir::Cache={}", state.display()));
    // Another user than root fetches, who cannot write there.
    apt.args(["-o", "APT::Sandbox::User=root"]);
    apt
}

fn installed(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    let version = ask(query.args(["--show", "--showformat=${Version}", package]))?;
    Some(version).filter(|version| !version.is_empty())
}
