//! The flow table as user space sees it: flows that were answered, and the others.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use linkbal_common::{
    flow::{Flow, FlowKey},
    names,
};

use super::batch;

/// The maps that it is made of.
const TABLES: [&str; 2] = [names::FLOWS, names::UNREPLIED];

/// The flow table of a datapath.
#[derive(Debug)]
pub struct FlowTable {
    pins: [PathBuf; 2],
    tables: Vec<HashMap<MapData, FlowKey, Flow>>,
}

impl FlowTable {
    /// Opens that of the datapath whose maps are pinned in a folder.
    ///
    /// # Errors
    /// If one of its maps is not there.
    pub fn open(dir: &Path) -> Result<FlowTable> {
        let pins = TABLES.map(|name| dir.join(name));
        let open = |pin: &PathBuf| Ok(HashMap::try_from(Map::LruHashMap(map(pin)?))?);
        let tables = pins.iter().map(open).collect::<Result<_>>()?;
        Ok(FlowTable { pins, tables })
    }

    /// Shows each flow.
    ///
    /// # Errors
    /// If a map cannot be read; flows of another one may have been shown.
    pub fn for_each(&self, mut show: impl FnMut(&FlowKey, &Flow)) -> Result<()> {
        for pin in &self.pins {
            batch::for_each(&map(pin)?, &mut show).context("failed to read the flow table")?;
        }
        Ok(())
    }

    /// Returns a flow, wherever it stands.
    pub fn get(&self, key: &FlowKey) -> Option<Flow> {
        self.tables.iter().find_map(|table| table.get(key, 0).ok())
    }

    /// Forgets a flow.
    pub fn remove(&mut self, key: &FlowKey) {
        for table in &mut self.tables {
            // It may have made room for another one, or stand in the other table.
            let _ = table.remove(key);
        }
    }
}

fn map(pin: &Path) -> Result<MapData> {
    MapData::from_pin(pin)
        .with_context(|| format!("failed to open the flow table {}", pin.display()))
}
