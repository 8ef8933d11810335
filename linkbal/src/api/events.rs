//! Queries for events, and their stream.

use std::{convert::Infallible, time::Duration, time::SystemTime};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response, sse, sse::Sse},
};
use futures::stream::unfold;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::{
    JSON_LINES, VERSION_PATH,
    error::{ApiError, ErrorCode},
    extract::Asked,
};
use crate::events::{
    Event,
    journal::{Journal, JournalEntry, Reader},
    position::Position,
};

/// Media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Header with the id of the last event that a reader has, which comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// Name of the event that says that events are missing.
pub const GAP: &str = "gap";

/// Longest time without a word to a follower; shorter in tests.
const KEEP_ALIVE: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(15) };

/// The query of `GET /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// The time of the oldest event that is wanted: RFC 3339, UTC.
    since: Option<String>,
    /// Name of the uplink whose events are wanted.
    uplink: Option<String>,
    /// Position behind which the answer begins: the `sequence` of an event, or its id, which is
    /// `SEQUENCE-RUN`.
    after: Option<String>,
}

/// The part of a query that events must satisfy.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    since: Option<String>,
    uplink: Option<String>,
}

impl EventsQuery {
    /// Creates a query for the events since a time and of an uplink.
    pub fn new(since: Option<SystemTime>, uplink: Option<String>) -> EventsQuery {
        // No event is older than that.
        let since = since.map(|since| since.max(SystemTime::UNIX_EPOCH));
        let since = since.map(|since| humantime::format_rfc3339_millis(since).to_string());
        EventsQuery { since, uplink, after: None }
    }

    /// Returns the query for the events behind a position.
    #[must_use]
    pub fn behind(self, position: &Position) -> EventsQuery {
        EventsQuery { after: Some(position.to_string()), ..self }
    }

    /// Returns whether an event satisfies the conditions: those of a query that was created here.
    pub fn holds(&self, event: &Event) -> bool {
        let EventsQuery { since, uplink, .. } = self;
        Wanted { since: since.clone(), uplink: uplink.clone() }.holds(event)
    }

    /// Returns the path of the request.
    pub fn path(&self) -> String {
        let escaped = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let EventsQuery { since, uplink, after } = self;
        let pairs = [("since", since), ("uplink", uplink), ("after", after)];
        let parts = pairs.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let parts = parts.map(|(name, value)| format!("{name}={}", escaped(value)));
        let parts: Vec<String> = parts.collect();
        let path = format!("{VERSION_PATH}/events");
        if parts.is_empty() { path } else { format!("{path}?{}", parts.join("&")) }
    }

    /// Returns the conditions, with the time in the form that events have, so that the two can be
    /// compared, and the position of the reader. `resumed` is the id that a reader has which comes back:
    /// it prevails, since its path is as it was at first.
    fn read(self, resumed: Option<&str>) -> Result<(Wanted, Option<Position>), ApiError> {
        let EventsQuery { since, uplink, after } = self;
        let since = since.as_deref().map(normalized).transpose()?;
        let after = match resumed {
            Some(resumed) => Some((resumed, "header last-event-id")),
            None => after.as_deref().map(|after| (after, "query after")),
        };
        let after = after.map(|(text, at)| {
            let invalid = |error| ApiError::new(ErrorCode::Invalid, error).at(at);
            text.parse().map_err(invalid)
        });
        Ok((Wanted { since, uplink }, after.transpose()?))
    }
}

/// Returns a time in the form that events have.
fn normalized(since: &str) -> Result<String, ApiError> {
    let time = humantime::parse_rfc3339_weak(since);
    let time = time.map(|time| humantime::format_rfc3339_millis(time).to_string());
    time.map_err(|error| {
        ApiError::new(ErrorCode::Invalid, format!("since={since}: {error}"))
            .at("query since")
            .help("write RFC 3339, UTC, like 2026-11-28T06:30:00Z")
    })
}

impl Wanted {
    fn holds(&self, event: &Event) -> bool {
        self.since.as_ref().is_none_or(|since| event.time >= *since)
            && self.uplink.as_ref().is_none_or(|uplink| event.uplink.as_ref() == Some(uplink))
    }
}

