//! Reads and writes of many map entries by one system call, which aya does not offer, also of maps
//! whose types are those of another version.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Number of entries to read at a time; more than any chain of a hash table has.
const READ: usize = 8192;

/// The member `batch` of `union bpf_attr` (include/uapi/linux/bpf.h).
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Writes `values[i]` under `keys[i]` for every `i`, in order. Arrays support this since Linux 5.6,
/// tries since 5.13.
///
/// # Errors
///
/// As the kernel answers for the first entry that it refuses; those before it are written.
///
/// # Panics
///
/// If there are not as many keys as values, or they are not of the map's sizes.
pub(super) fn update<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "each value has a key");
    check_sizes::<K, V>(map)?;
    let count = keys.len().try_into().map_err(io::Error::other)?;
    let mut batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: map.fd().as_fd().as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `count` keys and values of the sizes checked above, whose types
    // have no padding, and writes only `count` of the struct.
    unsafe { batch.call(BPF_MAP_UPDATE_BATCH) }
}

/// Hands every entry to `each`: those of a hash table in no order, those of an array in its order.
/// Entries that come or go meanwhile may be missed or come twice. Linux supports this since 5.6.
///
/// # Errors
///
/// If the kernel refuses.
///
/// # Panics
///
/// If keys or values are not of the map's sizes.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: &MapData,
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    check_sizes::<K, V>(map)?;
    for_each_bytes(map, |key, value| {
        if let (Some(key), Some(value)) = (from_bytes(key), from_bytes(value)) {
            each(&key, &value);
        }
    })
}

/// Hands every entry to `each` as [`for_each`] does, for keys and values of any size.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn for_each_bytes(map: &MapData, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    for_each_part(map, |part| {
        part.bytes().for_each(|(key, value)| each(key, value));
        ControlFlow::Continue(())
    })
}

/// Hands the entries to `each` as [`for_each_bytes`] does, many at a time, until it breaks off.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn for_each_part(
    map: &MapData,
    mut each: impl FnMut(Part<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    let (key_size, value_size) = (info.key_size() as usize, info.value_size() as usize);
    let (mut keys, mut values) =
        (vec![0; READ.saturating_mul(key_size)], vec![0; READ.saturating_mul(value_size)]);
    // Position at which the kernel continues: the number of a chain.
    let (mut from, mut to) = (0u32, 0u32);
    let mut first = true;
    loop {
        let mut batch = Batch {
            in_batch: if first { 0 } else { &raw const from as u64 },
            out_batch: &raw mut to as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: READ as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel writes at most `count` keys and values of the sizes that it told, and
        // the words of the struct and of `to`.
        let outcome = unsafe { batch.call(BPF_MAP_LOOKUP_BATCH) };
        let ended = match &outcome {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(_) => return outcome,
            Ok(()) => false,
        };
        let count = batch.count as usize;
        let part = Part {
            keys: keys.get(..count.saturating_mul(key_size)).unwrap_or_default(),
            values: values.get(..count.saturating_mul(value_size)).unwrap_or_default(),
            key_size,
            value_size,
            position: if ended { u32::MAX } else { to },
        };
        if each(part).is_break() || ended {
            return Ok(());
        }
        (from, first) = (to, false);
    }
}

/// Some entries of a map, read together.
pub(super) struct Part<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    key_size: usize,
    value_size: usize,
    /// Number of the chain of a hash table that comes next; `u32::MAX` after the last one.
    pub(super) position: u32,
}

impl Part<'_> {
    /// Returns the entries as bytes.
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.keys.chunks(self.key_size.max(1)).zip(self.values.chunks(self.value_size.max(1)))
    }

    /// Returns the entries; none if keys or values have other sizes.
    pub(super) fn entries<K: Pod, V: Pod>(&self) -> impl Iterator<Item = (K, V)> {
        self.bytes().filter_map(|(key, value)| Some((from_bytes(key)?, from_bytes(value)?)))
    }
}

/// Reads a value from its bytes; `None` if there are more or fewer than it has.
pub(super) fn from_bytes<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are as many bytes as the type has, and it is valid for any.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

impl Batch {
    /// Performs a command of bpf(2) with this struct.
    ///
    /// # Safety
    ///
    /// The command must be fine with what the struct points to.
    unsafe fn call(&mut self, command: libc::c_long) -> io::Result<()> {
        // SAFETY: the caller vouches for the pointers in the struct; its own size is given.
        let status =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *self, size_of::<Batch>()) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn check_sizes<K, V>(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    assert_eq!(info.key_size() as usize, size_of::<K>(), "the key is of the map's size");
    assert_eq!(info.value_size() as usize, size_of::<V>(), "the value is of the map's size");
    Ok(())
}
