//! Looks at pinned links, whoever holds them.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `BPF_OBJ_GET` and the part of `union bpf_attr` that it reads (include/uapi/linux/bpf.h).
const BPF_OBJ_GET: libc::c_long = 7;

#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// What the kernel says of a link whose interface or cgroup it was detached from.
const DETACHED: [&str; 2] = ["ifindex:\t0", "cgroup_id:\t0"];

/// Whether a link is pinned there, and still attached. aya tells of a link neither.
pub(super) fn is_attached(pin: &Path) -> bool {
    let Some(link) = open(pin) else { return false };
    let about = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", link.as_raw_fd()));
    about.is_ok_and(|about| !about.lines().any(|line| DETACHED.contains(&line)))
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
