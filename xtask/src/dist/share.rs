//! Files of packages that linkbal writes itself: man pages, completions and the schema.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::compress;
use crate::process::{cargo, succeed, target_dir, workspace};

/// Shells, and the paths where they look for completions, below `share`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/linkbal"),
    ("zsh", "zsh/vendor-completions/_linkbal"),
    ("fish", "fish/vendor_completions.d/linkbal.fish"),
];

/// Returns the folder of these files: fixed, since the manifest names them.
///
/// # Errors
/// If there is no target directory.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(workspace().join("target/share"))
}

/// Writes all of them below `share`, with a linkbal that runs on this machine: one is built if there is none.
///
/// # Errors
/// If it cannot be built or fails.
pub(super) fn generate(share: &Path, linkbal: Option<&Path>) -> Result<()> {
    let linkbal = match linkbal {
        Some(linkbal) => linkbal.to_owned(),
        None => {
            succeed(&mut cargo(["build", "--package", "linkbal", "--all-targets"]))?;
            target_dir()?.join("debug/linkbal")
        }
    };
    let _ = fs::remove_dir_all(share);
    let man = share.join("man/man8");
    fs::create_dir_all(&man).with_context(|| format!("failed to create {}", man.display()))?;
    succeed(Command::new(&linkbal).arg("man").arg(&man))?;
    for page in fs::read_dir(&man)? {
        compress(&page?.path())?;
    }
    for (shell, path) in COMPLETIONS {
        write(&share.join(path), &said(Command::new(&linkbal).args(["completions", shell]))?)?;
    }
    write(&share.join("linkbal/linkbal.schema.json"), &said(Command::new(&linkbal).arg("schema"))?)
}

fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().context("failed to start linkbal")?;
    ensure!(output.status.success(), "linkbal failed ({})", output.status);
    Ok(output.stdout)
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
    written.with_context(|| format!("failed to write {}", path.display()))
}
