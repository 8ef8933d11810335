//! Reasons for the state of an uplink, each with its words and a code.

use std::{fmt, net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;
use serde_json::{Value, json};

use super::{cause::Cause, state::State};
use crate::{
    coded::{Args, Coded, CodedText, Parts, args, nested, seconds},
    engine::kernel::unready::Unready,
    words::{measured, spoken},
};

/// A reason for the state of an uplink in one family, or what else is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Usable when the daemon started.
    FoundUsable,
    /// No target has answered yet.
    NoAnswerYet,
    /// Targets answer.
    TargetsAnswer,
    /// Proved good.
    GoodRounds {
        /// Number of good rounds in a row.
        rounds: u32,
        /// Time for which it answers.
        lasted: Duration,
    },
    /// The administrator spared it the hold time.
    Admitted,
    /// Answers to traffic excuse lost probes.
    ProbesLost,
    /// The administrator disabled it.
    Disabled,
    /// The administrator enabled it again.
    Reenabled,
    /// Something is missing that its packets need.
    NotReady(Unready),
    /// Another gateway has its address.
    Standby(Unready),
    /// The address that another gateway had is here.
    AddressBack,
    /// Ready, and there are no targets.
    NoTargets,
    /// Ready, and there are no targets of this family.
    NoTargetsOfFamily,
    /// The other family decides for this one.
    OtherFamily(State),
    /// The kernel does not find this gateway on the link.
    GatewayMissing(IpAddr),
    /// Rounds of probes failed.
    RoundsFailed {
        /// Number of rounds in a row.
        rounds: u32,
        /// Number of targets that answered.
        answered: usize,
        /// Number of all targets.
        targets: usize,
        /// Number of targets that must answer.
        needed: usize,
    },
    /// Answers to traffic come of too few networks to excuse lost probes.
    FewNetworks,
    /// Answers to traffic excused lost probes for as long as they can.
    ExcusedLongEnough,
    /// The probable cause.
    Cause(Cause),
    /// Nothing behind the gateway answers, which may not be the fault of the line.
    NothingBehindGateway,
    /// A target failed, and more is known than silence.
    TargetFailed {
        /// The target.
        target: String,
        /// The failure in words.
        failure: String,
    },
    /// A drill blocks it.
    DrillBlocks,
    /// A drill blocked it, and is over.
    DrillBlocked,
    /// Quality that is worse than these limits.
    LimitsExceeded(Vec<Exceeded>),
    /// The same, of an uplink that is up.
    Degraded(Vec<Exceeded>),
    /// Probes that this machine cannot send.
    NotProbed {
        /// Time since when.
        lasted: Duration,
        /// The targets that are not probed.
        unprobed: Unprobed,
    },
    /// Time after which it comes back.
    ComesBackIn(Duration),
    /// Back with its first answers.
    ComesBackAtOnce,
    /// Time for which it must be well before it comes back.
    ComesBackWhenWell(Duration),
    /// Number of times that it went down lately, so that it has to be well for longer.
    WentDown(usize),
    /// An address or a route that it has lost for a moment.
    Gap(Gap),
}

/// A limit of the quality that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exceeded {
    /// The measure.
    pub measure: Measure,
    /// The value, in the unit of the measure.
    pub value: f64,
    /// The limit.
    pub limit: f64,
}

/// A measure of the quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The share of probes that are lost, in percent.
    Loss,
    /// The smoothed latency in milliseconds.
    Latency,
    /// The jitter in milliseconds.
    Jitter,
}

/// Targets that this machine cannot probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprobed {
    /// The target that has not been probed for longest.
    pub target: String,
    /// The failure in words.
    pub failure: String,
    /// Number of targets that are not probed.
    pub count: usize,
    /// Number of all targets.
    pub all: usize,
}

/// A time without an address or a route that may well come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The family.
    pub family: Family,
    /// Set if the address is gone, and not only the route.
    pub address: bool,
    /// Name of the interface.
    pub interface: String,
    /// Time since when, in seconds.
    pub lasted_s: u64,
    /// Time left, in seconds.
    pub left_s: u64,
}

/// The reason of a state: the main one, and what else is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Reasons {
    /// The main reason.
    pub main: Reason,
    /// Further reasons.
    pub more: Vec<Reason>,
}

impl Reasons {
    /// Returns whether it is this reason alone.
    pub fn is(&self, reason: &Reason) -> bool {
        self.main == *reason && self.more.is_empty()
    }

    /// Returns its parts, the main one first.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        std::iter::once(&self.main).chain(&self.more)
    }

    /// Puts one reason in place of another, or leaves that out.
    #[must_use]
    pub fn replace(mut self, old: &Reason, new: Option<&Reason>) -> Reasons {
        let found = self.more.iter().position(|reason| reason == old);
        match (found, new) {
            (Some(at), Some(new)) => self.more[at] = new.clone(),
            (Some(at), None) => drop(self.more.remove(at)),
            (None, _) => {}
        }
        self
    }
}

