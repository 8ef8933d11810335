//! Answers to what becomes of a flow. What the maps say is read at once; what takes longer (the flow
//! table as a whole, connection tracking, a route look-up) is asked on other threads.

mod frame;
mod outside;
mod words;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::Result;
use linkbal_common::{
    flow::{Flow, FlowKey},
    maps,
    mark::{BLOCKED, MarkMask, RESET},
    packet::model::ModelPacket,
    parse::parse,
    select::Selection,
    shortcut::{Tuple, slot},
    uplink::{Family, UpMask},
    verdict::{Reason as Skipped, Verdict},
};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use self::{
    frame::{ether_type, frame},
    outside::Outside,
    words::{Words, undecided},
};
use super::Daemon;
use crate::{
    api::{
        admin::RequestError,
        explain::{Connection, Decision, Explanation, Outcome, Question},
        rules::RuleUse,
    },
    config::outline,
    engine::kernel::network::{Link, Snapshot, TABLE_MAIN},
    mac,
    sys::{
        conntrack,
        datapath::{
            flows::{FlowTable, situation},
            in_words,
            trace::{Assumption, Findings, trace, trace_local},
        },
        host::{descriptors, thread},
    },
};

/// Maximum number of live flows that an answer has.
const MAX_FLOWS: usize = 8;

/// The channel for an answer.
type Answer = oneshot::Sender<Result<Explanation, RequestError>>;

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
    pub(super) fn explain(&self, question: Question, answer: Answer) {
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
    fn explanation(&self, mut question: Question) -> Result<(Explanation, Rest), RequestError> {
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
            if decision.outcome == Outcome::Reset {
                decision.text = format!("{}; then {}", decision.text, fresh(down).text);
            }
            decision
        });
        let domains = words.domains(findings.domain.as_ref());
        let shortcut = findings.flow.and_then(|_| self.has_shortcut(&tracer.key()));
        let rest = Rest {
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
    fn interface_of(&self, question: &mut Question) -> Result<Option<Link>, RequestError> {
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
            Family::Ipv4 => stored(tuple.hash::<false>(seed))?.tuple.is::<false>(&tuple),
            Family::Ipv6 => stored(tuple.hash::<true>(seed))?.tuple.is::<true>(&tuple),
        })
    }

    fn words(&self, question: &Question) -> Words {
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

/// A flow that is traced.
struct Tracer<'a> {
    daemon: &'a Daemon,
    question: &'a Question,
    link: Option<&'a Link>,
    words: &'a Words,
}

