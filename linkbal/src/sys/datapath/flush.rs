//! Removal of flows from the flow table: it is a cache, and connection tracking knows better.

use std::path::{Path, PathBuf};

use anyhow::Result;
use linkbal_common::{
    flow::{Flow, FlowKey},
    uplink::Family,
};

use super::flows::FlowTable;
use crate::sys::host::{descriptors, thread};

/// Removes the flows of a family in the background; the maps are pinned in `dir`.
pub fn spawn(dir: PathBuf, family: Family) {
    let work = move || {
        if let Err(error) = flush(&dir, family) {
            tracing::warn!("{error:#}");
        }
    };
    if let Err(error) = thread::start("flush", work) {
        tracing::warn!("flows that are over stay in the flow table: {error:#}");
    }
}

fn flush(dir: &Path, family: Family) -> Result<()> {
    let lent = descriptors::lend();
    let flows = FlowTable::open(dir)?;
    drop(lent);
    let mut keys = Vec::new();
    flows.for_each(|key: &FlowKey, _: &Flow| {
        if key.family() == family {
            keys.push(*key);
        }
    })?;
    let mut flows = flows.into_entries()?;
    keys.iter().for_each(|key| flows.remove(key));
    Ok(())
}
