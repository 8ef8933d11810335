//! Threads for work beside the main loop: work that takes its time, or that may hang.
//!
//! A machine can be out of threads. Neither `std::thread::spawn` nor tokio's `spawn_blocking` may be
//! used, since both panic then.

use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

/// Starts a thread.
///
/// # Errors
///
/// If this machine has none left.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("failed to start the thread {name:?}"))
}

/// Returns what work on a thread of its own returns. The thread goes on if the future is dropped.
///
/// # Errors
///
/// If the thread cannot be started, or dies.
pub(crate) async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    // The receiver may have given up.
    start(name, move || drop(sender.send(work())))?;
    receiver.await.with_context(|| format!("the thread {name:?} died"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_cannot_be_started_is_an_error() {
        assert_eq!(run("test", || 7).await.expect("it runs"), 7);
        let died = run("test", || std::panic::resume_unwind(Box::new(()))).await;
        assert!(died.is_err_and(|error: anyhow::Error| format!("{error:#}").contains("died")));
    }
}