impl From<Reason> for Reasons {
    fn from(main: Reason) -> Reasons {
        Reasons { main, more: Vec::new() }
    }
}

impl Parts for Reasons {
    fn parts(&self) -> Vec<CodedText> {
        self.iter().map(CodedText::from).collect()
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.main.fmt(f)?;
        self.more.iter().try_for_each(|reason| {
            // It is the reason for what stands before it.
            let mark = if matches!(reason, Reason::WentDown(_)) { ":" } else { ";" };
            write!(f, "{mark} {reason}")
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Reason::FoundUsable => "found usable at start",
            Reason::NoAnswerYet => "no answer yet",
            Reason::TargetsAnswer => "targets answer",
            Reason::GoodRounds { rounds, lasted } => {
                return write!(f, "{rounds} good rounds in {}", measured(*lasted));
            }
            Reason::Admitted => "targets answer, and it was enabled without the hold time",
            Reason::ProbesLost => "probes are lost, but answers arrive",
            Reason::Disabled => "disabled by the administrator",
            Reason::Reenabled => "re-enabled by the administrator, awaiting good probes",
            Reason::NotReady(lacks) => return lacks.fmt(f),
            Reason::Standby(lacks) => return write!(f, "standby: {lacks}"),
            Reason::AddressBack => "the virtual address is here",
            Reason::NoTargets => "ready; no targets to ask",
            Reason::NoTargetsOfFamily => "ready; no targets of this family",
            Reason::OtherFamily(state) => return write!(f, "as the other family: {state}"),
            Reason::GatewayMissing(gateway) => {
                return write!(
                    f,
                    "the gateway {gateway} is not found on the link, and probes are lost"
                );
            }
            Reason::RoundsFailed { rounds, answered, targets, needed } => {
                return rounds_failed(f, *rounds, (*answered, *targets), *needed);
            }
            Reason::FewNetworks => "answers arrive, but of few networks",
            Reason::ExcusedLongEnough => {
                "answers arrive, but excuse lost probes for a minute at most"
            }
            Reason::Cause(cause) => cause.words(),
            Reason::NothingBehindGateway => "the gateway answers, but nothing behind it",
            Reason::TargetFailed { target, failure } => return write!(f, "{target}: {failure}"),
            Reason::DrillBlocks => "a drill of it is under way, which blocks it on purpose",
            Reason::DrillBlocked => "a drill of it, which is over, blocked it on purpose",
            Reason::LimitsExceeded(limits) => return f.write_str(&joined(limits)),
            Reason::Degraded(limits) => return write!(f, "degraded: {}", joined(limits)),
            Reason::NotProbed { lasted, unprobed } => {
                return write!(f, "for {}: {unprobed}", spoken(*lasted));
            }
            Reason::ComesBackIn(left) => return write!(f, "coming back in {}", spoken(*left)),
            Reason::ComesBackAtOnce => "comes back with its first answers",
            Reason::ComesBackWhenWell(hold) => {
                return write!(f, "comes back when well for {}", spoken(*hold));
            }
            Reason::WentDown(times) => {
                return write!(f, "it went down {times} times in 10 minutes");
            }
            Reason::Gap(gap) => return gap.fmt(f),
        };
        f.write_str(words)
    }
}

fn rounds_failed(
    f: &mut fmt::Formatter<'_>,
    rounds: u32,
    (answered, targets): (usize, usize),
    needed: usize,
) -> fmt::Result {
    match rounds {
        1 => f.write_str("1 round of probes failed: ")?,
        more => write!(f, "{more} rounds of probes failed: ")?,
    }
    match (answered, targets) {
        (0, 1) => f.write_str("the target did not answer"),
        (0, all) => write!(f, "none of {all} targets answered ({needed} needed)"),
        (some, all) => write!(f, "{some} of {all} targets answered ({needed} needed)"),
    }
}

fn joined(limits: &[Exceeded]) -> String {
    limits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { measure, value, limit } = self;
        let (what, unit) = match measure {
            Measure::Loss => ("loss", "%"),
            Measure::Latency => ("latency", "ms"),
            Measure::Jitter => ("jitter", "ms"),
        };
        write!(f, "{what} {value:.1} {unit} (limit {limit} {unit})")
    }
}

impl fmt::Display for Unprobed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unprobed { target, failure, count, all } = self;
        let who = match count == all {
            true => "it keeps its state".to_owned(),
            false => format!("{count} of {all} targets"),
        };
        write!(f, "not probed ({who}), for this machine cannot: {target}: {failure}")
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { family, address, interface, lasted_s, left_s } = self;
        let (family, what) = (family.name(), if *address { "address" } else { "default route" });
        write!(
            f,
            "no {family} {what} on {interface} for {lasted_s} s: new flows avoid it; it is down in \
             {left_s} s unless it comes back"
        )
    }
}

