//! The static tarball, for systems without Debian's packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{VERSION, compress, share};
use crate::{
    architecture::Architecture,
    process::{succeed, workspace},
};

/// Files of the repository, and where they are in the tarball.
const FILES: [(&str, &str); 14] = [
    ("README.md", "README.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("SECURITY.md", "SECURITY.md"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("docs", "docs"),
    ("examples", "examples"),
    ("dist/grafana", "grafana"),
    ("dist/prometheus/linkbal.rules.yml", "prometheus/linkbal.rules.yml"),
    ("dist/sysctl/60-linkbal.conf", "etc/sysctl.d/60-linkbal.conf"),
    ("dist/iproute2/linkbal.conf", "etc/iproute2/rt_tables.d/linkbal.conf"),
    ("dist/openwrt/files/linkbal.init", "openwrt/linkbal.init"),
    ("linkbal/linkbal.toml", "etc/linkbal/linkbal.toml"),
    ("linkbal/linkbal.service", "lib/systemd/system/linkbal.service"),
];

/// Packs a program, and what belongs to it, as `linkbal-VERSION-ARCHITECTURE.tar.gz`.
///
/// # Errors
/// If a file cannot be copied, or tar fails.
pub(super) fn pack(
    architecture: Architecture,
    program: &Path,
    folder: &Path,
    epoch: u64,
) -> Result<()> {
    let name = format!("linkbal-{VERSION}-{}", architecture.name());
    let root = folder.join(&name);
    copy(program, &root.join("sbin/linkbal"))?;
    copy(&share::folder()?, &root.join("share"))?;
    for (from, to) in FILES {
        copy(&workspace().join(from), &root.join(to))?;
    }
    let tar = folder.join(format!("{name}.tar"));
    succeed(archive(&tar, folder, epoch).arg(&name))?;
    fs::remove_dir_all(&root).with_context(|| format!("failed to remove {}", root.display()))?;
    compress(&tar)
}

/// Returns the command that packs without what differs between machines.
fn archive(tar: &Path, folder: &Path, epoch: u64) -> Command {
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--format=ustar", "--numeric-owner"]);
    command.args(["--owner=0", "--group=0", "--mode=u+rw,go=rX"]);
    command.arg(format!("--mtime=@{epoch}"));
    command.arg("--file").arg(tar).arg("--directory").arg(folder);
    command
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let into: PathBuf = to.parent().unwrap_or(to).into();
    fs::create_dir_all(&into).with_context(|| format!("failed to create {}", into.display()))?;
    succeed(Command::new("cp").arg("--recursive").arg(from).arg(to))
}
