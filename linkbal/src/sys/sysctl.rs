//! Sysctls, and what they were before.
//!
//! Paths are below `/proc/sys` with `/` between their parts, so that a dot in the name of an
//! interface is just a dot.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result};

use super::file::replace;

/// The value of a sysctl without its line end; `None` if it cannot be read.
pub fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(file(path)).ok()?.trim_end().to_owned())
}

/// Writes a sysctl.
pub fn write(path: &str, value: &str) -> Result<()> {
    let opened = OpenOptions::new().write(true).open(file(path));
    opened
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .with_context(|| format!("failed to set sysctl {path} to {value}"))
}

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}

/// The values from before the first change of each sysctl, kept in a JSON file.
#[derive(Debug)]
pub struct SavedSysctls {
    file: PathBuf,
    values: BTreeMap<String, String>,
}

impl SavedSysctls {
    /// Reads the values that an earlier run left in `file`; a missing file holds none.
    pub fn load(file: PathBuf) -> Result<SavedSysctls> {
        let values = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("failed to parse {}", file.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", file.display()));
            }
        };
        Ok(SavedSysctls { file, values })
    }

    /// Writes a sysctl, its present value saved before if this is the first time.
    pub fn set(&mut self, path: &str, value: &str) -> Result<()> {
        if !self.values.contains_key(path)
            && let Some(previous) = read(path)
        {
            self.values.insert(path.to_owned(), previous);
            self.save().inspect_err(|_| drop(self.values.remove(path)))?;
        }
        write(path, value)
    }

    /// Gives each sysctl that still exists its value of before, then forgets them all; goes on
    /// after failures and returns them.
    pub fn restore_all(&mut self) -> Vec<Error> {
        let mut failures: Vec<Error> = std::mem::take(&mut self.values)
            .iter()
            .filter(|(path, _)| file(path).exists())
            .filter_map(|(path, value)| write(path, value).err())
            .collect();
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => failures.push(
                Error::new(error).context(format!("failed to remove {}", self.file.display())),
            ),
            _ => {}
        }
        failures
    }

    fn save(&self) -> Result<()> {
        replace(&self.file, &serde_json::to_vec_pretty(&self.values)?)
    }
}
