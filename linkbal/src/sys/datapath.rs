//! The datapath: loads, pins and attaches the eBPF program, and reads and writes its maps.
//!
//! A newly opened datapath shares the state of the running one, but has maps of its own for the
//! configuration: nothing changes for packets until it is attached.

mod addresses;
pub mod attach;
mod batch;
mod cgroup;
mod counters;
mod domains;
pub mod drill;
pub mod flows;
pub mod flush;
mod handles;
pub mod inspect;
mod layout;
mod link;
pub mod link_watcher;
pub mod memory;
mod migrate;
mod obstacles;
mod policy;
mod program;
mod restore;
mod rule_counters;
mod sizes;
mod takeover;
pub mod trace;
mod window;
mod xdp;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{Program, SchedClassifier},
};
use aya_log::EbpfLogger;
use ipnet::IpNet;
use linkbal_common::{
    bucket::Bucket,
    flow::{Flow, FlowKey},
    maps, names,
    settings::{LEFT_OUT, Settings},
    uplink::{Family, UpMask, family_slot},
};

use self::{
    attach::{Attachments, Method},
    layout::Layout,
    link::HeldLink,
    memory::{MapMemory, Maps, UsedEntries},
    migrate::Migration,
    program::{KERNEL_HINT, loaded_program},
};
use super::{
    host::instance::Instance,
    reset::{self, EndedFlows, LocalConnections, ResetSummary},
};
use crate::engine::{
    kernel::network::{Link, Role},
    obstacles::Scope,
    policy::renumber::Renumbering,
};

pub(super) use self::addresses::{key_prefix, prefix_key};
pub(super) use self::takeover::remove_pin;
pub use self::takeover::{PinnedDatapath, fwmark_mask};
pub use self::{
    addresses::in_words,
    sizes::{Sizes, set_quotas},
};

/// The eBPF object, built by the build script.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/", env!("CARGO_PKG_NAME")));

/// A datapath in the kernel, which stays there when this is dropped.
pub struct Datapath {
    pub(super) ebpf: Ebpf,
    maps: Maps,
    logger: EbpfLogger<&'static dyn log::Log>,
    pub(super) attachments: Attachments,
    /// The links of the programs for local traffic, if they run.
    local: Option<Vec<HeldLink>>,
    local_loaded: bool,
    bypass: BTreeMap<IpNet, u32>,
    /// Numbers of entries in the other tables of prefixes.
    used: UsedEntries,
    pub(super) dir: PathBuf,
    /// Maps of the former datapath that this one uses as well.
    shared: Vec<&'static str>,
    /// The entries to carry over at the takeover; `None` once that is done.
    pending: Option<Migration>,
}

impl Datapath {
    /// Creates a datapath that can replace the instance's pinned one, if there is one, with its
    /// state, flows and sessions.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a map or the program.
    pub fn open(instance: &Instance, flow_table_size: u32) -> Result<Datapath> {
        Datapath::open_with(instance, flow_table_size, Method::available())
    }

