//! Repairs, conflicts and refusals as events.

use std::time::Duration;

use super::body::{EventBody, change, change_of};
use crate::engine::kernel::{
    conflict::Conflict,
    resource::{Process, ResourceKind},
};

pub(super) fn repair(
    kind: ResourceKind,
    what: &[String],
    more: usize,
    by: &Option<Process>,
) -> EventBody {
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let reason = format!("undone by {}; in force again", doer(kind, by)) + advice(kind, by);
    EventBody {
        object: Some(what.join(", ") + &more),
        by: by.as_ref().map(ToString::to_string),
        ..change("undone", "repaired", &reason)
    }
}

/// Returns advice that keeps a program from undoing it again, if there is any.
fn advice(kind: ResourceKind, by: &Option<Process>) -> &'static str {
    let name = by.as_ref().and_then(|by| by.name.as_deref()).unwrap_or_default();
    // The kernel keeps only so much of a name.
    let networkd = name.starts_with("systemd-network");
    if networkd && matches!(kind, ResourceKind::Rules | ResourceKind::Routes) {
        "; ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in \
         /etc/systemd/networkd.conf keep it from that"
    } else {
        ""
    }
}

/// Returns the program that did it, or why it is not known.
fn doer(kind: ResourceKind, by: &Option<Process>) -> String {
    match (by, kind) {
        (Some(by), _) => by.to_string(),
        (None, ResourceKind::Sysctls | ResourceKind::Datapath) => {
            "an unknown program (the kernel does not say which)".into()
        }
        (None, _) => "an unknown program".into(),
    }
}

pub(super) fn throttled(what: &str, by: &Option<Process>, pace: Option<Duration>) -> EventBody {
    let who = by.as_ref().map_or_else(|| "an unknown program".into(), ToString::to_string);
    let (from, to, reason) = match pace {
        Some(pace) => (
            "repaired",
            "conflict",
            format!(
                "undone again and again by {who}; it is put in force every {} s from now on: stop \
                 that program, or take this setting away from it",
                pace.as_secs()
            ),
        ),
        None => ("conflict", "settled", "left alone again".into()),
    };
    let by = by.as_ref().map(ToString::to_string);
    EventBody { object: Some(what.into()), by, ..change_of(pace.is_some(), from, to, &reason) }
}

pub(super) fn conflict_of(conflict: &Conflict, there: bool) -> EventBody {
    let Conflict { what, owner, meaning, advice, compatible } = conflict;
    let bad = if *compatible { "compatible" } else { "conflict" };
    let (from, to) = if there { ("none", bad) } else { (bad, "settled") };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    let reason =
        if there { format!("{owner}: {meaning}{advice}") } else { format!("{owner}: gone") };
    let worse = there && !compatible;
    let body = change_of(worse, from, to, &reason);
    EventBody { object: Some(what.clone()), by: Some(owner.clone()), ..body }
}

pub(super) fn trouble(what: &str, problem: Option<&str>) -> EventBody {
    let (from, to, reason) = match problem {
        Some(problem) => ("granted", "refused", problem),
        None => ("refused", "granted", "in force now"),
    };
    EventBody { object: Some(what.into()), ..change_of(problem.is_some(), from, to, reason) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Event, severity::EventSeverity};
    use super::*;
    use crate::engine::Report;

    fn line(report: &Report) -> String {
        Event::new(1, SystemTime::UNIX_EPOCH, report).headline()
    }

    #[test]
    fn repairs_name_what_and_who() {
        let by = |name: Option<&str>| Some(Process { pid: 812, name: name.map(str::to_owned) });
        let what = vec!["ip rule 26000: ipv4 lookup main".to_owned(), "b".to_owned()];
        let report =
            |by| Report::Repair { kind: ResourceKind::Rules, what: what.clone(), more: 3, by };
        assert_eq!(
            line(&report(by(Some("NetworkManager")))),
            "ip rule 26000: ipv4 lookup main, b and 3 more: undone by NetworkManager (process 812); \
             in force again"
        );
        assert!(line(&report(by(None))).contains("by process 812, which has ended"));
        let advice = "ManageForeignRoutingPolicyRules=no";
        assert!(line(&report(by(Some("systemd-network")))).contains(advice));
    }

    #[test]
    fn a_conflict_is_a_warning_until_it_is_settled() {
        let report = |pace| Report::Throttled { what: "route x".into(), by: None, pace };
        let event = Event::new(1, SystemTime::UNIX_EPOCH, &report(Some(Duration::from_secs(10))));
        assert!(
            event.severity == EventSeverity::Warning && event.headline().contains("every 10 s"),
            "{event}"
        );
        assert!(
            Event::new(1, SystemTime::UNIX_EPOCH, &report(None)).severity == EventSeverity::Info
        );
    }
}
