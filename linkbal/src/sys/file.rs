//! Files that a crash leaves whole.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

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
