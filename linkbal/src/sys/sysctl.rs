//! Sysctls, and their former values.
//!
//! Paths are below `/proc/sys` with `/` between their parts, so that a dot in the name of an
//! interface is just a dot.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};

use super::host::file::{load, remove_stored, store_json};

/// Returns the value of a sysctl without its line end; `None` if it cannot be read.
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

/// The value of a sysctl before linkbal, and the one that linkbal set.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Saved {
    Changed {
        before: String,
        /// The value of linkbal's, as the kernel shows it.
        ours: String,
    },
    /// The former value alone, as linkbal 0.1.0 kept it.
    Before(String),
}

/// The values from before the first change of each sysctl, kept in a JSON file.
#[derive(Debug)]
pub struct SavedSysctls {
    file: PathBuf,
    values: BTreeMap<String, Saved>,
}

impl SavedSysctls {
    /// Reads the values that an earlier run left in `file`; a missing file holds none.
    pub fn load(file: PathBuf) -> SavedSysctls {
        let values = load(&file, "sysctls are not made what they were before linkbal");
        SavedSysctls { file, values }
    }

    /// Parses the text of such a file.
    #[cfg(feature = "model")]
    pub fn parse(text: &[u8]) -> Option<SavedSysctls> {
        let values = super::host::file::parse(text).ok()?;
        Some(SavedSysctls { file: PathBuf::new(), values })
    }

    /// Writes a sysctl, whose present value is saved before if this is the first time. One that has
    /// its former value again is forgotten: it is linkbal's no more.
    pub fn set(&mut self, path: &str, value: &str) -> Result<()> {
        let known = match self.values.get(path) {
            Some(Saved::Changed { before, .. } | Saved::Before(before)) => Some(before.clone()),
            None => None,
        };
        if known.as_deref() == Some(value) {
            write(path, value)?;
            self.values.remove(path);
            store_json(&self.file, &self.values);
            return Ok(());
        }
        if let Some(before) = known.or_else(|| read(path)) {
            let saved = Saved::Changed { before, ours: value.to_owned() };
            self.values.insert(path.to_owned(), saved);
            // If that cannot be written now, this remembers it.
            store_json(&self.file, &self.values);
        }
        write(path, value)
    }

    /// Returns the former values of changed sysctls.
    pub fn before(&self) -> BTreeMap<String, String> {
        let each = self.values.iter().map(|(path, saved)| match saved {
            Saved::Changed { before, .. } | Saved::Before(before) => (path.clone(), before.clone()),
        });
        each.collect()
    }

    /// Returns the values that linkbal gave to changed sysctls, as far as they are known.
    pub fn set_values(&self) -> BTreeMap<String, String> {
        let each = self.values.iter().filter_map(|(path, saved)| match saved {
            Saved::Changed { ours, .. } => Some((path.clone(), ours.clone())),
            Saved::Before(_) => None,
        });
        each.collect()
    }

    /// Restores the former value of each sysctl that still has linkbal's value, then forgets them
    /// all; goes on after failures and returns them. Another value is the choice of somebody else;
    /// only a value that linkbal 0.1.0 saved is restored in any case.
    pub fn restore_all(&mut self) -> Vec<Error> {
        let values = std::mem::take(&mut self.values);
        let restored = values.iter().filter_map(|(path, saved)| match saved {
            Saved::Changed { before, ours } => (read(path)? == *ours).then_some((path, before)),
            Saved::Before(before) => (read(path)? != *before).then_some((path, before)),
        });
        let failures = restored.filter_map(|(path, before)| write(path, before).err()).collect();
        // What is restored has its value of before, and so the file is harmless even if it stays.
        remove_stored(&self.file);
        failures
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_damaged_file_is_left_out_and_one_of_an_earlier_version_is_read() {
        let folder = tempdir().expect("a folder");
        let file = folder.path().join("sysctls.json");
        for damaged in ["", "{\"net/ipv4/ip_forward\": \"0", "[]", "{\"a\": 1}"] {
            fs::write(&file, damaged).expect("written");
            assert!(SavedSysctls::load(file.clone()).values.is_empty());
            assert_eq!(fs::read_to_string(&file).expect("there"), damaged, "to look is no change");
        }
        fs::write(&file, r#"{"net/ipv4/ip_forward": "0"}"#).expect("written");
        let saved = SavedSysctls::load(file);
        let saved = &saved.values["net/ipv4/ip_forward"];
        assert!(matches!(saved, Saved::Before(before) if before == "0"), "{saved:?}");
    }
}