impl Tracer<'_> {
    fn family(&self) -> Family {
        if self.question.destination.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Returns whether the source port matters, and is not known.
    fn is_open(&self) -> bool {
        self.question.source_port.is_none() && frame::has_source_port(self.question.protocol)
    }

    /// Returns the key of the flow; with source port 0 if that is not known.
    fn key(&self) -> FlowKey {
        if self.question.from_gateway {
            let (family, source) = in_words(self.question.source);
            let (_, destination) = in_words(self.question.destination);
            return FlowKey {
                source,
                destination,
                source_port: self.question.source_port.unwrap_or(0).to_be(),
                destination_port: self.question.destination_port.unwrap_or(0).to_be(),
                protocol: self.question.protocol,
                family: family as u8,
                ..FlowKey::default()
            };
        }
        let bytes = frame(self.question, true, false);
        let mut key = FlowKey::default();
        // What cannot be parsed has no flow.
        let _ = parse(&self.packet(&bytes, true), &mut key);
        key
    }

    /// Returns the uplink in the mark of the connection, which prevails over what the program proposes for
    /// a flow that it does not know.
    fn connected(&self, now: &Decision, findings: &Findings) -> Option<u32> {
        let proposed = matches!(
            now.outcome,
            Outcome::Uplink | Outcome::Dropped | Outcome::Rejected | Outcome::Unmarked
        );
        if !proposed || findings.flow.is_some() || self.is_open() {
            return None;
        }
        let Question { source, destination, .. } = self.question;
        let found = conntrack::find::find(&self.key(), *source, *destination);
        let mask = MarkMask(self.daemon.config.kernel.fwmark_mask);
        let uplink = mask.decode(found.ok()??.mark)?;
        self.daemon.engine.uplinks().by_index(uplink).map(|known| known.index)
    }

    fn packet<'b>(&self, bytes: &'b [u8], ethernet: bool) -> ModelPacket<'b> {
        let ether_type = ether_type(self.question.destination);
        ModelPacket {
            l3_ether_type: (!ethernet).then_some(ether_type.to_be()),
            ifindex: self.link.map_or(0, |link| link.ifindex),
            vlan: self.question.vlan.unwrap_or(0),
            ..ModelPacket::frame(bytes)
        }
    }

    /// Returns what becomes of a packet, the first one of a connection if it `opens` it.
    fn decide(&self, assumption: Assumption, opens: bool) -> (Decision, Findings) {
        if self.question.from_gateway {
            return self.decide_local(assumption);
        }
        let Some(link) = self.link else {
            let lan = self.daemon.engine.lan();
            let decision = match self.daemon.lan_towards(self.question.destination) {
                Some(inside) => self.words.coming_in(self.question, &inside.name),
                None => self.words.not_of_lan(self.question, lan),
            };
            return (decision, Findings::default());
        };
        let bytes = frame(self.question, link.ethernet, opens);
        let traced = trace(&self.daemon.datapath, &self.packet(&bytes, link.ethernet), assumption);
        let Ok((verdict, findings)) = traced else {
            return (undecided("the maps of the datapath cannot be read"), Findings::default());
        };
        let fwmark = match verdict {
            Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => fwmark,
            Verdict::Skip(reason) => return (self.skipped(reason, &findings), findings),
        };
        (self.by_fwmark(fwmark, &findings, assumption), findings)
    }

    fn decide_local(&self, assumption: Assumption) -> (Decision, Findings) {
        if !self.daemon.config.local_balance {
            let text = "programs of the gateway are not balanced (local.balance is off): the best \
                        uplink's table decides";
            return (self.words.plain(Outcome::Main, text), Findings::default());
        }
        let traced = trace_local(&self.daemon.datapath, self.key(), assumption);
        let Ok((fwmark, findings)) = traced else {
            return (undecided("the maps of the datapath cannot be read"), Findings::default());
        };
        let decision = match (fwmark, findings.choice) {
            (Some(fwmark), Some(_)) => self.by_fwmark(fwmark, &findings, assumption),
            (_, Some((Selection::Bypassed | Selection::OnLink, _))) => self.bypassed(&findings),
            (_, Some((Selection::NoUplink, _))) => self.words.no_uplink(),
            _ => self.words.plain(
                Outcome::Main,
                "left alone: the program has bound its source address, whose ip rule decides, or \
                 the destination is never reached by an uplink",
            ),
        };
        (decision, findings)
    }

    fn by_fwmark(&self, fwmark: u32, findings: &Findings, assumption: Assumption) -> Decision {
        let mask = MarkMask(self.daemon.config.kernel.fwmark_mask);
        if let Some(uplink) = mask.decode(fwmark) {
            if findings.choice.is_some() && self.is_open() {
                let shares = self.shares(findings, assumption);
                if shares.len() > 1 {
                    return self.words.by_port(findings, &shares, self.question.protocol);
                }
            }
            return self.words.uplink(uplink, findings);
        }
        let number = fwmark & mask.number();
        if number == mask.encode(BLOCKED[0]) {
            self.words.blocked(Outcome::Dropped, findings)
        } else if number == mask.encode(BLOCKED[1]) {
            self.words.blocked(Outcome::Rejected, findings)
        } else if number == mask.encode(RESET) {
            self.words
                .plain(Outcome::Reset, "the connection ends with a reset, since its uplink is down")
        } else if matches!(findings.choice, Some((Selection::OnLink, _))) {
            self.bypassed(findings)
        } else {
            self.words.no_uplink()
        }
    }

    /// Returns the shares of the uplinks among the buckets of a flow that is in no session.
    fn shares(&self, findings: &Findings, assumption: Assumption) -> BTreeMap<u32, u32> {
        use linkbal_common::{flow::reason, pick::pick, rule::otherwise};
        let mut counts = BTreeMap::new();
        let policy = &self.daemon.policy;
        let Some((_, why)) = findings.choice.filter(|(_, why)| why.kind == reason::BUCKET) else {
            return counts;
        };
        let Some(action) = policy.actions.get(usize::from(why.rule)) else { return counts };
        let up = self.daemon.datapath.up_mask().unwrap_or_default().without(assumption.down);
        let preferred = up.without(self.daemon.engine.avoided());
        let of = |first: u32, mask: u32| {
            let range = first as usize..=first.saturating_add(mask) as usize;
            policy.buckets.get(range).unwrap_or_default()
        };
        let family = self.family();
        let all = linkbal_common::bucket::BUCKETS - 1;
        for (first, mask) in [(action.first_bucket, action.bucket_mask), (0, all)] {
            for bucket in of(first, mask) {
                let any = bucket.members() & preferred.family(family) != 0;
                if let Some(uplink) = pick(bucket, if any { preferred } else { up }, family) {
                    let count: &mut u32 = counts.entry(uplink).or_default();
                    *count = count.saturating_add(1);
                }
            }
            if !counts.is_empty() || action.otherwise != otherwise::BALANCE {
                break;
            }
        }
        counts
    }

    fn skipped(&self, reason: Skipped, findings: &Findings) -> Decision {
        let text = match reason {
            Skipped::Bypass => return self.bypassed(findings),
            Skipped::NoUplink => return self.words.no_uplink(),
            Skipped::Multicast => "a multicast or broadcast address is not balanced",
            Skipped::LinkLocal => {
                "a link-local, loopback or unspecified address does not leave by an uplink"
            }
            Skipped::Off => "the datapath is not set up yet",
            Skipped::AlreadyMarked => "another program has set linkbal's bits of the fwmark",
            Skipped::NotIp | Skipped::Malformed | Skipped::HeaderChain | Skipped::Fragment => {
                "linkbal does not understand such packets"
            }
        };
        self.words.plain(Outcome::Skipped, text)
    }

    fn bypassed(&self, findings: &Findings) -> Decision {
        let links = self.daemon.engine.snapshot().map(|snapshot| &snapshot.links);
        let name = |ifindex| Some(links?.get(&ifindex)?.name.clone());
        self.words.bypassed(findings.bypass, self.question.destination, name)
    }
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
fn check_values(question: &Question) -> Result<(), RequestError> {
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

/// Questions that are yet to be asked.
struct Rest {
    dir: PathBuf,
    key: FlowKey,
    /// Set if the source port is known, or there is none.
    exact: bool,
    flow: Option<Flow>,
    mask: MarkMask,
    outside: Outside,
    words: Words,
}

impl Rest {
    async fn finish(self, mut explanation: Explanation) -> Explanation {
        explanation.outside = self.outside.ask().await;
        let unchanged = explanation.clone();
        let filled = thread::run("explain", move || {
            let _lent = descriptors::lend();
            self.look(&mut explanation);
            explanation
        });
        filled.await.unwrap_or(unchanged)
    }

    /// Looks at the live flows of the ends, and at the connection. Blocks for as long as the flow table
    /// takes to be read if the source port is not known.
    fn look(&self, explanation: &mut Explanation) {
        let situation = situation(&self.dir);
        // One that is over is in the table until another one takes its place.
        let is_live = |key: &FlowKey, flow: &Flow| {
            situation.as_ref().map_or(true, |situation| situation.is_live(key, flow))
        };
        let of_tuple = self.flow.filter(|flow| is_live(&self.key, flow));
        let mut found: Vec<(FlowKey, Flow)> =
            of_tuple.map(|flow| (self.key, flow)).into_iter().collect();
        explanation.flow_count = found.len();
        if !self.exact {
            found.clear();
            let mut count = 0usize;
            let read = FlowTable::open(&self.dir).and_then(|table| {
                table.for_each(|key, flow| {
                    let is_it = FlowKey { source_port: self.key.source_port, ..*key } == self.key;
                    if is_it && is_live(key, flow) {
                        count = count.saturating_add(1);
                        if found.len() < MAX_FLOWS {
                            found.push((*key, *flow));
                        }
                    }
                })
            });
            if let Err(error) = read {
                explanation.outside.push(format!("the flow table cannot be read: {error:#}"));
            }
            explanation.flow_count = count;
        }
        explanation.flows = found.iter().map(|(key, flow)| self.words.flow(key, flow)).collect();
        if let [(key, _)] = &found[..] {
            explanation.connection = self.connection(key, &explanation.question);
        } else if self.exact {
            explanation.connection = self.connection(&self.key, &explanation.question);
        }
    }

    fn connection(&self, key: &FlowKey, question: &Question) -> Option<Connection> {
        let found = conntrack::find::find(key, question.source, question.destination);
        let found = found.inspect_err(|error| tracing::debug!("no connection is told: {error}"));
        let tracked = found.ok()??;
        Some(Connection {
            translated_source: tracked.translated_source,
            translated_port: tracked.translated_port,
            answered_by: tracked.answered_by,
            offloaded: tracked.offloaded,
            uplink: self.mask.decode(tracked.mark).map(|index| self.words.name(index)),
        })
    }
}
