//! Requests that change the administrative state of uplinks.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Request, call};
use crate::engine::admin::AdminState;

/// The outcome of a request for another administrative state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AdminOutcome {
    /// Name of the uplink.
    pub uplink: String,
    /// The administrative state now.
    pub admin: AdminState,
    /// Set if the state was another one before.
    pub changed: bool,
    /// A warning about the consequences.
    pub warning: Option<String>,
}

/// The error of a request that the daemon refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No uplink has that name.
    #[error("there is no uplink {name:?}: {help}")]
    UnknownUplink {
        /// The name.
        name: String,
        /// The names that exist.
        help: String,
    },
    /// The request would do harm or nothing now, as the text says.
    #[error("{0}")]
    NotPossible(String),
    /// The request has an argument that means nothing, as the text says.
    #[error("{0}")]
    Invalid(String),
    /// Too many requests of that kind are under way, as the text says.
    #[error("{0}")]
    TooMany(String),
    /// The request failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status = match self {
            RequestError::UnknownUplink { .. } => StatusCode::NOT_FOUND,
            RequestError::NotPossible(_) => StatusCode::CONFLICT,
            RequestError::Invalid(_) => StatusCode::BAD_REQUEST,
            RequestError::TooMany(_) => StatusCode::SERVICE_UNAVAILABLE,
            RequestError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
}

/// Returns the path of the request that enables an uplink which need not prove itself.
pub fn enable_now(uplink: &str) -> String {
    path(uplink, AdminState::Enabled) + "?now"
}

/// Returns the path of the request that sets an administrative state.
pub fn path(uplink: &str, admin: AdminState) -> String {
    let verb = match admin {
        AdminState::Enabled => "enable",
        AdminState::Disabled => "disable",
        AdminState::Drained => "drain",
    };
    path_to(uplink, verb)
}

/// Characters of an uplink's name that are escaped in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Returns the path of a request for an uplink, with any name escaped.
pub(super) fn path_to(uplink: &str, verb: &str) -> String {
    format!("/uplinks/{}/{verb}", utf8_percent_encode(uplink, ESCAPED))
}

/// The query of a change.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    /// Present if an uplink that is enabled need not prove itself; it has no value.
    now: Option<String>,
}

/// Answers `POST /uplinks/NAME/VERB` and `POST /uplinks/NAME/enable?now`.
pub(super) async fn set(
    Path((uplink, verb)): Path<(String, String)>,
    query: Result<Query<Arguments>, QueryRejection>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, StatusCode> {
    let admin = match verb.as_str() {
        "enable" => AdminState::Enabled,
        "disable" => AdminState::Disabled,
        "drain" => AdminState::Drained,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let now = query.map(|Query(Arguments { now })| now.is_some());
    let now = match now {
        Ok(now) if admin == AdminState::Enabled || !now => now,
        _ => {
            let refusal = "the only query is `now`, of `enable`";
            return Ok((StatusCode::BAD_REQUEST, refusal).into_response());
        }
    };
    match call(&daemon, |answer| Request::SetAdmin { uplink, admin, now, answer }).await? {
        Ok(outcome) => Ok(Json(outcome).into_response()),
        Err(error) => Ok(error.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_one_segment_of_a_path() {
        assert_eq!(path("isp-a", AdminState::Drained), "/uplinks/isp-a/drain");
        assert_eq!(path("a/b ä?", AdminState::Enabled), "/uplinks/a%2Fb%20%C3%A4%3F/enable");
    }
}
