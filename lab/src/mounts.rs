//! Private mounts, and a mount that hangs.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Runs `body` in a thread with a mount namespace of its own, which its children share.
///
/// # Panics
/// As `body`, or if the kernel refuses.
pub fn in_mount_namespace(body: impl FnOnce() + Send + 'static) {
    let work = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        body();
    };
    if let Err(panic) = thread::spawn(work).join() {
        resume_unwind(panic);
    }
}

/// A file system without a server, as if its file server had died: every access below it hangs
/// until this is dropped.
#[derive(Debug)]
pub struct HungMount {
    server: Option<File>,
    folder: std::path::PathBuf,
}

impl HungMount {
    /// Mounts the file system on an existing folder.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let server = options.read(true).write(true).custom_flags(libc::O_CLOEXEC);
        let server = server.open("/dev/fuse").context("failed to open /dev/fuse")?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("dead"), folder, Some("fuse"), MsFlags::empty(), Some(data.as_str()))
            .context("failed to mount a dead file system")?;
        Ok(Self { server: Some(server), folder: folder.to_owned() })
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // Pending accesses get an error.
        self.server = None;
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
    }
}
