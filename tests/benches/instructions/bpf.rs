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
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;

/// Value of `enum bpf_attach_type`, and the flag for a program in the driver.
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_MAP_TYPE_DEVMAP: u32 = 14;
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

/// The attributes of a new map.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// A place for the program that another one goes on with.
pub(crate) struct Next(OwnedFd);

impl Next {
    pub(crate) fn new() -> Result<Self> {
        let mut create = Create {
            map_type: BPF_MAP_TYPE_PROG_ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            map_flags: 0,
        };
        let fd = bpf(BPF_MAP_CREATE, &mut create).context("failed to create a map")?;
        Ok(Self(descriptor(fd)?))
    }

    pub(crate) fn set(&self, program: &Program) -> Result<()> {
        update(&self.0, 0, program.0.as_raw_fd() as u32).context("failed to set the next program")
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Maximum index of an interface that a program may send frames out by.
const MAX_IFINDEX: u32 = 255;

/// The interfaces that a program may send frames out by, each under its own index.
pub(crate) struct Devices(OwnedFd);

impl Devices {
    pub(crate) fn new() -> Result<Self> {
        let mut create = Create {
            map_type: BPF_MAP_TYPE_DEVMAP,
            key_size: 4,
            value_size: 4,
            max_entries: MAX_IFINDEX + 1,
            map_flags: 0,
        };
        let fd = bpf(BPF_MAP_CREATE, &mut create).context("failed to create a map")?;
        Ok(Self(descriptor(fd)?))
    }

    /// Adds an interface of the calling thread's network namespace.
    pub(crate) fn add(&self, ifindex: u32) -> Result<()> {
        update(&self.0, ifindex, ifindex).context("failed to add an interface")
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sets an entry of a map with keys and values of four bytes.
fn update(map: &OwnedFd, key: u32, value: u32) -> io::Result<()> {
    #[repr(C)]
    struct Update {
        map_fd: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut update = Update {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut update).map(drop)
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
            kernel_version: u32,
            flags: u32,
            name: [u8; 16],
            interface: u32,
            attach_type: u32,
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
            kernel_version: 0,
            flags: 0,
            name: [0; 16],
            interface: 0,
            // A program goes on with others of its kind only.
            attach_type: if kind == BPF_PROG_TYPE_XDP { BPF_XDP } else { 0 },
        };
        match bpf(BPF_PROG_LOAD, &mut load) {
            Ok(fd) => Ok(Self(descriptor(fd)?)),
            Err(error) => {
                let text = String::from_utf8_lossy(&log);
                bail!("failed to load a program: {error}: {}", text.trim_end_matches('\0'))
            }
        }
    }

    /// Returns the same program by another descriptor.
    pub(crate) fn again(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone().context("failed to duplicate a descriptor")?))
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

    /// Returns the program of a pinned link.
    pub(crate) fn of_link(pin: &Path) -> Result<Self> {
        #[repr(C)]
        struct Get {
            path: u64,
            fd: u32,
            flags: u32,
        }
        #[repr(C)]
        struct Info {
            fd: u32,
            length: u32,
            info: u64,
        }
        #[repr(C)]
        struct Id {
            id: u32,
            next_id: u32,
            flags: u32,
        }
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut get = Get { path: path.as_ptr() as u64, fd: 0, flags: 0 };
        let link = bpf(BPF_OBJ_GET, &mut get);
        let link = descriptor(link.with_context(|| format!("failed to open {}", pin.display()))?)?;
        // The beginning of `struct bpf_link_info`: type, id, id of the program.
        let mut words = [0u32; 3];
        let mut info = Info {
            fd: link.as_raw_fd() as u32,
            length: size_of_val(&words) as u32,
            info: &raw mut words as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut info).context("failed to read a link")?;
        // SAFETY: an own array, which the kernel has written to.
        let [.., id] = unsafe { (&raw const words).read_volatile() };
        let mut get = Id { id, next_id: 0, flags: 0 };
        let program = bpf(BPF_PROG_GET_FD_BY_ID, &mut get).context("failed to open a program")?;
        Ok(Self(descriptor(program)?))
    }

    /// Runs an XDP program in the driver of an interface for as long as the descriptor is open.
    pub(crate) fn attach_xdp(&self, interface: u32) -> Result<OwnedFd> {
        #[repr(C)]
        struct Attach {
            prog_fd: u32,
            target_ifindex: u32,
            attach_type: u32,
            flags: u32,
        }
        let mut attach = Attach {
            prog_fd: self.0.as_raw_fd() as u32,
            target_ifindex: interface,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        descriptor(bpf(BPF_LINK_CREATE, &mut attach).context("failed to attach a program")?)
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
