//! Answers to what becomes of a flow. What the maps say is read at once; what takes longer (the flow
//! table as a whole, connection tracking, a route look-up) is asked on other threads.

mod frame;
mod outside;
mod pending;
mod tracer;
mod words;

use std::net::IpAddr;

use anyhow::Result;
use linkbal_common::{
    flow::FlowKey,
    maps,
    mark::MarkMask,
    shortcut::{Tuple, slot},
    uplink::{Family, UpMask},
};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use self::{pending::Pending, tracer::Tracer, words::Words};
use super::Daemon;
use crate::{
    api::{
        admin::RequestError,
        explain::{DecisionOutcome, Explanation, FlowQuestion},
        rules::RuleUse,
    },
    config::outline,
    engine::kernel::network::{Link, Snapshot, TABLE_MAIN},
    mac,
    sys::{datapath::trace::Assumption, host::descriptors},
};

/// The channel for an answer.
type ExplainReply = oneshot::Sender<Result<Explanation, RequestError>>;

impl Daemon {
    /// Returns the rules with their counters; the last one stands for flows that no rule matches.
    pub(super) fn rules(&self) -> Result<Vec<RuleUse>> {
        let counters = self.datapath.rule_counters()?;
        let rules = outline::rules(&self.config, &self.sources.text);
        let none = outline::RuleWords {
            name: "no rule".into(),
            lines: None,
            matches: "all else".into(),
            uplinks: "all uplinks".into(),
        };
        let used = counters.iter().take(rules.len()).chain(counters.last());
        let each = rules.iter().chain([&none]).zip(used);
        Ok(each
            .map(|(rule, used)| RuleUse {
                rule: rule.clone(),
                flows: used.flows,
                blocked: used.blocked,
            })
            .collect())
    }

