//! Flows and clients, as streams of lines.

use std::{collections::BTreeSet, convert::Infallible, path::PathBuf, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, State},
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures::stream::unfold;
use linkbal_common::mark::MarkMask;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use utoipa::ToSchema;

use super::{
    JSON_LINES, Request, call,
    error::{ApiError, ErrorCode},
    extract::Asked,
};
use crate::flows::{
    changes::FlowChange,
    clients::{ClientRecord, OthersRecord},
    query::FlowQuery,
    record::FlowRecord,
};

/// Most readers of flows among the clients of one kind: each has a thread, and reads the flow table.
const MAX_READERS: usize = 4;

/// Places for readers of flows among the clients of one kind. A request has those of its connection.
#[derive(Clone, Debug)]
pub(super) struct FlowReaders(Arc<Semaphore>);

impl FlowReaders {
    pub(super) fn new() -> FlowReaders {
        FlowReaders(Arc::new(Semaphore::new(MAX_READERS)))
    }

    fn permit(self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.0.try_acquire_owned().map_err(|_| {
            ApiError::new(ErrorCode::TooMany, "too many readers of flows at a time")
                .help("close some, or try again later")
        })
    }
}

impl<S: Sync> FromRequestParts<S> for FlowReaders {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<FlowReaders, ApiError> {
        parts.extensions.get().cloned().ok_or_else(ApiError::no_answer)
    }
}

/// Subject of a question about flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The flows themselves.
    Flows,
    /// The totals of the clients that have them.
    Clients,
}

/// A question about flows or clients.
#[derive(Debug)]
pub struct FlowRequest {
    /// Subject.
    pub subject: Subject,
    /// The question.
    pub query: FlowQuery,
    /// Permit of the reader.
    pub permit: OwnedSemaphorePermit,
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
    /// Number of rules.
    pub rules: usize,
    /// linkbal's bits of connections' marks.
    pub mask: MarkMask,
    /// Set if packets of established flows pass by connection tracking, which counts few of them then.
    pub has_shortcuts: bool,
}

/// Parts of an answer, each of whole lines; dropping the receiver ends the reading.
pub type Lines = mpsc::Receiver<Bytes>;

/// Progress of an answer, on lines of their own between the others, for who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct FlowProgress {
    /// Part of the flow table that is read, from 0 to 1.
    pub progress: f64,
}

/// The end of an answer, on the last line for who asked for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FlowEnding {
    /// The summary.
    pub summary: FlowSummary,
}

/// A summary of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FlowSummary {
    /// Number of live flows that satisfy the conditions.
    pub flows: u64,
    /// Number of them that are in the answer.
    pub shown: u64,
    /// Counting of bytes.
    pub bytes: ByteCounting,
}

/// Counting of bytes by connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ByteCounting {
    /// All packets of connections that began since it was turned on.
    On,
    /// The same, but for packets that take shortcuts.
    Partial,
    /// None: `nf_conntrack_acct` is 0.
    Off,
}

/// The lines of an answer about flows.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the description of the API alone needs it")]
pub(super) enum FlowLine<'a> {
    /// A flow.
    Flow(FlowRecord<'a>),
    /// With `follow`: a flow that began or ended.
    FlowChange(FlowChange<'a>),
    /// With `progress`.
    FlowProgress(FlowProgress),
    /// With `progress`, at the end.
    FlowEnding(FlowEnding),
}

/// The lines of an answer about clients.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the description of the API alone needs it")]
pub(super) enum ClientLine<'a> {
    /// A client.
    Client(ClientRecord<'a>),
    /// The others together, at the end.
    Others {
        /// The others.
        others: OthersRecord,
    },
    /// With `progress`.
    FlowProgress(FlowProgress),
    /// With `progress`, at the end.
    FlowEnding(FlowEnding),
}

/// Lists live flows, one on each line.
///
/// A flow must satisfy every condition. With `follow`, the answer has what begins and ends from then on,
/// without an end.
#[utoipa::path(
    get, path = "/v1/flows", tag = "flows",
    params(FlowQuery),
    responses(
        (status = 200, description = "One object on each line", body = FlowLine, content_type = JSON_LINES),
        (status = 500, description = "The reading could not begin"),
    ),
)]
pub(super) async fn flows(
    query: Asked<FlowQuery>,
    readers: FlowReaders,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Response, ApiError> {
    answer(Subject::Flows, query, readers, daemon).await
}

/// Lists the clients with the most bytes or flows, one on each line.
#[utoipa::path(
    get, path = "/v1/clients", tag = "flows",
    params(FlowQuery),
    responses(
        (status = 200, description = "One object on each line", body = ClientLine, content_type = JSON_LINES),
        (status = 500, description = "The reading could not begin"),
    ),
)]
pub(super) async fn clients(
    query: Asked<FlowQuery>,
    readers: FlowReaders,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Response, ApiError> {
    answer(Subject::Clients, query, readers, daemon).await
}

async fn answer(
    subject: Subject,
    Asked(query): Asked<FlowQuery>,
    readers: FlowReaders,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, ApiError> {
    let request = FlowRequest { subject, query, permit: readers.permit()? };
    let lines = call(&daemon, |answer| Request::Flows(request, answer)).await??;
    let lines = Body::from_stream(unfold(lines, next_part));
    Ok(([(CONTENT_TYPE, JSON_LINES)], lines).into_response())
}

/// Returns the next part. The reader waits until the one before is taken.
async fn next_part(mut lines: Lines) -> Option<(Result<Bytes, Infallible>, Lines)> {
    let part = lines.recv().await?;
    Some((Ok(part), lines))
}
