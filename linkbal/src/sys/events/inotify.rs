//! Events of files: sysctls and pins.
//!
//! A sysctl that is written is a file that is modified, so that inotify tells of all sysctls, but
//! only of writes by this mount of procfs. Writes by the mounts of containers are told by rtnetlink
//! (`RTM_NEWNETCONF`), as far as forwarding and `rp_filter` go.

use std::{
    future::pending,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;

use crate::engine::kernel::{network::NetworkEvent, resource::ResourceKind};

/// An inotify instance; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<Inotify>);

impl Files {
    /// Opens an instance. Without one, changes are found by the regular observations only.
    pub(super) fn start() -> Option<Files> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.inspect_err(|errno| {
            tracing::warn!(
                "failed to start inotify: {errno}; changed sysctls and lost pins are noticed late \
                 (raise fs.inotify.max_user_instances)"
            );
        });
        Some(Files(Arc::new(inotify.ok()?)))
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Files {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A setter of the files to listen to; clones share them.
#[derive(Clone, Debug)]
pub struct FileWatcher(pub(super) Option<Files>);

impl FileWatcher {
    /// Listens to writes of sysctls; missing ones are left out. Must be called again when
    /// interfaces may have been made anew.
    pub fn sysctls(&self, paths: &[String]) {
        let Some(Files(inotify)) = &self.0 else { return };
        for path in paths {
            let path = Path::new("/proc/sys").join(path);
            // One that is watched already stays so; one that cannot be is read regularly.
            let _ = inotify.add_watch(&path, AddWatchFlags::IN_MODIFY);
        }
    }

    /// Listens to files that go away from the folder of the pins.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn pins(&self, folder: &Path) -> Result<()> {
        let Some(Files(inotify)) = &self.0 else { return Ok(()) };
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        let watch = inotify.add_watch(folder, gone);
        watch.map(drop).with_context(|| format!("failed to watch {}", folder.display()))
    }
}

/// Waits for the next events of an instance; without an instance, for ever.
pub(super) async fn file_events(files: Option<&AsyncFd<Files>>) -> Vec<NetworkEvent> {
    let Some(files) = files else { return pending().await };
    let Ok(mut ready) = files.readable().await else { return pending().await };
    match ready.try_io(|files| Ok(files.get_ref().0.read_events()?)) {
        Ok(Ok(notified)) => events(&notified),
        // Nothing there after all, or a fault that the regular observation makes up for.
        _ => Vec::new(),
    }
}

/// Converts events of inotify. Pins have names below their folder; sysctls are watched as such.
fn events(notified: &[InotifyEvent]) -> Vec<NetworkEvent> {
    let gone = |event: &&InotifyEvent| event.name.is_some();
    let written = |event: &&InotifyEvent| event.mask.contains(AddWatchFlags::IN_MODIFY);
    let lost = notified.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
    let pins = notified.iter().find(gone).map(|_| NetworkEvent::Datapath { ifindex: None });
    let sysctls = notified.iter().find(written);
    let sysctls =
        sysctls.map(|_| NetworkEvent::ResourceChanged { what: ResourceKind::Sysctls, by: None });
    let lost = lost.then_some(NetworkEvent::Overrun);
    pins.into_iter().chain(sysctls).chain(lost).collect()
}
