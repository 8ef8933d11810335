//! The packet clock: the time at which each long flow first shows up at a provider.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::wire::Request;
use crate::namespace::Namespace;

/// Bytes to read of a packet: enough for the headers and a request.
const SNAP: usize = 128;
/// Size of the receive buffer, which holds a second of the lab's traffic when the reader is not
/// scheduled.
const BUFFER: usize = 4 << 20;
/// Interval at which the reader checks whether it shall stop.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
const UDP: u8 = 17;

/// A recording of the UDP requests that pass a namespace, timed by the kernel (`CLOCK_REALTIME`).
#[derive(Debug)]
pub struct Capture {
    first: Arc<Mutex<HashMap<u64, SystemTime>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Records on all interfaces of `namespace`, usually a provider's, until dropped.
    ///
    /// # Errors
    /// When the kernel refuses the packet socket.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let entered = namespace.enter()?;
        let socket = packet_socket().context("failed to open a packet socket")?;
        drop(entered);
        let first = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&first), Arc::clone(&stop));
        let read = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some((flow, moment)) = read_one(&socket) {
                    let mut seen = seen.lock().expect("no holder of the recording panics");
                    seen.entry(flow).or_insert(moment);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("lab-capture".to_owned())
            .spawn(read)
            .context("failed to start a thread")?;
        Ok(Self { first, stop, thread: Some(thread) })
    }

    /// Returns the time at which the first request of any of `flows` (numbers of
    /// [`super::FlowReport::id`]) passed.
    ///
    /// # Panics
    /// When the reader has panicked.
    #[must_use]
    pub fn first_of(&self, flows: &[u64]) -> Option<SystemTime> {
        let first = self.first.lock().expect("the reader has not panicked");
        flows.iter().filter_map(|flow| first.get(flow)).min().copied()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the capture thread of the lab panicked");
        }
    }
}

/// Opens a socket which gets every packet from its IP header on (packet(7)).
fn packet_socket() -> Result<Socket> {
    let all = u16::try_from(libc::ETH_P_ALL)?.to_be();
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(all))))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// Reads the next packet; returns its flow and time if it is a request.
fn read_one(socket: &Socket) -> Option<(u64, SystemTime)> {
    let mut packet = [0; SNAP];
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut packet)];
    let received: Result<_, Errno> =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    let received = received.ok()?;
    let moment = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(UNIX_EPOCH + Duration::from(time)),
        _ => None,
    })?;
    let size = received.bytes;
    Some((udp_request(packet.get(..size)?)?.flow, moment))
}

/// Returns the request in a UDP packet that starts with its IP header.
fn udp_request(packet: &[u8]) -> Option<Request> {
    let version_and_length = *packet.first()?;
    let (protocol, header) = match version_and_length >> 4 {
        4 => (*packet.get(9)?, usize::from(version_and_length & 0xf) * 4),
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    (protocol == UDP).then(|| packet.get(header + 8..)).flatten().and_then(Request::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, protocol_at: usize, header: usize) -> Vec<u8> {
        let mut packet = vec![0; header + 8];
        packet[0] = first;
        packet[protocol_at] = UDP;
        packet.extend(Request { flow: 9, sequence: 1 }.encode());
        packet
    }

    #[test]
    fn requests_are_found_behind_both_headers() {
        let flow = |packet: &[u8]| udp_request(packet).map(|request| request.flow);
        assert_eq!(flow(&packet(0x45, 9, 20)), Some(9));
        assert_eq!(flow(&packet(0x46, 9, 24)), Some(9));
        assert_eq!(flow(&packet(0x60, 6, 40)), Some(9));
        assert_eq!(flow(&packet(0x45, 6, 20)), None);
        assert_eq!(flow(&packet(0x45, 9, 20)[..40]), None);
        assert_eq!(flow(&[]), None);
    }
}
