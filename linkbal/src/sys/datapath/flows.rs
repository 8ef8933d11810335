//! The flow table as user space sees it: flows that were answered, and the others.

use std::{collections::HashSet, net::IpAddr, ops::ControlFlow, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use linkbal_common::{
    dns::{
        HostKey,
        domain::{Domain, name_hash},
    },
    flow::{Flow, FlowKey},
    maps,
    settings::Settings,
    uplink::{FAMILY_SLOTS, Family, UpMask},
};
use nix::time::{ClockId, clock_gettime};

use super::batch;
use crate::flows::{live::Situation, record::ip};

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

    /// Hands the flows to `each`, some thousands at a time, with the part of the table that is read
    /// then, from 0 to 1, until it breaks off.
    ///
    /// # Errors
    /// As [`FlowTable::for_each`], and if the maps are not of this version.
    pub fn for_each_part(
        &self,
        mut each: impl FnMut(&mut dyn Iterator<Item = (FlowKey, Flow)>, f64) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut sizes = Vec::new();
        for map in &self.0 {
            let info = map.info().context("failed to look at the flow table")?;
            let size = (info.key_size() as usize, info.value_size() as usize);
            ensure!(
                size == (size_of::<FlowKey>(), size_of::<Flow>()),
                "the flow table is of another version: start linkbal again"
            );
            // A hash table has as many chains (`htab_map_alloc` in kernel/bpf/hashtab.c).
            sizes.push(f64::from(info.max_entries().checked_next_power_of_two().unwrap_or(1)));
        }
        let all: f64 = sizes.iter().sum();
        let (mut read, mut goes_on) = (0.0, ControlFlow::Continue(()));
        for (map, size) in self.0.iter().zip(sizes) {
            batch::for_each_part(map, |part| {
                let done = read + f64::from(part.position).min(size);
                goes_on = each(&mut part.entries(), done / all);
                goes_on
            })
            .context("failed to read the flow table")?;
            if goes_on.is_break() {
                break;
            }
            read += size;
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

/// Reads what says which flows are live, of the datapath whose maps are pinned in a folder.
///
/// # Errors
/// If a map is not there or not of this version, or the clock cannot be read.
pub fn situation(dir: &Path) -> Result<Situation> {
    let (mut epochs, mut words, mut settings) =
        ([0; FAMILY_SLOTS], Vec::new(), Settings::default());
    for_each(dir, maps::EPOCHS, |index, epoch| {
        if let Some(place) = epochs.get_mut(*index as usize) {
            *place = *epoch;
        }
    })?;
    for_each(dir, maps::UP_MASK, |_, mask| words.push(*mask))?;
    for_each(dir, maps::SETTINGS, |_, read| settings = *read)?;
    let up = UpMask(words.first().copied().unwrap_or_default());
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("failed to read the clock")?;
    let now = std::time::Duration::from(now);
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Ok(Situation { up, epochs, settings, now_ms })
}

/// Returns the addresses that the datapath knows of a domain of a rule, its subdomains included.
///
/// # Errors
/// As [`situation`].
pub fn domain_addresses(
    dir: &Path,
    situation: &Situation,
    domain: &str,
) -> Result<HashSet<IpAddr>> {
    let name = name_hash(situation.settings.seed, domain);
    let now_s = (situation.now_ms / 1000) as u32;
    let mut addresses = HashSet::new();
    for_each(dir, maps::DOMAINS, |host: &HostKey, known: &Domain| {
        let mut names = known.names.iter().zip(&known.expires_s);
        if names.any(|(known, expires_s)| *known == name && *expires_s >= now_s) {
            let family =
                if host.family == Family::Ipv6 as u32 { Family::Ipv6 } else { Family::Ipv4 };
            addresses.insert(ip(family, &host.address));
        }
    })?;
    Ok(addresses)
}

/// Hands each entry of a pinned map to `each`.
fn for_each<M>(dir: &Path, _: M, mut each: impl FnMut(&M::Key, &M::Value)) -> Result<()>
where
    M: maps::Map<Key: Pod, Value: Pod>,
{
    let pin = dir.join(M::NAME);
    let map =
        MapData::from_pin(&pin).with_context(|| format!("failed to open {}", pin.display()))?;
    let read = batch::for_each_part(&map, |part| {
        part.entries::<M::Key, M::Value>().for_each(|(key, value)| each(&key, &value));
        ControlFlow::Continue(())
    });
    read.with_context(|| format!("failed to read {}", pin.display()))
}
