//! The kernel memory of the maps, and the size of the flow table that fits the machine.
//!
//! The kernel tells it in the line `memlock` of `/proc/self/fdinfo/FD` for the descriptor of a map
//! (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c). Since Linux 6.4 it is what the map has allocated
//! at this moment; before, it is what its size would come to if it were full, so that the tables of
//! prefixes, which grow with their entries, seem larger than they are.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::Ebpf;

use super::map_data;

/// Bytes of kernel memory by the name of the map.
pub type MapMemory = BTreeMap<String, u64>;

/// The maps of a datapath, by descriptors of their own: some of the maps are given away.
pub(super) struct Maps(Vec<(String, OwnedFd)>);

impl Maps {
    /// Returns all maps of the object, also those that are not pinned.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Maps> {
        let each = ebpf.maps().map(|(name, map)| {
            let fd = map_data(map)?.fd().as_fd().try_clone_to_owned()?;
            Ok((name.to_owned(), fd))
        });
        each.collect::<Result<_>>().map(Maps)
    }

    /// Returns the memory that each map takes now.
    pub(super) fn memory(&self) -> Result<MapMemory> {
        let each = self.0.iter().map(|(name, fd)| {
            let bytes = memlock(fd).with_context(|| format!("failed to measure map {name}"))?;
            Ok((name.clone(), bytes))
        });
        each.collect()
    }
}

/// Minimum number of entries of a flow table that is sized by memory.
pub const LEAST_FLOWS: u32 = 65_536;

/// Maximum number of its entries.
const MOST_FLOWS: u64 = 1 << 22;

/// Memory of the machine for each entry, in bytes; the tables take about 240 of them.
const PER_FLOW: u64 = 16_384;

/// Returns the number of entries of a flow table for this machine's memory.
///
/// # Errors
/// If `/proc/meminfo` cannot be read.
pub fn flow_table_size() -> Result<u32> {
    let text = fs::read_to_string("/proc/meminfo").context("failed to read /proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.trim().strip_suffix("kB"));
    let total: u64 = total.context("failed to find MemTotal in /proc/meminfo")?.trim().parse()?;
    Ok(flows_for(total.saturating_mul(1024)))
}

/// Returns the number of entries for so many bytes of memory: a power of two.
fn flows_for(memory: u64) -> u32 {
    let flows = (memory / PER_FLOW).clamp(LEAST_FLOWS.into(), MOST_FLOWS);
    1 << flows.ilog2()
}

fn memlock(fd: &OwnedFd) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    let value = value.context("failed to find memlock in the descriptor's information")?;
    Ok(value.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_table_grows_with_memory() {
        let gibibyte = 1 << 30;
        let sizes =
            [0, gibibyte / 2, gibibyte, 4 * gibibyte, 5 * gibibyte, 64 * gibibyte, u64::MAX];
        let wanted = [65_536, 65_536, 65_536, 262_144, 262_144, 4_194_304, 4_194_304];
        assert_eq!(sizes.map(flows_for), wanted);
        assert!(flow_table_size().is_ok());
    }
}
