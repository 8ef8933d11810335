//! Causes of failing trials on this machine: before them, nobody else is to blame.

use std::collections::BTreeSet;

use super::{Machine, Trial, machine};

/// A cause on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnFault {
    /// The cause in words.
    pub(super) why: String,
    /// The command to look further with.
    pub(super) command: String,
}

impl OwnFault {
    fn new(why: impl Into<String>, command: impl Into<String>) -> OwnFault {
        OwnFault { why: why.into(), command: command.into() }
    }
}

/// Returns what of this machine is the likely cause that nothing passed in a trial.
pub(super) fn find(machine: &Machine, trials: &[Trial], trial: &Trial) -> Option<OwnFault> {
    if trial.tried.gateway == Some(false) {
        return None;
    }
    firewall(machine).or_else(|| without_daemon(machine, trial)).or_else(|| all_at_once(trials))
}

fn firewall(machine: &Machine) -> Option<OwnFault> {
    let first = machine.closed.first()?;
    let why = format!(
        "this machine's own firewall is the likely cause, not the line: chain {} drops what is \
         sent, or the answers to it",
        machine.closed.join(", ")
    );
    let command = match first.starts_with("legacy") {
        true => "iptables-legacy-save".into(),
        false => format!("nft list chain {first}"),
    };
    Some(OwnFault::new(why, command))
}

/// Returns what linkbal would set right, or cope with, if it ran.
fn without_daemon(machine: &Machine, trial: &Trial) -> Option<OwnFault> {
    if machine.daemon.is_some() {
        return None;
    }
    let what = if machine::is_strict(machine, &trial.interface) {
        format!("the strict reverse path filter of {} drops answers", trial.interface)
    } else if !machine.leftovers.is_empty() || !machine.jobs.is_empty() {
        "what old scripts have set up may lead packets elsewhere".to_owned()
    } else {
        return None;
    };
    let why = format!(
        "linkbal is not running, and {what}: set that right first, it says nothing of the line"
    );
    Some(OwnFault::new(why, "systemctl start linkbal"))
}

/// Returns the fault if nothing passes by any of several uplinks, though their gateways answer.
fn all_at_once(trials: &[Trial]) -> Option<OwnFault> {
    let uplinks: BTreeSet<&str> = trials.iter().map(|trial| &*trial.uplink).collect();
    let asked: Vec<&Trial> = trials.iter().filter(|trial| trial.tried.asked() > 0).collect();
    let dead = !asked.is_empty() && asked.iter().all(|trial| trial.tried.answered() == 0);
    let present = asked.iter().any(|trial| trial.tried.gateway == Some(true))
        && asked.iter().all(|trial| trial.tried.gateway != Some(false));
    let why = "all uplinks fail at once while their gateways answer: this machine's own firewall is the \
               likely cause, not the lines";
    (uplinks.len() > 1 && dead && present).then(|| OwnFault::new(why, "nft list ruleset"))
}
