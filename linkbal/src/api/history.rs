//! Queries for the history of the uplinks.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures::stream::unfold;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::{
    JSON_LINES, Request, VERSION_PATH, call,
    error::{ApiError, ErrorCode},
    extract::Asked,
};
use crate::history::{
    archive::Shared,
    pages::{HistoryQuestion, Pages},
    record::Record,
};

/// The query of `GET /v1/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Name of the uplink; of all without one.
    uplink: Option<String>,
    /// Begin, RFC 3339: an hour ago, or with `hours` the oldest that is known.
    since: Option<String>,
    /// Set if not points are wanted, but how long uplinks were up in each hour.
    #[serde(default)]
    hours: bool,
}

impl HistoryQuery {
    /// Creates a query for an uplink since a time; with `hours` for how long it was up.
    pub fn new(uplink: Option<String>, since: Option<SystemTime>, hours: bool) -> HistoryQuery {
        let since = since.map(|since| since.max(UNIX_EPOCH));
        let since = since.map(|since| humantime::format_rfc3339_seconds(since).to_string());
        HistoryQuery { uplink, since, hours }
    }

    /// Returns the path of the request.
    pub fn path(&self) -> String {
        let escaped = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let parts = [
            self.uplink.as_ref().map(|uplink| format!("uplink={}", escaped(uplink))),
            self.since.as_ref().map(|since| format!("since={}", escaped(since))),
            self.hours.then(|| "hours=true".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let path = format!("{VERSION_PATH}/history");
        if parts.is_empty() { path } else { format!("{path}?{}", parts.join("&")) }
    }

    fn question(self) -> Result<HistoryQuestion, String> {
        let since = self.since.as_deref().map(seconds).transpose()?;
        Ok(HistoryQuestion { uplink: self.uplink, since, hours: self.hours })
    }
}

/// Reads a time as seconds since 1970.
fn seconds(text: &str) -> Result<u64, String> {
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("since={text}: {error}; write RFC 3339, UTC"))?;
    Ok(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

/// Says how the uplinks were.
///
/// The points of the last hour, or since a time, in steps as fine as are kept; or how long each uplink was
/// up in each hour. Outages follow.
#[utoipa::path(
    get, path = "/v1/history", tag = "status",
    params(HistoryQuery),
    responses((
        status = 200, description = "One record on each line",
        body = Record, content_type = "application/jsonl",
    )),
)]
pub(super) async fn history(
    Asked(query): Asked<HistoryQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, ApiError> {
    let question = query.question().map_err(|fault| {
        ApiError::new(ErrorCode::Invalid, fault).at("query since").help("write RFC 3339, UTC")
    })?;
    let shared = call(&daemon, Request::History).await?;
    let lines = unfold((shared, Pages::new(question)), next_lines);
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response())
}

/// The state of an answer.
type Position = (Shared, Pages);

/// Returns the next lines. They are made only when the reader has taken the last ones.
async fn next_lines(
    (shared, mut pages): Position,
) -> Option<(Result<Bytes, Infallible>, Position)> {
    let lines: String = shared.page(&mut pages)?.iter().map(json).collect();
    Some((Ok(lines.into()), (shared, pages)))
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).expect("texts and finite numbers are JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;

    use super::*;

    #[test]
    fn a_query_survives_its_way_through_a_path() {
        let time = UNIX_EPOCH + Duration::from_secs(60);
        for (query, question) in [
            (HistoryQuery::default(), HistoryQuestion::default()),
            (
                HistoryQuery::new(Some("a b&c=ä".into()), Some(time), true),
                HistoryQuestion { uplink: Some("a b&c=ä".into()), since: Some(60), hours: true },
            ),
        ] {
            let uri = query.path().parse().expect("it is a path");
            let Query(read) = Query::<HistoryQuery>::try_from_uri(&uri).expect("a query");
            assert_eq!((read.clone(), read.question()), (query, Ok(question)));
        }
        let wrong = HistoryQuery { since: Some("soon".into()), ..HistoryQuery::default() };
        assert!(wrong.question().is_err_and(|refusal| refusal.contains("RFC 3339")));
    }
}
