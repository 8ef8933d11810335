//! The state of interfaces before linkbal changed them, kept in a JSON file.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    engine::kernel::bond::BondRecord,
    sys::host::file::{load, remove_stored, store_json},
};

/// The records by interface; the file exists as long as there are any.
#[derive(Debug)]
pub(super) struct Records {
    file: PathBuf,
    all: BTreeMap<String, BondRecord>,
}

impl Records {
    pub(super) fn load(file: PathBuf) -> Records {
        let all = load(&file, "bonds and their members are not made what they were before linkbal");
        Records { file, all }
    }

    pub(super) const fn all(&self) -> &BTreeMap<String, BondRecord> {
        &self.all
    }

    pub(super) fn note(&mut self, name: &str, record: &BondRecord) {
        self.all.insert(name.to_owned(), record.clone());
        self.save();
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.all.remove(name);
        self.save();
    }

    fn save(&self) {
        if self.all.is_empty() {
            remove_stored(&self.file);
        } else {
            store_json(&self.file, &self.all);
        }
    }
}
