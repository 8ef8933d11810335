//! Looks at pinned links, whoever holds them.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Commands of bpf(2), and the parts of `union bpf_attr` that they read (include/uapi/linux/bpf.h).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct ObjGetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`.
#[derive(Default)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    /// The index of the interface, or the id of the cgroup; 0 once the link is detached.
    target: [u32; 2],
}

/// `BPF_LINK_TYPE_CGROUP`: only there the target is a number of 64 bits.
const CGROUP: u32 = 3;

/// Whether a link is pinned there, and still attached. aya does not tell what a link is attached to.
pub(super) fn is_attached(pin: &Path) -> bool {
    let info = open(pin).and_then(|link| info(&link));
    info.is_some_and(|LinkInfo { kind, target: [low, high], .. }| {
        low != 0 || (kind == CGROUP && high != 0)
    })
}

fn open(pin: &Path) -> Option<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes()).ok()?;
    let request = ObjGet { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the kernel reads `request`, of that size, and the path, which outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const request, size_of::<ObjGet>())
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(link: &OwnedFd) -> Option<LinkInfo> {
    let mut info = LinkInfo::default();
    let request = ObjGetInfo {
        bpf_fd: u32::try_from(link.as_raw_fd()).ok()?,
        info_len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    let (command, size) = (BPF_OBJ_GET_INFO_BY_FD, size_of::<ObjGetInfo>());
    // SAFETY: the kernel reads `request`, of that size, and writes at most `info_len` bytes to
    // `info`, which is that long and outlives the call.
    let status = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const request, size) };
    (status == 0).then_some(info)
}
