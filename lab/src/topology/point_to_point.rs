//! A point-to-point link without Ethernet and without neighbours, as PPP makes it: two TUN interfaces with threads
//! in between.

use std::fs::{File, OpenOptions};
use std::io::{Error, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, poll};

use super::Lab;
use crate::namespace::Namespace;

/// The interface at the provider's end.
const FAR: &str = "line0";
/// Maximum length of a packet, in bytes.
const MAX_PACKET: usize = 65_536;
/// Interval at which a thread checks whether it shall stop, in milliseconds.
const POLL_INTERVAL_MS: u16 = 100;

/// A dialled link; dropping it hangs up and removes the interfaces.
#[derive(Debug)]
pub struct PointToPointLink {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lab {
    /// Makes `interface` in the gateway, which leads to the provider of `uplink`, with an address
    /// on either side and a default route without a gateway.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn dial(
        &self,
        uplink: usize,
        interface: &str,
        own: Ipv4Addr,
        peer: Ipv4Addr,
    ) -> Result<PointToPointLink> {
        let provider = &self.uplinks[uplink].provider;
        let near = tun(&self.gateway, interface)?;
        let far = tun(provider, FAR)?;
        let (stop, mut threads) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || pass_on(from, to, &stop)));
        }
        let line = PointToPointLink { stop, threads };
        let ends = format!("address add {peer} peer {own} dev {FAR}\nlink set {FAR} up\n");
        provider.ip_batch(&ends)?;
        self.gateway.ip_batch(&format!(
            "address add {own} peer {peer} dev {interface}\nlink set {interface} up\n\
                 route add default dev {interface} metric 50\n"
        ))?;
        Ok(line)
    }
}

impl Drop for PointToPointLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of a point-to-point link panicked");
            }
        }
    }
}

/// Makes an interface for packets without link-layer headers (Documentation/networking/tuntap.rst).
fn tun(namespace: &Namespace, name: &str) -> Result<File> {
    let entered = namespace.enter()?;
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let file = file.context("failed to open /dev/net/tun")?;
    // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "the name is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    // SAFETY: the request reads and writes one `ifreq`, which `request` is.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    ensure!(status == 0, "failed to make interface {name}: {}", Error::last_os_error());
    drop(entered);
    Ok(file)
}

/// Passes packets on until `stop` is set.
fn pass_on(mut from: File, mut to: File, stop: &AtomicBool) {
    let mut packet = vec![0; MAX_PACKET];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&from), PollFlags::POLLIN)];
        if !matches!(poll(&mut ready, POLL_INTERVAL_MS), Ok(1..)) {
            continue;
        }
        if let Ok(size) = from.read(&mut packet) {
            // An interface that is down takes nothing, like a line that is not there yet.
            let _ = to.write(&packet[..size]);
        }
    }
}
