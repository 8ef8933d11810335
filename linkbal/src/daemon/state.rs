//! What must outlive the daemon beside the maps: the index of each uplink, and what the pinned
//! datapath was made from.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Result;
use serde::de::DeserializeOwned;

use super::Indexes;
use crate::{
    config::{Config, Sources},
    sys::{file, instance::Instance},
};

/// Configurations by their numbers in the settings: that in force, and that which is to follow.
type Configurations = BTreeMap<u32, Sources>;

/// The indexes of uplinks, those of former ones included.
pub(crate) fn indexes(instance: &Instance) -> Indexes {
    read(&indexes_file(instance))
}

/// Remembers indexes.
pub(super) fn keep_indexes(instance: &Instance, indexes: &Indexes) -> Result<()> {
    file::replace(&indexes_file(instance), &serde_json::to_vec(indexes)?)
}

/// The configuration that the pinned datapath was made from, whose number is `number`.
pub(super) fn configuration(instance: &Instance, number: u32) -> Option<Config> {
    let known: Configurations = read(&configurations_file(instance));
    Some(known.get(&number)?.parse().ok()?.config)
}

/// Remembers a configuration by its number, beside that of the pinned datapath.
pub(super) fn keep_configuration(
    instance: &Instance,
    pinned: u32,
    number: u32,
    sources: &Sources,
) -> Result<()> {
    let path = configurations_file(instance);
    let mut known: Configurations = read(&path);
    known.retain(|known, _| *known == pinned);
    known.insert(number, sources.clone());
    file::replace(&path, &serde_json::to_vec(&known)?)
}

fn indexes_file(instance: &Instance) -> PathBuf {
    instance.run_dir.join("uplinks.json")
}

fn configurations_file(instance: &Instance) -> PathBuf {
    instance.run_dir.join("configurations.json")
}

/// A file that is missing or of another version says nothing.
fn read<T: DeserializeOwned + Default>(path: &PathBuf) -> T {
    let text = fs::read(path).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}
