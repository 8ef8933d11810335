//! Carry-over of flows and sessions where a table cannot be shared: its layout or its size differs,
//! or sticky sessions have other numbers.
//!
//! The entries are copied before the programs change. The former table is put aside, under a name
//! with its layout, until the entries that came meanwhile have followed. A flow that begins in
//! between is decided twice, in the same way unless the shares changed.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData},
};
use linkbal_common::{
    flow::{Flow, FlowKey, INBOUND, NOT_STICKY, Session, SessionKey},
    maps,
};

use super::{
    batch,
    layout::{Layout, layout},
    map_data,
    takeover::{ASIDE, remove_pin},
};
use crate::engine::policy::renumber::Renumbering;

/// Tables whose entries are carried over. Flows that wait for an answer have connections, too.
const CARRIED: [&str; 3] = [maps::FLOWS::NAME, maps::UNREPLIED::NAME, maps::SESSIONS::NAME];

/// Number of entries to write at a time.
const CHUNK: usize = 8192;

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
const ONLY_NEW: u64 = 1;

/// Tables of a former datapath whose entries the new one takes over.
pub(super) struct Migration {
    dir: PathBuf,
    renumbering: Option<Renumbering>,
    tables: Vec<Table>,
}

struct Table {
    /// Name of the table that it becomes part of.
    name: &'static str,
    layout: &'static Layout,
    map: MapData,
}

impl Migration {
    /// Finds the tables in `dir` that are not shared, of a datapath with layout `current`, and
    /// those that an interrupted change left.
    pub(super) fn find(
        dir: &Path,
        current: Option<&'static Layout>,
        shared: &[&str],
        renumbering: Option<Renumbering>,
    ) -> Migration {
        let mut tables = Vec::new();
        for name in CARRIED {
            let current = current.filter(|_| !shared.contains(&name));
            let current = current.map(|layout| (layout, dir.join(name)));
            for (layout, path) in current.into_iter().chain(aside(dir, name)) {
                let map = MapData::from_pin(path).ok();
                tables.extend(map.map(|map| Table { name, layout, map }));
            }
        }
        Migration { dir: dir.to_owned(), renumbering, tables }
    }

    /// Copies all entries into the tables of `ebpf`.
    pub(super) fn copy(&self, ebpf: &Ebpf) -> Result<()> {
        self.each_table(ebpf, Copying::All)
    }

    /// Puts the tables aside, so that new ones can be pinned under their names.
    pub(super) fn rename_aside(&self) -> Result<()> {
        for table in &self.tables {
            let pinned = self.dir.join(table.name);
            let is_it =
                |other: MapData| Some(other.info().ok()?.id() == table.map.info().ok()?.id());
            if MapData::from_pin(&pinned).ok().and_then(is_it) == Some(true) {
                let aside = self.dir.join(format!("{}{ASIDE}{}", table.name, table.layout.number));
                fs::rename(&pinned, aside)
                    .with_context(|| format!("failed to put {} aside", pinned.display()))?;
            }
        }
        Ok(())
    }

    /// Copies the entries that came after the first copy, and removes the tables that were put
    /// aside.
    pub(super) fn finish(self, ebpf: &Ebpf) -> Result<()> {
        self.each_table(ebpf, Copying::Missing)?;
        for name in CARRIED {
            for (_, pin) in aside(&self.dir, name) {
                remove_pin(&pin)?;
            }
        }
        Ok(())
    }

    fn each_table(&self, ebpf: &Ebpf, copying: Copying) -> Result<()> {
        for table in &self.tables {
            let copied = if table.name == maps::SESSIONS::NAME {
                let session =
                    |key: &[u8], value: &[u8]| self.session((table.layout.session)(key, value)?);
                copy(&table.map, own(ebpf, table.name)?, session, copying)
            } else {
                let flow = |key: &[u8], value: &[u8]| self.flow((table.layout.flow)(key, value)?);
                copy(&table.map, own(ebpf, table.name)?, flow, copying)
            };
            let count = copied.with_context(|| format!("failed to carry {} over", table.name))?;
            tracing::info!("{count} entries of {} are carried over", table.name);
        }
        Ok(())
    }

    /// Renumbers the sticky class of a flow, which keeps its uplink whatever its class, and the rule in
    /// its reason.
    fn flow(&self, (key, flow): (FlowKey, Flow)) -> Option<(FlowKey, Flow)> {
        let index = flow.sticky_class;
        let Some(renumbering) = &self.renumbering else { return Some((key, flow)) };
        let sticky_class = match index {
            NOT_STICKY | INBOUND => index,
            _ => renumbering.of(index, flow.uplink).unwrap_or(NOT_STICKY),
        };
        Some((key, Flow { sticky_class, reason: renumbering.reason(flow.reason), ..flow }))
    }

    fn session(&self, (key, session): (SessionKey, Session)) -> Option<(SessionKey, Session)> {
        let class = match &self.renumbering {
            Some(renumbering) => renumbering.of(key.class, session.uplink)?,
            None => key.class,
        };
        Some((SessionKey { class, ..key }, session))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Copying {
    All,
    Missing,
}

/// Copies the entries as `convert` makes them; returns how many were written.
fn copy<K: Pod, V: Pod>(
    from: &MapData,
    to: MapData,
    convert: impl Fn(&[u8], &[u8]) -> Option<(K, V)>,
    copying: Copying,
) -> Result<usize> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    batch::for_each_bytes(from, |key, value| {
        if let Some((key, value)) = convert(key, value) {
            keys.push(key);
            values.push(value);
        }
    })?;
    if copying == Copying::All {
        for (keys, values) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)) {
            batch::update(&to, keys, values)?;
        }
        return Ok(keys.len());
    }
    let mut to: HashMap<_, K, V> = HashMap::try_from(Map::LruHashMap(to))?;
    let written = keys.iter().zip(&values).filter(|(key, value)| {
        // Refused if the new programs know it already.
        to.insert(**key, **value, ONLY_NEW).is_ok()
    });
    Ok(written.count())
}

/// Returns the table that a program of `ebpf` uses, by a descriptor of its own.
fn own(ebpf: &Ebpf, name: &str) -> Result<MapData> {
    let map = ebpf.map(name).with_context(|| format!("failed to find map {name}"))?;
    Ok(MapData::from_fd(map_data(map)?.fd().as_fd().try_clone_to_owned()?)?)
}

/// Lists the tables of this name that were put aside, of known layouts.
fn aside(dir: &Path, name: &str) -> Vec<(&'static Layout, PathBuf)> {
    let prefix = format!("{name}{ASIDE}");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
        Some((layout(number)?, entry.path()))
    });
    found.collect()
}
