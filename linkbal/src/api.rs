//! The API: HTTP over a unix socket that root and its group may open.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`status::Status`] as JSON |
//! | `GET /flows?..` | the live flows that a [`FlowQuery`](crate::flows::query::FlowQuery) asks for: [`FlowRecord`](crate::flows::record::FlowRecord)s, one JSON object on each line |
//! | `GET /flows?follow=` | [`Change`](crate::flows::changes::Change)s of the flows, without an end |
//! | `GET /clients?..` | the totals of the clients of such flows: [`ClientRecord`](crate::flows::clients::ClientRecord)s, and the others together on the last line |
//! | `GET /metrics` | [`metrics::Metrics`] in the text format of Prometheus |
//! | `GET /explain?source=..&destination=..` | what becomes of a flow: [`explain::Explanation`] as JSON |
//! | `GET /rules` | the rules with their counters: [`rules::RuleUse`]s as JSON |
//! | `POST /uplinks/NAME/VERB` | `disable`, `enable`, `drain`: [`admin::AdminOutcome`] as JSON |
//! | `POST /uplinks/NAME/drill` | [`drill::Update`]s, one JSON object on each line |
//! | `POST /reload` | reads the configuration again: [`reload::Reloaded`] as JSON |
//! | `POST /reload?confirm=SECONDS` | the same, on trial for so many seconds |
//! | `POST /confirm` | keeps the configuration that is on trial |
//! | `GET /events` | the [`Event`](crate::events::Event)s that are kept, one JSON object on each line |
//! | `GET /events?follow` | the same, and then new ones as they come, without an end |
//! | `GET /history?..` | the [`Record`](crate::history::record::Record)s that a [`HistoryQuery`](history::HistoryQuery) asks for, one JSON object on each line |
//! | `GET /events?since=TIME&uplink=NAME` | those since a time (RFC 3339), or of an uplink |
//! | `POST /uplinks/NAME/enable?now` | `enable` without the time to prove itself |
//!
//! A drill ends when its client disconnects.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod admin;
mod admission;
pub mod client;
pub mod drill;
pub mod events;
pub mod explain;
pub mod flows;
pub mod history;
pub mod metrics;
pub mod reload;
pub mod rules;
pub mod status;
pub mod tcp;

use std::{path::Path, time::Duration};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
    time::sleep,
};

use self::{
    admin::{AdminOutcome, RequestError},
    explain::{Explanation, Question},
    reload::Reloaded,
    rules::RuleUse,
    status::Status,
};
use crate::{engine::admin::AdminState, events::journal::Journal, history::archive::Shared};

/// Pause before a socket that could not be created is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// A request to the daemon, with the channel for its answer.
#[derive(Debug)]
pub enum Request {
    /// A query for the status.
    Status(oneshot::Sender<Status>),
    /// A query for the values of metrics.
    Metrics(oneshot::Sender<metrics::Metrics>),
    /// A query for the rules and how often each was used.
    Rules(oneshot::Sender<Vec<RuleUse>>),
    /// A query for the history.
    History(oneshot::Sender<Shared>),
    /// A question about a flow.
    Explain {
        /// The flow.
        question: Question,
        /// Channel for the answer.
        answer: oneshot::Sender<Result<Explanation, RequestError>>,
    },
    /// A change of the administrative state of an uplink.
    SetAdmin {
        /// Name of the uplink as the client wrote it; there may be none of that name.
        uplink: String,
        /// The wanted state.
        admin: AdminState,
        /// Set if an enabled uplink need not prove itself.
        now: bool,
        /// Channel for the outcome.
        answer: oneshot::Sender<Result<AdminOutcome, RequestError>>,
    },
    /// A drill of an uplink.
    Drill(drill::DrillRequest, oneshot::Sender<Result<drill::Updates, RequestError>>),
    /// A question about flows, with the channel for the lines of the answer.
    Flows(flows::FlowRequest, oneshot::Sender<Result<flows::Lines, RequestError>>),
    /// A reload of the configuration.
    Reload {
        /// Length of the trial, if it is to be on trial.
        confirm: Option<Duration>,
        /// Channel for the outcome, or the reason for a refusal.
        answer: oneshot::Sender<Result<Reloaded, String>>,
    },
    /// A confirmation of the configuration that is on trial.
    Confirm {
        /// Channel for the outcome, or why there is nothing to confirm.
        answer: oneshot::Sender<Result<(), String>>,
    },
}

/// Opens the socket and answers requests in the background, as long as the daemon takes them. If
/// the socket cannot be created, a warning is logged and it is tried again: nothing else depends on
/// it. Returns the requests, and what serves them by TCP as well.
pub fn serve(path: &Path, journal: Journal) -> (mpsc::Receiver<Request>, tcp::Server) {
    let (sender, receiver) = mpsc::channel(16);
    let router = router(sender, journal);
    let by_tcp = tcp::Server::new(router.clone());
    // At once: the socket is there when this returns.
    let listener =
        admission::open(path).inspect_err(|error| tracing::warn!("{error:#}; tried again"));
    let path = path.to_owned();
    tokio::spawn(async move {
        let listener = match listener {
            Ok(listener) => listener,
            Err(_) => open_later(&path).await,
        };
        admission::serve(listener, router).await;
    });
    (receiver, by_tcp)
}

/// Returns the routes of the API, with the handler of each request.
pub fn router(daemon: mpsc::Sender<Request>, journal: Journal) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/flows", get(flows::flows))
        .route("/clients", get(flows::clients))
        .route("/metrics", get(metrics::metrics))
        .route("/rules", get(rules::rules))
        .route("/history", get(history::history))
        .route("/explain", get(explain::explain))
        .route("/uplinks/{name}/drill", post(drill::begin))
        .route("/uplinks/{name}/{verb}", post(admin::set))
        .route("/reload", post(reload::reload))
        .route("/confirm", post(reload::confirm))
        .with_state(daemon)
        .merge(Router::new().route("/events", get(events::events)).with_state(journal))
}

async fn open_later(path: &Path) -> UnixListener {
    loop {
        sleep(RETRY_DELAY).await;
        if let Ok(listener) = admission::open(path) {
            tracing::info!("the API answers at {}", path.display());
            return listener;
        }
    }
}

/// Sends a request to the daemon, and waits for its answer.
///
/// # Errors
///
/// With status 503 if the daemon ends.
async fn call<T>(
    daemon: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, StatusCode> {
    let (sender, receiver) = oneshot::channel();
    let sent = daemon.send(request(sender)).await;
    sent.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    receiver.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn status(State(daemon): State<mpsc::Sender<Request>>) -> Result<Json<Status>, StatusCode> {
    call(&daemon, Request::Status).await.map(Json)
}
