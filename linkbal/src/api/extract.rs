//! Parts of requests, whose faults have the shape of all errors.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::error::{ApiError, ErrorCode};

/// The query of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(query)| Asked(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let fault = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            ApiError::new(ErrorCode::Invalid, format!("the query cannot be read: {fault}"))
                .at("query")
                .help("GET /v1/openapi.json has the parameters of each request")
        })
    }
}

/// The query of a request without parameters.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// The name of an uplink in a path.
#[derive(Clone, Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, ApiError> {
        let name = Path::from_request_parts(parts, state).await;
        name.map(|Path(name)| Named(name)).map_err(|rejection| {
            let text = rejection.body_text();
            ApiError::new(ErrorCode::Invalid, format!("the name cannot be read: {text}"))
                .at("path")
                .help("write it in UTF-8, with percent-encoding")
        })
    }
}
