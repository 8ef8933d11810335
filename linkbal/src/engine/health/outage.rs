//! The probable cause of an outage, as far as targets and the gateway tell it.
//!
//! Verdicts do not depend on it: it only says more about one.

use std::time::Duration;

use super::{
    Health, State,
    cause::Cause,
    failure::FailureKind,
    reason::{Reason, Reasons},
    round::{self, TargetState},
};
use crate::config::Target;

/// Time between two questions to the gateway of an uplink that stays down.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Knowledge of an outage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownOutage<'a> {
    /// The probable cause that targets and the gateway tell.
    pub cause: Option<Cause>,
    /// Reason for the state.
    pub reason: &'a Reasons,
    /// Set if interface, carrier, address and gateway are there.
    pub ready: bool,
    /// Time at which it began.
    pub since: Duration,
}

/// Knowledge of the gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GatewayState {
    answers: Option<bool>,
    asked_at: Option<Duration>,
}

impl GatewayState {
    /// Returns the state of a gateway that the kernel does not find.
    pub(super) const fn silent(now: Duration) -> GatewayState {
        GatewayState { answers: Some(false), asked_at: Some(now) }
    }
}

/// Returns the probable cause, from the last outcomes of targets and what the gateway did.
fn cause(targets: &[TargetState], gateway: Option<bool>) -> Option<Cause> {
    let judged = targets.iter().filter(|asked| !asked.absent);
    let (gateways, others): (Vec<_>, Vec<_>) =
        judged.partition(|asked| asked.target == Target::Gateway);
    let has = |kind| others.iter().any(|asked| asked.failure_kind() == Some(kind));
    if has(FailureKind::CaptivePortal) {
        return Some(Cause::CaptivePortal);
    }
    let (good, bad): (Vec<&TargetState>, Vec<_>) =
        others.iter().partition(|asked| asked.last == Some(true));
    if good.is_empty() && !has(FailureKind::WrongAnswer) {
        let gateway = gateways.iter().find_map(|asked| asked.last).or(gateway);
        return gateway.map(|up| if up { Cause::Internet } else { Cause::GatewaySilent });
    }
    let every = |all: &[&TargetState], is: fn(&TargetState) -> bool| {
        !all.is_empty() && all.iter().all(|asked| is(asked))
    };
    if every(&bad, is_dns) && good.iter().any(|asked| !is_dns(asked)) {
        Some(Cause::Dns)
    } else if has(FailureKind::WrongAnswer) {
        Some(Cause::WrongAnswer)
    } else if every(&good, is_dns) && !bad.is_empty() && !bad.iter().any(|asked| is_dns(asked)) {
        Some(Cause::OnlyDns)
    } else {
        every(&bad, is_ping).then_some(Cause::Ping)
    }
}

fn is_dns(asked: &TargetState) -> bool {
    let unresolved = asked.failure_kind() == Some(FailureKind::Unresolved);
    unresolved || matches!(asked.target, Target::Dns { .. })
}

const fn is_ping(asked: &TargetState) -> bool {
    matches!(asked.target, Target::Echo(_))
}

