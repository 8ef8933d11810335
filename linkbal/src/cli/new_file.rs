//! Configurations that are written for the first time.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::exit::misuse;
use crate::{
    config::COMMENTED,
    removal::shell_word,
    sys::host::{file, privilege::only_root},
};

/// Writes a file that does not exist yet, as a whole.
///
/// # Errors
///
/// If it exists, with what to do, or cannot be written.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    match file::create(path, text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error)
            .with_context(|| format!("failed to write {}: {}", path.display(), only_root())),
        written => written.with_context(|| format!("failed to write {}", path.display())),
    }
}

/// Checks that a file does not exist.
///
/// # Errors
///
/// If it exists, with what to do.
pub(super) fn check(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

fn exists(path: &Path) -> anyhow::Error {
    let shown = path.display();
    if file::read_text(path, file::LARGE).is_ok_and(|text| text == COMMENTED) {
        let word = shell_word(&path.to_string_lossy());
        return misuse(format!(
            "{shown} exists, and is not overwritten: it is the example that linkbal came with, with \
             nothing of yours in it; move it away (`mv {word} {word}.example`), and say it again"
        ));
    }
    misuse(format!(
        "{shown} exists, and is not overwritten: write another file with --output, like {shown}.new, \
         and compare the two; or move {shown} away first"
    ))
}
