//! What must outlive the daemon beside the maps: the index of each uplink.

use std::fs;

use anyhow::{Context as _, Result};

use super::Indexes;
use crate::{
    config::Uplink,
    engine::{desired::Indexed, uplinks},
    sys::instance::Instance,
};

/// Gives each uplink its index, the same as before where it had one, and remembers them.
pub(super) fn assign_indexes(instance: &Instance, configured: &[Uplink]) -> Result<Vec<Indexed>> {
    let path = instance.run_dir.join("uplinks.json");
    let before: Indexes = fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let indexed = uplinks::assign(configured, &before);
    let names = indexed.iter().map(|each| (each.uplink.name.clone(), each.index));
    let text = serde_json::to_string(&names.collect::<Indexes>())?;
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(indexed)
}
