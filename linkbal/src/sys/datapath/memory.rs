//! The kernel memory of the maps, and the size of the flow table that fits the machine.
//!
//! The kernel tells it in the line `memlock` of `/proc/self/fdinfo/FD` for the descriptor of a map
//! (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c). Since Linux 6.4 it is what the map has allocated
//! at this moment; before, it is what its size would come to if it were full. Tables of prefixes
//! grow with their entries: there, `allocated` computes their memory as later kernels do.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapInfo, MapType},
};

use super::map_data;

/// Bytes of kernel memory by the name of the map.
pub type MapMemory = BTreeMap<String, u64>;

/// Numbers of entries by the name of the map, of maps that grow with them.
pub(super) type UsedEntries = BTreeMap<&'static str, usize>;

/// The maps of a datapath, by descriptors of their own: some of the maps are given away.
pub(super) struct Maps(Vec<(String, OwnedFd, Shape)>);

impl Maps {
    /// Returns all maps of the object, also those that are not pinned.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Maps> {
        let each = ebpf.maps().map(|(name, map)| {
            let data = map_data(map)?;
            let fd = data.fd().as_fd().try_clone_to_owned()?;
            Ok((name.to_owned(), fd, Shape::of(&data.info()?)?))
        });
        each.collect::<Result<_>>().map(Maps)
    }

    /// Returns the memory that each map takes now.
    pub(super) fn memory(&self, used: &UsedEntries) -> Result<MapMemory> {
        let each = self.0.iter().map(|(name, fd, shape)| {
            let told = memlock(fd).with_context(|| format!("failed to measure map {name}"))?;
            let used = used.get(name.as_str()).copied().unwrap_or(0);
            Ok((name.clone(), allocated(told, shape, used as u64)))
        });
        each.collect()
    }
}

/// Properties of a map on which its memory depends.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: MapType,
    /// Flags, as `BPF_F_NO_PREALLOC`.
    flags: u32,
    entries: u64,
    key_size: u64,
    value_size: u64,
}

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): memory only for entries that there are.
const NO_PREALLOC: u32 = 1;

/// Size of a page, to which the kernel rounds sizes up.
const PAGE: u64 = 4096;

/// Size of the length of a prefix in front of its data, in a key.
const PREFIX_LENGTH: u64 = 4;

/// Size of `struct lpm_trie_node` (kernel/bpf/lpm_trie.c) without key and value.
const TRIE_NODE: u64 = 40;

/// Size of `struct htab_elem` and of a bucket of the table (kernel/bpf/hashtab.c).
const HASH_ENTRY: u64 = 48;
const HASH_BUCKET: u64 = 16;

impl Shape {
    fn of(info: &MapInfo) -> Result<Shape> {
        Ok(Shape {
            kind: info.map_type()?,
            flags: info.map_flags(),
            entries: info.max_entries().into(),
            key_size: info.key_size().into(),
            value_size: info.value_size().into(),
        })
    }

    /// Returns what kernels before 6.4 tell, as `bpf_map_memory_footprint` (kernel/bpf/syscall.c).
    fn footprint(&self) -> u64 {
        let entry = self.key_size.saturating_add(self.value_size).next_multiple_of(8);
        entry.saturating_mul(self.entries).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
    }
}

/// Returns the memory of a map with so many `used` entries, of which the kernel tells `told` bytes.
/// That is right unless it is the footprint of a map that grows with its entries.
fn allocated(told: u64, shape: &Shape, used: u64) -> u64 {
    if shape.flags & NO_PREALLOC == 0 || told != shape.footprint() {
        return told;
    }
    match shape.kind {
        MapType::LpmTrie => {
            let data = shape.key_size.saturating_sub(PREFIX_LENGTH);
            let node = TRIE_NODE.saturating_add(data).saturating_add(shape.value_size);
            node.saturating_mul(used)
        }
        MapType::Hash => {
            let key = shape.key_size.next_multiple_of(8);
            let value = shape.value_size.next_multiple_of(8);
            let entries = HASH_ENTRY.saturating_add(key).saturating_add(value).saturating_mul(used);
            let buckets = shape.entries.checked_next_power_of_two().unwrap_or(u64::MAX);
            buckets.saturating_mul(HASH_BUCKET).saturating_add(entries)
        }
        _ => told,
    }
}

/// Minimum number of entries of a flow table that is sized by memory.
pub const MIN_FLOWS: u32 = 65_536;

/// Maximum number of its entries.
const MAX_FLOWS: u64 = 1 << 22;

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
    let flows = (memory / PER_FLOW).clamp(MIN_FLOWS.into(), MAX_FLOWS);
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

    const TRIE: Shape = Shape {
        kind: MapType::LpmTrie,
        flags: NO_PREALLOC,
        entries: 1 << 20,
        key_size: 28,
        value_size: 16,
    };

    #[test]
    fn a_table_of_prefixes_takes_memory_for_its_entries() {
        let old = 48 << 20;
        assert_eq!(TRIE.footprint(), old);
        assert_eq!(allocated(old, &TRIE, 0), 0);
        assert_eq!(allocated(old, &TRIE, 200), 200 * 80);
        assert_eq!(allocated(16_000, &TRIE, 200), 16_000, "later kernels know it themselves");
    }

    #[test]
    fn a_hash_table_takes_memory_for_its_entries_unless_it_has_it_beforehand() {
        let grows = Shape { kind: MapType::Hash, entries: 4000, key_size: 12, ..TRIE };
        let old = grows.footprint();
        assert_eq!(old, 32 * 4000_u64.next_multiple_of(128));
        assert_eq!(allocated(old, &grows, 0), 4096 * 16);
        assert_eq!(allocated(old, &grows, 10), 4096 * 16 + 10 * 80);
        assert_eq!(allocated(old, &Shape { flags: 0, ..grows }, 10), old);
    }

    #[test]
    fn what_is_told_of_other_maps_holds() {
        for kind in [MapType::Array, MapType::LruHash, MapType::SkStorage] {
            let shape = Shape { kind, ..TRIE };
            assert_eq!(allocated(shape.footprint(), &shape, 3), shape.footprint());
        }
        let huge = Shape { entries: u64::MAX, key_size: u64::MAX / 2, ..TRIE };
        assert_eq!(allocated(huge.footprint(), &huge, u64::MAX), u64::MAX);
    }

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
