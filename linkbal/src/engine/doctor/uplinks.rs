//! Faults of uplinks as the daemon has them, with what trials say of the same: one complaint for each
//! cause.

use std::collections::BTreeSet;

use linkbal_common::uplink::Family;

use super::{Complaint, Machine, Trial, command_in, line, own_fault};
use crate::{
    config::Severity,
    engine::{
        admin::AdminState,
        health::{Cause, State},
        mistakes::silence_of,
    },
};

/// Share of lost probes from which on it is said.
pub const NOTED_LOSS: f64 = 0.1;

/// End of a state's reason that points to the command that this is.
const POINTER: &str = " (`linkbal doctor` tells)";

/// An uplink in one family, as the daemon has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Name of the uplink.
    pub uplink: String,
    /// The family.
    pub family: Family,
    /// The state.
    pub state: State,
    /// The state that the administrator wants.
    pub admin: AdminState,
    /// Set if another gateway has its address.
    pub standby: bool,
    /// Set if a drill blocks it, or did and it has yet to come back.
    pub drilled: bool,
    /// Reason for the state.
    pub reason: String,
    /// Advice; may be empty.
    pub remedy: String,
    /// Address of its gateway, if it has one.
    pub gateway: Option<String>,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
}

impl Known {
    /// Returns whether its state is a fault.
    fn is_broken(&self) -> bool {
        self.state == State::Down && !self.drilled && !self.standby
    }
}

fn is_of(trial: &Trial, known: &Known) -> bool {
    trial.uplink == known.uplink && trial.family == known.family
}

/// Returns whether the state of an uplink says why nothing passed in a trial.
pub(super) fn explains(known: &[Known], trial: &Trial) -> bool {
    let silent = trial.tried.answered() == 0;
    let mut all = known.iter().filter(|it| is_of(trial, it));
    all.any(|it| it.drilled || (silent && it.state == State::Down))
}

/// Returns whether a complaint is that the gateway of an uplink is silent, which its state says already.
/// One that knows another gateway says more.
pub fn has_said(known: &[Known], complaint: &Complaint) -> bool {
    let silent = known.iter().filter(|it| it.drilled || it.state == State::Down);
    let mut words = silent.filter_map(|it| it.gateway.as_ref()).map(|it| silence_of(it) + " ");
    words.any(|words| complaint.what.contains(&words))
        && !complaint.advice.contains("write gateway = \"")
}

/// Returns what is wrong with the uplinks that the daemon has as down.
pub(super) fn down(machine: &Machine, trials: &[Trial], known: &[Known]) -> Vec<Complaint> {
    let mut causes: Vec<(&str, BTreeSet<&str>, Complaint)> = Vec::new();
    for it in known.iter().filter(|it| it.is_broken()) {
        let trial = trials.iter().find(|trial| is_of(trial, it) && trial.tried.asked() > 0);
        let found = judge(machine, trials, trial, it);
        let same = |(uplink, _, other): &&mut (&str, BTreeSet<&str>, Complaint)| {
            *uplink == it.uplink
                && (&other.advice, &other.command) == (&found.advice, &found.command)
        };
        match causes.iter_mut().find(same) {
            Some((_, families, _)) => drop(families.insert(it.family.name())),
            None => causes.push((&it.uplink, [it.family.name()].into(), found)),
        }
    }
    let each = causes.into_iter().map(|(uplink, families, found)| {
        let families: Vec<&str> = families.into_iter().collect();
        let verb = if families.len() > 1 { "are" } else { "is" };
        let what = format!("{uplink} {} {verb} down{}", families.join(" and "), found.what);
        Complaint { what, ..found }
    });
    each.collect()
}

/// Returns the fault of an uplink that is down; its words follow these.
fn judge(machine: &Machine, trials: &[Trial], trial: Option<&Trial>, it: &Known) -> Complaint {
    let reason = if trial.is_some() { without_guess(&it.reason) } else { it.reason.clone() };
    let reason = reason.replace(POINTER, "");
    let Some(trial) = trial else {
        let command = command_in(&it.remedy);
        return Complaint::new(Severity::Error, format!(": {reason}"), &it.remedy, command);
    };
    let (asked, answered) = (trial.tried.asked(), trial.tried.answered());
    if answered == 0 {
        let own = own_fault::find(machine, trials, trial);
        let found = line::nothing("", &trial.interface, trial.tried.gateway, own.as_ref());
        let what = format!(", nothing passes: {reason}");
        return match it.remedy.is_empty() || own.is_some() {
            true => Complaint { what, ..found },
            false => Complaint::new(Severity::Error, what, &it.remedy, command_in(&it.remedy)),
        };
    }
    let loss = it.loss * 100.0;
    let what = format!(
        ", but {answered} of {asked} hosts answer now, and {loss:.0} % of the last probes were lost: {reason}"
    );
    let advice = match answered < asked && it.loss >= NOTED_LOSS {
        true => "the line loses packets: the command makes a report for its provider",
        false => "it is used again once its probes are answered for its `hold`",
    };
    let command = format!("linkbal history --report --uplink {}", it.uplink);
    Complaint::new(Severity::Error, what, advice, command)
}

