//! Receivers of messages: their state, and a message that tries them.

use axum::{Json, extract::State};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{Request, call, error::ApiError, extract::Asked};

/// A receiver of messages, with what became of them since the daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ReceiverStatus {
    /// Name.
    pub name: String,
    /// `mail` or `webhook`.
    pub kind: String,
    /// Number of messages that its server has taken.
    pub sent: u64,
    /// Number of attempts that failed.
    pub failed: u64,
    /// Number of news that were given up after too many attempts.
    pub dropped: u64,
    /// Number of news that wait to be told.
    pub waiting: u64,
    /// Reason why messages fail; null if the last one was sent, or there was none.
    pub failing: Option<String>,
    /// Recipients of a mail whom its server did not accept with the last message, each with the reason.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Time of the last message that was sent, RFC 3339, UTC; null without one.
    pub last_sent: Option<String>,
    /// Name of the uplink by which it was sent; null if it went by none.
    pub last_by: Option<String>,
}

/// Result of a message that tried a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TestResult {
    /// Name of the receiver.
    pub receiver: String,
    /// Set if its server has taken the message.
    pub sent: bool,
    /// Name of the uplink by which it was sent; null if it went by none, or was not sent.
    pub by: Option<String>,
    /// Answer of the server, or the reason why the message could not be sent.
    pub said: String,
}

/// The query of a test.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TestQuery {
    /// Name of the receiver; all of them without it.
    receiver: Option<String>,
}

/// Returns the path of the request that tries a receiver, or all.
pub fn test_path(receiver: Option<&str>) -> String {
    let query =
        receiver.map(|name| format!("?receiver={}", utf8_percent_encode(name, NON_ALPHANUMERIC)));
    format!("/v1/notify/test{}", query.unwrap_or_default())
}

/// Sends a message to a receiver, or to all, that says it is a test.
///
/// Answers when each was sent or could not be, after a minute at most. Counts neither for limits nor in
/// the status.
#[utoipa::path(
    post, path = "/v1/notify/test", tag = "administration",
    params(TestQuery),
    responses(
        (status = 200, description = "What became of each", body = [TestResult]),
        (status = 400, description = "There is no such receiver"),
        (status = 503, description = "Another test is under way"),
    ),
)]
pub(super) async fn test(
    Asked(query): Asked<TestQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Vec<TestResult>>, ApiError> {
    let tested = call(&daemon, |answer| Request::TestReceivers(query.receiver, answer)).await?;
    Ok(Json(tested?))
}
