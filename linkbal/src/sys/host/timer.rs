//! A kernel timer for the main loop. A tokio timer is set anew for each turn of the loop, which
//! costs two more wake-ups, and one in between for each of its wheels.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer that rings once, at the time it was last set to.
pub struct Timer {
    timer: TimerFd,
    /// The same timer, registered with tokio.
    rung: AsyncFd<OwnedFd>,
    /// The time that it is set to, until it rings.
    due: Option<Duration>,
}

impl Timer {
    /// Creates a timer that is not set.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new() -> Result<Timer> {
        let make = || {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
            let rung = timer.as_fd().try_clone_to_owned()?;
            // SAFETY: nothing closes the descriptor before this is dropped.
            let rung = unsafe { AsyncFd::register_with_interest(rung, Interest::READABLE) }?;
            io::Result::Ok(Timer { timer, rung, due: None })
        };
        make().context("failed to make a timer")
    }

    /// Sets the timer to ring at `due`, by a clock that says `now`; at once if that is over.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set(&mut self, due: Duration, now: Duration) -> Result<()> {
        if self.due == Some(due) {
            return Ok(());
        }
        // Zero would disarm it.
        let left = due.saturating_sub(now).max(Duration::from_nanos(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.due = Some(due);
        Ok(())
    }

    /// Waits until the timer rings; now and then it rings too early.
    pub async fn ring(&mut self) {
        // Setting it anew takes back that it is readable, so nothing has to be read. An error would
        // be the runtime's end.
        if let Ok(mut ready) = self.rung.readable().await {
            ready.clear_ready();
        }
        self.due = None;
    }
}
