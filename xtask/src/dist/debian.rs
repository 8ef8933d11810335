//! The package for Debian, as `linkbal/Cargo.toml` describes it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    process::{cargo, find_program, succeed, target_dir},
    setup::cache_dir,
};

/// Returns the path of the package for an architecture, and that of the same with a newer version,
/// which is made of it.
///
/// # Errors
/// If there is no such package, or dpkg-deb fails.
pub(super) fn two_versions(folder: &Path, architecture: Architecture) -> Result<[PathBuf; 2]> {
    let package = find(folder, architecture)?;
    let root = target_dir()?.join(format!("newer-package-{}", architecture.name()));
    let _ = fs::remove_dir_all(&root);
    succeed(Command::new("dpkg-deb").arg("--raw-extract").args([&package, &root]))?;
    let control = root.join("DEBIAN/control");
    let newer = |line: &str| match line.strip_prefix("Version: ") {
        Some(version) => format!("Version: {version}+next\n"),
        None => format!("{line}\n"),
    };
    let text: String = fs::read_to_string(&control)?.lines().map(newer).collect();
    fs::write(&control, text).with_context(|| format!("failed to write {}", control.display()))?;
    let path = root.with_extension("deb");
    let mut build = Command::new("dpkg-deb");
    succeed(build.args(["--build", "--root-owner-group"]).args([&root, &path]))?;
    Ok([package, path])
}

/// Returns the path of the package for an architecture.
fn find(folder: &Path, architecture: Architecture) -> Result<PathBuf> {
    let suffix = format!("_{}.deb", architecture.name());
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut found = paths.filter(|path| path.to_string_lossy().ends_with(&suffix));
    found.next().with_context(|| format!("no package for {} was made", architecture.name()))
}

/// Packs what was built, and has lintian look at it where it is installed.
///
/// # Errors
/// If cargo-deb fails, or lintian finds an error.
pub(super) fn pack(architecture: Architecture, folder: &Path, epoch: u64) -> Result<()> {
    let mut deb = cargo(["deb", "--package", "linkbal", "--no-build", "--locked"]);
    deb.args(["--target", architecture.target(), "--output"]).arg(folder);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::iter::once(cache_dir()?.join("bin")).chain(std::env::split_paths(&path));
    deb.env("PATH", std::env::join_paths(own)?);
    deb.env("CARGO_TARGET_DIR", architecture.target_dir()?);
    deb.env("SOURCE_DATE_EPOCH", epoch.to_string());
    succeed(&mut deb)?;
    let Some(lintian) = find_program("lintian") else { return Ok(()) };
    let mut lintian = Command::new(lintian);
    // As root it would look at what users cannot see.
    lintian.args([
        "--allow-root",
        "--fail-on",
        "error",
        "--suppress-tags",
        "statically-linked-binary",
    ]);
    succeed(lintian.arg(find(folder, architecture)?))
}
