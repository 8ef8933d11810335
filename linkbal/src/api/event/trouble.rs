//! Repairs, conflicts and refusals as events.

use std::time::Duration;

use super::Kind;
use crate::engine::{
    Report,
    conflict::Conflict,
    repair::{Process, Touch},
};

/// The parts of such an event.
pub(super) struct Told {
    pub(super) object: String,
    pub(super) by: Option<String>,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) reason: String,
}

/// What a report of these kinds says.
pub(super) fn told(report: &Report) -> (Kind, Told) {
    match report {
        Report::Repair { kind, what, more, by } => (Kind::Repair, repair(*kind, what, *more, by)),
        Report::Contested { what, by, pace } => (Kind::Conflict, contested(what, by, *pace)),
        Report::Conflict { conflict, there } => (Kind::Conflict, clash(conflict, *there)),
        Report::Trouble { what, problem } => (Kind::Trouble, trouble(what, problem.as_deref())),
        other => unreachable!("{other:?} is an event of another kind"),
    }
}

fn repair(kind: Touch, what: &[String], more: usize, by: &Option<Process>) -> Told {
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Told {
        object: what.join(", ") + &more,
        by: by.as_ref().map(ToString::to_string),
        from: "undone",
        to: "repaired",
        reason: format!("undone by {}; in force again", doer(kind, by)),
    }
}

/// Who did it, or why nobody can say.
fn doer(kind: Touch, by: &Option<Process>) -> String {
    match (by, kind) {
        (Some(by), _) => by.to_string(),
        (None, Touch::Sysctls | Touch::Datapath) => "somebody (the kernel does not say who)".into(),
        (None, _) => "somebody".into(),
    }
}

fn contested(what: &str, by: &Option<Process>, pace: Option<Duration>) -> Told {
    let who = by.as_ref().map_or_else(|| "somebody".into(), ToString::to_string);
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
    Told { object: what.into(), by, from, to, reason }
}

fn clash(conflict: &Conflict, there: bool) -> Told {
    let Conflict { what, who, meaning, advice, compatible } = conflict;
    let bad = if *compatible { "compatible" } else { "conflict" };
    let (from, to) = if there { ("none", bad) } else { (bad, "settled") };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    let reason = if there { format!("{who}: {meaning}{advice}") } else { format!("{who}: gone") };
    Told { object: what.clone(), by: Some(who.clone()), from, to, reason }
}

fn trouble(what: &str, problem: Option<&str>) -> Told {
    let (from, to, reason) = match problem {
        Some(problem) => ("granted", "refused", problem),
        None => ("refused", "granted", "in force now"),
    };
    Told { object: what.into(), by: None, from, to, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::Event;
    use super::*;

    fn line(report: &Report) -> String {
        Event::new(1, SystemTime::UNIX_EPOCH, report).headline()
    }

    #[test]
    fn repairs_name_what_and_who() {
        let by = |name: Option<&str>| Some(Process { pid: 812, name: name.map(str::to_owned) });
        let what = vec!["ip rule 26000: ipv4 lookup 254".to_owned(), "b".to_owned()];
        let report = |by| Report::Repair { kind: Touch::Rules, what: what.clone(), more: 3, by };
        assert_eq!(
            line(&report(by(Some("NetworkManager")))),
            "ip rule 26000: ipv4 lookup 254, b and 3 more: undone by NetworkManager (process 812); \
             in force again"
        );
        assert!(line(&report(by(None))).contains("by process 812, which has ended"));
    }

    #[test]
    fn a_conflict_is_bad_news_until_it_is_settled() {
        let report = |pace| Report::Contested { what: "route x".into(), by: None, pace };
        let event = Event::new(1, SystemTime::UNIX_EPOCH, &report(Some(Duration::from_secs(10))));
        assert!(event.is_bad() && event.headline().contains("every 10 s"), "{event}");
        assert!(!Event::new(1, SystemTime::UNIX_EPOCH, &report(None)).is_bad());
    }
}
