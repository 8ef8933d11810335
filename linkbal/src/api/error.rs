//! Errors of the API: each answer that is no success has this one shape.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of an error, RFC 9457.
pub const PROBLEM: &str = "application/problem+json";

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No request has this path.
    UnknownPath,
    /// The path has no such method.
    UnknownMethod,
    /// No uplink has that name.
    UnknownUplink,
    /// A part of the request means nothing.
    Invalid,
    /// The body is too large.
    TooLarge,
    /// The request would do harm or nothing now.
    NotPossible,
    /// The configuration cannot be used.
    Unusable,
    /// Too many requests of that kind are under way.
    TooMany,
    /// The daemon ends, or could not read its own state.
    NoAnswer,
    /// The request failed.
    Failed,
    /// By TCP: the token is missing, or another one.
    Token,
    /// By TCP: the request is not allowed, whatever token it has.
    Forbidden,
}

impl ErrorCode {
    /// Returns the status code of an answer with this error.
    pub const fn status(self) -> StatusCode {
        match self {
            ErrorCode::UnknownPath | ErrorCode::UnknownUplink => StatusCode::NOT_FOUND,
            ErrorCode::UnknownMethod => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Invalid => StatusCode::BAD_REQUEST,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::NotPossible => StatusCode::CONFLICT,
            ErrorCode::Unusable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::TooMany | ErrorCode::NoAnswer => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Token => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        }
    }
}

/// An error of the API, as problem details (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ApiError {
    /// The status code of the answer.
    pub status: u16,
    /// The kind of the error, for programs.
    pub code: ErrorCode,
    /// The fault, for people.
    pub detail: String,
    /// The part of the request that is at fault, such as `path`, `query`, `query port`, `body` or `header
    /// host`; null if none is.
    pub at: Option<String>,
    /// Advice; null if `detail` has it, or there is none.
    pub help: Option<String>,
}

impl ApiError {
    /// Creates an error without a place and advice.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> ApiError {
        let status = code.status().as_u16();
        ApiError { status, code, detail: detail.into(), at: None, help: None }
    }

    /// Returns the error with the part of the request that is at fault.
    #[must_use]
    pub fn at(self, at: impl Into<String>) -> ApiError {
        ApiError { at: Some(at.into()), ..self }
    }

    /// Returns the error with advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> ApiError {
        ApiError { help: Some(help.into()), ..self }
    }

    /// Returns the error of a request that the daemon did not answer.
    pub(super) fn no_answer() -> ApiError {
        ApiError::new(ErrorCode::NoAnswer, "linkbal ends, or cannot read its own state")
            .help("try again; the log says more")
    }

    /// Returns the error of a path that no request has.
    pub(super) fn unknown_path() -> ApiError {
        ApiError::new(ErrorCode::UnknownPath, "there is no such request")
            .at("path")
            .help("GET /v1/openapi.json lists all; another version of linkbal may have others")
    }

    /// Returns the error of a method that a path does not have.
    pub(super) fn unknown_method() -> ApiError {
        ApiError::new(ErrorCode::UnknownMethod, "this path has no such method")
            .at("method")
            .help("the header Allow lists those that it has")
    }

    /// Reads an error from the body of an answer; `None` if it has none.
    pub fn read(body: &[u8]) -> Option<ApiError> {
        serde_json::from_slice(body).ok()
    }

    /// Returns the error as JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The error in one line.
impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.help {
            None => f.write_str(&self.detail),
            Some(help) => write!(f, "{}: {help}", self.detail),
        }
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), Json(self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error =
            ApiError::new(ErrorCode::NotPossible, "a reload is under way").help("try again");
        assert_eq!(error.to_string(), "a reload is under way: try again");
        let at = error.at("path");
        assert_eq!(
            at.json(),
            r#"{"status":409,"code":"not_possible","detail":"a reload is under way","at":"path","help":"try again"}"#
        );
        assert_eq!(serde_json::from_str::<ApiError>(&at.json()).expect("an error"), at);
        let response = at.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM);
    }
}
