//! The contents of an event, from a report of the engine.

use std::{net::IpAddr, time::Duration};

use linkbal_common::{quota::WINDOW_S, uplink::Family};

use super::{
    EventKind,
    body::{EventBody, because, change, change_of, warning},
    trouble::{conflict_of, repair, throttled, trouble},
};
use crate::engine::{
    Host, ReloadOutcome, Report,
    health::{
        State, Transition,
        evidence::Evidence,
        reason::{Exceeded, Reason, Reasons},
    },
    obstacles::Obstacle,
};
use crate::words::count;

/// Renders a report: its kind, and the contents of its event.
pub(super) fn render(report: &Report) -> (EventKind, EventBody) {
    match report {
        Report::Uplink { uplink, family, transition, reason, evidence } => {
            let body = verdict(transition, reason, evidence);
            (EventKind::Uplink, of_family(uplink, *family, body))
        }
        Report::Diagnosis { uplink, family, cause, reason } => {
            let body = because(reason, change("down", cause.name(), ""));
            (EventKind::Diagnosis, of_family(uplink, *family, body))
        }
        Report::Quality { uplink, family, degraded } => {
            (EventKind::Quality, of_family(uplink, *family, quality(degraded.as_deref())))
        }
        Report::Admin { uplink, from, to } => {
            let body = change(from.name(), to.name(), "the administrator wants it so");
            (EventKind::Admin, of_uplink(uplink, body))
        }
        Report::Load { uplink, full, percent } => {
            (EventKind::Load, of_uplink(uplink, load(*full, *percent)))
        }
        Report::Drill { uplink, on, reason } => {
            let (from, to) = if *on { ("off", "on") } else { ("on", "off") };
            (EventKind::Drill, of_uplink(uplink, change(from, to, reason)))
        }
        Report::Address { uplink, family, from, to, gone } => {
            (EventKind::Address, of_family(uplink, *family, address(*from, *to, *gone)))
        }
        Report::Bond { bond, from, to } => {
            let body = change_of(to.is_bad(), from.name(), to.name(), to.reason());
            (EventKind::Bond, of_interface(bond, body))
        }
        Report::Member { bond, member, from, to } => {
            let place = format!("in {bond}");
            let body = change_of(to.is_bad(), from.name(), to.name(), &place);
            (EventKind::Member, of_interface(member, body))
        }
        Report::Lan { interface, exists } => {
            (EventKind::Lan, of_interface(interface, lan(*exists)))
        }
        Report::Domain { domain, failure } => {
            let body = lookup(failure.as_deref());
            (EventKind::Domain, EventBody { domain: Some(domain.clone()), ..body })
        }
        Report::Repair { kind, what, more, by } => {
            (EventKind::Repair, repair(*kind, what, *more, by))
        }
        Report::Throttled { what, by, pace } => (EventKind::Conflict, throttled(what, by, *pace)),
        Report::Conflict { conflict, there } => {
            (EventKind::Conflict, conflict_of(conflict, *there))
        }
        Report::Shortcuts { obstacle, there } => {
            (EventKind::Shortcuts, shortcuts(obstacle, *there))
        }
        Report::Refused { what, problem } => {
            (EventKind::Trouble, trouble(what, problem.as_deref()))
        }
        Report::Host { host, limited } => {
            (EventKind::Host, EventBody { object: Some(host.clone()), ..quota(limited.as_ref()) })
        }
        Report::Receiver { name, failure } => {
            let body = receiver(failure.as_deref());
            (EventKind::Notify, EventBody { object: Some(name.clone()), ..body })
        }
        Report::Configuration { path, outcome } => {
            let body = configuration(outcome);
            (EventKind::Configuration, EventBody { object: Some(path.clone()), ..body })
        }
    }
}

fn of_uplink(uplink: &str, body: EventBody) -> EventBody {
    EventBody { uplink: Some(uplink.into()), ..body }
}

fn of_family(uplink: &str, family: Family, body: EventBody) -> EventBody {
    EventBody { family: Some(family), ..of_uplink(uplink, body) }
}

fn of_interface(interface: &str, body: EventBody) -> EventBody {
    EventBody { interface: Some(interface.into()), ..body }
}

fn verdict(transition: &Transition, reason: &Reasons, evidence: &Evidence) -> EventBody {
    let worse = transition.to == State::Down;
    EventBody {
        lasted_ms: u64::try_from(transition.lasted.as_millis()).ok(),
        evidence: Some(evidence.clone()),
        ..because(reason, change_of(worse, transition.from.name(), transition.to.name(), ""))
    }
}

fn quality(degraded: Option<&[Exceeded]>) -> EventBody {
    match degraded {
        Some(limits) => {
            let reason = Reason::LimitsExceeded(limits.to_vec());
            because(&reason, warning("good", "degraded", ""))
        }
        None => change("degraded", "good", "within its limits"),
    }
}

