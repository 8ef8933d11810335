//! An event: a change that the administrator wants to know of, as `linkbal events --json` prints
//! it.
//!
//! The schema is as stable as that of the status: fields are added, but neither removed nor changed
//! in their meaning. Fields that an event says nothing about are null.

mod archive;
mod body;
pub mod journal;
pub mod position;
mod render;
pub mod severity;
mod trouble;

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::{body::EventBody, render::render, severity::EventSeverity};
use crate::{
    coded::{Args, CodedText, Codes},
    engine::{
        Report,
        health::evidence::{Evidence, TargetEvidence},
    },
};

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The state of an uplink in one family.
    Uplink,
    /// The probable cause of an uplink's outage in one family.
    Diagnosis,
    /// The quality of an uplink in one family: `good` or `degraded`.
    Quality,
    /// The administrative state of an uplink: `enabled`, `disabled` or `drained`.
    Admin,
    /// The load of an uplink: it is `full`, or has `room`.
    Load,
    /// A drill of an uplink: `on` or `off`.
    Drill,
    /// A change of an uplink's address in one family, from the former to the new one.
    Address,
    /// A bond: `up`, `down`, `missing` or `foreign`.
    Bond,
    /// A member of a bond: `active`, `standby`, `down`, `outside` or `missing`.
    Member,
    /// A LAN interface: `present` or `missing`.
    Lan,
    /// The domain of a rule: `resolved` or `failing`.
    Domain,
    /// A part of linkbal's state in the kernel that another program undid: `repaired`.
    Repair,
    /// A part that is undone again and again, or conflicts with what others have set up: `conflict`
    /// or `settled`.
    Conflict,
    /// A request that the kernel refuses: `refused` or `granted`.
    Trouble,
    /// Shortcuts of flows: `on`, or `off` for something that packets would pass by.
    Shortcuts,
    /// A host that begins very many flows: `limited`, or `within` its quota.
    Host,
    /// Messages to a receiver: `working` or `failing`.
    Notify,
    /// Another configuration: `in-force`, `on-trial`, `lost`, `refused` or `last-good`.
    Configuration,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 18] = [
        EventKind::Uplink,
        EventKind::Diagnosis,
        EventKind::Quality,
        EventKind::Admin,
        EventKind::Load,
        EventKind::Drill,
        EventKind::Address,
        EventKind::Bond,
        EventKind::Member,
        EventKind::Lan,
        EventKind::Domain,
        EventKind::Repair,
        EventKind::Conflict,
        EventKind::Trouble,
        EventKind::Shortcuts,
        EventKind::Host,
        EventKind::Notify,
        EventKind::Configuration,
    ];

    /// Returns the name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Uplink => "uplink",
            EventKind::Diagnosis => "diagnosis",
            EventKind::Quality => "quality",
            EventKind::Admin => "admin",
            EventKind::Load => "load",
            EventKind::Drill => "drill",
            EventKind::Address => "address",
            EventKind::Bond => "bond",
            EventKind::Member => "member",
            EventKind::Lan => "lan",
            EventKind::Domain => "domain",
            EventKind::Repair => "repair",
            EventKind::Conflict => "conflict",
            EventKind::Trouble => "trouble",
            EventKind::Shortcuts => "shortcuts",
            EventKind::Host => "host",
            EventKind::Notify => "notify",
            EventKind::Configuration => "configuration",
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Event {
    /// Number of the event, counted from 1 without gaps, also over restarts; from 1 again if the file
    /// of events is lost.
    pub sequence: u64,
    /// Run of the daemon that made it, different after each start: eight digits, which tell events apart
    /// that have one number, since a crash lost the last ones; empty for events of older versions.
    #[serde(default)]
    pub run: String,
    /// Time of the event: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The subject.
    pub kind: EventKind,
    /// The severity: `info` or `warning`.
    #[serde(default)]
    pub severity: EventSeverity,
    /// Name of the uplink.
    pub uplink: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: Option<String>,
    /// Name of the LAN interface, the bond or the member; of an interface without shortcuts.
    pub interface: Option<String>,
    /// Domain of a rule.
    pub domain: Option<String>,
    /// Object of a repair, conflict or refusal; the file of a configuration; a host; a receiver.
    #[serde(default)]
    pub object: Option<String>,
    /// The program that undid it or set it up, as far as known.
    #[serde(default)]
    pub by: Option<String>,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
    /// The reason.
    pub reason: String,
    /// Code of the reason, which stays the same when its words change; null if it has none.
    #[serde(default)]
    pub reason_code: Option<String>,
    /// Arguments of the reason, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub reason_args: Args,
    /// Further parts of the reason, in the order of its words.
    #[serde(default)]
    pub reason_more: Vec<CodedText>,
    /// Duration of the state before, in milliseconds.
    pub lasted_ms: Option<u64>,
    /// The evidence for a change of an uplink's state.
    pub evidence: Option<Evidence>,
}

impl Event {
    /// Creates the event for a report at `time`.
    pub fn new(sequence: u64, time: SystemTime, report: &Report) -> Event {
        let (kind, body) = render(report);
        let EventBody { uplink, family, interface, domain, object, by, .. } = body;
        let codes = Codes::from(body.coded);
        Event {
            sequence,
            run: String::new(),
            time: humantime::format_rfc3339_millis(time).to_string(),
            kind,
            severity: body.severity,
            uplink,
            family: family.map(|family| family.name().to_owned()),
            interface,
            domain,
            object,
            by,
            from: body.from,
            to: body.to,
            reason: body.reason,
            reason_code: codes.code,
            reason_args: codes.args,
            reason_more: codes.more,
            lasted_ms: body.lasted_ms,
            evidence: body.evidence,
        }
    }

