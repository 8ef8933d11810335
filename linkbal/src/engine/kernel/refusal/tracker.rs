//! The refusals that are in force, and their reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use linkbal_common::uplink::Family;

use super::{KernelRefusal, Resource};
use crate::engine::{
    context::{Context, Output},
    kernel::{
        network::{Change, Snapshot, Unobserved},
        resource::program_of,
    },
    report::Report,
};

/// Changes that the kernel refuses, and probes that this machine cannot send.
#[derive(Debug, Default)]
pub(in crate::engine) struct RefusalTracker {
    /// The changes that the kernel refused.
    refused: BTreeMap<Resource, KernelRefusal>,
    /// Changes that were refused once since they were outdated: they count if they are again.
    outdated: BTreeSet<Resource>,
    /// Things that can no longer be observed, with the reason.
    unobserved: BTreeMap<Unobserved, String>,
    /// Interfaces that no program can be attached to, by name, with the reason.
    unattached: BTreeMap<String, String>,
    /// Probes that this machine cannot send, with the reason, as reported.
    unsent_probes: BTreeMap<ProbesOf, String>,
}

/// The probes of an uplink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ProbesOf {
    family: Family,
    uplink: String,
}

impl fmt::Display for ProbesOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} probes of {}", self.family.name(), self.uplink)
    }
}

impl RefusalTracker {
    /// Returns whether the kernel refused a resource.
    pub(in crate::engine) fn is_refused(&self, resource: &Resource) -> bool {
        self.refused.contains_key(resource) || self.outdated.contains(resource)
    }

    /// Returns what the kernel refuses and what cannot be observed, by name, with the reason and
    /// advice.
    pub(in crate::engine) fn explained(&self) -> BTreeMap<String, String> {
        let refused = self.refused.iter();
        let refused = refused.map(|(resource, refusal)| (resource.to_string(), refusal.explain()));
        let unobserved = self.unobserved.iter().map(|(what, why)| (what.to_string(), unseen(why)));
        let unattached = self.unattached.iter().map(|(name, why)| (program_of(name), idle(why)));
        refused.chain(unobserved).chain(unattached).collect()
    }

    /// Returns the probes that this machine cannot send, by name, with the reason.
    pub(in crate::engine) fn unsent_probes(&self) -> BTreeMap<String, String> {
        self.unsent_probes.iter().map(|(what, why)| (what.to_string(), why.clone())).collect()
    }

    /// Reports once which probes this machine cannot send, and when it can again.
    pub(in crate::engine) fn update_unsent_probes(
        &mut self,
        context: &Context,
        output: &mut Output,
    ) {
        let mut unsent = BTreeMap::new();
        for uplink in context.uplinks.iter() {
            for (family, health) in uplink.health.iter() {
                let Some(found) = health.unsent_probes(context.now) else { continue };
                let uplink = uplink.config.name.clone();
                unsent.insert(ProbesOf { family, uplink }, found.probes.to_string());
            }
        }
        let before = std::mem::replace(&mut self.unsent_probes, unsent);
        report_news(&before, &self.unsent_probes, ProbesOf::to_string, str::to_owned, output);
    }

    /// Reports each refusal once, and one whose interface is gone only if it comes again: the end
    /// of the interface is news on its way. Returns whether such a change is to be asked for again,
    /// even if there are no news.
    pub(in crate::engine) fn add(
        &mut self,
        refusals: Vec<KernelRefusal>,
        output: &mut Output,
    ) -> bool {
        let mut again = false;
        for refusal in refusals {
            let (resource, problem) = (refusal.resource.clone(), refusal.explain());
            if refusal.is_outdated() && self.outdated.insert(resource.clone()) {
                again |= resource == Resource::Flowtable;
                continue;
            }
            let what = resource.to_string();
            if self.refused.insert(resource, refusal).is_none() {
                output.report(Report::Refused { what, problem: Some(problem) });
            }
        }
        again
    }

    /// Reports once each thing that can no longer be observed, and when it can again.
    pub(in crate::engine) fn update_unobserved(
        &mut self,
        snapshot: &Snapshot,
        output: &mut Output,
    ) {
        let before = std::mem::replace(&mut self.unobserved, snapshot.unobserved.clone());
        report_news(&before, &self.unobserved, Unobserved::to_string, unseen, output);
    }

    /// Reports once each interface that the programs cannot be attached to, and when they can again.
    pub(in crate::engine) fn update_unattached(
        &mut self,
        reasons: BTreeMap<String, String>,
        output: &mut Output,
    ) {
        let before = std::mem::replace(&mut self.unattached, reasons);
        report_news(&before, &self.unattached, |name| program_of(name), idle, output);
    }

