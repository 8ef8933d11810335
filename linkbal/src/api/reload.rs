//! Reloads of the configuration.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Request, call};

/// The outcome of a reload that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
        None => "/reload".into(),
        Some(confirm) => format!("/reload?confirm={}", confirm.as_secs()),
    }
}

/// The query of a reload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    /// Length of the trial, in seconds.
    confirm: Option<u64>,
}

/// Answers `POST /reload?confirm=SECONDS`.
pub(super) async fn reload(
    query: Result<Query<Arguments>, QueryRejection>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    let confirm = match trial(query) {
        Ok(confirm) => confirm,
        Err(refusal) => return Ok((StatusCode::BAD_REQUEST, refusal).into_response()),
    };
    match call(&daemon, |answer| Request::Reload { confirm, answer }).await? {
        Ok(reloaded) => Ok(Json(reloaded).into_response()),
        Err(refusal) => Ok((StatusCode::UNPROCESSABLE_ENTITY, refusal).into_response()),
    }
}

/// Answers `POST /confirm`.
pub(super) async fn confirm(
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    match call(&daemon, |answer| Request::Confirm { answer }).await? {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(refusal) => Ok((StatusCode::CONFLICT, refusal).into_response()),
    }
}

/// Returns the length of the trial that a query asks for.
fn trial(query: Result<Query<Arguments>, QueryRejection>) -> Result<Option<Duration>, String> {
    let query = query.map_err(|_| "the only query is confirm=SECONDS, with whole seconds")?;
    query.confirm.map(Duration::from_secs).map(check_trial).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial_of(query: &str) -> Result<Option<Duration>, String> {
        let uri = format!("/reload{query}").parse().expect("it is a path and a query");
        trial(Query::try_from_uri(&uri))
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
            assert!(refusal.contains("confirm=SECONDS"), "{query}: {refusal}");
        }
    }
}
