//! Offloads of interfaces, as `ethtool -K` sets them.

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::Namespace;

/// An offload, and the command that sets it (include/uapi/linux/ethtool.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Offload {
    /// Packets leave with unfinished checksums, which the device is to finish.
    TxChecksum = 0x17,
    /// Received packets are joined.
    Gro = 0x2c,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut Value,
    padding: u64,
}

/// From include/uapi/linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

impl Namespace {
    /// Turns an offload of an interface on or off.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_offload(&self, interface: &str, offload: Offload, on: bool) -> Result<()> {
        let _entered = self.enter()?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let mut value = Value { command: offload as u32, data: on.into() };
        let mut request = Request { name: [0; _], data: &raw mut value, padding: 0 };
        ensure!(interface.len() < libc::IFNAMSIZ, "the name {interface} is too long");
        request.name[..interface.len()].copy_from_slice(interface.as_bytes());
        // SAFETY: a request of the kind that the command has, which points to a struct that outlives it.
        let status = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        let failed = || format!("failed to set {offload:?} of {interface}");
        if status < 0 { Err(io::Error::last_os_error()).with_context(failed) } else { Ok(()) }
    }
}
