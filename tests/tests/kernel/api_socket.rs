//! Access to the API's socket while it is made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use linkbal::{api, events::journal::Journal};
use nix::sys::stat::{Mode, umask};
use tokio::runtime::Builder;

/// Number of times that the socket is made.
const TIMES: usize = 2000;
/// The id of user and group `nobody`, which may not open the socket.
const NOBODY: libc::c_long = 65534;

/// Drops the rights of the calling thread alone: the library's calls apply to all threads.
fn become_nobody() {
    // SAFETY: the calls take numbers only.
    let ids = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, 0)
            | libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY)
            | libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY)
    };
    assert_eq!(ids, 0);
}

#[test]
fn no_other_user_connects_before_the_socket_has_its_mode() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let path = folder.path().join("linkbal.sock");
    let (ended, tried) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let intruder = thread::spawn({
        let (path, ended, tried) = (path.clone(), Arc::clone(&ended), Arc::clone(&tried));
        move || {
            become_nobody();
            let mut got_in = 0;
            while !ended.load(Ordering::Relaxed) {
                got_in += usize::from(UnixStream::connect(&path).is_ok());
                tried.fetch_add(1, Ordering::Relaxed);
            }
            got_in
        }
    });
    // As a careless service manager would have it.
    let before = umask(Mode::empty());
    for _ in 0..TIMES {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let _entered = runtime.enter();
        let (_requests, _) = api::serve(&path, Journal::default());
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o660);
    }
    umask(before);
    // Root gets in, so the socket does accept connections.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let (_requests, _) = api::serve(&path, Journal::default());
    UnixStream::connect(&path)?;
    ended.store(true, Ordering::Relaxed);
    let got_in = intruder.join().map_err(|_| anyhow!("the intruder died"))?;
    assert!(tried.load(Ordering::Relaxed) > TIMES, "it hardly tried");
    assert_eq!(got_in, 0);
    Ok(())
}