/// Leaves out what a reason guesses of a line on which nothing passes: a trial knows better.
fn without_guess(reason: &str) -> String {
    let guesses = [Cause::Internet, Cause::GatewaySilent];
    guesses.iter().fold(reason.to_owned(), |reason, cause| {
        reason.replace(&format!("; {}", cause.words()), "")
    })
}

/// Returns what the administrator took out of use.
pub(super) fn taken_out(known: &[Known]) -> Vec<Complaint> {
    let mut found = Vec::new();
    let names = |admin: AdminState| -> BTreeSet<&str> {
        known.iter().filter(|it| it.admin == admin).map(|it| &*it.uplink).collect()
    };
    let enable = |uplink: &str| format!("linkbal enable {uplink}");
    for (admin, advice) in [
        (AdminState::Disabled, "it is neither used nor probed until it is enabled"),
        (AdminState::Drained, "new flows avoid it until it is enabled"),
    ] {
        found.extend(names(admin).into_iter().map(|uplink| {
            Complaint::new(Severity::Hint, format!("{uplink} is {admin}"), advice, enable(uplink))
        }));
    }
    let of = |family: Family| known.iter().filter(move |it| it.family == family);
    let is_up = |it: &Known| it.state == State::Up;
    let lacks = |family: &&Family| {
        let waits = of(**family).any(|it| it.state == State::Init || it.standby || it.drilled);
        !waits && of(**family).any(|it| it.admin != AdminState::Enabled)
    };
    let families: Vec<&Family> = Family::ALL.iter().filter(lacks).collect();
    let list = |which: Vec<&str>| which.join(" and ");
    let none = families.iter().filter(|family| !of(***family).any(is_up));
    let none: Vec<&str> = none.map(|family| family.name()).collect();
    let all_drained = |family: Family| {
        of(family).any(is_up) && of(family).all(|it| !is_up(it) || it.admin == AdminState::Drained)
    };
    let drained = families.iter().filter(|family| all_drained(***family));
    let drained: Vec<&str> = drained.map(|family| family.name()).collect();
    let first = || {
        names(AdminState::Disabled).into_iter().chain(names(AdminState::Drained)).next().map(enable)
    };
    let command = || first().unwrap_or_default();
    if !none.is_empty() {
        let what = format!("no uplink is usable for {}: all are disabled or down", list(none));
        let advice = "clients have no way out: enable one";
        found.push(Complaint::new(Severity::Error, what, advice, command()));
    }
    if !drained.is_empty() {
        let what = format!("no uplink is left for new flows of {}", list(drained));
        let advice = "all that are up are drained, and are used all the same: enable one";
        found.push(Complaint::new(Severity::Error, what, advice, command()));
    }
    found
}