    /// Forgets and reports the refusals that are over: what is not asked for again is in force.
    pub(in crate::engine) fn forget(&mut self, changes: &[Change], output: &mut Output) {
        if self.refused.is_empty() && self.outdated.is_empty() {
            return;
        }
        let asked: BTreeSet<Resource> = changes.iter().map(Resource::from).collect();
        self.outdated.retain(|resource| asked.contains(resource));
        self.refused.retain(|resource, _| {
            let stays = asked.contains(resource);
            if !stays {
                output.report(Report::Refused { what: resource.to_string(), problem: None });
            }
            stays
        });
    }
}

/// Reports what is new, in the words that `explain` has for its reason, and what is over, by `name`.
fn report_news<T: Ord>(
    before: &BTreeMap<T, String>,
    now: &BTreeMap<T, String>,
    name: fn(&T) -> String,
    explain: fn(&str) -> String,
    output: &mut Output,
) {
    let news = now.iter().filter(|(what, _)| !before.contains_key(*what));
    let news = news.map(|(what, reason)| (name(what), Some(explain(reason))));
    let over = before.keys().filter(|what| !now.contains_key(*what));
    for (what, problem) in news.chain(over.map(|what| (name(what), None))) {
        output.report(Report::Refused { what, problem });
    }
}

/// Explains that no program runs on an interface.
fn idle(reason: &str) -> String {
    format!("flows are not balanced by it, or not known: {reason}")
}

/// Explains that something cannot be observed.
fn unseen(reason: &str) -> String {
    format!("what others do to the nft table is not seen, and not repaired: {reason}")
}

#[cfg(test)]
mod tests {
    use super::{super::ENODEV, *};
    use crate::engine::{
        command::Command,
        kernel::network::{Route, RouteKind},
    };

    fn route() -> Route {
        Route {
            table: 2601,
            destination: "10.0.0.0/24".parse().expect("a prefix"),
            nexthop: None,
            metric: 0,
            kind: RouteKind::Unicast,
            ifindex: Some(3),
            onlink: false,
            protocol: 201,
            mtu: None,
        }
    }

    fn refused(refusals: &mut RefusalTracker) -> Vec<Command> {
        let mut output = Output::default();
        let refusal = KernelRefusal {
            resource: Resource::Route(route()),
            errno: Some(ENODEV),
            message: "no such device".into(),
        };
        refusals.add(vec![refusal], &mut output);
        std::iter::from_fn(|| output.pop()).collect()
    }

    #[test]
    fn a_route_of_an_interface_that_goes_away_is_no_trouble_unless_it_stays_refused() {
        let mut refusals = RefusalTracker::default();
        assert_eq!(refused(&mut refusals), []);
        assert!(refusals.is_refused(&Resource::Route(route())) && refusals.explained().is_empty());
        let change = Change::ReplaceRoute(route());
        refusals.forget(&[change], &mut Output::default());
        assert_eq!(refused(&mut refusals).len(), 1, "it was asked for again");
        let mut refusals = RefusalTracker::default();
        refused(&mut refusals);
        refusals.forget(&[], &mut Output::default());
        assert_eq!(refused(&mut refusals), [], "it was not asked for in between");
    }

    #[test]
    fn an_interface_without_programs_is_told_once_and_when_it_has_them() {
        let mut refusals = RefusalTracker::default();
        let mut tell = |reasons: &[(&str, &str)]| {
            let mut output = Output::default();
            let reasons = reasons.iter().map(|(name, why)| ((*name).into(), (*why).into()));
            refusals.update_unattached(reasons.collect(), &mut output);
            let told = std::iter::from_fn(|| output.pop()).count();
            (told, refusals.explained())
        };
        let (told, explained) = tell(&[("wan0", "its qdisc ingress is in the place of clsact")]);
        let text = &explained["eBPF program of wan0"];
        assert!(told == 1 && text.contains("not balanced") && text.contains("clsact"), "{text}");
        assert_eq!(tell(&[("wan0", "another reason")]).0, 0);
        assert_eq!(tell(&[]), (1, BTreeMap::new()));
    }

    #[test]
    fn a_flowtable_is_asked_for_once_more_before_its_refusal_is_told() {
        let refusal = KernelRefusal {
            resource: Resource::Flowtable,
            errno: None,
            message: "nft: Could not process rule: No such file or directory".into(),
        };
        let mut refusals = RefusalTracker::default();
        let mut output = Output::default();
        assert!(refusals.add(vec![refusal.clone()], &mut output), "an interface may be gone");
        assert!(output.pop().is_none() && refusals.explained().is_empty());
        assert!(!refusals.add(vec![refusal.clone()], &mut output));
        assert!(!refusals.add(vec![refusal], &mut output));
        let told = std::iter::from_fn(|| output.pop()).count();
        let explained = refusals.explained();
        let text = &explained["nft table inet linkbal_flowtable"];
        assert!(told == 1 && text.contains("CONFIG_NF_FLOW_TABLE"), "{told} {text}");
        refusals.forget(&[], &mut output);
        assert!(refusals.explained().is_empty());
    }
}
