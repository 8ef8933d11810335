//! The system call `bpf`: maps that are shared memory, programs of given instructions, and test
//! runs whose frames enter the network stack.

use std::{
    ffi::CString,
    io,
    marker::PhantomData,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr::NonNull,
};

use anyhow::{Context as _, Result, bail};

/// Values of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TEST_RUN: libc::c_long = 10;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Value of `enum bpf_prog_type`: a tc program.
pub(crate) const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// Value of `enum bpf_prog_type`: an XDP program.
pub(crate) const BPF_PROG_TYPE_XDP: u32 = 6;

/// Flag of a test run: frames that the program passes enter the network stack.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Number of frames that the stack gets at once, as of a network card by NAPI.
const BATCH: u32 = 64;

/// Calls the system call; `T` must be a member of `union bpf_attr` whose pointers are valid.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes a struct of that size, and what it points to.
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

fn descriptor(raw: libc::c_long) -> Result<OwnedFd> {
    let raw = RawFd::try_from(raw)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A plain value in shared memory: any bytes are one.
pub(crate) trait Plain: Copy {}

/// An array map in the memory of this process, too.
pub(crate) struct Shared<T> {
    fd: OwnedFd,
    memory: NonNull<T>,
    length: usize,
    kind: PhantomData<T>,
}

impl<T: Plain> Shared<T> {
    /// Creates a map of `length` zeroed values, whose size must be a multiple of 8.
    pub(crate) fn new(length: usize) -> Result<Self> {
        #[repr(C)]
        struct Create {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
        }
        let mut create = Create {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: size_of::<T>() as u32,
            max_entries: length as u32,
            map_flags: BPF_F_MMAPABLE,
        };
        let fd = bpf(BPF_MAP_CREATE, &mut create).context("failed to create a map")?;
        let fd = descriptor(fd)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let size = length * size_of::<T>();
        // SAFETY: a new mapping of a map that is as large (its values have no gaps).
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("failed to map a map");
        }
        let memory = NonNull::new(memory.cast()).context("a map is nowhere")?;
        Ok(Self { fd, memory, length, kind: PhantomData })
    }

    /// Returns a value of the map.
    pub(crate) fn get(&self, index: usize) -> T {
        assert!(index < self.length);
        // SAFETY: it lies in the mapping, and any bytes are a value.
        unsafe { self.memory.add(index).read_volatile() }
    }

    /// Sets a value of the map.
    pub(crate) fn set(&self, index: usize, value: T) {
        assert!(index < self.length);
        // SAFETY: it lies in the mapping.
        unsafe { self.memory.add(index).write_volatile(value) };
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A loaded program.
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Loads instructions (`struct bpf_insn`).
    pub(crate) fn load(kind: u32, instructions: &[u64]) -> Result<Self> {
        #[repr(C)]
        struct Load {
            prog_type: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
        }
        let mut log = vec![0u8; 1 << 16];
        let mut load = Load {
            prog_type: kind,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log: log.as_mut_ptr() as u64,
        };
        match bpf(BPF_PROG_LOAD, &mut load) {
            Ok(fd) => Ok(Self(descriptor(fd)?)),
            Err(error) => {
                let text = String::from_utf8_lossy(&log);
                bail!("failed to load a program: {error}: {}", text.trim_end_matches('\0'))
            }
        }
    }

    pub(crate) fn pin(&self, path: &Path) -> Result<()> {
        #[repr(C)]
        struct Pin {
            path: u64,
            fd: u32,
            flags: u32,
        }
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut pin = Pin { path: name.as_ptr() as u64, fd: self.0.as_raw_fd() as u32, flags: 0 };
        bpf(BPF_OBJ_PIN, &mut pin).with_context(|| format!("failed to pin {}", path.display()))?;
        Ok(())
    }

    /// Runs an XDP program on `count` frames that begin as `frame`, as if they arrived at the
    /// interface.
    pub(crate) fn run(&self, frame: &[u8], interface: u32, count: u32) -> Result<()> {
        /// `struct xdp_md`.
        #[repr(C)]
        #[derive(Default)]
        struct Context {
            data: u32,
            data_end: u32,
            data_meta: u32,
            ingress_ifindex: u32,
            rx_queue_index: u32,
            egress_ifindex: u32,
        }
        #[repr(C)]
        #[derive(Default)]
        struct TestRun {
            prog_fd: u32,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            ctx_size_in: u32,
            ctx_size_out: u32,
            ctx_in: u64,
            ctx_out: u64,
            flags: u32,
            cpu: u32,
            batch_size: u32,
            padding: u32,
        }
        let size = u32::try_from(frame.len())?;
        let context = Context { data_end: size, ingress_ifindex: interface, ..Context::default() };
        let mut run = TestRun {
            prog_fd: self.0.as_raw_fd() as u32,
            data_size_in: size,
            data_in: frame.as_ptr() as u64,
            repeat: count,
            ctx_size_in: size_of::<Context>() as u32,
            ctx_in: &raw const context as u64,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..TestRun::default()
        };
        bpf(BPF_PROG_TEST_RUN, &mut run).context("failed to run the generator")?;
        Ok(())
    }
}
