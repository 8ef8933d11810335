//! Another configuration.

use std::time::Duration;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Request;

/// A configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reloaded {
    /// Its number of uplinks.
    pub uplinks: usize,
    /// What is probably not meant so in it; empty for most.
    pub warnings: String,
    /// Seconds for which it is on trial.
    pub confirm_within_s: Option<u64>,
}

/// The path that reloads, for a trial of `confirm` if that is wanted.
pub fn path(confirm: Option<Duration>) -> String {
    match confirm {
        None => "/reload".into(),
        Some(confirm) => format!("/reload?confirm={}", confirm.as_secs()),
    }
}

/// Answers `POST /reload`.
pub(super) async fn reload(
    RawQuery(query): RawQuery,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Response {
    let confirm = match query.as_deref().map(seconds) {
        None => None,
        Some(Some(confirm)) => Some(confirm),
        Some(None) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let (answer, answered) = oneshot::channel();
    if daemon.send(Request::Reload { confirm, answer }).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match answered.await {
        Ok(Ok(reloaded)) => Json(reloaded).into_response(),
        Ok(Err(refusal)) => (StatusCode::UNPROCESSABLE_ENTITY, refusal).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Answers `POST /confirm`.
pub(super) async fn confirm(State(daemon): State<mpsc::Sender<Request>>) -> Response {
    let (answer, answered) = oneshot::channel();
    if daemon.send(Request::Confirm { answer }).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match answered.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(refusal)) => (StatusCode::CONFLICT, refusal).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn seconds(query: &str) -> Option<Duration> {
    query.strip_prefix("confirm=")?.parse().ok().map(Duration::from_secs)
}
