//! Drills: an uplink is a black hole for a while, and whoever asked for that hears what happens.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Request, admin::path_to};

/// A drill as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Name of the uplink.
    pub uplink: String,
    /// For how long, at most.
    pub time: Duration,
    /// Also if users have no other uplink in the meantime.
    pub force: bool,
}

impl Order {
    /// The path that orders it.
    pub fn path(&self) -> String {
        // The daemon refuses what is too long.
        let time_ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let force = self.force;
        format!("{}?time_ms={time_ms}&force={force}", path_to(&self.uplink, "drill"))
    }
}

/// What happens to whoever ordered a drill; dropping it ends the drill.
pub type Updates = mpsc::UnboundedReceiver<Update>;

/// Something that happened during a drill. Times count from its begin, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Update {
    /// Nothing passes the uplink any more.
    Began {
        /// For how long.
        time_ms: u64,
        /// The families that it was up in.
        families: Vec<String>,
    },
    /// The state of the uplink changed.
    Changed {
        /// When.
        at_ms: u64,
        /// `ipv4` or `ipv6`.
        family: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
        /// Why.
        reason: String,
    },
    /// The uplink works again.
    Over {
        /// When.
        at_ms: u64,
    },
    /// The uplink is up again in all families, or nobody waits for that any longer.
    Done(Outcome),
}

/// What a drill showed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outcome {
    /// When each family was found down; null if it was not.
    pub found_down_ms: Vec<(String, Option<u64>)>,
    /// When all were up again; null if one was not for a minute after the drill.
    pub up_again_ms: Option<u64>,
    /// Packets that the drill dropped.
    pub packets_dropped: u64,
    /// Flows that moved to other uplinks.
    pub flows_moved: u64,
    /// TCP connections of clients that were reset.
    pub connections_reset: u64,
    /// Those of which nothing was heard in return.
    pub connections_silent: u64,
}

#[derive(Deserialize)]
pub(super) struct Arguments {
    time_ms: u64,
    #[serde(default)]
    force: bool,
}

/// Answers `POST /uplinks/NAME/drill?time_ms=NUMBER&force=BOOL`.
pub(super) async fn begin(
    Path(uplink): Path<String>,
    Query(Arguments { time_ms, force }): Query<Arguments>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Response {
    let order = Order { uplink, time: Duration::from_millis(time_ms), force };
    let (answer, answered) = oneshot::channel();
    if daemon.send(Request::Drill(order, answer)).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match answered.await {
        Ok(Ok(updates)) => {
            let lines = unfold(updates, next_line);
            ([(CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response()
        }
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn next_line(mut updates: Updates) -> Option<(Result<Bytes, Infallible>, Updates)> {
    let update = updates.recv().await?;
    let line = serde_json::to_string(&update).expect("texts and whole numbers are JSON") + "\n";
    Some((Ok(line.into()), updates))
}
