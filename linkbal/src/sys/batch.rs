//! Writes many entries of a map by one system call, which aya does not offer.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

/// `BPF_MAP_UPDATE_BATCH` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

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

/// Writes `values[i]` under `keys[i]` for every `i`, in order. Arrays can this since Linux 5.6,
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
    let info = map.info().map_err(io::Error::other)?;
    assert_eq!(info.key_size() as usize, size_of::<K>(), "the key is of the map's size");
    assert_eq!(info.value_size() as usize, size_of::<V>(), "the value is of the map's size");
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
    let status = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_BATCH, &raw mut batch, size_of::<Batch>())
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
