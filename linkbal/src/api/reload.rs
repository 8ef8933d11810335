//! Reloads of the configuration.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{
    Request, VERSION_PATH, call,
    error::{ApiError, ErrorCode},
    extract::{Asked, NoQuery},
};

/// The outcome of a reload that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Reloaded {
    /// Number of uplinks.
    pub uplinks: usize,
    /// Path of the file that was read.
    #[serde(default)]
    pub file: String,
    /// Lines that differ from the configuration before, for people.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Warnings about the configuration; empty for most.
    pub warnings: String,
    /// Length of the trial, in seconds; `None` if it is not on trial.
    pub confirm_within_s: Option<u64>,
}

/// Shortest trial: the administrator needs time to confirm.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Longest trial: the administrator must not forget to confirm.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checks that a trial may have this length.
///
/// # Errors
///
/// A text that says what to write instead.
pub fn check_trial(confirm: Duration) -> Result<Duration, String> {
    if (SHORTEST..=LONGEST).contains(&confirm) {
        return Ok(confirm);
    }
    Err("a configuration can be on trial for 1 second to 7 days: write a time like 60s or 5m"
        .into())
}

/// Returns the path of the request for a reload, with a trial of `confirm` if it is given.
pub fn path(confirm: Option<Duration>) -> String {
    match confirm {
        None => format!("{VERSION_PATH}/reload"),
        Some(confirm) => format!("{VERSION_PATH}/reload?confirm={}", confirm.as_secs()),
    }
}

/// The query of a reload.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReloadQuery {
    /// Length of the trial in seconds: the configuration before comes back then, unless `confirm`
    /// follows.
    #[param(minimum = 1, maximum = 604_800)]
    confirm: Option<u64>,
}

impl ReloadQuery {
    fn trial(self) -> Result<Option<Duration>, ApiError> {
        let trial = self.confirm.map(Duration::from_secs).map(check_trial).transpose();
        trial.map_err(|refusal| ApiError::new(ErrorCode::Invalid, refusal).at("query confirm"))
    }
}

/// Reads the configuration again, and puts it in force.
///
/// One that cannot be used changes nothing. No flow of an uplink that stays moves.
#[utoipa::path(
    post, path = "/v1/reload", tag = "configuration",
    params(ReloadQuery),
    responses(
        (status = 200, description = "The configuration is in force", body = Reloaded),
        (status = 409, description = "Another reload is under way"),
        (status = 422, description = "The configuration cannot be used: nothing has changed"),
    ),
)]
pub(super) async fn reload(
    Asked(query): Asked<ReloadQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Reloaded>, ApiError> {
    let confirm = query.trial()?;
    let reloaded = call(&daemon, |answer| Request::Reload { confirm, answer }).await?;
    Ok(Json(reloaded?))
}

/// Keeps the configuration that is on trial.
#[utoipa::path(
    post, path = "/v1/confirm", tag = "configuration",
    responses(
        (status = 204, description = "The configuration stays in force"),
        (status = 409, description = "No configuration is on trial"),
    ),
)]
pub(super) async fn confirm(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<StatusCode, ApiError> {
    let confirmed = call(&daemon, |answer| Request::Confirm { answer }).await?;
    confirmed.map_err(|refusal| ApiError::new(ErrorCode::NotPossible, refusal))?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;

    use super::*;

    fn trial_of(query: &str) -> Result<Option<Duration>, String> {
        let uri = format!("/v1/reload{query}").parse().expect("it is a path and a query");
        let query = Query::<ReloadQuery>::try_from_uri(&uri);
        let Query(query) = query.map_err(|rejection| rejection.body_text())?;
        query.trial().map_err(|error| error.to_string())
    }

    #[test]
    fn a_trial_has_bounds() {
        assert_eq!(trial_of(""), Ok(None));
        assert_eq!(trial_of("?confirm=1"), Ok(Some(SHORTEST)));
        assert_eq!(trial_of("?confirm=604800"), Ok(Some(LONGEST)));
        for query in ["?confirm=0", "?confirm=604801", "?confirm=18446744073709551615"] {
            let refusal = trial_of(query).expect_err("it is out of bounds");
            assert!(refusal.contains("1 second to 7 days"), "{query}: {refusal}");
        }
        let wrong = ["confirm", "confirm=", "confirm=-1", "confirm=18446744073709551616", "to=1"];
        for query in wrong {
            let refusal = trial_of(&format!("?{query}")).expect_err("it is no number");
            assert!(refusal.contains("query string"), "{query}: {refusal}");
        }
    }
}
