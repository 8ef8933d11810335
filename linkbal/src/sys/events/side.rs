//! What rtnetlink's usual groups do not tell: nftables, settings of interfaces, filters of
//! interfaces, and files: sysctls and pins.
//!
//! A sysctl that is written is a file that is modified, and so inotify tells of all of them; but
//! only of writes by this mount of procfs. Those of containers' mounts are told by rtnetlink
//! (`RTM_NEWNETCONF`), as far as forwarding and `rp_filter` go.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;

use super::{
    enlarge_receive_buffer,
    messages::{Transaction, route_events},
};
use crate::{
    engine::{network::NetworkEvent, repair::Touch},
    sys::nft,
};

/// Groups (include/uapi/linux/rtnetlink.h, nfnetlink.h).
const RTNLGRP_TC: u32 = 4;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;
const NFNLGRP_NFTABLES: u32 = 7;

/// Files to listen to; clones share them.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Inotify>);

impl Watch {
    fn new() -> Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        Ok(Watch(Arc::new(inotify.context("failed to start inotify")?)))
    }

    /// Listens to writes of sysctls; those that do not exist are left out. To be called again when
    /// interfaces may have been made anew.
    pub fn sysctls(&self, paths: &[String]) {
        for path in paths {
            let path = Path::new("/proc/sys").join(path);
            // One that is watched already stays so; one that cannot be is looked at regularly.
            let _ = self.0.add_watch(&path, AddWatchFlags::IN_MODIFY);
        }
    }

    /// Listens to files that go away from the folder of the pins.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn pins(&self, folder: &Path) -> Result<()> {
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        let watch = self.0.add_watch(folder, gone);
        watch.map(drop).with_context(|| format!("failed to watch {}", folder.display()))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The sockets and files.
#[derive(Debug)]
pub(super) struct Side {
    route: AsyncFd<Socket>,
    netfilter: AsyncFd<Socket>,
    files: AsyncFd<Watch>,
    transaction: Transaction,
}

impl Side {
    /// Listens in the network namespace of the calling thread, within a tokio runtime.
    pub(super) fn subscribe() -> Result<Side> {
        let groups = [RTNLGRP_TC, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF];
        let route = listen(NETLINK_ROUTE, &groups);
        let netfilter = listen(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]);
        Ok(Side {
            route: route.context("failed to subscribe to settings of interfaces")?,
            netfilter: netfilter.context("failed to subscribe to nftables")?,
            files: asynchronous(Watch::new()?)?,
            transaction: Transaction::default(),
        })
    }

    /// The files that are listened to.
    pub(super) fn watch(&self) -> Watch {
        self.files.get_ref().clone()
    }

    /// The next events; may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Vec<NetworkEvent> {
        loop {
            let events = tokio::select! {
                ready = self.route.readable() => {
                    let bytes = ready.map(|mut ready| ready.try_io(|socket| receive(socket.get_ref())));
                    received(bytes, route_events)
                }
                ready = self.netfilter.readable() => {
                    let bytes = ready.map(|mut ready| ready.try_io(|socket| receive(socket.get_ref())));
                    received(bytes, |bytes| self.transaction.take_in(bytes, nft::last_writer()))
                }
                ready = self.files.readable() => {
                    let told = ready.map(|mut ready| {
                        ready.try_io(|files| Ok(files.get_ref().0.read_events()?))
                    });
                    told.ok().and_then(|told| told.ok()?.ok()).map(|told| file_events(&told))
                        .unwrap_or_default()
                }
            };
            if !events.is_empty() {
                return events;
            }
        }
    }
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
    registered.map_err(|error| error.into_parts().1).context("failed to wait for the kernel's news")
}

/// A full socket stays silent about further losses until it has been read empty
/// (`netlink_overrun` in net/netlink/af_netlink.c): so it is, before the loss is told.
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

/// What was received, within what tokio makes of it; `None` inside: messages were lost.
type Received = io::Result<Result<io::Result<Option<Vec<u8>>>, tokio::io::unix::TryIoError>>;

fn received(result: Received, read: impl FnOnce(&[u8]) -> Vec<NetworkEvent>) -> Vec<NetworkEvent> {
    match result {
        Ok(Ok(Ok(Some(bytes)))) => read(&bytes),
        Ok(Ok(Ok(None))) => vec![NetworkEvent::Overrun],
        // Nothing there after all, or a fault that the regular look makes up for.
        _ => Vec::new(),
    }
}

/// Pins have names below their folder; sysctls are watched as such.
fn file_events(told: &[InotifyEvent]) -> Vec<NetworkEvent> {
    let gone = |event: &&InotifyEvent| event.name.is_some();
    let written = |event: &&InotifyEvent| event.mask.contains(AddWatchFlags::IN_MODIFY);
    let lost = told.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
    let pins = told.iter().find(gone).map(|_| NetworkEvent::Datapath { ifindex: None });
    let sysctls = told.iter().find(written);
    let sysctls = sysctls.map(|_| NetworkEvent::Touched { what: Touch::Sysctls, by: None });
    let lost = lost.then_some(NetworkEvent::Overrun);
    pins.into_iter().chain(sysctls).chain(lost).collect()
}