/// Returns what there is to know of a drill, of the uplink that it blocks now or that comes back.
pub fn drill(blocked: Option<&str>, known: &[Known]) -> Vec<Complaint> {
    if let Some(uplink) = blocked {
        let what = format!("a drill of {uplink} is under way, which blocks it on purpose");
        let advice = "no line is at fault; it ends by its time, or by Ctrl-C where it was begun";
        return vec![Complaint::new(Severity::Warning, what, advice, "")];
    }
    let back: BTreeSet<&str> = known.iter().filter(|it| it.drilled).map(|it| &*it.uplink).collect();
    let each = back.into_iter().map(|uplink| {
        let what = format!("{uplink} comes back from a drill");
        let advice = "it is used again once its probes are answered for its `hold`";
        Complaint::new(Severity::Hint, what, advice, "linkbal status")
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Attempts, Tried},
        *,
    };

    fn known(uplink: &str, family: Family, state: State) -> Known {
        Known {
            uplink: uplink.into(),
            family,
            state,
            admin: AdminState::Enabled,
            standby: false,
            drilled: false,
            reason: "2 rounds failed".into(),
            remedy: String::new(),
            gateway: None,
            loss: 0.0,
        }
    }

    fn both(uplink: &str, state: State, change: impl Fn(&mut Known)) -> Vec<Known> {
        let mut all: Vec<Known> =
            Family::ALL.into_iter().map(|family| known(uplink, family, state)).collect();
        all.iter_mut().for_each(change);
        all
    }

    fn trial(uplink: &str, family: Family, answered: usize, gateway: bool) -> Trial {
        let tcp = Attempts { asked: 5, answered, ..Attempts::default() };
        let tried = Tried { gateway: Some(gateway), tcp, ..Tried::default() };
        Trial { uplink: uplink.into(), interface: format!("wan-{uplink}"), family, tried }
    }

    fn trials(answered: usize, gateway: bool) -> Vec<Trial> {
        Family::ALL.into_iter().map(|family| trial("a", family, answered, gateway)).collect()
    }

    fn machine() -> Machine {
        let daemon = Some(super::super::Daemon { pid: 7, open_files: None });
        Machine { daemon, ..Machine::default() }
    }

    #[test]
    fn a_dead_line_is_one_fault() {
        let reason = format!("2 rounds failed; {}", Cause::Internet.words());
        let all = both("a", State::Down, |it| it.reason.clone_from(&reason));
        let trials = trials(0, false);
        let [found] = &down(&machine(), &trials, &all)[..] else { panic!("one") };
        assert_eq!(found.what, "a ipv4 and ipv6 are down, nothing passes: 2 rounds failed");
        assert_eq!(found.command, "ip neigh show dev wan-a");
        assert!(trials.iter().all(|trial| explains(&all, trial)));
        // What was not tried, has its reason, but nothing that leads in a circle.
        let [found] = &down(&machine(), &[], &all)[..] else { panic!("one") };
        assert!(found.what.contains("restart the modem") && !found.what.contains("doctor"));
    }

    #[test]
    fn a_silent_gateway_is_told_once() {
        let all = both("a", State::Down, |it| it.gateway = Some("192.0.2.1".into()));
        let told = |what: &str, advice: &str| {
            has_said(&all, &Complaint::new(Severity::Error, what, advice, ""))
        };
        let what = "line 5: gateway 192.0.2.1 does not answer ARP on wan-a";
        assert!(told(what, "see to the cable"));
        assert!(!told(what, "write gateway = \"192.0.2.9\""));
        assert!(!told("line 5: gateway 192.0.2.10 does not answer ARP on wan-a", ""));
    }

    #[test]
    fn families_with_other_causes_are_told_apart() {
        let mut all = both("a", State::Down, |_| {});
        all[1].remedy = "give it an address: `ip address add`".into();
        let found = down(&machine(), &[trial("a", Family::Ipv4, 0, false)], &all);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1].what, "a ipv6 is down: 2 rounds failed");
    }

    #[test]
    fn a_line_that_loses_packets_is_not_called_dead() {
        let reason = format!("2 rounds failed; {}", Cause::Internet.words());
        let all = both("a", State::Down, |it| (it.reason, it.loss) = (reason.clone(), 0.3));
        let trials = trials(4, true);
        let [found] = &down(&machine(), &trials, &all)[..] else { panic!("one") };
        let what = "a ipv4 and ipv6 are down, but 4 of 5 hosts answer now, and 30 % of the last probes \
                    were lost: 2 rounds failed";
        assert_eq!(found.what, what);
        assert!(found.advice.contains("loses packets") && found.command.contains("--report"));
        assert!(!explains(&all, &trials[0]));
    }

    #[test]
    fn a_drill_is_named_and_no_line() {
        let all = both("a", State::Down, |it| it.drilled = true);
        let trials = trials(0, false);
        assert_eq!(down(&machine(), &trials, &all), []);
        assert!(explains(&all, &trials[0]));
        assert_eq!(drill(Some("a"), &all)[0].severity, Severity::Warning);
        assert_eq!(drill(None, &all)[0].what, "a comes back from a drill");
        assert_eq!(drill(None, &both("a", State::Up, |_| {})), []);
    }

    #[test]
    fn what_the_administrator_took_out_of_use_is_told() {
        let told = |all: &[Known]| {
            let found = taken_out(all).into_iter();
            found.map(|it| (it.severity, it.what, it.command)).collect::<Vec<_>>()
        };
        let disabled =
            |uplink| both(uplink, State::AdminDown, |it| it.admin = AdminState::Disabled);
        let drained = |uplink| both(uplink, State::Up, |it| it.admin = AdminState::Drained);
        let up = both("b", State::Up, |_| {});
        assert_eq!(told(&up), []);
        let hint = (Severity::Hint, "a is disabled".to_owned(), "linkbal enable a".to_owned());
        assert_eq!(told(&[disabled("a"), up.clone()].concat()), std::slice::from_ref(&hint));
        let found = told(&[disabled("a"), disabled("b")].concat());
        assert_eq!(found[0], hint);
        let what = "no uplink is usable for ipv4 and ipv6: all are disabled or down";
        assert_eq!(found[2], (Severity::Error, what.to_owned(), "linkbal enable a".to_owned()));
        let found = told(&[drained("a"), drained("b")].concat());
        assert_eq!(found[2].1, "no uplink is left for new flows of ipv4 and ipv6");
        assert_eq!(told(&[drained("a"), both("b", State::Down, |_| {})].concat()).len(), 2);
        // What is simply down is told elsewhere.
        assert_eq!(told(&both("a", State::Down, |_| {})), []);
    }
}
