//! Requests that change the administrative state of uplinks.

use axum::{Json, extract::State};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{
    Request, VERSION_PATH, call,
    error::{ApiError, ErrorCode},
    extract::{Asked, Named, NoQuery},
};
use crate::{engine::admin::AdminState, flows::filter::Mistake};

/// The outcome of a request for another administrative state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
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
    /// A part of the request means nothing.
    #[error("{what}: {help}")]
    Invalid {
        /// The part, such as `query port`.
        at: String,
        /// The fault.
        what: String,
        /// Advice.
        help: String,
    },
    /// The configuration cannot be used, as the text says.
    #[error("{0}")]
    Unusable(String),
    /// Too many requests of that kind are under way, as the text says.
    #[error("{0}")]
    TooMany(String),
    /// The request failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// A condition of a query that means nothing.
impl From<Mistake> for RequestError {
    fn from(Mistake { condition, what, help }: Mistake) -> RequestError {
        RequestError::Invalid { at: format!("query {condition}"), what, help }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> ApiError {
        match error {
            RequestError::UnknownUplink { name, help } => {
                ApiError::new(ErrorCode::UnknownUplink, format!("there is no uplink {name:?}"))
                    .at("path")
                    .help(help)
            }
            RequestError::NotPossible(text) => ApiError::new(ErrorCode::NotPossible, text),
            RequestError::Invalid { at, what, help } => {
                ApiError::new(ErrorCode::Invalid, what).at(at).help(help)
            }
            RequestError::Unusable(text) => ApiError::new(ErrorCode::Unusable, text),
            RequestError::TooMany(text) => ApiError::new(ErrorCode::TooMany, text),
            RequestError::Failed(error) => {
                ApiError::new(ErrorCode::Failed, format!("{error:#}")).help("the log says more")
            }
        }
    }
}

/// Returns the path of the request that enables an uplink which need not prove itself.
pub fn enable_now(uplink: &str) -> String {
    path(uplink, AdminState::Enabled) + "?now=true"
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
    format!("{VERSION_PATH}/uplinks/{}/{verb}", utf8_percent_encode(uplink, ESCAPED))
}

/// The query of `enable`.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EnableQuery {
    /// Set if the uplink need not prove itself: it is used with its first good round of probes.
    #[serde(default)]
    now: bool,
}

/// Takes an uplink out of use until it is enabled.
///
/// Moves its flows to the others. The state is kept over restarts.
#[utoipa::path(
    post, path = "/v1/uplinks/{name}/disable", tag = "administration",
    params(("name" = String, Path, description = "Name of the uplink")),
    responses(
        (status = 200, description = "The state is in force", body = AdminOutcome),
        (status = 404, description = "There is no such uplink"),
    ),
)]
pub(super) async fn disable(
    name: Named,
    _: Asked<NoQuery>,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Json<AdminOutcome>, ApiError> {
    set(name, AdminState::Disabled, false, daemon).await
}

/// Lets new flows avoid an uplink until it is enabled.
///
/// Those that it has stay. The state is kept over restarts.
#[utoipa::path(
    post, path = "/v1/uplinks/{name}/drain", tag = "administration",
    params(("name" = String, Path, description = "Name of the uplink")),
    responses(
        (status = 200, description = "The state is in force", body = AdminOutcome),
        (status = 404, description = "There is no such uplink"),
    ),
)]
pub(super) async fn drain(
    name: Named,
    _: Asked<NoQuery>,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Json<AdminOutcome>, ApiError> {
    set(name, AdminState::Drained, false, daemon).await
}

/// Undoes `disable` or `drain`.
///
/// The uplink is used again once it has proved itself.
#[utoipa::path(
    post, path = "/v1/uplinks/{name}/enable", tag = "administration",
    params(("name" = String, Path, description = "Name of the uplink"), EnableQuery),
    responses(
        (status = 200, description = "The state is in force", body = AdminOutcome),
        (status = 404, description = "There is no such uplink"),
    ),
)]
pub(super) async fn enable(
    name: Named,
    Asked(EnableQuery { now }): Asked<EnableQuery>,
    daemon: State<mpsc::Sender<Request>>,
) -> Result<Json<AdminOutcome>, ApiError> {
    set(name, AdminState::Enabled, now, daemon).await
}

async fn set(
    Named(uplink): Named,
    admin: AdminState,
    now: bool,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<AdminOutcome>, ApiError> {
    let set = call(&daemon, |answer| Request::SetAdmin { uplink, admin, now, answer }).await?;
    Ok(Json(set?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_one_segment_of_a_path() {
        assert_eq!(path("isp-a", AdminState::Drained), "/v1/uplinks/isp-a/drain");
        assert_eq!(path("a/b ä?", AdminState::Enabled), "/v1/uplinks/a%2Fb%20%C3%A4%3F/enable");
    }
}
