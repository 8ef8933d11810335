//! `[probe]`, and the `probe` of an uplink that overrides single keys of it.

use std::time::Duration;

use linkbal_common::uplink::Family;
use toml::{Spanned, de::DeValue};

use super::probe_target;
use crate::config::{
    Limits, Loss, OnDegraded, Probe, Target,
    diagnostics::problem::{Fault, Span},
    keys::{
        self,
        probe::{FAILURE_COUNT, HOLD, HOLD_MAX, INTERVAL, QUORUM, SUCCESS_COUNT, TIMEOUT},
    },
    parse::{
        reader::{List, Section},
        value,
    },
};

const TARGETS_HELP: &str = "write addresses that answer ping, or URLs, as a list, like \
                            [\"1.1.1.1\", \"https://example.com/\"]";

/// Reads `[probe]`.
pub(in crate::config) fn read_defaults(root: &Section) -> Probe {
    read(root, "write it as the section [probe]", &Probe::default())
}

/// Reads the `probe` of a section; keys that it lacks are as in `base`.
pub(in crate::config) fn read(parent: &Section, help: &'static str, base: &Probe) -> Probe {
    match parent.section(&keys::root::PROBE, help) {
        Some(section) => read_keys(&section.knowing(&keys::probe::KEYS), base),
        None => base.clone(),
    }
}

fn read_keys(section: &Section, base: &Probe) -> Probe {
    let duration = |key, default| section.value(key).map_or(default, Spanned::into_inner);
    let count = |key, default| section.value(key).map_or(default, Spanned::into_inner);
    let (targets, quorum) = read_targets(section, base);
    let hold = duration(&HOLD, base.hold);
    Probe {
        targets,
        quorum,
        interval: duration(&INTERVAL, base.interval),
        timeout: section.value(&TIMEOUT).map_or(base.timeout, Spanned::into_inner),
        failure_count: count(&FAILURE_COUNT, base.failure_count),
        success_count: count(&SUCCESS_COUNT, base.success_count),
        hold,
        hold_max: read_hold_max(section, hold, base.hold_max),
        limits: read_limits(section, base.limits),
        on_degraded: section
            .get(&keys::probe::ON_DEGRADED, on_degraded)
            .map_or(base.on_degraded, Spanned::into_inner),
    }
}

fn read_hold_max(section: &Section, hold: Duration, base: Duration) -> Duration {
    let Some(ceiling) = section.value(&HOLD_MAX) else {
        return base.max(hold);
    };
    if *ceiling.get_ref() < hold {
        let hold = humantime::format_duration(hold);
        let message = format!("it is shorter than the hold time of {hold}");
        let fault = Fault::new(message, format!("write at least \"{hold}\""));
        section.report(&HOLD_MAX, ceiling.span(), fault);
    }
    ceiling.into_inner()
}

/// Reads the limits; one that is not given is as in `base`.
fn read_limits(section: &Section, base: Limits) -> Limits {
    let help = "write it in braces, like limits = { loss = \"5%\", latency = \"300ms\" }";
    let Some(limits) = section.section(&keys::probe::LIMITS, help) else { return base };
    let limits = limits.knowing(&keys::limits::KEYS);
    let duration = |key| limits.value(key);
    Limits {
        loss: limits.get(&keys::limits::LOSS, loss).map(Spanned::into_inner).or(base.loss),
        latency: duration(&keys::limits::LATENCY).map(Spanned::into_inner).or(base.latency),
        jitter: duration(&keys::limits::JITTER).map(Spanned::into_inner).or(base.jitter),
    }
}

fn loss(value: &DeValue<'_>) -> Result<Loss, Fault> {
    let help = "write a percentage in double quotes, like \"5%\" or \"0.5%\"";
    let Some(text) = value.as_str() else {
        return Err(value::wrong_type("a percentage", value, help));
    };
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    let number = number.ok_or_else(|| Fault::new(format!("{text:?} is no percentage"), help))?;
    if (0.1..=100.0).contains(&number) {
        return Ok(Loss((number * 10.0).round() as u16));
    }
    let help = "write a percentage from \"0.1%\" to \"100%\"";
    Err(Fault::new(format!("{text:?} is not within 0.1% to 100%"), help))
}

