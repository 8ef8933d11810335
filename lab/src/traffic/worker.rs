//! A thread which runs tasks until its owner drops it.

use std::future::Future;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// The owner of the thread; dropping it ends the tasks and closes their sockets.
#[derive(Debug)]
pub(super) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs the future which `tasks` makes, on a thread of its own, with a guard made by `enter`.
    pub(super) fn start<G, F>(
        enter: impl FnOnce() -> G + Send + 'static,
        tasks: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = ()>,
    {
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            let _entered = enter();
            runtime.block_on(async {
                tokio::select! {
                    () = tasks() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("lab-traffic".to_owned())
            .spawn(work)
            .context("failed to start a thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails when the tasks have ended by themselves.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a traffic thread of the lab panicked");
        }
    }
}

/// Creates a runtime whose tasks all run on the thread that blocks on it, hence in that thread's
/// namespace.
pub(super) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("failed to start a runtime")
}
