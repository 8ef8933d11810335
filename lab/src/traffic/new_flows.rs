//! Many new flows, and the uplink that each took.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::{Connection, next_flow};
use super::wire::Request;
use super::worker::runtime;
use super::{FlowSpec, Protocol, raise_socket_limit};
use crate::interrupt;
use crate::namespace::Namespace;
use crate::topology::plan;

/// Time that a flow may take to be answered.
const LIMIT: Duration = Duration::from_secs(3);
/// Time after which a UDP request that a busy machine lost is sent again, as TCP does with a SYN
/// (RFC 6298, section 2).
const RESEND: Duration = Duration::from_secs(1);
/// Number of flows that are open at a time.
const AT_A_TIME: usize = 64;

/// The answer of a server about one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowResult {
    /// The client's address and port as the server sees them; `None` without an answer within 3 s.
    pub peer: Option<SocketAddr>,
    /// Set if a UDP request was sent more than once.
    pub resent: bool,
}

impl FlowResult {
    /// Returns the uplink to which the address belongs.
    #[must_use]
    pub fn uplink(self) -> Option<usize> {
        plan::uplink_of(self.peer?.ip())
    }
}

/// Opens each flow once from `lan`, exchanges one message and closes it.
/// The answers are in the order of `flows`.
///
/// # Errors
/// When the namespace cannot be entered, or the user interrupts the lab. A flow that fails or
/// gets no answer is no error.
pub fn open_flows(lan: &Namespace, flows: &[FlowSpec]) -> Result<Vec<FlowResult>> {
    raise_socket_limit()?;
    let _entered = lan.enter()?;
    let runtime = runtime()?;
    let mut seen = vec![FlowResult::default(); flows.len()];
    for (chunk, results) in flows.chunks(AT_A_TIME).zip(seen.chunks_mut(AT_A_TIME)) {
        interrupt::check()?;
        runtime.block_on(open_chunk(chunk, results));
    }
    Ok(seen)
}

async fn open_chunk(flows: &[FlowSpec], results: &mut [FlowResult]) {
    let mut tasks = JoinSet::new();
    for (position, spec) in flows.iter().copied().enumerate() {
        tasks.spawn(async move { (position, timeout(LIMIT, ask(spec)).await) });
    }
    for (position, result) in tasks.join_all().await {
        results[position] = result.ok().and_then(Result::ok).unwrap_or_default();
    }
}

async fn ask(spec: FlowSpec) -> Result<FlowResult> {
    let mut connection = Connection::open(spec).await?;
    let request = Request { flow: next_flow(), sequence: 0 };
    if spec.protocol == Protocol::Udp
        && let Ok(peer) = timeout(RESEND, connection.exchange(request)).await
    {
        return Ok(FlowResult { peer: Some(peer?), resent: false });
    }
    let peer = connection.exchange(request).await?;
    Ok(FlowResult { peer: Some(peer), resent: spec.protocol == Protocol::Udp })
}

/// Counts flows per uplink; flows without an answer, or from elsewhere, are not counted.
#[must_use]
pub fn flows_per_uplink(seen: &[FlowResult], uplinks: usize) -> Vec<usize> {
    let mut counts = vec![0; uplinks];
    for uplink in seen.iter().filter_map(|seen| seen.uplink()) {
        if let Some(count) = counts.get_mut(uplink) {
            *count += 1;
        }
    }
    counts
}
