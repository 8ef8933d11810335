//! One dimension of the rules as a table of rule sets.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linkbal_common::rule::RuleSet;

use crate::config::{Rule, with_parents};

/// Returns the rules that ask nothing in a dimension.
fn indifferent(rules: &[Rule], asks: impl Fn(&Rule) -> bool) -> RuleSet {
    let numbered = rules.iter().enumerate();
    numbered
        .filter(|(_, rule)| !asks(rule))
        .fold(RuleSet::NONE, |set, (number, _)| set.with(number))
}

/// Converts single numbers to ranges.
pub(super) fn each(numbers: &[u8]) -> Vec<(u16, u16)> {
    numbers.iter().map(|number| (u16::from(*number), u16::from(*number))).collect()
}

/// Returns a table of the numbers below `size`; `ranges` returns those that a rule asks for, first
/// and last.
pub(super) fn of_numbers(
    rules: &[Rule],
    size: usize,
    ranges: impl Fn(&Rule) -> Vec<(u16, u16)>,
) -> Vec<RuleSet> {
    let mut table = vec![indifferent(rules, |rule| !ranges(rule).is_empty()); size];
    for (number, rule) in rules.iter().enumerate() {
        for (first, last) in ranges(rule) {
            let entries = table.iter_mut().take(usize::from(last) + 1).skip(first.into());
            entries.for_each(|set| *set = set.with(number));
        }
    }
    table
}

/// Returns a table of names; `default` stands for every name that no rule asks for.
pub(super) fn of_names<K: Ord + Clone>(
    rules: &[Rule],
    default: K,
    names: impl Fn(&Rule) -> Vec<K>,
) -> BTreeMap<K, RuleSet> {
    let indifferent = indifferent(rules, |rule| !names(rule).is_empty());
    let mut table = BTreeMap::from([(default, indifferent)]);
    for (number, rule) in rules.iter().enumerate() {
        for name in names(rule) {
            let set = table.entry(name).or_insert(indifferent);
            *set = set.with(number);
        }
    }
    table
}

/// Returns a table of domains, of which the closest that a name is in counts: each therefore holds
/// the rules of its parents, too. Empty if no rule asks for a domain.
pub(super) fn of_domains(rules: &[Rule]) -> BTreeMap<String, RuleSet> {
    let asked = of_names(rules, String::new(), |rule| rule.matches.domain.clone());
    if asked.len() == 1 {
        return BTreeMap::new();
    }
    let inherited = |name: &str| {
        let known = with_parents(name).filter_map(|parent| asked.get(parent));
        known.fold(RuleSet::NONE, |all, set| all.or(*set))
    };
    asked.keys().map(|name| (name.clone(), inherited(name))).collect()
}

/// Returns a table of prefixes, of which the longest that matches counts: each therefore holds the
/// rules of all that contain it, too.
pub(super) fn of_prefixes(
    rules: &[Rule],
    prefixes: impl Fn(&Rule) -> &Vec<IpNet>,
) -> BTreeMap<IpNet, RuleSet> {
    let indifferent = indifferent(rules, |rule| !prefixes(rule).is_empty());
    let everything = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
    let mut table: BTreeMap<IpNet, RuleSet> = everything.map(|all| (all, indifferent)).into();
    for (number, rule) in rules.iter().enumerate() {
        for prefix in prefixes(rule).iter().collect::<BTreeSet<_>>() {
            let set = table.entry(prefix.trunc()).or_default();
            *set = set.with(number);
        }
    }
    // In this order a prefix follows all that contain it, and these are a stack.
    let mut order: Vec<IpNet> = table.keys().copied().collect();
    order.sort_by_key(|prefix| (prefix.addr().is_ipv6(), prefix.addr(), prefix.prefix_len()));
    let mut around: Vec<(IpNet, RuleSet)> = Vec::new();
    for prefix in order {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&prefix)) {
            around.pop();
        }
        let inherited = around.last().map_or(RuleSet::NONE, |(_, set)| *set);
        let set = table.entry(prefix).or_default();
        *set = set.or(inherited);
        around.push((prefix, *set));
    }
    table
}