    /// Returns the event as JSON on one line, without a line end.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("texts and finite numbers are JSON")
    }

    /// Returns a summary in one line.
    pub fn headline(&self) -> String {
        let Event { from, to, reason, .. } = self;
        let names = [&self.uplink, &self.interface, &self.domain, &self.object];
        let name = names.into_iter().flatten().next();
        let name = name.map(String::as_str).unwrap_or_default();
        match self.kind {
            EventKind::Uplink | EventKind::Quality | EventKind::Address => {
                let family = self.family.as_deref().unwrap_or_default();
                format!("uplink {name} {family}: {from} -> {to}: {reason}")
            }
            EventKind::Diagnosis => {
                let family = self.family.as_deref().unwrap_or_default();
                format!("uplink {name} {family} is down: {reason}")
            }
            EventKind::Admin | EventKind::Load => {
                format!("uplink {name}: {from} -> {to}: {reason}")
            }
            EventKind::Drill => format!("uplink {name}: drill {to}: {reason}"),
            EventKind::Bond => format!("bond {name}: {from} -> {to}: {reason}"),
            EventKind::Member => format!("member {name} {reason}: {from} -> {to}"),
            EventKind::Lan => format!("LAN interface {name} {reason}"),
            EventKind::Domain if self.severity == EventSeverity::Warning => {
                format!("failed to resolve {name}: {reason}; it is tried again")
            }
            EventKind::Domain => format!("{name} is resolved again"),
            EventKind::Host => format!("host {name}: {reason}"),
            EventKind::Notify => format!("messages to {name}: {reason}"),
            EventKind::Shortcuts => reason.clone(),
            EventKind::Repair | EventKind::Conflict | EventKind::Trouble => {
                format!("{name}: {reason}")
            }
            EventKind::Configuration => format!("configuration {name}: {reason}"),
        }
    }

    /// Returns the event as a line for people, with `!` before a warning; `time` is its time as they
    /// are used to it.
    pub fn line(&self, time: &str) -> String {
        let mark = if self.severity == EventSeverity::Warning { '!' } else { ' ' };
        format!("{mark} {time} {}", self.text())
    }

    /// Returns the event without its time.
    fn text(&self) -> String {
        let said = format!("#{} {}", self.sequence, self.headline());
        match self.details() {
            details if details.is_empty() => said,
            details => format!("{said} ({})", details.join(", ")),
        }
    }

    fn details(&self) -> Vec<String> {
        let lasted = self.lasted_ms.map(|lasted| {
            let lasted = Duration::from_millis(lasted);
            format!("after {}", humantime::format_duration(lasted))
        });
        let evidence = self.evidence.iter().flat_map(|evidence| {
            let latency = evidence.latency_ms.map(|latency| format!("latency {latency:.1} ms"));
            let loss = format!("loss {:.1} %", evidence.loss * 100.0);
            [loss].into_iter().chain(latency).chain(evidence.targets.iter().map(answers))
        });
        lasted.into_iter().chain(evidence).collect()
    }
}

fn answers(of: &TargetEvidence) -> String {
    let failure = of.failure.iter().map(|failure| format!(": {failure}")).collect::<String>();
    format!("{} answered {} of {}{failure}", of.target, of.answered, of.asked)
}

/// Name of the file below the state folder that keeps events.
pub const FILE: &str = "events.jsonl";

/// Returns the events that a daemon kept in a file, in ascending order; none if there is no such file,
/// or it cannot be read.
pub fn kept(file: &Path) -> Vec<Event> {
    archive::read(file, journal::KEPT)
}

/// Writes the event as one line of text.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.time, self.text())
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::uplink::Family;

    use super::*;
    use crate::engine::health::{State, Transition, reason::Reason};

    fn down() -> Event {
        let target = |target: &str, answered, failure: Option<&str>| TargetEvidence {
            target: target.into(),
            asked: 3,
            answered,
            failure: failure.map(str::to_owned),
        };
        let lasted = Duration::from_millis(62_500);
        let report = Report::Uplink {
            uplink: "fiber".into(),
            family: Family::Ipv4,
            transition: Transition { from: State::Up, to: State::Down, lasted },
            reason: Reason::NoAnswerYet.into(),
            evidence: Evidence {
                targets: vec![
                    target("192.0.2.1", 0, None),
                    target("192.0.2.2", 1, Some("refused")),
                ],
                loss: 0.125,
                latency_ms: Some(8.04),
            },
        };
        Event::new(7, SystemTime::UNIX_EPOCH, &report)
    }

    #[test]
    fn an_event_is_a_readable_line() {
        assert_eq!(
            down().to_string(),
            "1970-01-01T00:00:00.000Z #7 uplink fiber ipv4: up -> down: no answer yet (after 1m 2s \
             500ms, loss 12.5 %, latency 8.0 ms, 192.0.2.1 answered 0 of 3, 192.0.2.2 answered 1 \
             of 3: refused)"
        );
        let report = Report::Lan { interface: "br0".into(), exists: false };
        let event = Event::new(1, SystemTime::UNIX_EPOCH, &report);
        assert_eq!(
            event.to_string(),
            "1970-01-01T00:00:00.000Z #1 LAN interface br0 does not exist: its flows are not spread"
        );
        let line = down().line("01:00:00 CET");
        assert!(line.starts_with("! 01:00:00 CET #7 uplink fiber ipv4: up -> down"), "{line}");
        let there = Report::Lan { interface: "br0".into(), exists: true };
        let line = Event::new(1, SystemTime::UNIX_EPOCH, &there).line("now");
        assert!(line.starts_with("  now #1 LAN interface br0"), "{line}");
    }

    #[test]
    fn json_is_one_line_and_reads_back() {
        let json = down().json();
        assert!(!json.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&json).expect("an event"), down());
    }
}
