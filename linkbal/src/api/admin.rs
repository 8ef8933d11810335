//! Requests that change the administrative state of uplinks.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Request;
use crate::engine::admin::AdminState;

/// The outcome of a request for another administrative state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wished {
    /// Name of the uplink.
    pub uplink: String,
    /// The administrative state now.
    pub admin: AdminState,
    /// Set if the state was another one before.
    pub changed: bool,
    /// A warning about the consequences.
    pub warning: Option<String>,
}

/// The reason for which a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No uplink has that name.
    #[error("there is no uplink {name:?}: {help}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that exist.
        help: String,
    },
    /// The request would do harm or nothing now; the text says what.
    #[error("{0}")]
    Unsuitable(String),
    /// The request failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Refused::Unknown { .. } => StatusCode::NOT_FOUND,
            Refused::Unsuitable(_) => StatusCode::CONFLICT,
            Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
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

/// Returns the path of a request for an uplink, with any name escaped.
pub(super) fn path_to(uplink: &str, verb: &str) -> String {
    let escaped = uplink.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    format!("/uplinks/{}/{verb}", escaped.collect::<String>())
}

/// Answers `POST /uplinks/NAME/VERB`.
pub(super) async fn wish(
    Path((uplink, verb)): Path<(String, String)>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Response {
    let admin = match verb.as_str() {
        "enable" => AdminState::Enabled,
        "disable" => AdminState::Disabled,
        "drain" => AdminState::Drained,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let (answer, answered) = oneshot::channel();
    if daemon.send(Request::Wish { uplink, admin, answer }).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match answered.await {
        Ok(Ok(wished)) => Json(wished).into_response(),
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
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
