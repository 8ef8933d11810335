//! Flows and clients, as streams of lines.

use std::{collections::BTreeSet, convert::Infallible, path::PathBuf};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures::stream::unfold;
use linkbal_common::mark::MarkMask;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Request, call};
use crate::flows::query::FlowQuery;

/// Subject of a question about flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The flows themselves.
    Flows,
    /// The totals of the clients that have them.
    Clients,
}

/// A question about flows or clients.
#[derive(Clone, Debug)]
pub struct FlowRequest {
    /// Subject.
    pub subject: Subject,
    /// The question.
    pub query: FlowQuery,
}

/// Facts of the daemon that a reader of the flow table needs.
#[derive(Clone, Debug)]
pub struct FlowSource {
    /// Folder in which the maps are pinned.
    pub maps: PathBuf,
    /// Names of the uplinks, with their indexes.
    pub uplinks: Vec<(u32, String)>,
    /// Domains that rules name.
    pub domains: BTreeSet<String>,
    /// linkbal's bits of connections' marks.
    pub mask: MarkMask,
    /// Set if packets of established flows pass by connection tracking, which counts few of them then.
    pub has_shortcuts: bool,
}

/// Parts of an answer, each of whole lines; dropping the receiver ends the reading.
pub type Lines = mpsc::Receiver<Bytes>;

/// Progress of an answer, on lines of their own between the others, for who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Progress {
    /// Part of the flow table that is read, from 0 to 1.
    pub progress: f64,
}

/// The end of an answer, on the last line for who asked for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ending {
    /// The summary.
    pub summary: Summary,
}

/// A summary of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Summary {
    /// Number of live flows that satisfy the conditions.
    pub flows: u64,
    /// Number of them that are in the answer.
    pub shown: u64,
    /// Counting of bytes.
    pub bytes: ByteCounting,
}

/// Counting of bytes by connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ByteCounting {
    /// All packets of connections that began since it was turned on.
    On,
    /// The same, but for packets that take shortcuts.
    Partial,
    /// None: `nf_conntrack_acct` is 0.
    Off,
}

/// Answers `GET /flows`.
pub(super) async fn flows(
    query: Query<FlowQuery>,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    answer(Subject::Flows, query, daemon).await
}

/// Answers `GET /clients`.
pub(super) async fn clients(
    query: Query<FlowQuery>,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    answer(Subject::Clients, query, daemon).await
}

async fn answer(
    subject: Subject,
    Query(query): Query<FlowQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    let request = FlowRequest { subject, query };
    match call(&daemon, |answer| Request::Flows(request, answer)).await? {
        Ok(lines) => {
            let lines = unfold(lines, next_part);
            Ok(([(CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response())
        }
        Err(error) => Ok(error.into_response()),
    }
}

/// Returns the next part. The reader waits until the one before is taken.
async fn next_part(mut lines: Lines) -> Option<(Result<Bytes, Infallible>, Lines)> {
    let part = lines.recv().await?;
    Some((Ok(part), lines))
}
