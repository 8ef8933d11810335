//! Multicast groups that the crate rtnetlink does not parse: nftables, settings of interfaces
//! (netconf), traffic control filters and IPsec policies; and events of files.

use std::{
    future::pending,
    io,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context as _, Result};
use libc::{RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF, RTNLGRP_TC};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM},
};
use tokio::io::unix::AsyncFd;

use super::{
    enlarge_receive_buffer,
    inotify::{FileWatcher, Files, file_events},
    messages::{Transaction, route_events},
};
use crate::{engine::kernel::network::NetworkEvent, sys::nft};

/// Multicast groups (include/uapi/linux/netfilter/nfnetlink.h, xfrm.h).
const NFNLGRP_NFTABLES: u32 = libc::NFNLGRP_NFTABLES as u32;
const XFRMNLGRP_POLICY: u32 = 4;

/// The sockets of multicast groups, and the files that are watched.
#[derive(Debug)]
pub(super) struct MulticastSockets {
    route: AsyncFd<Socket>,
    netfilter: AsyncFd<Socket>,
    /// Policies of IPsec, once they are asked for.
    ipsec: Option<AsyncFd<Socket>>,
    files: Option<AsyncFd<Files>>,
    transaction: Transaction,
}

impl MulticastSockets {
    /// Listens in the network namespace of the calling thread, within a tokio runtime.
    pub(super) fn subscribe() -> Result<MulticastSockets> {
        let groups = [RTNLGRP_TC, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF];
        let route = listen(NETLINK_ROUTE, &groups);
        let netfilter = listen(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]);
        Ok(MulticastSockets {
            route: route.context("failed to subscribe to settings of interfaces")?,
            netfilter: netfilter.context("failed to subscribe to nftables")?,
            ipsec: None,
            files: Files::start().map(asynchronous).transpose()?,
            transaction: Transaction::default(),
        })
    }

    /// Returns the watch of files.
    pub(super) fn watch(&self) -> FileWatcher {
        FileWatcher(self.files.as_ref().map(|files| files.get_ref().clone()))
    }

    /// Listens to changes of IPsec policies as well; returns false if the kernel has no IPsec.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn listen_to_ipsec(&mut self) -> Result<bool> {
        let socket = listen(NETLINK_XFRM, &[XFRMNLGRP_POLICY]);
        let failure = socket.as_ref().err().and_then(|error| error.downcast_ref::<io::Error>());
        if failure.and_then(io::Error::raw_os_error) == Some(libc::EPROTONOSUPPORT) {
            return Ok(false);
        }
        self.ipsec = Some(socket.context("failed to subscribe to IPsec policies")?);
        Ok(true)
    }

    /// Waits for the next events; may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Vec<NetworkEvent> {
        loop {
            let events = tokio::select! {
                ready = self.route.readable() => {
                    let bytes = ready.map(|mut ready| ready.try_io(|socket| receive(socket.get_ref())));
                    received(bytes, route_events)
                }
                ready = self.netfilter.readable() => {
                    let bytes = ready.map(|mut ready| ready.try_io(|socket| receive(socket.get_ref())));
                    received(bytes, |bytes| self.transaction.handle(bytes, nft::last_writer()))
                }
                received = policies_changed(self.ipsec.as_ref()) => received,
                events = file_events(self.files.as_ref()) => events,
            };
            if !events.is_empty() {
                return events;
            }
        }
    }
}

/// Waits for a change of IPsec policies; without a socket, for ever.
async fn policies_changed(socket: Option<&AsyncFd<Socket>>) -> Vec<NetworkEvent> {
    let Some(socket) = socket else { return pending().await };
    let ready = socket.readable().await;
    let bytes = ready.map(|mut ready| ready.try_io(|socket| receive(socket.get_ref())));
    received(bytes, |_| vec![NetworkEvent::Obstacle])
}

fn listen(protocol: isize, groups: &[u32]) -> Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(protocol)?;
    enlarge_receive_buffer(&socket)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    groups.iter().try_for_each(|group| socket.add_membership(*group))?;
    socket.set_non_blocking(true)?;
    asynchronous(socket)
}

fn asynchronous<T: AsFd + AsRawFd>(inner: T) -> Result<AsyncFd<T>> {
    // SAFETY: sockets and inotify instances own their descriptor, which stays the same and open
    // as long as they live.
    let registered = unsafe { AsyncFd::register(inner) };
    registered
        .map_err(|error| error.into_parts().1)
        .context("failed to wait for notifications of the kernel")
}

/// Receives messages; `None` if some were lost. A full socket stays silent about further losses
/// until it has been read empty (`netlink_overrun` in net/netlink/af_netlink.c), so it is emptied
/// before the loss is told.
fn receive(socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    match socket.recv_from_full() {
        Ok((bytes, _)) => Ok(Some(bytes)),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            while socket.recv_from_full().is_ok() {}
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The result of a receive within tokio's own results; `None` inside means that messages were lost.
type Received = io::Result<Result<io::Result<Option<Vec<u8>>>, tokio::io::unix::TryIoError>>;

fn received(result: Received, read: impl FnOnce(&[u8]) -> Vec<NetworkEvent>) -> Vec<NetworkEvent> {
    match result {
        Ok(Ok(Ok(Some(bytes)))) => read(&bytes),
        Ok(Ok(Ok(None))) => vec![NetworkEvent::Overrun],
        // Nothing there after all, or a fault that the regular observation makes up for.
        _ => Vec::new(),
    }
}
