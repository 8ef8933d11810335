//! The order of rules: that of the priorities of ip rules, with all marks where the first one for a
//! mark stands.

use super::{
    facts::{DefaultRoute, Facts, IpRule},
    host, ip_rule, marks,
    routes::id_of,
};
use crate::import::{
    model::{Draft, Member, Policy},
    note::Lines,
};

/// Makes rules: of routes to single destinations, of ip rules, and of marks.
pub(super) fn rules(draft: &mut Draft, facts: &Facts) {
    for route in &facts.hosts {
        host::rule(draft, facts, route);
    }
    for ipv6 in [false, true] {
        of_family(draft, facts, ipv6);
    }
}

fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) {
    let mut ordered: Vec<&IpRule> = facts.rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
    ordered.sort_by_key(|rule| rule.priority);
    let marked = marks::of_family(draft, facts, ipv6);
    let mut marked = Some(marked);
    for (at, rule) in ordered.iter().enumerate() {
        if rule.fwmark.is_some() {
            if let Some(marked) = marked.take() {
                marks::write(draft, facts, &ordered, marked);
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
        marks::write(draft, facts, &ordered, marked);
    }
}

/// Returns the uplinks of the default route that an ip rule leads to; `None` for that of the main
/// table.
///
/// # Errors
/// The reason why there are none.
pub(super) fn policy_of(facts: &Facts, rule: &IpRule) -> Result<Option<Policy>, String> {
    if rule.table.is_empty() {
        return Ok(None);
    }
    let same = |route: &&DefaultRoute| route.table == rule.table && route.ipv6 == rule.ipv6;
    let member = |route: &DefaultRoute| {
        Some(Member {
            uplink: id_of(facts, route.gateway, route.device.as_deref())?,
            tier: 1,
            weight: route.weight.unwrap_or(1),
            lines: route.lines.clone(),
        })
    };
    let members: Vec<Member> = facts.defaults.iter().filter(same).filter_map(member).collect();
    if members.is_empty() {
        let family = if rule.ipv6 { " of IPv6" } else { "" };
        let table = &rule.table;
        return Err(format!("the script makes no default route{family} in the table `{table}`"));
    }
    let lines: Lines = rule.lines.clone();
    Ok(Some(Policy { members, lines, ..Policy::default() }))
}
