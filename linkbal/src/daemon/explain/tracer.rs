//! Decisions about a flow, as the packet path takes them from the maps.

use std::collections::BTreeMap;

use linkbal_common::{
    flow::FlowKey,
    mark::{DROP, MarkMask, REJECT, RESET},
    packet::model::ModelPacket,
    parse::parse,
    select::Selection,
    uplink::Family,
    verdict::{SkipReason, Verdict},
};

use super::{
    super::Daemon,
    frame::{self, ether_type, frame},
    words::{Words, undecided},
};
use crate::{
    api::explain::{Decision, DecisionOutcome, FlowQuestion},
    engine::kernel::network::Link,
    sys::{
        conntrack,
        datapath::{
            in_words,
            trace::{Assumption, Findings, trace, trace_local},
        },
    },
};

/// A flow that is traced.
pub(super) struct Tracer<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) question: &'a FlowQuestion,
    pub(super) link: Option<&'a Link>,
    pub(super) words: &'a Words,
}

impl Tracer<'_> {
    pub(super) fn family(&self) -> Family {
        if self.question.destination.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Returns whether the source port matters, and is not known.
    pub(super) fn is_open(&self) -> bool {
        self.question.source_port.is_none() && frame::has_source_port(self.question.protocol)
    }

    /// Returns the key of the flow; with source port 0 if that is not known.
    pub(super) fn key(&self) -> FlowKey {
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
    pub(super) fn connected(&self, now: &Decision, findings: &Findings) -> Option<u32> {
        let proposed = matches!(
            now.outcome,
            DecisionOutcome::Uplink
                | DecisionOutcome::Dropped
                | DecisionOutcome::Rejected
                | DecisionOutcome::Unmarked
        );
        if !proposed || findings.flow.is_some() || self.is_open() {
            return None;
        }
        let FlowQuestion { source, destination, .. } = self.question;
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
    pub(super) fn decide(&self, assumption: Assumption, opens: bool) -> (Decision, Findings) {
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
            return (self.words.plain(DecisionOutcome::Main, text), Findings::default());
        }
        let traced = trace_local(&self.daemon.datapath, self.key(), assumption);
        let Ok((fwmark, findings)) = traced else {
            return (undecided("the maps of the datapath cannot be read"), Findings::default());
        };
        let decision = match (fwmark, findings.choice) {
            (Some(fwmark), Some(_)) => self.by_fwmark(fwmark, &findings, assumption),
            (_, Some((Selection::Bypassed | Selection::OnLink, _))) => self.bypassed(&findings),
            (_, Some((Selection::NoneUsable, _))) => self.words.no_uplink(),
            _ => self.words.plain(
                DecisionOutcome::Main,
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
        if number == mask.encode(DROP) {
            self.words.blocked(DecisionOutcome::Dropped, findings)
        } else if number == mask.encode(REJECT) {
            self.words.blocked(DecisionOutcome::Rejected, findings)
        } else if number == mask.encode(RESET) {
            self.words.plain(
                DecisionOutcome::Reset,
                "the connection ends with a reset, since its uplink is down",
            )
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

    fn skipped(&self, reason: SkipReason, findings: &Findings) -> Decision {
        let text = match reason {
            SkipReason::Bypass => return self.bypassed(findings),
            SkipReason::NoUplink => return self.words.no_uplink(),
            SkipReason::Multicast => "a multicast or broadcast address is not balanced",
            SkipReason::LinkLocal => {
                "a link-local, loopback or unspecified address does not leave by an uplink"
            }
            SkipReason::Off => "the datapath is not set up yet",
            SkipReason::AlreadyMarked => "another program has set linkbal's bits of the fwmark",
            SkipReason::NotIp
            | SkipReason::Malformed
            | SkipReason::HeaderChain
            | SkipReason::Fragment => "linkbal does not understand such packets",
        };
        self.words.plain(DecisionOutcome::Skipped, text)
    }

    fn bypassed(&self, findings: &Findings) -> Decision {
        let links = self.daemon.engine.snapshot().map(|snapshot| &snapshot.links);
        let name = |ifindex| Some(links?.get(&ifindex)?.name.clone());
        self.words.bypassed(findings.bypass, self.question.destination, name)
    }
}
