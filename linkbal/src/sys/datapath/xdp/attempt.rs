//! Trying whether a pair of interfaces sends frames: before Linux 6.3 nobody tells.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::ethtool;

/// From include/uapi/linux/bpf.h: the command, and the flag that has the kernel do as the program says.
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// `struct xdp_md`.
#[derive(Default)]
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// The part of `union bpf_attr` that a test run reads.
#[derive(Default)]
#[repr(C)]
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

/// EtherType of experiments (IEEE 802, clause 9.2.3), big endian: nobody answers it.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// The shortest frame of Ethernet, without its checksum.
const FRAME: usize = 60;

/// Sends a frame from an interface to itself and looks whether its driver took it. `program` sends frames
/// back.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn sends(
    program: BorrowedFd<'_>,
    ifindex: u32,
    name: &str,
    address: [u8; 6],
) -> io::Result<bool> {
    let before = ethtool::frames_sent(name)?;
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&address);
    frame[6..12].copy_from_slice(&address);
    frame[12..14].copy_from_slice(&ETHER_TYPE);
    let context =
        Context { data_end: FRAME as u32, ingress_ifindex: ifindex, ..Context::default() };
    let mut run = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: FRAME as u32,
        data_in: (&raw const frame) as u64,
        repeat: 1,
        ctx_size_in: size_of::<Context>() as u32,
        ctx_in: (&raw const context) as u64,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        ..TestRun::default()
    };
    let (request, size) = (&raw mut run, size_of::<TestRun>());
    // SAFETY: the kernel reads the frame and the context, which outlive the call, and writes into the
    // request alone.
    let status = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, request, size) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ethtool::frames_sent(name)? != before)
}
