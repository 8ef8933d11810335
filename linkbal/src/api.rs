//! The API: HTTP over a unix socket that root and its group may open.
//!
//! [`openapi::document`] describes all requests and answers, as `GET /v1/openapi.json` hands it out. All are
//! below [`VERSION_PATH`], but for the metrics, which are where Prometheus looks for them.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
#![expect(unused_qualifications, reason = "descriptions of requests write paths out")]

pub mod admin;
mod admission;
pub mod client;
pub mod configuration;
pub mod drill;
pub mod error;
pub mod events;
pub mod explain;
mod extract;
pub mod flows;
pub mod history;
pub mod metrics;
pub mod notify;
pub mod openapi;
mod page;
pub mod reload;
pub mod rules;
pub mod status;
pub mod tcp;
mod uplinks;

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use anyhow::Result;
use axum::{Router, extract::FromRef};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
    time::sleep,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    admin::{AdminOutcome, RequestError},
    configuration::InForce,
    error::ApiError,
    explain::{Explanation, FlowQuestion},
    reload::Reloaded,
    rules::RuleUse,
    status::Status,
};
use crate::{engine::admin::AdminState, events::journal::Journal, history::archive::Shared};

/// Path below which all requests are, but for the metrics.
pub const VERSION_PATH: &str = "/v1";

/// Media type of answers with one JSON object on each line.
const JSON_LINES: &str = "application/jsonl";

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
        question: FlowQuestion,
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
    /// A query for the configuration in force.
    Configuration(oneshot::Sender<InForce>),
    /// A test of the receiver of that name, or of all, with the channel for what became of it.
    TestReceivers(Option<String>, oneshot::Sender<Result<Vec<notify::TestResult>, RequestError>>),
    /// A reload of the configuration.
    Reload {
        /// Length of the trial, if it is to be on trial.
        confirm: Option<Duration>,
        /// Channel for the outcome.
        answer: oneshot::Sender<Result<Reloaded, RequestError>>,
    },
    /// A trial of a text.
    Try {
        /// The text.
        text: String,
        /// Length of the trial.
        confirm: Duration,
        /// Channel for the outcome.
        answer: oneshot::Sender<Result<Reloaded, RequestError>>,
    },
    /// A confirmation of the configuration that is on trial.
    Confirm {
        /// Channel for the outcome, or why there is nothing to confirm.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// The end of a trial before its time.
    Undo {
        /// Channel for the outcome, or why there is nothing to undo.
        answer: oneshot::Sender<Result<(), String>>,
    },
}

/// Opens the socket and answers requests in the background, as long as the daemon takes them. If
/// the socket cannot be created, a warning is logged and it is tried again: nothing else depends on
/// it. One that is removed is made again. Returns the requests, and what serves them by TCP as well.
pub fn serve(path: &Path, journal: Journal) -> (mpsc::Receiver<Request>, tcp::Server) {
    let (sender, receiver) = mpsc::channel(16);
    let router = router(sender, journal);
    let by_tcp = tcp::Server::new(router.clone());
    // At once: the socket is there when this returns.
    let listener =
        admission::open(path).inspect_err(|error| tracing::warn!("{error:#}; tried again"));
    let path = path.to_owned();
    tokio::spawn(async move {
        let mut pools = Default::default();
        let mut opened = listener.ok();
        loop {
            let listener = match opened {
                Some(listener) => listener,
                None => open_later(&path).await,
            };
            tokio::select! {
                () = admission::serve(&listener, &router, &mut pools) => {}
                () = removed(&path) => {}
            }
            tracing::warn!("{} was removed: it is made again", path.display());
            opened = admission::open(&path).ok();
        }
    });
    (receiver, by_tcp)
}

/// State of the requests.
#[derive(Clone, Debug)]
struct Api {
    daemon: mpsc::Sender<Request>,
    journal: Journal,
}

impl FromRef<Api> for mpsc::Sender<Request> {
    fn from_ref(api: &Api) -> mpsc::Sender<Request> {
        api.daemon.clone()
    }
}

impl FromRef<Api> for Journal {
    fn from_ref(api: &Api) -> Journal {
        api.journal.clone()
    }
}

/// Returns the routes of the API, with the handler of each request.
pub fn router(daemon: mpsc::Sender<Request>, journal: Journal) -> Router {
    Router::from(routes())
        .merge(page::routes())
        .fallback(async || ApiError::unknown_path())
        .method_not_allowed_fallback(async || ApiError::unknown_method())
        .with_state(Api { daemon, journal })
}

/// Returns the routes of the API with their descriptions.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(status::status))
        .routes(routes!(uplinks::uplinks))
        .routes(routes!(uplinks::uplink))
        .routes(routes!(flows::flows))
        .routes(routes!(flows::clients))
        .routes(routes!(metrics::metrics))
        .routes(routes!(rules::rules))
        .routes(routes!(explain::explain))
        .routes(routes!(history::history))
        .routes(routes!(events::events))
        .routes(routes!(admin::disable))
        .routes(routes!(admin::drain))
        .routes(routes!(admin::enable))
        .routes(routes!(drill::begin))
        .routes(routes!(configuration::configuration))
        .routes(routes!(configuration::check_text))
        .routes(routes!(notify::test))
        .routes(routes!(reload::reload))
        .routes(routes!(reload::try_text))
        .routes(routes!(reload::confirm))
        .routes(routes!(reload::undo))
        .routes(routes!(openapi::openapi))
}

/// Waits until the socket is gone, or another file is in its place.
async fn removed(path: &Path) {
    let inode = || fs::symlink_metadata(path).map(|found| found.ino());
    let own = inode().ok();
    loop {
        sleep(RETRY_DELAY).await;
        match inode() {
            Ok(found) if Some(found) != own => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            _ => {}
        }
    }
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
/// If the daemon ends, or cannot answer.
async fn call<T>(
    daemon: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, ApiError> {
    let (sender, receiver) = oneshot::channel();
    let sent = daemon.send(request(sender)).await;
    sent.map_err(|_| ApiError::no_answer())?;
    receiver.await.map_err(|_| ApiError::no_answer())
}

#[cfg(test)]
mod tests;