fn on_degraded(value: &DeValue<'_>) -> Result<OnDegraded, Fault> {
    let help = "write \"avoid\" (new connections go elsewhere if they can) or \"ignore\"";
    match value::word(value, help)? {
        "avoid" => Ok(OnDegraded::Avoid),
        "ignore" => Ok(OnDegraded::Ignore),
        other => Err(Fault::new(format!("{other:?} is unknown"), help)),
    }
}

/// Warns of targets that all need the right time.
fn warn_of_clock(section: &Section, list: &List<Target>) {
    let is_secure =
        |target: &Spanned<Target>| matches!(target.get_ref(), Target::Http(page) if page.secure);
    if list.complete && !list.items.is_empty() && list.items.iter().all(is_secure) {
        let message =
            "all targets need the right time: if the clock is wrong, no certificate is valid";
        let fault = Fault::new(message, "add a target that needs no clock, like \"1.1.1.1\"");
        section.warn(&keys::probe::TARGETS, list.span.clone(), fault);
    }
}

/// Reads the targets and the quorum: how many of them must answer.
fn read_targets(section: &Section, base: &Probe) -> (Vec<Target>, u32) {
    let list = section.list(&keys::probe::TARGETS, TARGETS_HELP, probe_target::advised);
    let quorum = section.value(&QUORUM);
    if let Some(list) = &list {
        warn_of_clock(section, list);
    }
    let targets_valid =
        list.as_ref().map_or(!section.has(&keys::probe::TARGETS), |list| list.complete);
    let at = quorum.as_ref().map(Spanned::span).or(list.as_ref().map(|list| list.span.clone()));
    let targets = list.map_or(base.targets.clone(), |list| {
        section.report_repeated(&keys::probe::TARGETS, &list.items);
        let targets: Vec<_> = list.items.into_iter().map(Spanned::into_inner).collect();
        warn_of_one_operator(section, &targets, &list.span);
        targets
    });
    let quorum = quorum.map_or(base.quorum, Spanned::into_inner);
    match at.filter(|_| targets_valid).map(|at| (at, quorum_verdict(&targets, quorum))) {
        Some((at, QuorumVerdict::Impossible(fault))) => {
            section.report(&QUORUM, at, fault);
            return (targets, base.quorum);
        }
        Some((at, QuorumVerdict::Lopsided(fault))) => section.warn(&QUORUM, at, fault),
        Some((_, QuorumVerdict::Fine)) | None => {}
    }
    (targets, quorum)
}

/// Warns of targets that all belong to one operator: they fail together, and then tell nothing
/// about an uplink.
fn warn_of_one_operator(section: &Section, targets: &[Target], at: &Span) {
    for family in Family::ALL {
        let several = targets.iter().filter(|target| target.judges(family)).count() > 1;
        if let Some(operator) = probe_target::only_operator(targets, family).filter(|_| several) {
            let family = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
            let message = format!("all targets of {family} are at {operator}");
            let help = "add targets of others: while that one fails, every uplink looks dead";
            section.warn(&keys::probe::TARGETS, at.clone(), Fault::new(message, help));
        }
    }
}

/// The result of a check whether there are enough targets for a quorum.
enum QuorumVerdict {
    Fine,
    /// Only one family has enough targets.
    Lopsided(Fault),
    /// No family has enough targets.
    Impossible(Fault),
}

fn quorum_verdict(targets: &[Target], quorum: u32) -> QuorumVerdict {
    let judging = |family| targets.iter().filter(|target| target.judges(family)).count();
    let (ipv4, ipv6) = (judging(Family::Ipv4), judging(Family::Ipv6));
    let (few, most) = (ipv4.min(ipv6), ipv4.max(ipv6));
    let quorum = quorum as usize;
    if !targets.is_empty() && most < quorum {
        let message = format!(
            "{quorum} targets must answer, but only {ipv4} for IPv4 and {ipv6} for IPv6 exist"
        );
        let help = format!("write a quorum of at most {most}, or add targets");
        return QuorumVerdict::Impossible(Fault::new(message, help));
    }
    // A family without targets is judged by the other one.
    if few == 0 || few >= quorum {
        return QuorumVerdict::Fine;
    }
    let family = if ipv4 < ipv6 { "IPv4" } else { "IPv6" };
    let message = format!("{quorum} targets must answer, but only {few} for {family} can");
    let help = format!("add targets of {family}; until then all of its {few} must answer");
    QuorumVerdict::Lopsided(Fault::new(message, help))
}
