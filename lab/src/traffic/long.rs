//! Long-lived flows, which show what happens to existing flows when an uplink dies or comes back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::connection::{Connection, next_flow};
use super::wire::{Answer, Request};
use super::worker::Worker;
use super::{FlowSpec, raise_socket_limit};
use crate::namespace::Namespace;
use crate::topology::plan;
use crate::wait;

/// Time after which a request without an answer counts as lost.
const LIMIT: Duration = Duration::from_secs(1);

/// The history of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowReport {
    /// The number that the requests of the flow carry.
    pub id: u64,
    /// The specification of the flow.
    pub spec: FlowSpec,
    /// The client's address and port as the server saw them last.
    pub peer: Option<SocketAddr>,
    /// Number of requests sent.
    pub sent: u64,
    /// Number of requests, from the first on without a gap, that are answered or counted as lost.
    pub decided: u64,
    /// Number of requests answered within 1 s.
    pub answers: u64,
    /// Number of requests without an answer within 1 s.
    pub losses: u64,
    /// Number of changes of the peer address.
    pub moved: u64,
    /// Number of errors of the socket, such as a reset; a TCP flow ends with its first.
    pub errors: u64,
    /// True if the flow has ended.
    pub closed: bool,
}

impl FlowReport {
    fn new(spec: FlowSpec) -> Self {
        Self {
            id: next_flow(),
            spec,
            peer: None,
            sent: 0,
            decided: 0,
            answers: 0,
            losses: 0,
            moved: 0,
            errors: 0,
            closed: false,
        }
    }

    /// Returns the uplink that the flow used last.
    #[must_use]
    pub fn uplink(&self) -> Option<usize> {
        plan::uplink_of(self.peer?.ip())
    }

    /// Returns whether the flow moved, lost an answer or failed since an `earlier` report of it.
    #[must_use]
    pub fn disturbed_since(&self, earlier: &Self) -> bool {
        let trouble = |report: &Self| (report.moved, report.losses, report.errors);
        trouble(self) != trouble(earlier)
    }

    fn answered(&mut self, peer: SocketAddr) {
        self.answers += 1;
        if self.peer.is_some_and(|before| before != peer) {
            self.moved += 1;
        }
        self.peer = Some(peer);
    }
}

/// Flows which exchange a small message each at an interval, until dropped.
#[derive(Debug)]
pub struct LongFlows {
    reports: Arc<Mutex<Vec<FlowReport>>>,
    _worker: Worker,
}

impl LongFlows {
    /// Opens `flows` from `lan` and keeps them busy, each with one request per `interval`, evenly
    /// staggered. Returns when each has been answered once.
    ///
    /// # Errors
    /// When a flow is not answered within 10 s.
    pub fn start(lan: &Arc<Namespace>, flows: &[FlowSpec], interval: Duration) -> Result<Self> {
        let flows = Self::begin(lan, flows, interval)?;
        wait::until("an answer on each long flow", Duration::from_secs(10), || {
            Ok(flows.reports().iter().all(|report| report.answers > 0).then_some(()))
        })?;
        Ok(flows)
    }

    /// Opens flows like [`LongFlows::start`] without waiting for answers; TCP flows have 1 s to be
    /// opened.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn begin(lan: &Arc<Namespace>, flows: &[FlowSpec], interval: Duration) -> Result<Self> {
        raise_socket_limit()?;
        let reports: Vec<_> = flows.iter().copied().map(FlowReport::new).collect();
        let reports = Arc::new(Mutex::new(reports));
        let lan = Arc::clone(lan);
        let shared = Arc::clone(&reports);
        let worker = Worker::start(
            move || lan.enter().expect("the lab's own namespace"),
            move || run_all(shared, interval),
        )?;
        Ok(Self { reports, _worker: worker })
    }

    /// Returns the history of each flow so far, in the order of their specs.
    #[must_use]
    pub fn reports(&self) -> Vec<FlowReport> {
        lock(&self.reports).clone()
    }

    /// Waits until every request sent so far is answered or counted as lost, which takes a little
    /// more than 1 s at most; returns the history then.
    ///
    /// # Errors
    /// When the user interrupts the lab.
    pub fn settle(&self) -> Result<Vec<FlowReport>> {
        let before = self.reports();
        wait::until("the fate of all requests", 10 * LIMIT, || {
            let now = self.reports();
            let mut pairs = before.iter().zip(&now);
            Ok(pairs.all(|(old, new)| new.closed || new.decided >= old.sent).then_some(now))
        })
    }
}

