//! Reloads of the configuration.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{self, StatusCode},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{
    Request, VERSION_PATH, call, configuration,
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
    /// Reason for which a text that came by the API could not be written to the file once it is confirmed,
    /// and what to do; null if it could, or came from the file.
    #[serde(default)]
    pub unwritable: Option<String>,
}

/// Shortest trial: the administrator needs time to confirm.
pub const MIN_TRIAL: Duration = Duration::from_secs(1);
/// Longest trial: the administrator must not forget to confirm.
pub const MAX_TRIAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checks that a trial may have this length.
///
/// # Errors
///
/// A text that says what to write instead.
pub fn check_trial(confirm: Duration) -> Result<Duration, String> {
    if (MIN_TRIAL..=MAX_TRIAL).contains(&confirm) {
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

/// The query of a trial.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TryQuery {
    /// Length of the trial in seconds: the configuration before comes back then, unless `confirm`
    /// follows.
    #[param(minimum = 1, maximum = 604_800)]
    confirm: u64,
}

/// Puts a text on trial in place of the configuration in force.
///
/// The body is the text, at most 256 KiB. Nothing is written: the file gets the text with `confirm`. It
/// may name the files that the configuration in force names, and must leave `[hooks]`, `[api]`,
/// `[notify]` and `hash_seed_file` as they are: these are for the file alone.
#[utoipa::path(
    post, path = "/v1/configuration/try", operation_id = "try", tag = "configuration",
    params(TryQuery),
    request_body(content = String, content_type = "application/toml", description = "The text"),
    responses(
        (status = 200, description = "The text is in force, on trial", body = Reloaded),
        (status = 409, description = "Another reload is under way, or the file has another text"),
        (status = 413, description = "The text is too long"),
        (status = 422, description = "The text cannot be used, or not by the API: nothing has changed"),
    ),
)]
pub(super) async fn try_text(
    Asked(TryQuery { confirm }): Asked<TryQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
    request: http::Request<Body>,
) -> Result<Json<Reloaded>, ApiError> {
    let confirm = ReloadQuery { confirm: Some(confirm) }.trial()?.unwrap_or(MIN_TRIAL);
    let permit = configuration::permit()?;
    let text = configuration::text_of(request.into_body()).await?;
    let tried = call(&daemon, |answer| Request::Try { text, confirm, answer }).await?;
    drop(permit);
    Ok(Json(tried?))
}

/// Keeps the configuration that is on trial.
///
/// A text that came by the API is written to the file first, if that has not changed meanwhile.
#[utoipa::path(
    post, path = "/v1/confirm", tag = "configuration",
    responses(
        (status = 204, description = "The configuration stays in force"),
        (status = 409, description = "No configuration is on trial, or the file cannot be written"),
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

/// Ends a trial before its time: the configuration before is in force again.
#[utoipa::path(
    post, path = "/v1/undo", tag = "configuration",
    responses(
        (status = 204, description = "The configuration before is in force"),
        (status = 409, description = "No configuration is on trial, or it cannot be undone now"),
    ),
)]
pub(super) async fn undo(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<StatusCode, ApiError> {
    let undone = call(&daemon, |answer| Request::Undo { answer }).await?;
    undone.map_err(|refusal| ApiError::new(ErrorCode::NotPossible, refusal))?;
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
        assert_eq!(trial_of("?confirm=1"), Ok(Some(MIN_TRIAL)));
        assert_eq!(trial_of("?confirm=604800"), Ok(Some(MAX_TRIAL)));
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
