//! The words of an explanation.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use linkbal_common::{
    dns::domain::{Domain, NAMES, name_hash},
    flow::{Flow, FlowKey, Reason, reason},
    hash::Seed,
    rule::NO_RULE,
    tables::bypass,
};

use crate::{
    api::explain::{Decision, DecisionOutcome, FlowQuestion, LiveFlow},
    config::outline::RuleWords,
    protocol,
    sys::datapath::trace::Findings,
};

/// Names and rules, and the time.
pub(super) struct Words {
    /// Names of the uplinks, by index.
    pub(super) uplinks: BTreeMap<u32, String>,
    /// The rules.
    pub(super) rules: Vec<RuleWords>,
    /// Names of each rule's uplinks; empty for all.
    pub(super) members: Vec<Vec<String>>,
    /// Domains that rules name.
    pub(super) names: Vec<String>,
    /// The seed of their hashes.
    pub(super) seed: Seed,
    /// The source of the flow.
    pub(super) source: IpAddr,
    /// The time of the datapath's entries, in seconds and in milliseconds since boot.
    pub(super) now: (u32, u32),
}

/// Returns a decision that could not be found out.
pub(super) fn undecided(text: &str) -> Decision {
    Decision {
        outcome: DecisionOutcome::Skipped,
        uplink: None,
        reason: None,
        rule: None,
        bucket: None,
        session_idle_s: None,
        shares: BTreeMap::new(),
        text: text.into(),
    }
}

impl Words {
    /// Returns the name of an uplink.
    pub(super) fn name(&self, index: u32) -> String {
        self.uplinks.get(&index).cloned().unwrap_or_else(|| format!("a former uplink ({index})"))
    }

    /// Returns a decision without an uplink.
    pub(super) fn plain(&self, outcome: DecisionOutcome, text: &str) -> Decision {
        Decision { outcome, ..undecided(text) }
    }

    /// Returns the decision without a usable uplink.
    pub(super) fn no_uplink(&self) -> Decision {
        let text =
            "no uplink is usable: it leaves without a mark, by the best one that has a gateway";
        self.plain(DecisionOutcome::Unmarked, text)
    }

    /// Returns the decision for a host that is behind no interface of the LAN.
    pub(super) fn not_of_lan(
        &self,
        question: &FlowQuestion,
        lan: &BTreeMap<String, bool>,
    ) -> Decision {
        let lan: Vec<_> = lan.keys().map(String::as_str).collect();
        let lan = if lan.is_empty() { "there is none".into() } else { lan.join(", ") };
        let source = question.source;
        let text = match &question.interface {
            Some(name) => format!(
                "{source} is behind {name}, which is no interface of the LAN ({lan}): linkbal does \
                 not see its packets, and what the main table has no route for takes the best \
                 uplink"
            ),
            None => format!(
                "{source} is behind no known interface: name the one of the LAN ({lan}) that its \
                 packets come in by with --iface"
            ),
        };
        self.plain(DecisionOutcome::Skipped, &text)
    }

    /// Returns the decision for a connection from outside to a host of the LAN.
    pub(super) fn coming_in(&self, question: &FlowQuestion, inside: &str) -> Decision {
        let FlowQuestion { source, destination, .. } = question;
        let end = |address: &IpAddr, port: Option<u16>| match (question.destination_port, port) {
            (None, _) => address.to_string(),
            (_, None) if address.is_ipv6() => format!("[{address}]:PORT"),
            (_, None) => format!("{address}:PORT"),
            (_, Some(port)) => SocketAddr::new(*address, port).to_string(),
        };
        let host = end(destination, question.destination_port);
        let peer = end(source, question.source_port);
        let text = format!(
            "{source} is outside, and {destination} is a host of the LAN behind {inside}: such a \
             connection comes in by a port forward or the routes of a provider, and its answers leave \
             by the uplink that it came in by; ask about them: linkbal explain {host} {peer}"
        );
        self.plain(DecisionOutcome::Skipped, &text)
    }

