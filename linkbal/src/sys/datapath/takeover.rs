//! The pins of a datapath: how a new one reads those of an earlier one, and takes its place.
//!
//! The maps of the configuration are made anew each time, the others are shared. Running programs
//! see their tables change by single entries only: new programs, with new tables, replace the old
//! ones in one step, one interface after the other. A daemon that is killed meanwhile leaves pins
//! that the next one can continue with: `SETTINGS`, whose layout tells that of the others, is
//! replaced after everything of another layout has gone, and before anything of the new layout is
//! pinned.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, MapType},
};
use linkbal_common::{
    bucket::{Bucket, CAPACITY},
    hash::Seed,
    maps, names,
    settings::{LAYOUT, Settings},
};

use super::{
    batch::{for_each, for_each_bytes, from_bytes},
    layout::{Layout, layout},
    program::{is_loaded, program},
};

/// The state of an earlier datapath, as its pins tell it.
#[derive(Debug, Default)]
pub struct PinnedDatapath {
    pub(super) layout: Option<&'static Layout>,
    /// Secret of its bucket hash.
    pub seed: Option<Seed>,
    /// Treatment of the flows of each uplink while it is down, as in [`Settings`].
    pub on_down: u32,
    /// The number of its configuration, as in [`Settings`].
    pub configuration: u32,
    /// The ranked buckets.
    pub buckets: Option<Vec<Bucket>>,
}

/// The first layout whose settings are those of this version.
const SETTINGS_SINCE: u32 = 4;

/// Position of the fwmark's bits in the settings of all layouts.
const FWMARK_MASK: std::ops::Range<usize> = 4..8;

/// Returns linkbal's bits of the fwmark, as in the datapath that is pinned in `dir`.
pub fn fwmark_mask(dir: &Path) -> Option<u32> {
    let settings = first_value(&dir.join(maps::SETTINGS::NAME)).ok()?;
    let mask = settings.get(FWMARK_MASK)?.try_into().ok()?;
    Some(u32::from_ne_bytes(mask))
}

/// Position of the seed in the settings of all known layouts.
const SEED: std::ops::Range<usize> = 8..24;

impl PinnedDatapath {
    /// Reads the pins in `dir`. A datapath of an unknown layout yields nothing.
    ///
    /// # Errors
    ///
    /// If there is one that cannot be read.
    pub fn find(dir: &Path) -> Result<PinnedDatapath> {
        let path = dir.join(maps::SETTINGS::NAME);
        if !path.exists() {
            return Ok(PinnedDatapath::default());
        }
        let settings = first_value(&path)?;
        let Some(layout) = layout_of(&settings) else { return Ok(PinnedDatapath::default()) };
        let present = from_bytes(&settings).filter(|_| layout.number >= SETTINGS_SINCE);
        let present: Settings = present.unwrap_or_default();
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
        let seed = settings.get(SEED).and_then(|seed| Some([word(&seed[..8])?, word(&seed[8..])?]));
        Ok(PinnedDatapath {
            layout: Some(layout),
            seed,
            on_down: present.on_down,
            configuration: present.configuration,
            buckets: buckets(&dir.join(maps::BUCKETS::NAME)).ok(),
        })
    }
}

/// Returns the layout that settings belong to, if it is known; the maps of another one are of no
/// use.
fn layout_of(settings: &[u8]) -> Option<&'static Layout> {
    let number = settings.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let known = layout(number);
    if known.is_none() {
        tracing::warn!(
            "the datapath in the kernel has layout {number}, and this linkbal, of layout {LAYOUT}, \
             cannot read it: its flows are decided anew"
        );
    }
    known
}

/// Returns whether a pinned table has exactly so many entries; its layout is the present one.
pub(super) fn has_size(pin: &Path, entries: u32) -> bool {
    let info = MapData::from_pin(pin).and_then(|map| map.info());
    info.is_ok_and(|info| info.max_entries() == entries)
}

/// Returns whether a pinned map is a single word, as `UP_MASK` is in any layout.
pub(super) fn is_word(pin: &Path) -> bool {
    let info = MapData::from_pin(pin).and_then(|map| map.info());
    info.is_ok_and(|info| {
        let sizes = (info.key_size(), info.value_size(), info.max_entries());
        info.map_type().is_ok_and(|kind| kind == MapType::Array) && sizes == (4, 4, 1)
    })
}

fn first_value(pin: &Path) -> Result<Vec<u8>> {
    let mut first = Vec::new();
    for_each_bytes(&MapData::from_pin(pin)?, |_, value| {
        if first.is_empty() {
            first = value.to_vec();
        }
    })?;
    Ok(first)
}

fn buckets(pin: &Path) -> Result<Vec<Bucket>> {
    let mut buckets = Vec::new();
    for_each(&MapData::from_pin(pin)?, |_: &u32, bucket: &Bucket| buckets.push(*bucket))?;
    anyhow::ensure!(buckets.len() == CAPACITY as usize, "the buckets are of another number");
    Ok(buckets)
}

/// Pins the maps and programs of `ebpf` in place of the former ones. Those in `shared` are pinned
/// already.
pub(super) fn take_over(ebpf: &mut Ebpf, dir: &Path, shared: &[&str]) -> Result<()> {
    for pin in foreign(dir, shared)? {
        remove_pin(&pin)?;
    }
    let others = maps::pinned().filter(|name| *name != maps::SETTINGS::NAME);
    for name in [maps::SETTINGS::NAME].into_iter().chain(others) {
        if !shared.contains(&name) {
            let map = ebpf.map(name).with_context(|| format!("failed to find map {name}"))?;
            replace_pin(dir, name, |path| Ok(map.pin(path)?))?;
        }
    }
    for name in names::PROGRAMS {
        if is_loaded(ebpf, name) {
            pin_program(ebpf, dir, name)?;
        } else {
            remove_pin(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Pins a loaded program in place of a former one.
pub(super) fn pin_program(ebpf: &mut Ebpf, dir: &Path, name: &str) -> Result<()> {
    let program = program(ebpf, name)?;
    replace_pin(dir, name, |path| Ok(program.pin(path)?))
}

/// Lists the pins of maps that are neither shared nor of the configuration, and so of another
/// layout or size, and of maps and programs that no longer exist.
fn foreign(dir: &Path, shared: &[&str]) -> Result<Vec<PathBuf>> {
    let stays = |name: &str| {
        let ours =
            names::PROGRAMS.contains(&name) || maps::of_configuration().any(|map| map == name);
        // Links and folders have other names in lower case; tables that were put aside are looked
        // after elsewhere.
        let other = name.starts_with(char::is_lowercase) && !name.starts_with(PROGRAM_PREFIX);
        ours || shared.contains(&name) || other || name.contains(ASIDE)
    };
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let pins = entries.flatten().map(|entry| entry.path());
    let named = pins.filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !stays(name))
    });
    Ok(named.filter(|path| !path.is_dir()).collect())
}

/// Prefix of the names of all programs, those of earlier versions too.
const PROGRAM_PREFIX: &str = "linkbal_";

/// Part of the name of a table that was put aside, before the number of its layout.
pub(super) const ASIDE: &str = "_of_";

/// Pins something in place of what is pinned under a name, in one step.
fn replace_pin(dir: &Path, name: &str, pin: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}_new")));
    remove_pin(&draft)?;
    pin(&draft)
        .and_then(|()| Ok(fs::rename(&draft, &path)?))
        .with_context(|| format!("failed to pin {}", path.display()))
}

/// Removes a pin; a missing one is a success.
pub(in super::super) fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
