//! What must outlive the daemon beside the maps: the index of each uplink.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::Indexes;
use crate::{
    config::Uplink,
    engine::{desired::Indexed, uplinks},
    sys::instance::Instance,
};

/// Gives each uplink its index, the same as before where it had one, and remembers them.
pub(super) fn assign_indexes(instance: &Instance, configured: &[Uplink]) -> Result<Vec<Indexed>> {
    let path = path(instance);
    let indexed = indexes(instance, configured);
    let names = indexed.iter().map(|each| (each.uplink.name.clone(), each.index));
    let text = serde_json::to_string(&names.collect::<Indexes>())?;
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(indexed)
}

/// The index that each uplink would get.
pub(crate) fn indexes(instance: &Instance, configured: &[Uplink]) -> Vec<Indexed> {
    let before = fs::read_to_string(path(instance)).ok();
    let before = before.and_then(|text| serde_json::from_str::<Indexes>(&text).ok());
    uplinks::assign(configured, &before.unwrap_or_default())
}

fn path(instance: &Instance) -> PathBuf {
    instance.run_dir.join("uplinks.json")
}
