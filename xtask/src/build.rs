//! `cargo xtask build`: the daemon as it is shipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    process::{ask, cargo, succeed, target_dir, workspace},
    setup::{Need, setup},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Then build it once more, in a copy of the sources at another path, and fail if a byte differs
    #[arg(long)]
    twice: bool,
}

/// Sets up the toolchain, builds the release binary and says where it is.
///
/// # Errors
/// If a step fails.
pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    setup(Need::Build)?;
    let binary = release_binary()?;
    let size = binary.metadata().with_context(|| format!("failed to stat {}", binary.display()))?;
    println!("{} ({:.1} MB)", binary.display(), size.len() as f64 / 1e6);
    if arguments.twice {
        again(&binary)?;
    }
    Ok(())
}

/// Builds the release binary; returns its path.
///
/// # Errors
/// If cargo fails.
pub(crate) fn release_binary() -> Result<PathBuf> {
    succeed(&mut cargo(RELEASE))?;
    Ok(target_dir()?.join("release/linkbal"))
}

const RELEASE: [&str; 5] = ["build", "--release", "--locked", "--package", "linkbal"];

/// Builds the release binary in a copy of the sources, and compares it.
fn again(binary: &Path) -> Result<()> {
    let copy = target_dir()?.join("another/copy");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).with_context(|| format!("failed to create {}", copy.display()))?;
    let mut script = Command::new("sh");
    script.current_dir(workspace()).env("COPY", &copy);
    let files = "tar -c --exclude=./target --exclude=./.git . | tar -x -C \"$COPY\"";
    succeed(script.args(["-e", "-c", files]))?;
    succeed(cargo(RELEASE).current_dir(&copy).env_remove("CARGO_TARGET_DIR"))?;
    let second = copy.join("target/release/linkbal");
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    ensure!(
        read(binary)? == read(&second)?,
        "a second build differs: compare {} and {}",
        binary.display(),
        second.display()
    );
    println!("a second build in {} has the same bytes", copy.display());
    Ok(())
}

/// Clones the last commit to another path, where a build must give the same bytes; returns that path.
///
/// # Errors
/// If there are changes that are not committed, or git fails.
pub(crate) fn another_clone() -> Result<PathBuf> {
    let mut status = Command::new("git");
    status.current_dir(workspace()).args(["status", "--porcelain"]);
    let changed = ask(&mut status).context("failed to ask git for changes")?;
    ensure!(changed.is_empty(), "commit first: a clone has only what is committed");
    let clone = target_dir()?.join("another/clone");
    let _ = fs::remove_dir_all(&clone);
    let mut git = Command::new("git");
    succeed(git.args(["clone", "--quiet"]).arg(workspace()).arg(&clone))?;
    Ok(clone)
}
