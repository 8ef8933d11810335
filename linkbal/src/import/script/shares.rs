//! Shares of the uplinks, by the default routes of the main table.

use std::collections::BTreeSet;

use super::{
    facts::{DefaultRoute, Facts},
    uplink::id_of,
};
use crate::import::{
    model::{Draft, Member, Policy},
    note::{Lines, NoteKind},
};

/// Sets the shares of flows without a rule. Those of IPv4 go before those of IPv6, since an uplink has
/// one weight and one tier.
pub(super) fn set(draft: &mut Draft, facts: &Facts) {
    let mut members = of_family(draft, facts, false);
    let ipv6 = of_family(draft, facts, true);
    if members.is_empty() && ipv6.is_empty() {
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

/// Returns the shares of a family: those of a route with several hops, and then single routes, one
/// after the other.
fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) -> Vec<Member> {
    let main = facts.defaults.iter().filter(|route| route.table.is_empty() && route.ipv6 == ipv6);
    let (several, mut single): (Vec<&DefaultRoute>, Vec<_>) =
        main.partition(|route| route.weight.is_some());
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
    let equal = !balanced && single.iter().all(|route| route.conditional) && facts.runs_others;
    several.into_iter().for_each(|route| add(route, 1));
    let first = if balanced { 2 } else { 1 };
    for (tier, route) in (first..).zip(&single) {
        add(route, if equal { 1 } else { tier });
    }
    if !balanced && members.len() > 1 {
        let lines = single.iter().fold(Lines::default(), |lines, route| lines.and(&route.lines));
        let why = if equal {
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