fn lock(reports: &Mutex<Vec<FlowReport>>) -> MutexGuard<'_, Vec<FlowReport>> {
    reports.lock().expect("no task panics while it holds the reports")
}

async fn run_all(reports: Arc<Mutex<Vec<FlowReport>>>, interval: Duration) {
    let count = lock(&reports).len();
    let mut tasks = JoinSet::new();
    for position in 0..count {
        let stagger = interval.mul_f64(position as f64 / count as f64);
        let flow = LongFlow { reports: Arc::clone(&reports), position };
        tasks.spawn(flow.run(Instant::now() + stagger, interval));
    }
    tasks.join_all().await;
}

/// The task of one flow.
struct LongFlow {
    reports: Arc<Mutex<Vec<FlowReport>>>,
    position: usize,
}

impl LongFlow {
    async fn run(self, start: Instant, interval: Duration) {
        let FlowReport { id, spec, .. } = lock(&self.reports)[self.position];
        match timeout(LIMIT, Connection::open(spec)).await {
            Ok(Ok(connection)) => self.talk(connection, id, start, interval).await,
            _ => self.update(|report| report.errors += 1),
        }
        self.update(|report| report.closed = true);
    }

    /// Sends a request on every tick, even while others are unanswered, until a TCP connection
    /// fails.
    async fn talk(&self, mut connection: Connection, id: u64, start: Instant, interval: Duration) {
        let survives_errors = matches!(connection, Connection::Udp(_));
        let mut ticks = interval_at(start, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = VecDeque::new();
        let mut sequence = 0;
        loop {
            let result = tokio::select! {
                now = ticks.tick() => {
                    sequence += 1;
                    unanswered.push_back((sequence, now));
                    self.count_losses(&mut unanswered, now);
                    connection.send(Request { flow: id, sequence }).await
                }
                answer = connection.answer() => answer.map(|answer| {
                    self.take_answer(&mut unanswered, answer);
                }),
            };
            if result.is_err() {
                self.update(|report| report.errors += 1);
                if !survives_errors {
                    return;
                }
            }
        }
    }

    /// Counts the losses; the last of `unanswered` is the request that is about to be sent.
    fn count_losses(&self, unanswered: &mut VecDeque<(u64, Instant)>, now: Instant) {
        let late = unanswered.partition_point(|(_, sent)| now - *sent >= LIMIT);
        unanswered.drain(..late);
        self.update(|report| {
            report.sent += 1;
            report.losses += late as u64;
            report.decided = unanswered.front().map_or(report.sent, |(first, _)| first - 1);
        });
    }

    /// Counts an answer, unless its request was counted as lost before.
    fn take_answer(&self, unanswered: &mut VecDeque<(u64, Instant)>, answer: Answer) {
        if let Some(place) = unanswered.iter().position(|(sent, _)| *sent == answer.sequence) {
            unanswered.remove(place);
            self.update(|report| report.answered(answer.seen));
        }
    }

    fn update(&self, change: impl FnOnce(&mut FlowReport)) {
        change(&mut lock(&self.reports)[self.position]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::plan::Family;
    use crate::traffic::Protocol;

    #[test]
    fn a_changed_peer_is_a_move() {
        let mut report = FlowReport::new(FlowSpec::new(Family::V4, Protocol::Udp, 0, 0, 80));
        report.answered("203.0.113.2:1000".parse().expect("an address"));
        let before = report;
        report.answered("203.0.113.2:1000".parse().expect("an address"));
        assert!(!report.disturbed_since(&before));
        report.answered("203.0.113.6:1000".parse().expect("an address"));
        assert!(report.disturbed_since(&before));
        assert_eq!((report.moved, report.answers, report.uplink()), (1, 3, Some(1)));
    }
}
