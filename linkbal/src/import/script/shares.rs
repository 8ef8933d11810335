//! Shares of the uplinks, by the default routes of the main table.

use std::collections::BTreeSet;

use super::{
    facts::{DefaultRoute, Facts, IpRule},
    uplink::id_of,
};
use crate::import::{
    model::{Draft, LastResort, Member, Policy, Rule},
    note::{Lines, NoteKind},
};

/// Sets the shares of flows without a rule. Those of IPv4 go before those of IPv6, since an uplink has
/// one weight and one tier.
pub(super) fn set(draft: &mut Draft, facts: &Facts) {
    let mut members = of_family(draft, facts, false);
    let ipv6 = of_family(draft, facts, true);
    of_conditions(draft, facts);
    if members.is_empty() && ipv6.is_empty() {
        let all = |rule: &Rule| {
            rule.policy.is_some() && rule.broken.is_empty() && rule.matches.is_empty()
        };
        if draft.rules.iter().any(all) {
            return;
        }
        let why = "no default route of the main table is made: all uplinks share the flows without a \
                   rule; a last [[rule]] with `use` says otherwise";
        return draft.note(NoteKind::Changed, Lines::default(), why);
    }
    let known = |one: &Member, all: &[Member]| all.iter().any(|other| other.uplink == one.uplink);
    let (both, only): (Vec<Member>, Vec<Member>) =
        ipv6.into_iter().partition(|one| known(one, &members));
    let same: Vec<Member> = members.iter().filter(|one| known(one, &both)).cloned().collect();
    if ranked(&both) != ranked(&same) {
        let lines = both.iter().fold(Lines::default(), |lines, one| lines.and(&one.lines));
        let why = "an uplink has one weight and one tier for both families: those of IPv4 count";
        draft.changed(lines, why);
    }
    members.extend(only);
    draft.default = Some(Policy { members, ..Policy::default() });
}

/// Tells of tables whose default route is another one under a condition.
fn of_conditions(draft: &mut Draft, facts: &Facts) {
    let named = |route: &&DefaultRoute| !route.table.is_empty() && route.weight.is_none();
    let single: Vec<&DefaultRoute> = facts.defaults.iter().filter(named).collect();
    for route in single.iter().filter(|route| route.conditional) {
        let other = |one: &&&DefaultRoute| {
            one.table == route.table && one.ipv6 == route.ipv6 && !one.conditional
        };
        if single.iter().any(|one| other(&one)) {
            let why = "the script puts it in the place of the table's other default route: here it \
                       stands by, and is used while that is down";
            draft.changed(route.lines.clone(), why);
        }
    }
}

/// Returns uplinks with their weights and the ranks of their tiers.
fn ranked(members: &[Member]) -> Vec<(&str, usize, u32)> {
    let tiers: BTreeSet<u32> = members.iter().map(|member| member.tier).collect();
    let rank = |member: &Member| tiers.iter().position(|tier| *tier == member.tier);
    let mut all: Vec<(&str, usize, u32)> = members
        .iter()
        .map(|member| (&*member.uplink, rank(member).unwrap_or_default(), member.weight))
        .collect();
    all.sort_unstable();
    all
}

/// Returns the shares of a family.
fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) -> Vec<Member> {
    let members = of_table(facts, "", ipv6);
    let main = facts.defaults.iter().filter(|route| route.table.is_empty() && route.ipv6 == ipv6);
    let (several, single): (Vec<&DefaultRoute>, Vec<_>) =
        main.partition(|route| route.weight.is_some());
    if several.is_empty() && members.len() > 1 {
        let lines = single.iter().fold(Lines::default(), |lines, route| lines.and(&route.lines));
        let why = if are_equal(facts, &single) {
            "the script replaces the default route of another script, which has the shares: here they \
             are equal"
        } else {
            "the script replaces one default route by another: the first one is tier 1, the others \
             stand by"
        };
        draft.changed(lines, why);
    }
    members
}

/// Returns whether the routes of the main table only take the place of another script's.
fn are_equal(facts: &Facts, single: &[&DefaultRoute]) -> bool {
    facts.runs_others && single.iter().all(|route| route.table.is_empty() && route.conditional)
}

/// Returns the uplinks of a table: those of a route with several hops, and then those of single routes,
/// one after the other by their metrics, and those under a condition behind the others.
pub(super) fn of_table(facts: &Facts, table: &str, ipv6: bool) -> Vec<Member> {
    let of = facts.defaults.iter().filter(|route| route.table == table && route.ipv6 == ipv6);
    let (several, mut single): (Vec<&DefaultRoute>, Vec<_>) =
        of.partition(|route| route.weight.is_some());
    let mut members: Vec<Member> = Vec::new();
    let mut add = |route: &DefaultRoute, tier: u32| {
        let uplink = id_of(facts, route.gateway, route.device.as_deref());
        let Some(uplink) = uplink else { return };
        if !members.iter().any(|one| one.uplink == uplink) {
            let (weight, lines) = (route.weight.unwrap_or(1), route.lines.clone());
            members.push(Member { uplink, tier, weight, lines });
        }
    };
    single.sort_by_key(|route| {
        (route.metric.unwrap_or(0), route.conditional, facts.order(route.gateway))
    });
    let balanced = !several.is_empty();
    let equal = !balanced && are_equal(facts, &single);
    several.into_iter().for_each(|route| add(route, 1));
    let first = if balanced { 2 } else { 1 };
    for (tier, route) in (first..).zip(&single) {
        add(route, if equal { 1 } else { tier });
    }
    members
}

/// Returns what becomes of flows while none of a table's uplinks is usable: what its last route says.
pub(super) fn last_resort(facts: &Facts, table: &str, ipv6: bool) -> LastResort {
    let mut refusals = facts.refusals.iter();
    let refusal = refusals.find(|route| route.table == table && route.ipv6 == ipv6);
    refusal.map_or(LastResort::Balance, |route| LastResort::Said(route.word, route.lines.clone()))
}

/// Returns the uplinks of the main table for an ip rule that leads there; `None` if flows without a rule
/// use them, too.
fn of_main(facts: &Facts, rule: &IpRule) -> Option<Policy> {
    let takes_all = |one: &&IpRule| {
        let plain = one.words.is_empty() && one.broken.is_empty() && one.fwmark.is_none();
        plain && one.ipv6 == rule.ipv6 && !one.table.is_empty()
    };
    let last = facts.rules.iter().find(takes_all)?;
    let members = of_table(facts, "", rule.ipv6);
    let others = of_table(facts, &last.table, rule.ipv6);
    let same = ranked(&members) == ranked(&others);
    let policy = Policy { members, lines: rule.lines.clone(), ..Policy::default() };
    (!same && !policy.members.is_empty()).then_some(policy)
}

/// Returns the uplinks of the default route that an ip rule leads to; `None` for that of the main
/// table, if flows without a rule use it.
///
/// # Errors
/// The reason why there are none.
pub(super) fn policy_of(facts: &Facts, rule: &IpRule) -> Result<Option<Policy>, String> {
    if rule.table.is_empty() {
        return Ok(of_main(facts, rule));
    }
    let members = of_table(facts, &rule.table, rule.ipv6);
    if members.is_empty() {
        let family = if rule.ipv6 { " of IPv6" } else { "" };
        let table = &rule.table;
        return Err(format!("the script makes no default route{family} in the table `{table}`"));
    }
    let lines: Lines = rule.lines.clone();
    let last_resort = last_resort(facts, &rule.table, rule.ipv6);
    Ok(Some(Policy { members, last_resort, lines }))
}
