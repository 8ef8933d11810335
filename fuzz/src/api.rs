//! Requests to the API: those that reach the daemon are within its bounds.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request as HttpRequest, StatusCode, Uri},
};
use linkbal::{
    api::{
        Request,
        admin::RequestError,
        reload::{LONGEST, SHORTEST},
        router,
    },
    events::journal::Journal,
    history::archive::Shared,
};
use tokio::{runtime::Builder, sync::mpsc};
use tower_service::Service as _;

use crate::cursor::Cursor;

const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::HEAD];

/// Sends a request with this path, query and body.
pub fn run(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let method = METHODS[usize::from(cursor.byte() & 3)].clone();
    let length = usize::from(cursor.byte());
    let target = cursor.bytes(length);
    let Ok(uri) = Uri::try_from(target) else { return };
    let body = Body::from(cursor.bytes(data.len()).to_vec());
    let Ok(request) = HttpRequest::builder().method(method).uri(uri).body(body) else { return };
    let (sender, mut receiver) = mpsc::channel(1);
    let mut router = router(sender, Journal::default());
    let answering = async {
        if let Some(request) = receiver.recv().await {
            check(&request);
            refuse(request);
        }
    };
    let response = router.call(request);
    let runtime = Builder::new_current_thread().build().expect("it has no drivers");
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
    let status = response.expect("a router never fails").status();
    assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
}

/// Checks the bounds that the daemon relies on.
fn check(request: &Request) {
    match request {
        Request::Reload { confirm: Some(confirm), .. } => {
            assert!((SHORTEST..=LONGEST).contains(confirm), "a trial of {confirm:?}");
        }
        Request::Drill(order, _) => {
            assert!(order.time <= Duration::from_millis(u64::MAX));
            assert!(order.path().starts_with("/uplinks/"));
        }
        _ => {}
    }
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
        Request::Reload { answer, .. } => drop(answer.send(Err("no".into()))),
        Request::Confirm { answer } => drop(answer.send(Ok(()))),
    }
}
