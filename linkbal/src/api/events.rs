//! Queries for events.

use std::{convert::Infallible, time::SystemTime};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::stream::unfold;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::events::{
    Event,
    journal::{Journal, Reader},
};

/// The query of `GET /events?follow&since=TIME&uplink=NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Present if events to come are wanted, too; it has no value.
    follow: Option<String>,
    /// The time of the oldest event that is wanted, RFC 3339.
    since: Option<String>,
    /// Name of the uplink whose events are wanted.
    uplink: Option<String>,
}

impl EventsQuery {
    /// Creates a query for the events since a time and of an uplink, and with `follow` for those to
    /// come.
    pub fn new(follow: bool, since: Option<SystemTime>, uplink: Option<String>) -> EventsQuery {
        let since = since.map(|since| humantime::format_rfc3339_millis(since).to_string());
        EventsQuery { follow: follow.then(String::new), since, uplink }
    }

    /// Returns the path of the request.
    pub fn path(&self) -> String {
        let escaped = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let parts = [
            self.follow.as_ref().map(|_| "follow".to_owned()),
            self.since.as_ref().map(|since| format!("since={}", escaped(since))),
            self.uplink.as_ref().map(|uplink| format!("uplink={}", escaped(uplink))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "/events".into() } else { format!("/events?{}", parts.join("&")) }
    }

    /// Returns the query with its time in the form that events have, so that the two can be
    /// compared.
    fn normalized(mut self) -> Result<EventsQuery, String> {
        if let Some(since) = &mut self.since {
            let time = humantime::parse_rfc3339_weak(since)
                .map_err(|error| format!("since={since}: {error}; write RFC 3339, UTC"))?;
            *since = humantime::format_rfc3339_millis(time).to_string();
        }
        Ok(self)
    }

    fn wants(&self, event: &Event) -> bool {
        self.since.as_ref().is_none_or(|since| event.time >= *since)
            && self.uplink.as_ref().is_none_or(|uplink| event.uplink.as_ref() == Some(uplink))
    }
}

/// Answers `GET /events`.
pub(super) async fn events(
    query: Result<Query<EventsQuery>, QueryRejection>,
    State(journal): State<Journal>,
) -> Response {
    let query = query.map_err(|rejection| rejection.body_text());
    match query.and_then(|Query(query)| query.normalized()) {
        Ok(query) => {
            let lines = unfold((journal.reader(), query), next_line);
            ([(CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response()
        }
        Err(refusal) => (StatusCode::BAD_REQUEST, refusal).into_response(),
    }
}

/// The state of an answer: where it is, and what is wanted.
type Position = (Reader, EventsQuery);

/// Returns the next event as a line. It is fetched only when the reader has taken the last one.
async fn next_line((mut reader, query): Position) -> Option<(Result<Bytes, Infallible>, Position)> {
    loop {
        let follow = query.follow.is_some();
        let event = if follow { reader.next().await } else { reader.next_kept() }?;
        if query.wants(&event) {
            return Some((Ok((event.json() + "\n").into()), (reader, query)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Report, admin::AdminState};

    fn event(uplink: &str, at_s: u64) -> Event {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at_s);
        let (from, to) = (AdminState::Enabled, AdminState::Drained);
        Event::new(1, time, &Report::Admin { uplink: uplink.into(), from, to })
    }

    #[test]
    fn a_query_survives_its_way_through_a_path() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(60_500);
        for query in [
            EventsQuery::default(),
            EventsQuery::new(true, None, None),
            EventsQuery::new(false, Some(time), None),
            EventsQuery::new(true, Some(time), Some("a b&c=ä".into())),
        ] {
            let uri = query.path().parse().expect("it is a path");
            let Query(read) = Query::<EventsQuery>::try_from_uri(&uri).expect("a query");
            assert_eq!(read.normalized(), Ok(query));
        }
    }

    #[test]
    fn only_what_is_asked_for_is_wanted() {
        let at = |since: &str| EventsQuery { since: Some(since.into()), ..EventsQuery::default() };
        let since = at("1970-01-01 00:01:00Z").normalized().expect("a time");
        assert!(since.wants(&event("a", 60)) && !since.wants(&event("a", 59)));
        let of = EventsQuery::new(false, None, Some("a".into()));
        assert!(of.wants(&event("a", 0)) && !of.wants(&event("b", 0)));
        let wrong = at("yesterday").normalized().expect_err("no time");
        assert!(wrong.contains("RFC 3339"), "{wrong}");
    }
}
