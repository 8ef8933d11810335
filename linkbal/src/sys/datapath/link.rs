//! Pinned links of programs, which outlive their maker and, as long as they are held, their pins.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::Arc,
};

/// Commands of bpf(2), and the parts of `union bpf_attr` that they read (include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// `BPF_XDP` of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`: the program runs in the driver, or not at all (include/uapi/linux/if_link.h).
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

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

/// The part of `union bpf_attr` that the creation of a link reads.
#[repr(C)]
struct Create {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that the change of a link reads.
#[repr(C)]
struct Update {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
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

    /// Attaches an XDP program to the driver of an interface. aya would replace the program of somebody
    /// else where the kernel refuses a link.
    ///
    /// # Errors
    ///
    /// `EBUSY` or `EEXIST` if the interface has another program, `EOPNOTSUPP` if its driver runs none.
    pub(super) fn create_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<HeldLink> {
        let request = Create {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        // SAFETY: the kernel reads `request`, which has no pointers.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &request) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(HeldLink(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Replaces the link's program in one step.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, as it does if the link is detached.
    pub(super) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let request = Update {
            link_fd: self.0.as_raw_fd() as u32,
            new_prog_fd: program.as_raw_fd() as u32,
            flags: 0,
            old_prog_fd: 0,
        };
        // SAFETY: the kernel reads `request`, which has no pointers.
        unsafe { bpf(BPF_LINK_UPDATE, &request) }.map(drop)
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
