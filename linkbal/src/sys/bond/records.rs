//! What interfaces were before linkbal touched them, kept in a JSON file.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::super::file::{load, replace};
use crate::engine::bond::Record;

/// The records by interface; the file is there as long as there are any.
#[derive(Debug)]
pub(super) struct Records {
    file: PathBuf,
    all: BTreeMap<String, Record>,
}

impl Records {
    pub(super) fn load(file: PathBuf) -> Result<Records> {
        let all = load(&file)?;
        Ok(Records { file, all })
    }

    pub(super) const fn all(&self) -> &BTreeMap<String, Record> {
        &self.all
    }

    pub(super) fn note(&mut self, name: &str, record: &Record) -> Result<()> {
        self.all.insert(name.to_owned(), record.clone());
        self.save()
    }

    pub(super) fn forget(&mut self, name: &str) -> Result<()> {
        self.all.remove(name);
        self.save()
    }

    fn save(&self) -> Result<()> {
        if self.all.is_empty() {
            return remove(&self.file);
        }
        replace(&self.file, &serde_json::to_vec_pretty(&self.all)?)
    }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
