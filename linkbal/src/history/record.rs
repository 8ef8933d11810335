//! The answer to a question about history: one JSON object on each line, each with one key, the kind of
//! record.
//!
//! The schema is as stable as that of the status: fields are added, but neither removed nor changed in
//! their meaning. Times are RFC 3339, UTC.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bucket::{Bucket, FamilyMeasures, Tally},
    outages::Outage,
};
use crate::{
    coded::{Args, CodedText, Codes},
    per_family::PerFamily,
};

/// A record.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// Span of the answer: the first record; none without any history.
    Span(Span),
    /// An uplink over the whole span: before its points.
    Total(Point),
    /// An uplink in a step. Steps of which nothing is known are left out.
    Point(Point),
    /// Seconds that an uplink was up in an hour.
    Hour(Hour),
    /// An outage: behind the points or hours of its uplink.
    Outage(OutageRecord),
}

/// The span of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Span {
    /// Begin of the first step.
    pub from: String,
    /// Latest time that something is recorded for.
    pub to: String,
    /// Length of a step in seconds: 10, 60 or 3600, the finest that covers the span.
    pub step_s: u64,
}

/// Measures of an uplink.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Point {
    /// Name of the uplink.
    pub uplink: String,
    /// Begin.
    pub time: String,
    /// Seconds in which traffic was counted.
    pub seconds: u32,
    /// Bytes from the LAN.
    pub bytes_up: u64,
    /// Bytes to the LAN.
    pub bytes_down: u64,
    /// Flows that began.
    pub flows: u32,
    /// Share of the uplink in the flows that began on all, from 0 to 1; null if none did.
    pub share: Option<f64>,
    /// The line in IPv4; null if nothing is known of it.
    pub ipv4: Option<LineRecord>,
    /// The line in IPv6; null if nothing is known of it.
    pub ipv6: Option<LineRecord>,
}

/// Measures of a line in one family.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct LineRecord {
    /// Seconds up. Seconds neither up nor down are unknown, or without a meaning: it was disabled, or
    /// in a drill.
    pub up_s: u32,
    /// Seconds down.
    pub down_s: u32,
    /// Probes that ended.
    pub probes: u32,
    /// Probes that were lost.
    pub lost: u32,
    /// Mean latency; null without answers.
    pub latency_ms: Option<f64>,
    /// Lowest mean latency of a second.
    pub latency_min_ms: Option<f64>,
    /// Highest mean latency of a second.
    pub latency_max_ms: Option<f64>,
    /// Mean jitter.
    pub jitter_ms: Option<f64>,
}

/// Seconds that an uplink was up in an hour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Hour {
    /// Name of the uplink.
    pub uplink: String,
    /// Begin.
    pub time: String,
    /// The line in IPv4; null if nothing is known of it.
    pub ipv4: Option<Uptime>,
    /// The line in IPv6; null if nothing is known of it.
    pub ipv6: Option<Uptime>,
}

/// Seconds that a line was up, and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Uptime {
    /// Seconds up.
    pub up_s: u16,
    /// Seconds down.
    pub down_s: u16,
}

/// An outage.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OutageRecord {
    /// Name of the uplink.
    pub uplink: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Time at which it went down.
    pub begin: String,
    /// Time at which it was up again; null while it is down.
    pub end: Option<String>,
    /// Length until its end, or until now, in seconds.
    pub lasted_s: u64,
    /// Set if it was not watched until it was up again: it lasted at least so long.
    pub interrupted: bool,
    /// Name of the cause, as in events of the kind `diagnosis`; `not-ready` if the kernel knows that the
    /// line cannot work, or `no-answer` if no more is known than that targets did not answer.
    pub cause: String,
    /// The cause in words.
    pub reason: String,
    /// Code of the reason, which stays the same when its words change; null if an older version stored it.
    #[serde(default)]
    pub reason_code: Option<String>,
    /// Arguments of the reason, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub reason_args: Args,
    /// Further parts of the reason, in the order of its words.
    #[serde(default)]
    pub reason_more: Vec<CodedText>,
}

/// Formats a time.
pub(super) fn time(at: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at.min(LATEST)));
    humantime::format_rfc3339_seconds(time.unwrap_or(UNIX_EPOCH)).to_string()
}

/// The latest time that RFC 3339 can say: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

fn rounded(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}

impl Point {
    /// Creates the record of a bucket that begins at a time; `flows` began on all uplinks in it.
    pub(super) fn new(uplink: &str, at: u64, bucket: &Bucket, flows: u64) -> Point {
        let PerFamily { ipv4, ipv6 } = bucket.families.map(LineRecord::new);
        let traffic = &bucket.traffic;
        Point {
            uplink: uplink.to_owned(),
            time: time(at),
            seconds: traffic.seconds,
            bytes_up: traffic.bytes_up,
            bytes_down: traffic.bytes_down,
            flows: traffic.flows,
            share: (flows > 0).then(|| rounded(f64::from(traffic.flows) / flows as f64)),
            ipv4,
            ipv6,
        }
    }
}

impl LineRecord {
    fn new(line: &FamilyMeasures) -> Option<LineRecord> {
        let bound = |micros: u32| (line.latency.number > 0).then(|| f64::from(micros) / 1000.0);
        let known = *line != FamilyMeasures::default();
        known.then(|| LineRecord {
            up_s: line.up_s,
            down_s: line.down_s,
            probes: line.answered.saturating_add(line.lost),
            lost: line.lost,
            latency_ms: line.latency.millis().map(rounded),
            latency_min_ms: bound(line.latency_min_us),
            latency_max_ms: bound(line.latency_max_us),
            jitter_ms: line.jitter.millis().map(rounded),
        })
    }
}

impl Hour {
    pub(super) fn new(uplink: &str, at: u64, tally: &Tally) -> Hour {
        let uptime = |(up_s, down_s): &(u16, u16)| {
            ((*up_s, *down_s) != (0, 0)).then_some(Uptime { up_s: *up_s, down_s: *down_s })
        };
        let PerFamily { ipv4, ipv6 } = tally.families.map(uptime);
        Hour { uplink: uplink.to_owned(), time: time(at), ipv4, ipv6 }
    }
}

impl OutageRecord {
    pub(super) fn new(uplink: &str, outage: &Outage, now: u64) -> OutageRecord {
        let codes = Codes::from(outage.coded.clone());
        OutageRecord {
            uplink: uplink.to_owned(),
            family: outage.family.name().to_owned(),
            begin: time(outage.begin),
            end: outage.end.map(time),
            lasted_s: outage.end.unwrap_or(now).saturating_sub(outage.begin),
            interrupted: outage.interrupted,
            cause: outage.cause.clone(),
            reason: outage.reason.clone(),
            reason_code: codes.code,
            reason_args: codes.args,
            reason_more: codes.more,
        }
    }
}
