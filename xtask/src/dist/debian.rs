//! The package for Debian, as `linkbal/Cargo.toml` describes it.

use std::path::Path;

use anyhow::Result;

use super::architecture::Architecture;
use crate::{
    process::{cargo, find_program, succeed},
    setup::cache_dir,
};

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
    let mut lintian = std::process::Command::new(lintian);
    // As root it would look at what users cannot see.
    lintian.args([
        "--allow-root",
        "--fail-on",
        "error",
        "--suppress-tags",
        "statically-linked-binary",
    ]);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(&format!("_{}.deb", architecture.name())) {
            succeed(lintian.arg(path))?;
            break;
        }
    }
    Ok(())
}
