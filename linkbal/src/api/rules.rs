//! Rules, with how often each was used.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Request, call};
use crate::config::outline::RuleWords;

/// A rule with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RuleUse {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleWords,
    /// Flows that began, or moved, by the rule.
    pub flows: u64,
    /// Packets that were dropped or refused because none of its uplinks was usable.
    pub blocked: u64,
}

/// Answers `GET /rules`.
pub(super) async fn rules(
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Vec<RuleUse>>, StatusCode> {
    call(&daemon, Request::Rules).await.map(Json)
}
