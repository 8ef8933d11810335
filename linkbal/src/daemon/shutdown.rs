//! The end of the daemon, which nothing can delay.

use std::{sync::mpsc, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::teardown::teardown;
use crate::sys::{
    host::{child, instance::Instance, thread},
    removed::Removed,
};

/// Longest time for a teardown at the end of the daemon.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time from a signal to the end of the process.
const EXIT_TIMEOUT: Duration = Duration::from_millis(4800);

/// Exit code of a daemon that could not end in order.
const EXIT_HUNG: i32 = 1;

/// Signals that end the daemon, or make it read its configuration again.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Starts a thread that ends the process if it has not ended in time after a signal.
///
/// # Errors
///
/// If a thread cannot be started.
pub(super) fn spawn_watchdog() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = move || {
        runtime.block_on(async {
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tokio::select! {
                () = tokio::time::sleep(EXIT_TIMEOUT) => {}
                // A SIGINT meanwhile ends it at once.
                _ = interrupt.recv() => {}
            }
        });
        end_now();
    };
    thread::start("end", watch)?;
    Ok(())
}

/// Ends the process without waiting for anything.
fn end_now() {
    child::kill_all();
    const TEXT: &[u8] =
        b"linkbal: it did not end in time and gives up: what is in the kernel stays \
                          as it is; `linkbal teardown` removes it\n";
    // SAFETY: the text is as long as it says; a descriptor that is not open is an error. A reader
    // that does not read must not delay the end, so the text is written only if that is possible at
    // once.
    unsafe {
        let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        if libc::poll(&raw mut poll, 1, 0) == 1 {
            libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len());
        }
        libc::_exit(EXIT_HUNG)
    }
}

/// Removes everything of an instance, if that can be done in time; returns what was there.
///
/// # Errors
///
/// If something could not be removed, or not in time.
pub(super) fn teardown_in_time(instance: &Instance) -> Result<Removed> {
    let instance = instance.clone();
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.context("failed to start the runtime");
        let done = done.and_then(|runtime| runtime.block_on(teardown(&instance)));
        // The receiver is gone if it took too long.
        let _ = sender.send(done);
    };
    thread::start("teardown", work)?;
    match receiver.recv_timeout(TEARDOWN_TIMEOUT) {
        Ok(done) => done,
        Err(_) => bail!(
            "the teardown was not done within {} s: run `linkbal teardown`",
            TEARDOWN_TIMEOUT.as_secs()
        ),
    }
}