impl Health {
    /// Returns what is known of its outage; `None` if there is none: it is not down, another gateway has
    /// its address, it was enabled again and has yet to be proved good, or it is of a drill.
    pub fn outage(&self) -> Option<KnownOutage<'_>> {
        let excused = self.standing_by || self.reason.is(&Reason::Reenabled) || self.is_drilled();
        if self.state != State::Down || excused {
            return None;
        }
        let heard = self.ready && self.streak.bad > 0;
        let cause = heard.then(|| self.cause()).flatten();
        let since = self.drill.counted(self.since);
        Some(KnownOutage { cause, reason: &self.reason, ready: self.ready, since })
    }

    /// Returns the probable cause of an outage that its targets tell of.
    fn cause(&self) -> Option<Cause> {
        // What is blocked on purpose answers nobody, nor does it at once afterwards.
        let asked = !self.is_drilled();
        asked.then(|| cause(&self.targets, self.gateway.answers)).flatten()
    }

    /// Describes why its rounds are bad.
    pub(super) fn describe_outage(&self) -> Reasons {
        let missed = round::missed(self.streak.bad, &self.targets, self.probe.quorum);
        let failures = self.targets.iter().filter_map(|TargetState { target, failure, .. }| {
            let failure = failure.as_ref()?.reason.clone();
            Some(Reason::TargetFailed { target: target.to_string(), failure })
        });
        let unheeded = self.passive.unheeded().into_iter();
        let more = unheeded.chain(self.cause().map(Reason::Cause)).chain(failures);
        Reasons { main: missed, more: more.collect() }
    }

    /// Returns whether targets, and not the kernel, say that it is down. Those of a line that has just
    /// come back have not been heard yet.
    fn is_down_by_targets(&self) -> bool {
        let enough = self.streak.bad >= self.probe.failure_count;
        matches!(self.state, State::Down) && self.ready && enough && !self.is_drilled()
    }

    /// Returns whether to ask its gateway now, to say more about an outage; notes that.
    pub fn ask_gateway(&mut self, now: Duration) -> bool {
        if !self.is_down_by_targets() {
            if self.state.is_up() || !self.ready {
                self.gateway = GatewayState::default();
            }
            return false;
        }
        let asks = self.targets.iter().any(|asked| asked.target == Target::Gateway);
        let due = self.gateway.asked_at.is_none_or(|at| now >= at.saturating_add(ASK_AGAIN));
        if asks || !due {
            return false;
        }
        self.gateway.asked_at = Some(now);
        true
    }

    /// Notes whether its gateway has answered; returns the cause if that tells another one.
    pub fn gateway_asked(&mut self, answers: bool) -> Option<Cause> {
        if !self.is_down_by_targets() {
            return None;
        }
        let before = self.cause();
        self.gateway.answers = Some(answers);
        self.reason = self.describe_outage();
        self.cause().filter(|cause| before != Some(*cause))
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::uplink::Family;

    use super::{
        super::{HealthEvent, failure::Failure, simulation::ms},
        *,
    };
    use crate::{
        config::{Config, Probe},
        engine::kernel::unready::Unready,
    };

    fn no_carrier() -> Unready {
        Unready::NoCarrier("a".into())
    }

    fn targets(list: &str) -> Vec<TargetState> {
        let text = format!("[uplink.a]\ninterface = \"a\"\n[probe]\ntargets = [{list}]\n");
        let config = Config::parse(&text, "test").expect("a valid configuration");
        let uplink = config.uplinks.into_iter().next().expect("an uplink");
        uplink.probe.targets.into_iter().map(TargetState::new).collect()
    }

    /// Returns the cause if targets answered (`+`), were silent (`-`) or failed (`!`).
    fn told(
        list: &str,
        outcomes: &str,
        kind: Option<FailureKind>,
        gateway: Option<bool>,
    ) -> Option<Cause> {
        let mut targets = targets(list);
        assert_eq!(targets.len(), outcomes.len());
        for (asked, outcome) in targets.iter_mut().zip(outcomes.chars()) {
            asked.last = Some(outcome == '+');
            let failure = Failure { reason: "failed".into(), kind };
            asked.failure = (outcome == '!').then_some(failure);
        }
        cause(&targets, gateway)
    }

    #[test]
    fn the_gateway_tells_the_cable_from_the_line() {
        let list = "\"1.1.1.1\", \"tcp://9.9.9.9:443\"";
        assert_eq!(told(list, "--", None, None), None);
        assert_eq!(told(list, "--", None, Some(true)), Some(Cause::Internet));
        assert_eq!(told(list, "--", None, Some(false)), Some(Cause::GatewaySilent));
        let with_gateway = "\"1.1.1.1\", \"gateway\"";
        assert_eq!(told(with_gateway, "-+", None, None), Some(Cause::Internet));
        assert_eq!(told(with_gateway, "--", None, Some(true)), Some(Cause::GatewaySilent));
    }

    #[test]
    fn targets_of_one_kind_that_fail_alone() {
        let list = "\"1.1.1.1\", \"tcp://9.9.9.9:443\", \"dns://9.9.9.9\"";
        assert_eq!(told(list, "++-", None, Some(true)), Some(Cause::Dns));
        assert_eq!(told(list, "--+", None, Some(true)), Some(Cause::OnlyDns));
        assert_eq!(told(list, "-++", None, None), Some(Cause::Ping));
        assert_eq!(told(list, "--!", None, Some(false)), Some(Cause::GatewaySilent));
        let page = "\"1.1.1.1\", \"http://example.org/\"";
        assert_eq!(told(page, "+!", Some(FailureKind::Unresolved), None), Some(Cause::Dns));
        assert_eq!(
            told(page, "+!", Some(FailureKind::WrongAnswer), None),
            Some(Cause::WrongAnswer)
        );
        assert_eq!(
            told(page, "-!", Some(FailureKind::WrongAnswer), None),
            Some(Cause::WrongAnswer)
        );
        let portal = Some(FailureKind::CaptivePortal);
        assert_eq!(told(page, "-!", portal, Some(true)), Some(Cause::CaptivePortal));
    }

    #[test]
    fn the_reason_is_refined_when_the_gateway_has_been_asked() {
        let list = targets("\"1.1.1.1\", \"9.9.9.9\"");
        let targets = list.into_iter().map(|asked| asked.target).collect();
        let probe = Probe { targets, failure_count: 1, ..Probe::default() };
        let mut health = Health::new(probe, Family::Ipv4, true, ms(0));
        health.handle(&HealthEvent::Ready, ms(0));
        let over = health.start_round(ms(0)).expect("a round").timeout;
        assert!(!health.ask_gateway(ms(0)), "it is up");
        assert!(health.handle(&HealthEvent::Tick, over).is_some());
        let reason = "1 round of probes failed: none of 2 targets answered (1 needed)";
        assert_eq!(health.reason().to_string(), reason);
        assert!(health.ask_gateway(ms(3000)) && !health.ask_gateway(ms(3500)));
        assert_eq!(health.gateway_asked(true), Some(Cause::Internet));
        assert_eq!(health.reason().to_string(), format!("{reason}; {}", Cause::Internet.words()));
        assert_eq!(health.gateway_asked(true), None, "it is no news");
        assert!(health.ask_gateway(ms(13_000)), "it may have come back");
        assert_eq!(health.gateway_asked(false), Some(Cause::GatewaySilent));
        let known = health.outage().expect("an outage");
        assert_eq!((known.cause, known.reason), (Some(Cause::GatewaySilent), health.reason()));
        // What comes after another verdict says nothing.
        health.handle(&HealthEvent::NotReady(&no_carrier()), ms(14_000));
        assert!(health.gateway_asked(true).is_none() && !health.ask_gateway(ms(30_000)));
        let reason = &Reasons::from(Reason::NotReady(no_carrier()));
        assert_eq!(health.reason(), reason);
        assert_eq!(
            health.outage(),
            Some(KnownOutage { cause: None, reason, ready: false, since: over })
        );
    }

    #[test]
    fn what_the_administrator_or_the_partner_took_is_no_outage() {
        let mut health = Health::new(Probe::default(), Family::Ipv4, true, ms(0));
        assert_eq!(health.outage(), None);
        health.handle(&HealthEvent::Standby(&no_carrier()), ms(1));
        assert_eq!((health.state(), health.outage()), (State::Down, None));
        health.handle(&HealthEvent::Disabled(true), ms(2));
        health.handle(&HealthEvent::Disabled(false), ms(3));
        assert_eq!((health.state(), health.outage()), (State::Down, None));
        health.handle(&HealthEvent::NotReady(&no_carrier()), ms(4));
        assert!(health.outage().is_some());
    }

    #[test]
    fn the_first_lost_probes_of_a_line_that_comes_back_tell_nothing() {
        let targets = targets("\"1.1.1.1\"").into_iter().map(|asked| asked.target).collect();
        let probe = Probe { targets, failure_count: 2, ..Probe::default() };
        let mut health = Health::new(probe, Family::Ipv4, true, ms(0));
        health.handle(&HealthEvent::NotReady(&no_carrier()), ms(0));
        health.handle(&HealthEvent::Ready, ms(1000));
        let lose = |health: &mut Health, from: Duration| {
            let over = from + health.start_round(from).expect("a round").timeout;
            health.handle(&HealthEvent::Tick, over);
            over
        };
        let over = lose(&mut health, ms(1000));
        assert!(!health.ask_gateway(over), "its gateway may not be known yet");
        let over = lose(&mut health, over + ms(5000));
        assert!(health.ask_gateway(over));
    }
}
