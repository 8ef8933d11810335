//! Names and counters of drivers, by the ioctls of ethtool(8) (include/uapi/linux/ethtool.h).

use std::{ffi::CStr, io, os::fd::AsRawFd as _};

use socket2::{Domain, Socket, Type};

/// From include/uapi/linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

const ETHTOOL_GDRVINFO: u32 = 3;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;

/// Positions in `struct ethtool_drvinfo`, and its size, as words of 32 bits.
const DRIVER: std::ops::Range<usize> = 1..9;
const STATS: usize = 45;
const INFO: usize = 49;

/// Words of the name of a counter (`ETH_GSTRING_LEN`).
const NAME: usize = 8;
/// Words before the names, and before the counters.
const NAMES_HEADER: usize = 3;
const COUNTERS_HEADER: usize = 2;

/// `struct ifreq` with a pointer.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut u32,
    padding: u64,
}

/// Runs a command, whose struct is `words`.
fn run(interface: &str, words: &mut [u32]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut request = Request { name: [0; _], data: words.as_mut_ptr(), padding: 0 };
    let bytes = interface.as_bytes();
    let place = request.name.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    place.copy_from_slice(bytes);
    // SAFETY: the request points to the struct of the command, which outlives the call; its size is the
    // caller's word.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn info(interface: &str) -> io::Result<[u32; INFO]> {
    let mut info = [0; INFO];
    info[0] = ETHTOOL_GDRVINFO;
    run(interface, &mut info).map(|()| info)
}

/// Returns the name of an interface's driver.
///
/// # Errors
///
/// If it has none that tells.
pub(super) fn driver(interface: &str) -> io::Result<String> {
    text(&info(interface)?[DRIVER])
}

/// Returns how many frames of others a pair has sent, of all its queues.
///
/// # Errors
///
/// If the driver does not tell.
pub(super) fn frames_sent(interface: &str) -> io::Result<u64> {
    let count = info(interface)?[STATS] as usize;
    let room = count.saturating_mul(2);
    let mut names = vec![0; NAME.saturating_mul(room).saturating_add(NAMES_HEADER)];
    names[..NAMES_HEADER].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_STATS, count as u32]);
    run(interface, &mut names)?;
    // The number may have grown in between: there is room for more.
    let mut counters = vec![0; room.saturating_mul(2).saturating_add(COUNTERS_HEADER)];
    counters[..COUNTERS_HEADER].copy_from_slice(&[ETHTOOL_GSTATS, count as u32]);
    run(interface, &mut counters)?;
    let names = names[NAMES_HEADER..].chunks(NAME).map(|name| text(name).unwrap_or_default());
    let counters = counters[COUNTERS_HEADER..].chunks(2);
    let counters = counters.map(|words| u64::from(words[0]) | u64::from(words[1]) << 32);
    let sent = names.zip(counters).take(count).filter(|(name, _)| name.ends_with("_xdp_xmit"));
    Ok(sent.map(|(_, frames)| frames).sum())
}

fn text(words: &[u32]) -> io::Result<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?;
    Ok(text.to_string_lossy().into_owned())
}
