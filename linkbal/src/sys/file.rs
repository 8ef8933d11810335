//! Files that a crash leaves whole.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::descriptors;

/// Reads a file that linkbal left; a missing one says nothing. One that is damaged, or somebody else's,
/// is left out with a warning: it must keep nobody from starting, or from removing everything.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn load<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", path.display()));
        }
    };
    Ok(serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(
            "{} is damaged ({error}): what it tells of the time before linkbal is lost, and is not \
             restored",
            path.display()
        );
        T::default()
    }))
}

/// Replaces the file at `path`, whose folder is made if need be: whoever reads, also after a power
/// failure, sees the old contents or the new ones, never a part.
///
/// # Errors
///
/// If it cannot be written; then the old contents stand.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    write(path, contents).with_context(|| format!("failed to write {}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let _lent = descriptors::lend();
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // The name, too, must be on the disk.
    File::open(folder)?.sync_all()
}
