//! Pinned links of programs, which outlive their maker and, as long as they are held, their pins.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::Arc,
};

/// Commands of bpf(2), and the parts of `union bpf_attr` that they read (include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The part of `union bpf_attr` that pinning and opening a pin read.
#[repr(C)]
struct Obj {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct ObjInfo {
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

/// A link that lives as long as this does, whatever happens to its pin.
#[derive(Clone)]
pub(super) struct HeldLink(Arc<OwnedFd>);

impl HeldLink {
    /// Opens the link that is pinned at `pin`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn open(pin: &Path) -> io::Result<HeldLink> {
        let path = c_path(pin)?;
        let request = Obj { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
        // SAFETY: the kernel reads `request` and the path, which outlives the call.
        let fd = unsafe { bpf(BPF_OBJ_GET, &request) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(HeldLink(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Pins the link at `pin`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, as it does if something is there already.
    pub(super) fn pin(&self, pin: &Path) -> io::Result<()> {
        let path = c_path(pin)?;
        let bpf_fd = self.0.as_raw_fd() as u32;
        let request = Obj { pathname: path.as_ptr() as u64, bpf_fd, file_flags: 0 };
        // SAFETY: the kernel reads `request` and the path, which outlives the call.
        unsafe { bpf(BPF_OBJ_PIN, &request) }.map(drop)
    }

    /// Returns whether the link's program runs somewhere, by one system call. aya does not tell.
    pub(super) fn is_attached(&self) -> bool {
        let LinkInfo { kind, target: [low, high], .. } = self.info().unwrap_or_default();
        low != 0 || (kind == CGROUP && high != 0)
    }

    /// Returns the id of the link's program.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn program(&self) -> io::Result<u32> {
        Ok(self.info()?.program)
    }

    fn info(&self) -> io::Result<LinkInfo> {
        let mut info = LinkInfo::default();
        let request = ObjInfo {
            bpf_fd: self.0.as_raw_fd() as u32,
            info_len: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the kernel reads `request`, and writes at most `info_len` bytes to `info`, which
        // is that long and outlives the call.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &request) }?;
        Ok(info)
    }
}

/// Returns whether a link is pinned at `pin`, and still attached.
pub(super) fn is_attached(pin: &Path) -> bool {
    HeldLink::open(pin).is_ok_and(|link| link.is_attached())
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Calls bpf(2).
///
/// # Safety
///
/// `request` is what the command reads, and all that it points at is valid.
unsafe fn bpf<T>(command: libc::c_long, request: &T) -> io::Result<i32> {
    let request = std::ptr::from_ref(request);
    // SAFETY: the kernel reads no more than the size of the request; the rest is the caller's word.
    let status = unsafe { libc::syscall(libc::SYS_bpf, command, request, size_of::<T>()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status as i32) }
}
