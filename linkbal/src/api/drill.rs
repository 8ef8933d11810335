//! Drills: an uplink drops all packets for a while, and the client is told what happens.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{
    JSON_LINES, Request,
    admin::path_to,
    call,
    error::ApiError,
    extract::{Asked, Named},
};
use crate::engine::health;

/// A request for a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillRequest {
    /// Name of the uplink.
    pub uplink: String,
    /// Longest duration.
    pub time: Duration,
    /// Set if the drill takes place even if users have no other uplink meanwhile.
    pub force: bool,
}

impl DrillRequest {
    /// Returns the path of the request.
    pub fn path(&self) -> String {
        // The daemon refuses a drill that is too long.
        let time_ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let force = self.force;
        format!("{}?time_ms={time_ms}&force={force}", path_to(&self.uplink, "drill"))
    }
}

/// Updates for the client of a drill; dropping the receiver ends the drill.
pub type Updates = mpsc::UnboundedReceiver<DrillUpdate>;

/// An event during a drill. Times count from its begin, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum DrillUpdate {
    /// The uplink passes no more packets.
    Began {
        /// Longest duration, in milliseconds.
        time_ms: u64,
        /// The families in which the uplink was up.
        families: Vec<String>,
    },
    /// The state of the uplink changed.
    Changed {
        /// Time of the change.
        at_ms: u64,
        /// `ipv4` or `ipv6`.
        family: String,
        /// State before.
        #[schema(value_type = String)]
        from: health::State,
        /// State after.
        #[schema(value_type = String)]
        to: health::State,
        /// The reason.
        reason: String,
    },
    /// The uplink works again.
    Over {
        /// Time of the end.
        at_ms: u64,
    },
    /// The uplink is up again in all families, or has not come back in time.
    Done(DrillOutcome),
}

/// The result of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct DrillOutcome {
    /// Time at which each family was found down; null if it was not.
    pub found_down_ms: Vec<(String, Option<u64>)>,
    /// Time at which all families were up again; null if one was not within a minute after the
    /// drill.
    pub up_again_ms: Option<u64>,
    /// Packets that the drill dropped.
    pub packets_dropped: u64,
    /// Flows that moved to other uplinks.
    pub flows_moved: u64,
    /// TCP connections of clients that were reset.
    pub connections_reset: u64,
    /// Connections among these that gave no answer.
    pub connections_silent: u64,
}

/// The query of a drill.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DrillQuery {
    /// Longest duration in milliseconds, from 1000 to 600000.
    #[param(minimum = 1000, maximum = 600_000)]
    time_ms: u64,
    /// Set if the drill takes place even if users have no other uplink meanwhile.
    #[serde(default)]
    force: bool,
}

/// Blocks an uplink for a while, and tells what happens.
///
/// Means a real outage to users. The drill ends when its time is over, or its answer is no longer read.
/// Each line of the answer is one update.
#[utoipa::path(
    post, path = "/v1/uplinks/{name}/drill", operation_id = "drill", tag = "administration",
    params(("name" = String, Path, description = "Name of the uplink"), DrillQuery),
    responses(
        (status = 200, description = "One update on each line", body = DrillUpdate, content_type = JSON_LINES),
        (status = 404, description = "There is no such uplink"),
        (status = 409, description = "It would cut users off, or is not possible now"),
        (status = 500, description = "The drill could not begin"),
    ),
)]
pub(super) async fn begin(
    Named(uplink): Named,
    Asked(DrillQuery { time_ms, force }): Asked<DrillQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Response, ApiError> {
    let request = DrillRequest { uplink, time: Duration::from_millis(time_ms), force };
    let updates = call(&daemon, |answer| Request::Drill(request, answer)).await??;
    let lines = Body::from_stream(unfold(updates, next_line));
    Ok(([(CONTENT_TYPE, JSON_LINES)], lines).into_response())
}

async fn next_line(mut updates: Updates) -> Option<(Result<Bytes, Infallible>, Updates)> {
    let update = updates.recv().await?;
    let line = serde_json::to_string(&update).expect("texts and whole numbers are JSON") + "\n";
    Some((Ok(line.into()), updates))
}
