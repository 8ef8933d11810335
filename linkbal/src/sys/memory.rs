//! The kernel memory that the maps take.
//!
//! The kernel says it in the line `memlock` of `/proc/self/fdinfo/FD` for the descriptor of a map
//! (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c). Since Linux 6.4 it is what the map has allocated
//! at this moment; before, what its sizes would come to if it were full, so that the tables of
//! prefixes, which grow with their entries, seem larger than they are.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::Ebpf;

use super::bpf::map_data;

/// Bytes of kernel memory by the name of the map.
pub type MapMemory = BTreeMap<String, u64>;

/// The maps of a datapath, by descriptors of its own: some of the maps are given away.
pub(super) struct Maps(Vec<(String, OwnedFd)>);

impl Maps {
    /// All maps of the object, also those that are not pinned.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Maps> {
        let each = ebpf.maps().map(|(name, map)| {
            let fd = map_data(map)?.fd().as_fd().try_clone_to_owned()?;
            Ok((name.to_owned(), fd))
        });
        each.collect::<Result<_>>().map(Maps)
    }

    /// What each map takes now.
    pub(super) fn memory(&self) -> Result<MapMemory> {
        let each = self.0.iter().map(|(name, fd)| {
            let bytes = memlock(fd).with_context(|| format!("failed to measure map {name}"))?;
            Ok((name.clone(), bytes))
        });
        each.collect()
    }
}

fn memlock(fd: &OwnedFd) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    let value = value.context("failed to find memlock in the descriptor's information")?;
    Ok(value.trim().parse()?)
}