/// Returns whether a request asks for the stream of events, RFC 9110 section 12.5.1.
pub(super) fn is_following(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    let mut names = types.map(|part| part.split(';').next().unwrap_or_default().trim());
    names.any(|name| name.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Lists the events that are kept, or follows them.
///
/// With `Accept: text/event-stream`, the answer has those to come, too, without an end, as server-sent
/// events. The id of each is `SEQUENCE-RUN`; `Last-Event-ID` or `after` continue behind it. If events are
/// missing there, an event `gap` says so: `after` is the last id before it, `next` the first one behind it.
#[utoipa::path(
    get, path = "/v1/events", tag = "status",
    params(
        EventsQuery,
        ("last-event-id" = Option<String>, Header, description = "As `after`, which it prevails over"),
    ),
    responses((
        status = 200, description = "One event on each line, or a stream of events",
        content((Event = "application/jsonl"), (String = "text/event-stream")),
    )),
)]
pub(super) async fn events(
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
    State(journal): State<Journal>,
) -> Result<Response, ApiError> {
    let resumed = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?"));
    let (wanted, after) = query.read(resumed.filter(|id| !id.is_empty()))?;
    let reader = match after {
        Some(after) => journal.reader_after(after),
        None => journal.reader(),
    };
    if is_following(&headers) {
        let following = Following { reader, wanted };
        return Ok(Sse::new(unfold(following, next_news)).into_response());
    }
    let lines = unfold((reader, wanted), next_line);
    Ok(([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response())
}

/// The state of an answer: where it is, and what is wanted.
type Listing = (Reader, Wanted);

/// Returns the next event as a line. It is fetched only when the reader has taken the last one.
async fn next_line((mut reader, wanted): Listing) -> Option<(Result<Bytes, Infallible>, Listing)> {
    loop {
        let event = reader.next_kept()?;
        if wanted.holds(&event) {
            return Some((Ok((event.json() + "\n").into()), (reader, wanted)));
        }
    }
}

/// The state of a stream.
struct Following {
    reader: Reader,
    wanted: Wanted,
}

/// Returns the next part of a stream, once the reader has taken the last one.
async fn next_news(
    mut following: Following,
) -> Option<(Result<sse::Event, Infallible>, Following)> {
    let event = following.next().await?;
    Some((Ok(event), following))
}

impl Following {
    /// Returns the next event that is wanted, or a gap. Before it has said nothing for too long, a comment
    /// with an id: a reader that comes back need not begin with events that were not for it.
    async fn next(&mut self) -> Option<sse::Event> {
        let due = Instant::now().checked_add(KEEP_ALIVE)?;
        loop {
            let Ok(news) = timeout_at(due, self.reader.next()).await else {
                let id = self.reader.position().to_string();
                return Some(sse::Event::default().comment("").id(id));
            };
            match news? {
                JournalEntry::Gap(gap) => {
                    let gap = serde_json::to_string(&gap).unwrap_or_default();
                    return Some(sse::Event::default().event(GAP).data(gap));
                }
                JournalEntry::Event(event) if self.wanted.holds(&event) => {
                    let id = Position::of(&event).to_string();
                    return Some(sse::Event::default().id(id).data(event.json()));
                }
                JournalEntry::Event(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use futures::FutureExt as _;

    use super::*;
    use crate::engine::{Report, admin::AdminState};

    fn report(uplink: &str) -> Report {
        let (from, to) = (AdminState::Enabled, AdminState::Drained);
        Report::Admin { uplink: uplink.into(), from, to }
    }

    fn event(uplink: &str, at_s: u64) -> Event {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at_s);
        Event::new(1, time, &report(uplink))
    }

    #[test]
    fn a_query_survives_its_way_through_a_path() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(60_500);
        let position = Position { sequence: 7, run: "3f2a91c0".into() };
        let after = EventsQuery::default().behind(&position);
        assert_eq!(after.after.as_deref(), Some("7-3f2a91c0"));
        for query in [
            EventsQuery::default(),
            EventsQuery::new(Some(time), None),
            EventsQuery::new(Some(time), Some("a b&c=ä".into())),
            after,
        ] {
            let uri = query.path().parse().expect("it is a path");
            let Query(read) = Query::<EventsQuery>::try_from_uri(&uri).expect("a query");
            assert_eq!(read, query);
        }
    }

    #[test]
    fn only_what_is_asked_for_is_wanted() {
        let read = |since: Option<&str>, uplink: Option<&str>| {
            let (since, uplink) = (since.map(str::to_owned), uplink.map(str::to_owned));
            EventsQuery { since, uplink, after: None }.read(None)
        };
        let (since, _) = read(Some("1970-01-01 00:01:00Z"), None).expect("a time");
        assert!(since.holds(&event("a", 60)) && !since.holds(&event("a", 59)));
        let (of, _) = read(None, Some("a")).expect("a query");
        assert!(of.holds(&event("a", 0)) && !of.holds(&event("b", 0)));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let (oldest, _) = EventsQuery::new(Some(before), None).read(None).expect("a query");
        assert!(oldest.holds(&event("a", 0)));
        let wrong = read(Some("yesterday"), None).expect_err("no time").to_string();
        assert!(wrong.contains("RFC 3339"), "{wrong}");
    }

    #[test]
    fn the_header_prevails_over_the_path() {
        let query = || EventsQuery { after: Some("7".into()), ..EventsQuery::default() };
        let after = |resumed| {
            let (_, after) = query().read(resumed).expect("a query");
            after.map(|after| after.to_string())
        };
        assert_eq!(after(None).as_deref(), Some("7"));
        assert_eq!(after(Some("9-a")).as_deref(), Some("9-a"));
        let wrong = query().read(Some("x")).expect_err("no position");
        assert_eq!(wrong.at.as_deref(), Some("header last-event-id"));
    }

    #[test]
    fn an_event_stream_is_asked_for_by_its_media_type() {
        let following = |accept: &str| {
            let value = accept.parse().expect("a value");
            is_following(&HeaderMap::from_iter([(ACCEPT, value)]))
        };
        assert!(following("text/event-stream"));
        assert!(following("application/json, Text/Event-Stream;q=0.9"));
        assert!(!following("*/*") && !following("text/event-streams") && !following(""));
    }

    fn shown(event: &sse::Event) -> String {
        // Its text cannot be had in another way.
        format!("{event:?}")
    }

    #[tokio::test]
    async fn a_silent_stream_says_where_it_is() {
        let journal = Journal::default();
        let wanted = Wanted { since: None, uplink: Some("a".into()) };
        let mut following = Following { reader: journal.reader(), wanted };
        let event = journal.record(&report("b"), SystemTime::UNIX_EPOCH);
        let id = Position::of(&event).to_string();
        let alive = following.next().await.expect("it goes on");
        assert!(shown(&alive).contains(&id), "{alive:?}");
        journal.record(&report("a"), SystemTime::UNIX_EPOCH);
        let next = following.next().now_or_never().flatten().expect("it is there");
        assert!(shown(&next).contains("drained"), "{next:?}");
    }
}