    /// Returns the decision for a destination that the main table routes.
    pub(super) fn bypassed(
        &self,
        value: Option<u32>,
        destination: IpAddr,
        name: impl Fn(u32) -> Option<String>,
    ) -> Decision {
        let value = value.unwrap_or(bypass::MAIN);
        let text = match value >> 8 {
            0 if bypass::routed_by(value) == bypass::MAIN => {
                format!("{destination} is an address of the gateway itself")
            }
            ifindex => match name(ifindex) {
                Some(link) => {
                    format!("{destination} is not balanced: the main table leads to {link}")
                }
                None => format!("{destination} is not balanced: the main table routes it"),
            },
        };
        let text = match bypass::routed_by(value) {
            bypass::UPLINK => {
                text + " (a network of an uplink), unless the connection came in by another one"
            }
            _ => text,
        };
        self.plain(DecisionOutcome::Main, &text)
    }

    /// Returns the decision for a packet that a rule blocks, or the end of its provider.
    pub(super) fn blocked(&self, outcome: DecisionOutcome, findings: &Findings) -> Decision {
        let verb = if outcome == DecisionOutcome::Dropped { "dropped" } else { "rejected" };
        let why = findings.choice.map(|(_, why)| why).unwrap_or_default();
        if why.kind == reason::SOURCE {
            let text = format!(
                "rejected: the provider that gave out {} is down, and no other takes it",
                self.source
            );
            return Decision { reason: Some("source".into()), ..self.plain(outcome, &text) };
        }
        let text = format!("{verb}: {}, of which none is usable", self.rule_text(why));
        Decision { rule: self.rule(why), ..self.plain(outcome, &text) }
    }

    /// Returns the decision for an uplink.
    pub(super) fn uplink(&self, uplink: u32, findings: &Findings) -> Decision {
        let name = self.name(uplink);
        let (why, text) = match (findings.choice, findings.flow) {
            // With none usable, the flow stays.
            (Some((linkbal_common::select::Selection::Uplink(_), why)), _) => {
                (why, self.chosen(why, &name, findings))
            }
            (_, Some(flow)) => (flow.reason, self.kept(&flow)),
            _ => (Reason::default(), "the only way left".into()),
        };
        let used = matches!(why.kind, reason::SESSION | reason::RELATED);
        let session = findings.session.and_then(|(_, session)| session).filter(|_| used);
        Decision {
            outcome: DecisionOutcome::Uplink,
            uplink: Some(name.clone()),
            reason: Some(reason::name(why.kind).into()),
            rule: self.rule(why),
            bucket: findings.bucket,
            session_idle_s: session.map(|session| self.now.0.saturating_sub(session.last_seen_s)),
            shares: BTreeMap::new(),
            text: format!("{name}: {text}"),
        }
    }

    /// Returns the decision where the source port decides between uplinks; `counts` are their buckets.
    pub(super) fn by_port(
        &self,
        findings: &Findings,
        counts: &BTreeMap<u32, u32>,
        protocol: u8,
    ) -> Decision {
        let why = findings.choice.map(|(_, why)| why).unwrap_or_default();
        let all: f64 = counts.values().copied().map(f64::from).sum();
        let share = |count: u32| f64::from(count) / all.max(1.0);
        let shares: BTreeMap<_, _> =
            counts.iter().map(|(index, count)| (self.name(*index), share(*count))).collect();
        let parts =
            shares.iter().map(|(name, share)| format!("{} % {name}", (share * 100.0).round()));
        let text = format!(
            "{}, by its {}: {}",
            parts.collect::<Vec<_>>().join(", "),
            if protocol::has_identifier(protocol) { "identifier" } else { "source port" },
            self.rule_text(why)
        );
        Decision {
            outcome: DecisionOutcome::ByPort,
            reason: Some(reason::name(why.kind).into()),
            rule: self.rule(why),
            shares,
            ..undecided(&text)
        }
    }

    /// Returns the decision for a packet of a connection that has an uplink, though its flow is not in the
    /// table.
    pub(super) fn connected(&self, uplink: u32) -> Decision {
        let name = self.name(uplink);
        Decision {
            outcome: DecisionOutcome::Uplink,
            uplink: Some(name.clone()),
            reason: Some(reason::name(reason::CONNECTION).into()),
            ..undecided(&format!("{name}: its connection has that uplink already"))
        }
    }

    /// Returns why a flow that is in the table goes on.
    fn kept(&self, flow: &Flow) -> String {
        format!("existing flow: {}", self.of_flow(flow))
    }

