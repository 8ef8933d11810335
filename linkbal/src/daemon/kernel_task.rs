//! A task that observes and changes the kernel beside the main loop, so that a long dump of routes
//! does not delay a verdict. Jobs are done one after the other, in order.

use std::{collections::BTreeMap, path::PathBuf};

use tokio::sync::mpsc;

use crate::{
    engine::{
        Event,
        balance::load::{Counts, Octets},
        kernel::{
            attribution::Adoption,
            network::{Change, Snapshot},
            refusal::KernelRefusal,
        },
    },
    sys::{
        Kernel,
        conntrack::adopt::{self, Adopted},
        host::{descriptors, thread},
    },
};

/// A job.
pub(super) enum Task {
    /// An observation of everything, with these sysctls, and with bonds if the flag is set.
    Observe(Vec<String>, bool),
    /// Changes to make.
    Apply(Vec<Change>),
    /// A search for connections without a mark; the flow table is pinned at the path.
    Adopt(Adoption, PathBuf),
    /// A reading of the counters of these interfaces; those of the uplinks are passed on.
    Count(Vec<String>, BTreeMap<u32, Octets>),
}

/// Starts the task; the receiver gets its results.
pub(super) fn spawn(
    kernel: Kernel,
) -> (mpsc::UnboundedSender<Task>, mpsc::UnboundedReceiver<Event>) {
    let (tasks, received) = mpsc::unbounded_channel();
    let (observed, observations) = mpsc::unbounded_channel();
    tokio::spawn(work(kernel, received, observed));
    (tasks, observations)
}

async fn work(
    mut kernel: Kernel,
    mut tasks: mpsc::UnboundedReceiver<Task>,
    observed: mpsc::UnboundedSender<Event>,
) {
    while let Some(task) = tasks.recv().await {
        let _lent = descriptors::lend();
        match task {
            Task::Observe(sysctls, bonds) => {
                observe(&mut kernel, &sysctls, bonds, &observed).await;
            }
            Task::Count(interfaces, uplinks) => match kernel.octets(&interfaces).await {
                // The receiver is gone when the daemon ends.
                Ok(interfaces) => {
                    drop(observed.send(Event::LoadCounted(Counts { interfaces, uplinks })));
                }
                Err(error) => tracing::warn!("{error:#}"),
            },
            Task::Adopt(adoption, flows) => adopt_connections(adoption, flows).await,
            Task::Apply(changes) => {
                let refusals = apply(&mut kernel, &changes).await;
                // The receiver is gone when the daemon ends.
                if !refusals.is_empty() {
                    let _ = observed.send(Event::NotApplied(refusals));
                }
                let _ = observed.send(Event::Applied);
            }
        }
    }
}

/// Adopts connections on a thread of its own: a large table takes its time.
async fn adopt_connections(adoption: Adoption, flows: PathBuf) {
    let outcome = thread::run("adopt", move || adopt::adopt(&adoption, &flows)).await;
    match outcome.flatten() {
        Ok(Adopted { marked: 0, forgotten: 0 }) => {}
        Ok(Adopted { marked, forgotten }) => tracing::info!(
            "connections that linkbal had not seen begin: {marked} marked with their uplink, \
             {forgotten} that left untranslated forgotten"
        ),
        Err(error) => tracing::warn!("{error:#}"),
    }
}

/// Observes the kernel. A failure is answered as well, or the engine would wait for ever.
async fn observe(
    kernel: &mut Kernel,
    sysctls: &[String],
    bonds: bool,
    observed: &mpsc::UnboundedSender<Event>,
) {
    let observed_all = async {
        let bonding = kernel.bonding(bonds).await?;
        anyhow::Ok(Snapshot { bonding, ..kernel.snapshot(sysctls).await? })
    };
    let event = match observed_all.await {
        Ok(snapshot) => Event::Observed(snapshot),
        Err(error) => {
            tracing::warn!("failed to observe the network: {error:#}");
            Event::NotObserved
        }
    };
    // The receiver is gone when the daemon ends.
    let _ = observed.send(event);
}

/// Makes the changes, and returns those that the kernel refused.
async fn apply(kernel: &mut Kernel, changes: &[Change]) -> Vec<KernelRefusal> {
    let mut refusals = Vec::new();
    for change in changes {
        match kernel.apply(change).await {
            Ok(()) => tracing::debug!("done: {change:?}"),
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals
}