    /// Creates a datapath as [`Self::open`] does, attached by the given method.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with(
        instance: &Instance,
        flow_table_size: u32,
        method: Method,
    ) -> Result<Datapath> {
        let earlier = PinnedDatapath::find(&instance.bpf_dir)?;
        let sizes =
            Sizes { flows: flow_table_size, shortcuts: true, drivers: false, recent: false };
        Datapath::open_after(&earlier, instance, sizes, method, None)
    }

    /// Creates a datapath as [`Self::open_with`] does, after an `earlier` one that was read before,
    /// and with other numbers for sessions.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_after(
        earlier: &PinnedDatapath,
        instance: &Instance,
        sizes: Sizes,
        method: Method,
        renumbering: Option<Renumbering>,
    ) -> Result<Datapath> {
        let dir = &instance.bpf_dir;
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let (shortcuts, recent) = (u32::from(sizes.shortcuts), u32::from(sizes.recent));
        let drivers = sizes.drivers;
        let sizes: Vec<_> = sizes.of_tables().collect();
        let shared = shared(dir, earlier.layout, &sizes, renumbering.is_some());
        let migration = Migration::find(dir, earlier.layout, &shared, renumbering);
        let mut loader = EbpfLoader::new();
        let window_shift = window::shift()?;
        loader.override_global(names::SHORTCUTS, &shortcuts, true);
        loader.override_global(names::WINDOW_SHIFT, &window_shift, true);
        loader.override_global(names::RECENT_FLOWS, &recent, true);
        for (name, size) in &sizes {
            loader.map_max_entries(name, *size);
        }
        for name in &shared {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = loader.load(OBJECT).context(KERNEL_HINT)?;
        let maps = Maps::of(&ebpf)?;
        let logger = EbpfLogger::init(&mut ebpf).context("failed to listen to the eBPF program")?;
        for name in names::ESSENTIAL_PROGRAMS {
            loaded_program(&mut ebpf, name).context(KERNEL_HINT)?;
        }
        migration.copy(&ebpf)?;
        let mut datapath = Datapath {
            ebpf,
            maps,
            logger,
            local: None,
            local_loaded: false,
            attachments: Attachments::new(dir, &instance.run_dir, method, drivers),
            bypass: BTreeMap::new(),
            used: UsedEntries::new(),
            dir: dir.clone(),
            shared,
            pending: Some(migration),
        };
        datapath.bypass = datapath.read_bypass()?;
        Ok(datapath)
    }

    /// Returns whether the datapath has taken over.
    pub const fn is_in_force(&self) -> bool {
        self.pending.is_none()
    }

    /// Returns the settings; all zero in a new datapath.
    ///
    /// # Errors
    ///
    /// If the map cannot be read; the same holds for all readers below.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.array(maps::SETTINGS)?.get(&0, 0)?)
    }

    /// Writes the settings.
    ///
    /// # Errors
    ///
    /// If the map cannot be written; the same holds for all writers below.
    pub fn set_settings(&mut self, settings: Settings) -> Result<()> {
        Ok(self.array_mut(maps::SETTINGS)?.set(0, settings, 0)?)
    }

    /// Sets the flows that take shortcuts. If the interfaces to leave out cannot be written, none do.
    pub fn set_shortcuts(&mut self, scope: &Scope) -> Result<()> {
        let left_out = scope.left_out.iter().map(|ifindex| (*ifindex, 1)).collect();
        let written = self.set_hash(maps::SHORTCUTS_LEFT_OUT, &left_out);
        let flag = if left_out.is_empty() { 0 } else { LEFT_OUT };
        let uplinks = if written.is_ok() { scope.uplinks } else { 0 };
        let shortcuts = if uplinks == 0 { 0 } else { uplinks | flag };
        self.set_settings(Settings { shortcuts, ..self.settings()? })?;
        written
    }

    /// Returns the uplinks that are usable to the datapath.
    pub fn up_mask(&self) -> Result<UpMask> {
        Ok(UpMask(self.array(maps::UP_MASK)?.get(&0, 0)?))
    }

    /// Sets the usable uplinks: the one store that moves all flows.
    pub fn set_up_mask(&mut self, mask: UpMask) -> Result<()> {
        Ok(self.array_mut(maps::UP_MASK)?.set(0, mask.0, 0)?)
    }

    /// Sets the usable uplinks that get no new flows while others can take them.
    pub fn set_avoid_mask(&mut self, mask: UpMask) -> Result<()> {
        Ok(self.array_mut(maps::AVOID_MASK)?.set(0, mask.0, 0)?)
    }

    /// Ends all flows of an uplink in one family: their next packets find another epoch. TCP
    /// connections of clients are reset in the background, and so are the local ones `local`;
    /// `report` gets the outcome.
    pub fn end_flows(
        &mut self,
        uplink: u32,
        family: Family,
        local: LocalConnections,
        report: impl FnOnce(ResetSummary) + Send + 'static,
    ) -> Result<()> {
        let mut epochs = self.array_mut(maps::EPOCHS)?;
        let slot = family_slot(uplink, family);
        let epoch = epochs.get(&slot, 0)?.wrapping_add(1);
        epochs.set(slot, epoch, 0)?;
        let ended = EndedFlows { uplink, family, epoch };
        reset::spawn(self.dir.clone(), ended, local, report);
        Ok(())
    }

    /// Returns the ranked buckets of all groups.
    pub fn buckets(&self) -> Result<Vec<Bucket>> {
        let mut buckets = Vec::new();
        self.for_each(maps::BUCKETS, |_, bucket| buckets.push(*bucket))?;
        Ok(buckets)
    }

    /// Starts or stops the programs for local traffic.
    ///
    /// # Errors
    ///
    /// If there is no cgroup2, or the kernel refuses; the LAN's traffic does not depend on it.
    pub fn set_local(&mut self, balance: bool) -> Result<()> {
        self.local = None;
        if !balance {
            return cgroup::detach(&self.dir);
        }
        self.load_local()?;
        self.local = Some(cgroup::attach(&mut self.ebpf, &self.dir)?);
        Ok(())
    }

    /// Returns whether the programs for local traffic run.
    pub const fn balances_local(&self) -> bool {
        self.local.is_some()
    }

    /// Loads the programs for local traffic, once, without attaching them.
    pub fn load_local(&mut self) -> Result<()> {
        if !self.local_loaded {
            cgroup::load(&mut self.ebpf)?;
            self.local_loaded = true;
        }
        Ok(())
    }

    /// Takes over from a former datapath, if there is one: its pins become those of this one, whose
    /// programs are attached in place of the former ones, and what was in tables of another kind is
    /// copied. Once it [is in force](Self::is_in_force), it only attaches.
    pub fn take_over(&mut self, interfaces: &[(Role, Link)]) -> Vec<anyhow::Error> {
        let Some(migration) = self.pending.take() else { return self.attach(interfaces) };
        // So that the former programs run until all new ones can. An error comes again below.
        let _ = attach::load(&mut self.ebpf, interfaces);
        let taken = migration
            .rename_aside()
            .and_then(|()| takeover::take_over(&mut self.ebpf, &self.dir, &self.shared));
        let mut failures: Vec<_> = taken.err().into_iter().collect();
        failures.extend(self.attach(interfaces));
        failures.extend(migration.finish(&self.ebpf).err());
        failures
    }

    /// Attaches the programs to the ingress and egress of exactly these interfaces. Every interface is
    /// tried; the failures are returned.
    pub fn attach(&mut self, interfaces: &[(Role, Link)]) -> Vec<anyhow::Error> {
        self.attachments.set(&mut self.ebpf, interfaces)
    }

    /// Follows changes of the interfaces at whose drivers programs run, which nobody tells of.
    pub fn refresh_drivers(&mut self) {
        self.attachments.drivers.refresh(&mut self.ebpf);
    }

    /// Returns the interfaces that have the shortcuts of tc alone, though those at the driver are wanted,
    /// with the reason.
    pub fn refused_drivers(&self) -> &BTreeMap<String, String> {
        self.attachments.drivers.refused()
    }

    /// Returns the kernel memory by map, including the eBPF program's own maps.
    pub fn map_memory(&self) -> Result<MapMemory> {
        let mut used = self.used.clone();
        used.insert(maps::BYPASS::NAME, self.bypass.len());
        self.maps.memory(&used)
    }

    /// Passes on the log of the eBPF program.
    pub fn flush_log(&mut self) {
        self.logger.flush();
    }

    /// Returns a program, to run it on test packets.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        loaded_program(&mut self.ebpf, name)
    }

    /// Returns all programs with their names, for inspection.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs()
    }

    /// Returns the folder in which the maps are pinned.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Stores a flow, as the program at the egress of its uplink does.
    pub fn store_flow(&mut self, key: &FlowKey, flow: &Flow) -> Result<()> {
        let mut flows = if flow.replied == 0 {
            self.hash_mut(maps::UNREPLIED)?
        } else {
            self.hash_mut(maps::FLOWS)?
        };
        Ok(flows.insert(key, flow, 0)?)
    }
}

/// Returns the data that all kinds of maps used by the programs have in common.
pub(super) fn map_data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::SkStorage(data)
        | Map::DevMapHash(data)
        | Map::RingBuf(data) => Ok(data),
        other => bail!("failed to use a map of an unknown kind: {other:?}"),
    }
}

/// Returns the pinned maps that a new datapath uses as well.
fn shared(
    dir: &Path,
    layout: Option<&Layout>,
    sizes: &[(&str, u32)],
    renumbered: bool,
) -> Vec<&'static str> {
    let Some(layout) = layout else {
        // Without it every flow would stop until the first probes are answered.
        let known = takeover::is_word(&dir.join(maps::UP_MASK::NAME));
        return if known { vec![maps::UP_MASK::NAME] } else { Vec::new() };
    };
    let fits = |name: &&'static str| match sizes.iter().find(|(table, _)| table == name) {
        Some((_, size)) => !renumbered && takeover::has_size(&dir.join(name), *size),
        None => true,
    };
    layout.shared().into_iter().filter(fits).collect()
}
