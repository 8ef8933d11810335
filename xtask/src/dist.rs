//! `cargo xtask dist`: packages for gateways, which have no Rust: a .deb and a static tarball for each
//! architecture, their sums, a list of what is in them, and the licences of that.

mod crates;
mod debian;
mod licences;
mod sbom;
mod share;
mod tarball;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    architecture::Architecture,
    process::{ask, cargo, succeed, target_dir, workspace},
    setup::{Need, setup},
    vm,
};

/// The version of everything, that of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Architectures to make packages for; all without any
    #[arg(long, value_enum)]
    arch: Vec<Architecture>,
    /// Then install, upgrade, downgrade, remove and purge each package in a virtual machine with systemd;
    /// needs root
    #[arg(long = "try")]
    try_it: bool,
    /// Then make them once more, in another clone of the last commit, and fail if a byte differs
    #[arg(long)]
    twice: bool,
}

/// Makes all packages in `target/packages`.
///
/// # Errors
/// If something is missing on this machine, or a program fails.
pub(crate) fn dist(arguments: &Arguments) -> Result<()> {
    setup(Need::Dist)?;
    let folder = target_dir()?.join("packages");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let architectures = match &arguments.arch[..] {
        [] => &Architecture::ALL[..],
        some => some,
    };
    let epoch = epoch()?;
    let build = |architecture: &Architecture| Ok((*architecture, build(*architecture)?));
    let programs: Vec<_> = architectures.iter().map(build).collect::<Result<_>>()?;
    let own = programs.iter().find(|(architecture, _)| architecture.machine() == env::consts::ARCH);
    share::generate(&share::folder()?, own.map(|(_, program)| program.as_path()))?;
    for (architecture, program) in &programs {
        licences::write(*architecture, &share::folder()?)?;
        debian::pack(*architecture, &folder, epoch)?;
        tarball::pack(*architecture, program, &folder, epoch)?;
        sbom::write(*architecture, &folder, epoch)?;
    }
    sum(&folder)?;
    if arguments.twice {
        again(architectures, &folder)?;
    }
    for architecture in architectures.iter().filter(|_| arguments.try_it) {
        let packages = debian::two_versions(&folder, *architecture)?;
        vm::try_packages(*architecture, packages)?;
    }
    Ok(())
}

/// Clones the last commit to another path, where a build must give the same bytes; returns that path.
///
/// # Errors
/// If there are changes that are not committed, or git fails.
fn another_clone() -> Result<PathBuf> {
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

/// Makes the packages in another clone, and compares all sums.
fn again(architectures: &[Architecture], folder: &Path) -> Result<()> {
    let clone = another_clone()?;
    let mut dist = cargo(["xtask", "dist"]);
    for architecture in architectures {
        dist.args(["--arch", architecture.name()]);
    }
    succeed(dist.current_dir(&clone).env_remove("CARGO_TARGET_DIR"))?;
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS"));
    let (first, second) = (sums(folder)?, sums(&clone.join("target/packages"))?);
    let differ: Vec<_> = second.lines().filter(|line| !first.contains(line)).collect();
    ensure!(
        first == second,
        "a second build differs, compare its files with those of the first one:\n{}\nin {}",
        differ.join("\n"),
        clone.join("target/packages").display()
    );
    println!("a second build in {} has the same bytes", clone.display());
    Ok(())
}

/// Builds the daemon as one static program; returns its path.
fn build(architecture: Architecture) -> Result<PathBuf> {
    println!("dist: building for {}", architecture.name());
    let arguments = ["build", "--release", "--locked", "--package", "linkbal"];
    succeed(&mut architecture.static_build(arguments)?)?;
    Ok(architecture.target_dir()?.join(architecture.target()).join("release/linkbal"))
}

/// Returns the time that files in packages have, in seconds since 1970: that of the last commit, so that
/// a second build gives the same bytes (the convention of SOURCE_DATE_EPOCH).
fn epoch() -> Result<u64> {
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["log", "-1", "--format=%ct"]);
    let time = ask(&mut git).context("failed to ask git for the time of the last commit")?;
    time.trim().parse().context("git tells no time of the last commit")
}

/// Writes the sums of all files in the folder to `SHA256SUMS`, and shows them.
fn sum(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into()));
    let mut names: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    names.sort();
    let sums = Command::new("sha256sum").current_dir(folder).args(&names).output()?;
    ensure!(sums.status.success(), "sha256sum failed ({})", sums.status);
    fs::write(folder.join("SHA256SUMS"), &sums.stdout).context("failed to write SHA256SUMS")?;
    print!("{}", String::from_utf8_lossy(&sums.stdout));
    println!("in {}", folder.display());
    Ok(())
}

/// Compresses a file in place, without its name and time.
fn compress(file: &Path) -> Result<()> {
    succeed(Command::new("gzip").args(["-9", "-n", "--force"]).arg(file).stdin(Stdio::null()))
}
