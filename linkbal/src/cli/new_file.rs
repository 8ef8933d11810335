//! Configurations that are written for the first time.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::exit::misuse;
use crate::{
    config::COMMENTED,
    sys::host::{file, privilege::only_root},
};

/// Writes a file that does not exist yet, as a whole. The example that linkbal came with makes room:
/// there is nothing of the user's in it.
///
/// # Errors
///
/// If it exists, with what to do, or cannot be written.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    match file::create(path, text.as_bytes(), COMMENTED) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error)
            .with_context(|| format!("failed to write {}: {}", path.display(), only_root())),
        written => written.with_context(|| format!("failed to write {}", path.display())),
    }
}

/// Checks that a file does not exist, or is the example that linkbal came with.
///
/// # Errors
///
/// If it exists, with what to do.
pub(super) fn check(path: &Path) -> Result<()> {
    let free = path.symlink_metadata().is_err() || file::is_text(path, COMMENTED);
    if free { Ok(()) } else { Err(exists(path)) }
}

fn exists(path: &Path) -> anyhow::Error {
    let shown = path.display();
    misuse(format!(
        "{shown} exists, and is not overwritten: write another file with --output, like {shown}.new, \
         and compare the two; or move {shown} away first"
    ))
}
