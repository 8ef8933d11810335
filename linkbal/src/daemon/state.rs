//! State that must outlive the daemon beside the maps: the index of each uplink, and the
//! configuration that the pinned datapath was created from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use linkbal_common::uplink::MAX_UPLINKS;

use super::Indexes;
use crate::{
    config::{Config, Sources},
    sys::host::{file, instance::Instance},
};

/// Configurations by their numbers in the settings: the one in force, and the one to follow.
type Configurations = BTreeMap<u32, Sources>;

/// Consequences of state files that cannot be read, for the log.
const LOST_INDEXES: &str = "uplinks may get other numbers, and connections that are open then use \
                            another uplink";
const LOST_CONFIGURATIONS: &str = "sticky sessions may begin anew";

/// Returns the indexes of uplinks, those of former ones included.
pub(crate) fn indexes(instance: &Instance) -> Indexes {
    plausible(file::load(&indexes_file(instance), LOST_INDEXES))
}

/// Removes indexes that linkbal cannot have written: those beyond the highest one, and duplicates.
pub(super) fn plausible(mut indexes: Indexes) -> Indexes {
    let mut seen = BTreeSet::new();
    indexes.retain(|_, index| *index < MAX_UPLINKS as u32 && seen.insert(*index));
    indexes
}

/// Stores the indexes.
pub(super) fn keep_indexes(instance: &Instance, indexes: &Indexes) {
    file::store_json(&indexes_file(instance), indexes);
}

/// Returns the configuration with this number, which the pinned datapath was created from.
pub(super) fn configuration(instance: &Instance, number: u32) -> Option<Config> {
    let known: Configurations = file::load(&configurations_file(instance), LOST_CONFIGURATIONS);
    Some(known.get(&number)?.parse().ok()?.config)
}

/// Stores a configuration by its number, beside that of the pinned datapath.
pub(super) fn keep_configuration(instance: &Instance, pinned: u32, number: u32, sources: &Sources) {
    let path = configurations_file(instance);
    let mut known: Configurations = file::load(&path, LOST_CONFIGURATIONS);
    known.retain(|known, _| *known == pinned);
    known.insert(number, sources.clone());
    file::store_json(&path, &known);
}

fn indexes_file(instance: &Instance) -> PathBuf {
    instance.run_dir.join("uplinks.json")
}

fn configurations_file(instance: &Instance) -> PathBuf {
    instance.run_dir.join("configurations.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_no_linkbal_wrote_are_left_out() {
        let named = |all: &[(&str, u32)]| -> Indexes {
            all.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect()
        };
        let read = named(&[("a", 3), ("b", 3), ("c", 99), ("d", 15), ("e", u32::MAX)]);
        assert_eq!(plausible(read), named(&[("a", 3), ("d", 15)]));
    }
}