    /// Returns why an uplink was chosen.
    fn chosen(&self, why: Reason, uplink: &str, findings: &Findings) -> String {
        if why.kind == reason::SOURCE {
            return format!("its provider gave out {}, whatever rules say", self.source);
        }
        let others = self.members.get(usize::from(why.rule)).is_some_and(|members| {
            !members.is_empty() && !members.iter().any(|member| member == uplink)
        });
        let rule = self.rule_text(why)
            + if others { ", none of which is usable: so all uplinks" } else { "" };
        // Where there is nothing to choose from, the number says nothing.
        let only = self.members.get(usize::from(why.rule)).is_some_and(|all| all.len() == 1);
        let bucket = findings.bucket.filter(|_| !only || others);
        let bucket = bucket.map(|bucket| format!("; bucket {bucket}")).unwrap_or_default();
        let idle = findings.session.and_then(|(_, session)| session);
        let idle = idle.map_or(0, |session| self.now.0.saturating_sub(session.last_seen_s));
        match why.kind {
            reason::SESSION => format!("{rule}; its sticky session, last used {idle} s ago"),
            reason::SESSION_NEW => format!("{rule}; a new sticky session{bucket}"),
            reason::RELATED => {
                format!("{rule}; the session of the connection that agreed on it")
            }
            _ => format!("{rule}{bucket}"),
        }
    }

    /// Returns the rule of a reason with what it matches and where it leads, in words.
    fn rule_text(&self, why: Reason) -> String {
        match self.rule(why) {
            Some(RuleWords { name, lines, matches, uplinks }) => {
                let lines = match lines {
                    Some((first, last)) if first == last => format!("line {first}: "),
                    Some((first, last)) => format!("lines {first}-{last}: "),
                    None => String::new(),
                };
                format!("{name} ({lines}{matches}) -> {uplinks}")
            }
            None if u32::from(why.rule) == NO_RULE => "no rule matches -> all uplinks".into(),
            None => "a rule that is gone".into(),
        }
    }

    fn rule(&self, why: Reason) -> Option<RuleWords> {
        self.rules.get(usize::from(why.rule)).cloned()
    }

    /// Returns the reason of a flow's entry in words.
    fn of_flow(&self, flow: &Flow) -> String {
        let rule = match self.rule(flow.reason) {
            Some(rule) => format!("by {}", rule.name),
            None if u32::from(flow.reason.rule) == NO_RULE => "without a rule".into(),
            None => "by a rule that is gone".into(),
        };
        let text = match flow.reason.kind {
            reason::SOURCE => "its source address belongs to the uplink".into(),
            reason::BUCKET => format!("{rule}, its bucket"),
            reason::SESSION_NEW => format!("{rule}, it began a sticky session"),
            reason::SESSION => format!("{rule}, it joined a sticky session"),
            reason::RELATED => format!("{rule}, it joined a related session"),
            reason::CONNECTION => "its connection had the uplink already".into(),
            reason::INBOUND => "its connection came in by the uplink".into(),
            _ => "the reason is not known".into(),
        };
        match u32::from(flow.moved_from).checked_sub(1) {
            Some(former) => format!("{text}, moved from {} when that went down", self.name(former)),
            None => text,
        }
    }

    /// Returns a live flow.
    pub(super) fn flow(&self, key: &FlowKey, flow: &Flow) -> LiveFlow {
        let (now_s, now_ms) = self.now;
        let former = u32::from(flow.moved_from).checked_sub(1);
        LiveFlow {
            source_port: u16::from_be(key.source_port),
            uplink: self.name(flow.uplink),
            reason: reason::name(flow.reason.kind).into(),
            rule: self.rule(flow.reason).map(|rule| rule.name),
            moved_from: former.map(|index| self.name(index)),
            age_s: now_ms.wrapping_sub(flow.first_seen_ms) / 1000,
            idle_s: now_s.saturating_sub(flow.last_seen_s),
            answered: flow.replied != 0,
            text: self.of_flow(flow),
        }
    }

    /// Returns the domains of rules that the datapath knows an address by.
    pub(super) fn domains(&self, domain: Option<&Domain>) -> Vec<String> {
        let Some(domain) = domain else { return Vec::new() };
        let known = |name: &&String| {
            let hash = name_hash(self.seed, name);
            (0..NAMES).any(|slot| {
                domain.names.get(slot) == Some(&hash)
                    && domain.expires_s.get(slot).is_some_and(|expires| *expires > self.now.0)
            })
        };
        self.names.iter().filter(|name| !name.is_empty()).filter(known).cloned().collect()
    }
}
