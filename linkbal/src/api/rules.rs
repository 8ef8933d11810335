//! Rules, with how often each was used.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::{
    Request, call,
    error::ApiError,
    extract::{Asked, NoQuery},
};
use crate::config::outline::RuleWords;

/// A rule with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RuleUse {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleWords,
    /// Flows that began, or moved, by the rule.
    pub flows: u64,
    /// Packets that were dropped or refused because none of its uplinks was usable.
    pub blocked: u64,
}

/// Lists the rules in the order in which they are evaluated, with their counters.
#[utoipa::path(
    get, path = "/v1/rules", tag = "flows",
    responses((status = 200, description = "The rules", body = [RuleUse])),
)]
pub(super) async fn rules(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Vec<RuleUse>>, ApiError> {
    call(&daemon, Request::Rules).await.map(Json)
}
