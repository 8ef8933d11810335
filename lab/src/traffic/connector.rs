//! Hosts that try to connect all the time, answered or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connection::{Connection, next_flow};
use super::wire::Request;
use super::worker::Worker;
use super::{FlowSpec, raise_socket_limit};
use crate::namespace::Namespace;

/// Time that a host tries before it gives up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A host that opens flows, one after the other, until dropped.
#[derive(Debug)]
pub struct Connector {
    answered: Arc<AtomicU64>,
    _worker: Worker,
}

impl Connector {
    /// Opens one of `flows` from `lan` each `pause`, in turn and for ever; each sends one request.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(lan: &Arc<Namespace>, flows: Vec<FlowSpec>, pause: Duration) -> Result<Self> {
        raise_socket_limit()?;
        let answered = Arc::new(AtomicU64::new(0));
        let (lan, count) = (Arc::clone(lan), Arc::clone(&answered));
        let worker = Worker::start(
            move || lan.enter().expect("the lab's own namespace"),
            move || open_all(flows, pause, count),
        )?;
        Ok(Self { answered, _worker: worker })
    }

    /// Returns the number of flows that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

async fn open_all(flows: Vec<FlowSpec>, pause: Duration, answered: Arc<AtomicU64>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for spec in flows.into_iter().cycle() {
        ticks.tick().await;
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            let exchange = async {
                let mut connection = Connection::open(spec).await?;
                connection.exchange(Request { flow: next_flow(), sequence: 0 }).await
            };
            if let Ok(Ok(_)) = timeout(TIMEOUT, exchange).await {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}
