//! Requests to the API: those that reach the daemon are within its bounds.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, HttpBody as _, to_bytes},
    http::{
        HeaderValue, Method, Request as HttpRequest, StatusCode, Uri,
        header::{ACCEPT, CONTENT_TYPE, HeaderName},
    },
};
use linkbal::{
    api::{
        Request,
        admin::RequestError,
        configuration::InForce,
        error::{ApiError, PROBLEM},
        events::EVENT_STREAM,
        reload::{MAX_TRIAL, MIN_TRIAL},
        router,
        status::ConfigurationStatus,
    },
    config::{FileOnly, Sources},
    engine::Report,
    events::journal::Journal,
    history::archive::Shared,
};
use tokio::{runtime::Builder, sync::mpsc};
use tower_service::Service as _;

use crate::cursor::Cursor;

const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::HEAD];

/// Bits of the first byte beside the method: follow the events, and go on behind one.
const FOLLOW: u8 = 4;
const RESUME: u8 = 8;

/// Reads a request: its method and headers, path and query, id of the last event, and body.
fn request(data: &[u8]) -> Option<HttpRequest<Body>> {
    let mut cursor = Cursor::new(data);
    let kind = cursor.byte();
    let length = usize::from(cursor.byte());
    let uri = Uri::try_from(cursor.bytes(length)).ok()?;
    let mut request =
        HttpRequest::builder().method(METHODS[usize::from(kind & 3)].clone()).uri(uri);
    if kind & FOLLOW != 0 {
        request = request.header(ACCEPT, EVENT_STREAM);
    }
    if kind & RESUME != 0 {
        let length = usize::from(cursor.byte());
        let id = HeaderValue::from_bytes(cursor.bytes(length)).ok()?;
        request = request.header(HeaderName::from_static("last-event-id"), id);
    }
    request.body(Body::from(cursor.bytes(data.len()).to_vec())).ok()
}

/// Returns a journal with some events.
fn journal() -> Journal {
    let journal = Journal::default();
    for exists in [true, false, true] {
        let report = Report::Lan { interface: "lan0".into(), exists };
        journal.record(&report, SystemTime::UNIX_EPOCH);
    }
    journal
}

/// Sends a request, and checks the answer.
pub fn run(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let is_head = request.method() == Method::HEAD;
    let (sender, mut receiver) = mpsc::channel(1);
    let mut router = router(sender, journal());
    let answering = async {
        if let Some(request) = receiver.recv().await {
            check(&request);
            refuse(request);
        }
    };
    let response = router.call(request);
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    // The daemon may not be asked at all.
    let response = runtime.block_on(async {
        tokio::pin!(answering, response);
        let mut answered = false;
        loop {
            tokio::select! {
                response = &mut response => break response,
                () = &mut answering, if !answered => answered = true,
            }
        }
    });
    let response = response.expect("a router never fails");
    let status = response.status();
    assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    if status.is_success() {
        let mut body = response.into_body();
        // A stream has no end: its beginning is enough.
        let poll = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context)));
        drop(runtime.block_on(poll));
    } else if !is_head {
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM, "{status}");
        let body = runtime.block_on(to_bytes(response.into_body(), usize::MAX)).expect("a body");
        let error = ApiError::read(&body).expect("an error of the API");
        assert_eq!(error.status, status.as_u16());
    }
}

/// Checks the bounds that the daemon relies on.
fn check(request: &Request) {
    match request {
        Request::Reload { confirm: Some(confirm), .. } | Request::Try { confirm, .. } => {
            assert!((MIN_TRIAL..=MAX_TRIAL).contains(confirm), "a trial of {confirm:?}");
        }
        Request::Drill(order, _) => {
            assert!(order.time <= Duration::from_millis(u64::MAX));
            assert!(order.path().starts_with("/v1/uplinks/"));
        }
        _ => {}
    }
}

/// Returns a configuration in force.
fn in_force() -> InForce {
    let files = [("list".into(), "192.0.2.0/24\n".into())].into();
    let sources = Sources { name: "linkbal.toml".into(), text: String::new(), files };
    let (status, file_only) = (ConfigurationStatus::default(), FileOnly::default());
    InForce { status, sources: Arc::new(sources), file_only }
}

fn refuse(request: Request) {
    let no = |name: String| RequestError::UnknownUplink { name, help: "there is none".into() };
    match request {
        // Dropped: the client is told that there is no service.
        Request::Status(_) | Request::Metrics(_) | Request::Rules(_) | Request::Flows(..) => {}
        // What there is of history does not matter: none.
        Request::History(answer) => drop(answer.send(Shared::default())),
        Request::Explain { answer, .. } => drop(answer.send(Err(no(String::new())))),
        Request::SetAdmin { uplink, answer, .. } => drop(answer.send(Err(no(uplink)))),
        Request::Drill(order, answer) => drop(answer.send(Err(no(order.uplink)))),
        Request::Configuration(answer) => drop(answer.send(in_force())),
        Request::Reload { answer, .. } | Request::Try { answer, .. } => {
            drop(answer.send(Err(RequestError::Unusable("no".into()))));
        }
        Request::TestReceivers(_, answer) => drop(answer.send(Ok(Vec::new()))),
        Request::Confirm { answer } | Request::Undo { answer } => drop(answer.send(Ok(()))),
    }
}