fn load(full: bool, percent: u32) -> EventBody {
    let (from, to) = if full { ("room", "full") } else { ("full", "room") };
    change(from, to, &format!("{percent} % of its capacity are in use"))
}

fn address(from: IpAddr, to: IpAddr, gone: bool) -> EventBody {
    let reason = match gone {
        true => "what was translated to the former address is over",
        false => "the former address is no longer preferred",
    };
    change(&from.to_string(), &to.to_string(), reason)
}

fn lan(exists: bool) -> EventBody {
    match exists {
        true => change("missing", "present", "exists"),
        false => warning("present", "missing", "does not exist: its flows are not spread"),
    }
}

fn lookup(failure: Option<&str>) -> EventBody {
    match failure {
        Some(reason) => warning("resolved", "failing", reason),
        None => change("failing", "resolved", "answered"),
    }
}

fn shortcuts(obstacle: &Obstacle, there: bool) -> EventBody {
    let interface = match obstacle {
        Obstacle::Ingress { interface, .. }
        | Obstacle::Driver { interface }
        | Obstacle::Unknown { interface } => Some(interface),
        Obstacle::Configured(_) | Obstacle::Everywhere(_) => None,
    };
    let all = || "shortcuts".to_owned();
    let which = interface.map_or_else(all, |interface| format!("shortcuts of {interface}"));
    let body = match there {
        true => change("on", "off", &format!("{which} are off: {obstacle}")),
        false => change("off", "on", &format!("{which} are no longer off for this: {obstacle}")),
    };
    EventBody { interface: interface.cloned(), ..body }
}

fn quota(limited: Option<&Host>) -> EventBody {
    let window = WINDOW_S / 60;
    match limited {
        Some(Host { flows, sessions }) => warning(
            "within",
            "limited",
            &format!(
                "begins more than its quota: {flows} flows and {sessions} sticky sessions within \
                 {window} min are stored; those beyond do not stick, and are not reset at a failover"
            ),
        ),
        None => change("limited", "within", "within its quota again"),
    }
}

fn receiver(failure: Option<&str>) -> EventBody {
    match failure {
        Some(reason) => {
            let reason = format!("they cannot be sent and wait, it is tried again: {reason}");
            warning("working", "failing", &reason)
        }
        None => change("failing", "working", "they arrive again"),
    }
}

fn configuration(outcome: &ReloadOutcome) -> EventBody {
    match outcome {
        ReloadOutcome::InForce { uplinks, after, trial } => {
            let uplinks = count(*uplinks, "uplink");
            let in_force = format!("in force, with {uplinks}, after {} ms", after.as_millis());
            match trial.map(|trial| Duration::from_secs(trial.as_secs())) {
                Some(trial) => {
                    let trial = humantime::format_duration(trial);
                    let reason = format!("{in_force}; to be confirmed within {trial}");
                    change("in-force", "on-trial", &reason)
                }
                None => change("in-force", "in-force", &in_force),
            }
        }
        ReloadOutcome::Confirmed => change("on-trial", "in-force", "confirmed"),
        ReloadOutcome::Lost => {
            warning("on-trial", "lost", "not confirmed in time: the one before is in force again")
        }
        ReloadOutcome::Undone => {
            change("on-trial", "lost", "undone: the one before is in force again")
        }
        ReloadOutcome::Refused(reason) => {
            warning("in-force", "refused", &format!("refused, the one before stays: {reason}"))
        }
        ReloadOutcome::LastGood { saved, reason } => {
            let text =
                format!("cannot be used, the last good one, of {saved}, is in force: {reason}");
            warning("refused", "last-good", &text)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Event, severity::EventSeverity};
    use super::*;

    fn line(outcome: ReloadOutcome) -> (String, bool) {
        let report = Report::Configuration { path: "linkbal.toml".into(), outcome };
        let event = Event::new(1, SystemTime::UNIX_EPOCH, &report);
        (event.headline(), event.severity == EventSeverity::Warning)
    }

    #[test]
    fn the_outcome_of_a_configuration_is_told() {
        let in_force =
            |trial| ReloadOutcome::InForce { uplinks: 2, after: Duration::from_millis(40), trial };
        let (text, bad) = line(in_force(None));
        assert_eq!(text, "configuration linkbal.toml: in force, with 2 uplinks, after 40 ms");
        assert!(!bad);
        let (text, _) = line(in_force(Some(Duration::from_millis(60_400))));
        assert!(text.ends_with("after 40 ms; to be confirmed within 1m"), "{text}");
        assert!(line(ReloadOutcome::Lost).1 && line(ReloadOutcome::Refused("no uplink".into())).1);
        assert!(!line(ReloadOutcome::Confirmed).1 && !line(ReloadOutcome::Undone).1);
        let last_good =
            ReloadOutcome::LastGood { saved: "then".into(), reason: "no uplink".into() };
        let (text, bad) = line(last_good);
        assert!(
            bad && text.ends_with("the last good one, of then, is in force: no uplink"),
            "{text}"
        );
    }
}
