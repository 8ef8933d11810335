//! Empties the flow table: it is a cache, and connections know better.

use std::{path::PathBuf, thread};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use linkbal_common::{
    flow::{Flow, FlowKey},
    uplink::Family,
};

use super::{batch, descriptors};

/// Drops the flows of a family in the background; `flows` is where the flow table is pinned.
pub fn spawn(flows: PathBuf, family: Family) {
    thread::spawn(move || {
        if let Err(error) = forget(&flows, family) {
            tracing::warn!("{error:#}");
        }
    });
}

fn forget(flows: &PathBuf, family: Family) -> Result<()> {
    let lent = descriptors::lend();
    let map = MapData::from_pin(flows).context("failed to open the flow table")?;
    drop(lent);
    let mut keys = Vec::new();
    let note = |key: &FlowKey, _: &Flow| {
        if key.family() == family {
            keys.push(*key);
        }
    };
    batch::for_each(&map, note).context("failed to read the flow table")?;
    let mut map: HashMap<_, FlowKey, Flow> = HashMap::try_from(Map::LruHashMap(map))?;
    for key in keys {
        // It may have made room for another one.
        let _ = map.remove(&key);
    }
    Ok(())
}
