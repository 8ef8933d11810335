//! An empty program: the difference between a figure and the time of this program is linkbal's.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;

/// Values of `enum bpf_cmd` and `enum bpf_prog_type` (include/uapi/linux/bpf.h).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// The instructions `r0 = -1` (`TCX_NEXT`) and `exit`, as `struct bpf_insn`.
const INSTRUCTIONS: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// The first fields of `union bpf_attr` for a load; the kernel takes the others as zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The first fields of `union bpf_attr` for a pin.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Calls the system call `bpf`; `T` must be a member of `union bpf_attr` whose pointers are valid.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes a struct of that size, and reads what it points to.
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

/// Loads the program and pins it.
pub(crate) fn load(pin: &Path) -> Result<SchedClassifier> {
    let mut load = Load {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: INSTRUCTIONS.len() as u32,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    let fd = bpf(BPF_PROG_LOAD, &mut load).context("failed to load the empty program")?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.try_into()?) };
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = Pin { path: path.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attributes).context("failed to pin the empty program")?;
    Ok(SchedClassifier::from_pin(pin)?)
}
