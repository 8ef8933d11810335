//! The order of rules: that of the priorities of ip rules, with all marks where the first one for a
//! mark stands.

use super::{
    facts::{Facts, IpRule},
    host, ip_rule, marks,
    shares::policy_of,
};
use crate::import::model::{Draft, Rule};

/// Makes rules: of routes to single destinations, of ip rules, and of marks.
pub(super) fn rules(draft: &mut Draft, facts: &Facts) {
    host::tell(draft, facts);
    if !facts.has_ipv6() {
        // Rules of IPv4 are for all flows then.
        host::rules(draft, facts, &Rule::default(), "", true);
    }
    for ipv6 in [false, true] {
        of_family(draft, facts, ipv6);
    }
    host::tell_unused(draft, facts);
    for route in &facts.refusals {
        draft.cover(route.lines.clone());
        if !facts.rules.iter().any(|rule| rule.table == route.table && rule.ipv6 == route.ipv6) {
            draft.untranslated(route.lines.clone(), "no ip rule of its family leads to its table");
        }
    }
}

fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) {
    let mut ordered: Vec<&IpRule> = facts.rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
    ordered.sort_by_key(|rule| rule.priority);
    let marked = marks::of_family(draft, facts, ipv6);
    let mut marked = Some(marked);
    // Routes to single destinations are those of the main table.
    let main = facts.main_priority(ipv6);
    let before_main = ordered.iter().filter(|rule| rule.priority < main).count();
    for (at, rule) in ordered.iter().enumerate() {
        if at == before_main {
            host::rules(draft, facts, &Rule::default(), "", ipv6);
        }
        if rule.fwmark.is_some() {
            if let Some(marked) = marked.take() {
                marks::write(draft, facts, &ordered, marked, ipv6);
            }
            continue;
        }
        let behind = ordered.get(at.saturating_add(1)..).unwrap_or_default();
        if marked.is_none() && behind.iter().any(|rule| rule.fwmark.is_some()) {
            let why =
                "it stands between ip rules for marks: here those of all marks come before it";
            draft.changed(rule.lines.clone(), why);
        }
        let last = behind.iter().all(|rule| rule.table.is_empty());
        match policy_of(facts, rule) {
            Ok(policy) => ip_rule::rule(draft, facts, rule, policy, last),
            Err(why) => draft.untranslated(rule.lines.clone(), why),
        }
    }
    if let Some(marked) = marked {
        marks::write(draft, facts, &ordered, marked, ipv6);
    }
    if facts.has_ipv6() || !ipv6 {
        host::rules(draft, facts, &Rule::default(), "", ipv6);
    }
}
