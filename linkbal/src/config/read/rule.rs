//! `[[rule]]`: the choice of uplinks for flows.

use std::{collections::BTreeSet, time::Duration};

use linkbal_common::{
    bucket::MAX_GROUPS,
    maps::{self, Map as _},
};
use toml::{Spanned, de::DeValue};

use super::{read_uplink::ReadUplink, sticky};
use crate::config::{
    Files, MAX_RULES, Match, Member, Otherwise, Rule, RuleSticky, StickyBy,
    diagnostics::problem::Fault,
    keys,
    parse::{
        reader::{List, Section},
        value,
    },
};

mod domain;
pub(in crate::config) mod field;
mod matches;
mod members;
pub(in crate::config) mod prefix;
mod shadow;

pub(in crate::config) use domain::malformed;
pub use domain::with_parents;

/// Most different MAC addresses and interfaces in all rules together: an entry of each table stands for all
/// others.
const MAX_MACS: usize = maps::RULES_MAC::ENTRIES - 1;
const MAX_INTERFACES: usize = maps::RULES_INTERFACE::ENTRIES - 1;

const HELP: &str = "write each rule as [[rule]], with two brackets on each side";

/// Names that rules can refer to.
struct RuleScope<'a> {
    /// Interfaces of the LAN; empty if they are refused.
    lan: Vec<&'a str>,
    /// The uplinks; empty if they are refused.
    uplinks: Vec<&'a str>,
}

/// Reads the rules, in the order of the file.
pub(in crate::config) fn read(
    root: &Section,
    lan: &[Spanned<String>],
    uplinks: &[ReadUplink],
    files: &Files,
) -> Vec<Rule> {
    let Some(list) = root.list(&keys::root::RULE, HELP, value::table(HELP)) else {
        return Vec::new();
    };
    if let Some(extra) = list.items.get(MAX_RULES) {
        let message = format!("{} rules, at most {MAX_RULES} are possible", list.items.len());
        let help = "join rules with the same `use`: every key of `match` can be a list";
        root.report(&keys::root::RULE, extra.span(), Fault::new(message, help));
    }
    let names = RuleScope {
        lan: lan.iter().map(|name| name.get_ref().as_str()).collect(),
        uplinks: uplinks.iter().map(|read| read.uplink.name.as_str()).collect(),
    };
    let read_one =
        |table| read_rule(&root.child("rule", table).knowing(&keys::rule::KEYS), &names, files);
    let rules: Vec<Rule> = list.items.iter().map(read_one).collect();
    domain::check_number(root, &list, &rules);
    let help = "name the VLANs or the source prefixes of hosts that have a rule in common";
    check_number(root, &list, &rules, |matches| &matches.mac, (MAX_MACS, "MAC addresses"), help);
    let help = "leave `interface` out of rules for most of them, or name source prefixes";
    let most = (MAX_INTERFACES, "interfaces");
    check_number(root, &list, &rules, |matches| &matches.interface, most, help);
    if weighted_groups(&rules) >= MAX_GROUPS as usize {
        let message = format!("more than {} different weighted groups", MAX_GROUPS - 1);
        let help = "give several rules the same weights, or an ordered list like [\"a\", \"b\"]";
        root.report(&keys::root::RULE, list.items[0].span(), Fault::new(message, help));
    }
    if root.problems().is_empty() {
        warn_of_shadowed(root, &list, &rules, &names);
    }
    rules
}

/// Reports the rule with which the different items of all rules become more than `most`, which has their name.
fn check_number<T, I: Ord>(
    root: &Section,
    list: &List<T>,
    rules: &[Rule],
    items: impl Fn(&Match) -> &[I],
    (most, name): (usize, &str),
    help: &'static str,
) {
    let mut all = BTreeSet::new();
    for (rule, item) in rules.iter().zip(&list.items) {
        all.extend(items(&rule.matches));
        if all.len() > most {
            let message = format!("more than {most} different {name} in all rules together");
            root.report(&keys::root::RULE, item.span(), Fault::new(message, help));
            return;
        }
    }
}

/// Returns the number of different groups whose members share a tier, and so need buckets of their
/// own.
fn weighted_groups(rules: &[Rule]) -> usize {
    let shares_tier = |members: &[Member]| {
        let tiers: BTreeSet<u32> = members.iter().map(|member| member.tier).collect();
        tiers.len() < members.len()
    };
    let groups = rules.iter().map(|rule| &rule.members).filter(|members| shares_tier(members));
    groups
        .fold(Vec::new(), |mut known, group| {
            if !known.contains(&group) {
                known.push(group);
            }
            known
        })
        .len()
}

fn read_rule(section: &Section, names: &RuleScope, files: &Files) -> Rule {
    Rule {
        matches: matches::read(section, names, files),
        members: members::read(section, names),
        otherwise: section
            .get(&keys::rule::OTHERWISE, otherwise)
            .map(Spanned::into_inner)
            .unwrap_or_default(),
        sticky: read_sticky(section),
    }
}

fn otherwise(value: &DeValue<'_>) -> Result<Otherwise, Fault> {
    const HELP: &str =
        "write \"balance\" (use the other uplinks), \"drop\" or \"reject\" (say so to the sender)";
    match value::word(value, HELP)? {
        "balance" => Ok(Otherwise::Balance),
        "drop" => Ok(Otherwise::Drop),
        "reject" => Ok(Otherwise::Reject),
        other => Err(Fault::new(format!("{other:?} is unknown"), HELP)),
    }
}

fn read_sticky(rule: &Section) -> Option<RuleSticky> {
    let help = "write it in braces, like sticky = { by = \"src\", idle = \"1h\" }";
    let section = rule.section(&keys::rule::STICKY, help)?.knowing(&keys::rule_sticky::KEYS);
    let grouped = section.value(&keys::rule_sticky::GROUP).is_some_and(Spanned::into_inner);
    Some(RuleSticky {
        by: section
            .get(&keys::rule_sticky::BY, sticky::by)
            .map_or(StickyBy::Source, Spanned::into_inner),
        idle: section
            .get(&keys::rule_sticky::IDLE, sticky::idle)
            .map_or(Duration::from_secs(600), Spanned::into_inner),
        source_bits: if grouped { (24, 56) } else { (32, 128) },
    })
}

/// Warns of rules that never decide, since an earlier one always does.
fn warn_of_shadowed<T>(root: &Section, list: &List<T>, rules: &[Rule], names: &RuleScope) {
    let matches: Vec<_> = rules.iter().map(|rule| &rule.matches).collect();
    for (later, earlier) in shadow::find(&matches, &names.lan) {
        let (later_number, earlier_number) = (later.saturating_add(1), earlier.saturating_add(1));
        let message = format!(
            "rule {later_number} is never reached: rule {earlier_number} matches everything that \
             it matches"
        );
        let help =
            "move it before the other one, or remove it: the first rule that matches decides";
        let [at, related] = [later, earlier].map(|index| list.items[index].span());
        root.problems().warn_related(at, Fault::new(message, help), related, "this one decides");
    }
}