    /// Answers what becomes of a flow.
    pub(super) fn explain(&self, question: FlowQuestion, answer: ExplainReply) {
        let _lent = descriptors::lend();
        match self.explanation(question) {
            Ok((explanation, rest)) => {
                tokio::spawn(async move {
                    let _lent = descriptors::lend();
                    // The client may have disconnected.
                    let _ = answer.send(Ok(rest.finish(explanation).await));
                });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Answers as far as the maps tell, and returns what is yet to be asked.
    fn explanation(
        &self,
        mut question: FlowQuestion,
    ) -> Result<(Explanation, Pending), RequestError> {
        if question.source.is_ipv4() != question.destination.is_ipv4() {
            return Err(RequestError::Invalid {
                at: "query destination".into(),
                what: "source and destination are not of the same family".into(),
                help: "ask with two IPv4 or two IPv6 addresses".into(),
            });
        }
        check_values(&question)?;
        let link = self.interface_of(&mut question)?;
        let words = self.words(&question);
        let tracer =
            Tracer { daemon: self, question: &question, link: link.as_ref(), words: &words };
        let (mut now, findings) = tracer.decide(Assumption::default(), false);
        let connected = tracer.connected(&now, &findings);
        if let Some(uplink) = connected {
            now = words.connected(uplink);
        }
        let known = findings.flow.is_some() || connected.is_some();
        let fresh = |down| tracer.decide(Assumption { down, is_new: true }, true).0;
        let new = known.then(|| fresh(UpMask(0)));
        let if_down = now.uplink.as_ref().and_then(|name| self.engine.uplinks().by_name(name));
        let if_down = if_down.map(|uplink| {
            let down = UpMask(0).with(uplink.index, tracer.family(), true);
            let mut decision = tracer.decide(Assumption { down, is_new: false }, !known).0;
            if decision.outcome == DecisionOutcome::Reset {
                decision.text = format!("{}; then {}", decision.text, fresh(down).text);
            }
            decision
        });
        let domains = words.domains(findings.domain.as_ref());
        let shortcut = findings.flow.and_then(|_| self.has_shortcut(&tracer.key()));
        let rest = Pending {
            dir: self.datapath.dir(),
            key: tracer.key(),
            exact: !tracer.is_open(),
            flow: findings.flow,
            outside: self.outside(&question, link.as_ref(), &now),
            mask: MarkMask(self.config.kernel.fwmark_mask),
            words,
        };
        let explanation = Explanation {
            now,
            new,
            if_down,
            flows: Vec::new(),
            flow_count: 0,
            connection: None,
            shortcut,
            domains,
            outside: Vec::new(),
            question,
        };
        Ok((explanation, rest))
    }

    /// Finds the interface that packets come in by, and names it in the question; `None` if it is of no
    /// LAN.
    fn interface_of(&self, question: &mut FlowQuestion) -> Result<Option<Link>, RequestError> {
        let Some(snapshot) = self.engine.snapshot() else {
            let text = "the interfaces are not known yet: ask again in a moment";
            return Err(RequestError::NotPossible(text.into()));
        };
        if question.from_gateway {
            return Ok(None);
        }
        if snapshot.addresses.iter().any(|own| own.address == question.source) {
            return Err(RequestError::Invalid {
                at: "query source".into(),
                what: format!("{} is the gateway's own address", question.source),
                help: "use --from-gateway (from_gateway=true) for programs of the gateway".into(),
            });
        }
        let of_lan = |link: &Link| self.engine.lan().contains_key(&link.name);
        let link = match &question.interface {
            Some(name) => Some(snapshot.link(name).ok_or_else(|| RequestError::Invalid {
                at: "query interface".into(),
                what: format!("there is no interface {name:?} here"),
                help: "leave it out to find it by the source".into(),
            })?),
            None => link_towards(snapshot, question.source),
        };
        question.interface = link.map(|link| link.name.clone());
        Ok(link.filter(|link| of_lan(link)).cloned())
    }

    /// Returns the interface of the LAN that an address is behind.
    fn lan_towards(&self, address: IpAddr) -> Option<&Link> {
        let link = link_towards(self.engine.snapshot()?, address)?;
        self.engine.lan().contains_key(&link.name).then_some(link)
    }

    /// Returns whether a shortcut is stored for the packets of a flow; `None` if there are none at all.
    fn has_shortcut(&self, key: &FlowKey) -> Option<bool> {
        if !self.config.accelerate.takes_shortcuts() {
            return None;
        }
        let seed = self.datapath.settings().ok()?.seed;
        let tuple = Tuple::of(key);
        let shortcuts = self.datapath.array(maps::SHORTCUTS_UP).ok()?;
        let stored = |hash| shortcuts.get(&slot(hash), 0).ok();
        Some(match key.family() {
            Family::Ipv4 => stored(tuple.hash::<false>(seed))?.tuple.same_as::<false>(&tuple),
            Family::Ipv6 => stored(tuple.hash::<true>(seed))?.tuple.same_as::<true>(&tuple),
        })
    }

    fn words(&self, question: &FlowQuestion) -> Words {
        let uplinks = self.engine.uplinks().indexed();
        Words {
            uplinks: uplinks.iter().map(|each| (each.index, each.config.name.clone())).collect(),
            rules: outline::rules(&self.config, &self.sources.text),
            members: self
                .config
                .rules
                .iter()
                .map(|rule| rule.members.iter().map(|member| member.uplink.clone()).collect())
                .collect(),
            names: self.policy.domain.keys().cloned().collect(),
            seed: self.datapath.settings().map(|settings| settings.seed).unwrap_or_default(),
            source: question.source,
            now: now(),
        }
    }
}

/// Returns the clock of the datapath's entries, in seconds and milliseconds since boot.
fn now() -> (u32, u32) {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) else { return (0, 0) };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    let millis = u64::try_from(now.tv_nsec()).unwrap_or_default() / 1_000_000;
    (seconds as u32, seconds.wrapping_mul(1000).wrapping_add(millis) as u32)
}

/// Returns the interface that the main table's most exact route to an address leads to; the default
/// route says nothing.
fn link_towards(snapshot: &Snapshot, address: IpAddr) -> Option<&Link> {
    let mut routes: Vec<_> = snapshot.routes.iter().collect();
    routes.retain(|route| {
        route.table == TABLE_MAIN
            && route.destination.prefix_len() > 0
            && route.destination.contains(&address)
    });
    routes.sort_by_key(|route| std::cmp::Reverse(route.destination.prefix_len()));
    routes.iter().find_map(|route| snapshot.links.get(&route.ifindex?))
}

/// Refuses a question whose values mean nothing.
fn check_values(question: &FlowQuestion) -> Result<(), RequestError> {
    let invalid = |at: &str, what, help: &str| {
        let (at, help) = (format!("query {at}"), help.into());
        Err(RequestError::Invalid { at, what, help })
    };
    if let Some(mac) = question.mac.as_ref().filter(|mac| mac::parse(mac).is_none()) {
        let help = "write six pairs of hexadecimal digits, like 02:00:00:00:00:01";
        return invalid("mac", format!("{mac:?} is no MAC address"), help);
    }
    if question.destination_port == Some(0) {
        return invalid("destination_port", "0 is no port".into(), "write 1 to 65535");
    }
    Ok(())
}
