//! The flow table as user space sees it: flows that were answered, and the others.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use linkbal_common::{
    flow::{Flow, FlowKey},
    maps,
};

use super::batch;

/// The maps that the flow table consists of.
const TABLES: [&str; 2] = [maps::FLOWS::NAME, maps::UNREPLIED::NAME];

/// The flow table of a datapath, to be read as a whole.
#[derive(Debug)]
pub struct FlowTable(Vec<MapData>);

/// The flow table of a datapath, to look up single flows.
#[derive(Debug)]
pub struct FlowEntries(Vec<HashMap<MapData, FlowKey, Flow>>);

impl FlowTable {
    /// Opens the flow table of the datapath whose maps are pinned in a folder; takes two
    /// descriptors.
    ///
    /// # Errors
    /// If one of its maps is not there.
    pub fn open(dir: &Path) -> Result<FlowTable> {
        let open = |name| {
            let pin = dir.join(name);
            let shown = || format!("failed to open the flow table {}", pin.display());
            MapData::from_pin(&pin).with_context(shown)
        };
        TABLES.into_iter().map(open).collect::<Result<_>>().map(FlowTable)
    }

    /// Hands each flow to `show`.
    ///
    /// # Errors
    /// If a map cannot be read; flows of another one may have been shown.
    pub fn for_each(&self, mut show: impl FnMut(&FlowKey, &Flow)) -> Result<()> {
        for map in &self.0 {
            batch::for_each(map, &mut show).context("failed to read the flow table")?;
        }
        Ok(())
    }

    /// Converts the table for access to single flows.
    ///
    /// # Errors
    /// If its maps are not of this version.
    pub fn into_entries(self) -> Result<FlowEntries> {
        let each = self.0.into_iter().map(|map| Ok(HashMap::try_from(Map::LruHashMap(map))?));
        each.collect::<Result<_>>().map(FlowEntries)
    }
}

impl FlowEntries {
    /// Returns a flow from either map.
    pub fn get(&self, key: &FlowKey) -> Option<Flow> {
        self.0.iter().find_map(|table| table.get(key, 0).ok())
    }

    /// Removes a flow from either map.
    pub fn remove(&mut self, key: &FlowKey) {
        for table in &mut self.0 {
            // It may have made room for another one, or stand in the other table.
            let _ = table.remove(key);
        }
    }
}