impl Coded for Reason {
    fn code(&self) -> &'static str {
        match self {
            Reason::FoundUsable => "found-usable",
            Reason::NoAnswerYet => "no-answer-yet",
            Reason::TargetsAnswer => "targets-answer",
            Reason::GoodRounds { .. } => "good-rounds",
            Reason::Admitted => "enabled-at-once",
            Reason::ProbesLost => "probes-lost",
            Reason::Disabled => "disabled",
            Reason::Reenabled => "re-enabled",
            Reason::NotReady(lacks) => lacks.code(),
            Reason::Standby(_) => "standby",
            Reason::AddressBack => "address-back",
            Reason::NoTargets => "no-targets",
            Reason::NoTargetsOfFamily => "no-targets-of-family",
            Reason::OtherFamily(_) => "other-family",
            Reason::GatewayMissing(_) => "gateway-not-found",
            Reason::RoundsFailed { answered: 0, targets: 1, .. } => "target-silent",
            Reason::RoundsFailed { answered: 0, .. } => "targets-silent",
            Reason::RoundsFailed { .. } => "too-few-answers",
            Reason::FewNetworks => "few-networks",
            Reason::ExcusedLongEnough => "excused-long-enough",
            Reason::Cause(cause) => cause.name(),
            Reason::NothingBehindGateway => "nothing-behind-gateway",
            Reason::TargetFailed { .. } => "target-failed",
            Reason::DrillBlocks => "drill-blocks",
            Reason::DrillBlocked => "drill-blocked",
            Reason::LimitsExceeded(_) => "limits-exceeded",
            Reason::Degraded(_) => "degraded",
            Reason::NotProbed { unprobed, .. } if unprobed.count == unprobed.all => "not-probed",
            Reason::NotProbed { .. } => "partly-not-probed",
            Reason::ComesBackIn(_) => "comes-back-in",
            Reason::ComesBackAtOnce => "comes-back-at-once",
            Reason::ComesBackWhenWell(_) => "comes-back-when-well",
            Reason::WentDown(_) => "went-down",
            Reason::Gap(Gap { address: true, .. }) => "address-gone",
            Reason::Gap(_) => "route-gone",
        }
    }

    fn args(&self) -> Args {
        match self {
            Reason::GoodRounds { rounds, lasted } => {
                args([("rounds", json!(rounds)), ("lasted_s", seconds(*lasted))])
            }
            Reason::NotReady(lacks) => lacks.args(),
            Reason::Standby(lacks) => args([("lacks", nested(lacks))]),
            Reason::OtherFamily(state) => args([("state", json!(state))]),
            Reason::GatewayMissing(gateway) => args([("gateway", json!(gateway))]),
            Reason::RoundsFailed { rounds, answered, targets, needed } => args([
                ("rounds", json!(rounds)),
                ("answered", json!(answered)),
                ("targets", json!(targets)),
                ("needed", json!(needed)),
            ]),
            Reason::TargetFailed { target, failure } => {
                args([("target", json!(target)), ("failure", json!(failure))])
            }
            Reason::LimitsExceeded(limits) | Reason::Degraded(limits) => {
                let limits: Vec<Value> = limits.iter().map(nested).collect();
                args([("limits", json!(limits))])
            }
            Reason::NotProbed { lasted, unprobed: Unprobed { target, failure, count, all } } => {
                args([
                    ("lasted_s", seconds(*lasted)),
                    ("target", json!(target)),
                    ("failure", json!(failure)),
                    ("not_probed", json!(count)),
                    ("targets", json!(all)),
                ])
            }
            Reason::ComesBackIn(left) => args([("left_s", seconds(*left))]),
            Reason::ComesBackWhenWell(hold) => args([("hold_s", seconds(*hold))]),
            Reason::WentDown(times) => args([("times", json!(times))]),
            Reason::Gap(Gap { family, interface, lasted_s, left_s, .. }) => args([
                ("family", json!(family.name())),
                ("interface", json!(interface)),
                ("lasted_s", json!(lasted_s)),
                ("left_s", json!(left_s)),
            ]),
            _ => Args::new(),
        }
    }
}

impl Coded for Exceeded {
    fn code(&self) -> &'static str {
        match self.measure {
            Measure::Loss => "loss-exceeded",
            Measure::Latency => "latency-exceeded",
            Measure::Jitter => "jitter-exceeded",
        }
    }

    fn args(&self) -> Args {
        let rounded = (self.value * 10.0).round() / 10.0;
        args([("value", json!(rounded)), ("limit", json!(self.limit))])
    }
}

#[cfg(test)]
pub(crate) mod tests;
