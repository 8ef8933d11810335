//! From policies to tiers and weights of uplinks, and to `use` of rules.
//!
//! The first rule that takes all flows says the shares of all uplinks, and disappears into their
//! `tier` and `weight`. A rule with the same shares needs no `use`; others get a name, an ordered list
//! or weights.

mod reach;

use std::collections::BTreeSet;

use linkbal_common::{bucket::MAX_GROUPS, rule::MAX_RULES};

use self::reach::is_catch_all;
use super::{
    model::{Draft, LastResort, Policy, Rule, Setting, Settled},
    note::Lines,
    values::{self, quote},
};

/// Highest tier.
const MAX_TIER: u32 = 16;

/// Highest weight.
const MAX_WEIGHT: u32 = 10_000;

/// Members without the unknown ones, each once: name, rank of the tier from 1 on, weight.
type Shares = Vec<(String, u32, u32)>;

/// Sets weights and tiers of the uplinks, and settles what rules use.
pub(super) fn settle(draft: &mut Draft) {
    let mut rules = std::mem::take(&mut draft.rules);
    reach::drop_unreachable(draft, &mut rules);
    let policies = rules.iter().filter_map(|rule| rule.policy.as_ref());
    let policies: Vec<Policy> = policies.chain(&draft.default).cloned().collect();
    policies.iter().for_each(|policy| tell_weights(draft, policy));
    let at = rules.iter().position(|rule| is_catch_all(rule) && rule.policy.is_some());
    let of_rule = at.and_then(|at| rules[at].policy.clone());
    let default = of_rule.or(draft.default.take());
    let shares = default.as_ref().map(|policy| shares(draft, policy)).unwrap_or_default();
    if let Some(policy) = &default {
        let lines = at.map_or(Lines::default(), |at| rules[at].lines.clone());
        set_weights(draft, policy, &shares, &lines);
    }
    let left_out =
        draft.uplinks.iter().any(|uplink| !shares.iter().any(|(id, ..)| *id == uplink.id));
    let stops = reach::stops(&rules);
    for ((number, rule), stop) in rules.into_iter().enumerate().zip(stops) {
        if !stop && is_catch_all(&rule) && is_told(&rule, left_out, &shares, draft) {
            if Some(number) != at {
                draft.unneeded(rule.own_lines(), "the shares are those of all flows already");
                draft.cover(rule.all_lines());
            } else {
                draft.cover(rule.lines);
            }
            continue;
        }
        let settled = settle_rule(draft, rule, &shares);
        draft.settled.extend(settled);
    }
    limit_groups(draft);
    while draft.settled.len() > MAX_RULES {
        if let Some(extra) = draft.settled.pop() {
            draft.untranslated(
                extra.rule.all_lines(),
                format!("linkbal has at most {MAX_RULES} rules"),
            );
        }
    }
}

/// Returns whether the weights of uplinks say all that a rule which takes all flows does.
fn is_told(rule: &Rule, left_out: bool, default: &Shares, draft: &mut Draft) -> bool {
    let Some(policy) = &rule.policy else { return rule.sticky.is_none() };
    let same = *default == shares(draft, policy);
    let strict = match &policy.last_resort {
        LastResort::Balance => false,
        LastResort::Said(..) => true,
        LastResort::Implied(_) => left_out,
    };
    same && !strict && rule.sticky.is_none()
}

/// Returns the members that are uplinks, with ranks for tiers and possible weights.
fn shares(draft: &Draft, policy: &Policy) -> Shares {
    let known = policy.members.iter().filter(|member| draft.uplink(&member.uplink).is_some());
    let tiers: BTreeSet<u32> = known.clone().map(|member| member.tier).collect();
    let rank =
        |tier| (1..).zip(&tiers).find(|(_, known)| **known == tier).map_or(1, |(rank, _)| rank);
    let mut shares: Shares = Vec::new();
    for member in known {
        if !shares.iter().any(|(id, ..)| *id == member.uplink) {
            let weight = member.weight.clamp(1, MAX_WEIGHT);
            shares.push((member.uplink.clone(), rank(member.tier).min(MAX_TIER), weight));
        }
    }
    shares.sort();
    shares
}

/// Sets weights and tiers of all uplinks by the shares of flows without a rule.
fn set_weights(draft: &mut Draft, policy: &Policy, shares: &Shares, rule: &Lines) {
    let last = shares.iter().map(|(_, tier, _)| *tier).max().unwrap_or(1);
    let spare = last.saturating_add(1).min(MAX_TIER);
    let tiers: BTreeSet<u32> = shares.iter().map(|(_, tier, _)| *tier).collect();
    let mut missing = Vec::new();
    for uplink in &mut draft.uplinks {
        let share = shares.iter().find(|(id, ..)| *id == uplink.id);
        let own = policy.members.iter().filter(|member| member.uplink == uplink.id);
        let own = own.fold(Lines::default(), |lines, member| lines.and(&member.lines));
        let lines = own.and(&policy.lines).and(rule);
        let Some((_, tier, weight)) = share else {
            if !shares.is_empty() {
                let remark = "not among the uplinks of all flows";
                uplink.settings.push(Setting::new("tier", spare.to_string(), lines).remark(remark));
                missing.push(uplink.name.clone());
            }
            continue;
        };
        if tiers.len() > 1 {
            uplink.settings.push(Setting::new("tier", tier.to_string(), lines.clone()));
        }
        uplink.settings.push(Setting::new("weight", weight.to_string(), lines));
    }
    if !missing.is_empty() {
        let why = format!(
            "flows without a rule do not use {}: in linkbal every uplink has a share, so it is in the \
             last tier, {spare}",
            missing.join(", ")
        );
        draft.changed(policy.lines.clone().and(rule), why);
    }
}

/// Tells of weights that linkbal does not have.
fn tell_weights(draft: &mut Draft, policy: &Policy) {
    for member in &policy.members {
        if member.weight == 0 {
            let why = "a weight of 0: the least one here is 1; take the uplink out of `use`, or give it \
                       a higher tier, if it is to have no share";
            draft.changed(member.lines.clone(), why);
        } else if member.weight > MAX_WEIGHT {
            draft.changed(member.lines.clone(), format!("weights end at {MAX_WEIGHT}"));
        }
    }
}

/// Returns a rule with what it uses; `None` if it cannot be one.
fn settle_rule(draft: &mut Draft, rule: Rule, default: &Shares) -> Option<Settled> {
    let Some(policy) = rule.policy.clone() else {
        return Some(Settled { rule, settings: Vec::new() });
    };
    let shares = shares(draft, &policy);
    if shares.is_empty() {
        let why = "none of the uplinks that it uses is left: linkbal has no rule that only refuses, a \
                   firewall does";
        draft.untranslated(rule.all_lines(), why);
        return None;
    }
    let member_lines = policy.members.iter().map(|member| &member.lines);
    let lines = member_lines.fold(policy.lines.clone(), Lines::and);
    let mut settings = Vec::new();
    let mut otherwise = match &policy.last_resort {
        LastResort::Balance => None,
        LastResort::Said(word, said) => Some(Setting::new("otherwise", quote(word), said.clone())),
        // Without other uplinks, nobody would carry them anyway.
        LastResort::Implied(_) if shares.len() == draft.uplinks.len() => None,
        LastResort::Implied(word) => Some(
            Setting::new("otherwise", quote(word), policy.lines.clone())
                .remark("the tool's default; \"balance\" lets others carry it"),
        ),
    };
    // Without `use`, spare uplinks are the last resort.
    let left_out = shares.len() < draft.uplinks.len();
    let (value, mixed) = form(draft, &shares);
    if shares == *default && (mixed || !left_out || otherwise.is_none()) {
        if let Some(dropped) = otherwise.take_if(|_| left_out) {
            let why = "weights and tiers are those of all flows, so uplinks that the policy does not \
                       have carry them while all of its own are down";
            draft.changed(dropped.lines, why);
        }
        draft.cover(lines);
    } else {
        if mixed {
            let why = "linkbal's rules have tiers or weights, not both: the first tier's weights are \
                       kept, and while all of these are down the other uplinks carry the flows";
            draft.changed(lines.clone(), why);
            if let Some(dropped) = otherwise.take() {
                draft.cover(dropped.lines);
            }
        }
        settings.push(Setting::new("use", value, lines));
    }
    settings.extend(otherwise);
    Some(Settled { rule, settings })
}

/// Returns the value of `use`, and whether tiers behind the first are left out.
fn form(draft: &Draft, shares: &Shares) -> (String, bool) {
    let name = |id: &str| draft.uplink(id).map_or(id.to_owned(), |uplink| uplink.name.clone());
    let tiers: BTreeSet<u32> = shares.iter().map(|(_, tier, _)| *tier).collect();
    if tiers.len() == shares.len() {
        let mut ordered = shares.clone();
        ordered.sort_by_key(|(_, tier, _)| *tier);
        let names: Vec<String> = ordered.iter().map(|(id, ..)| quote(&name(id))).collect();
        return (values::one_or_list(&names), false);
    }
    let first = shares.iter().filter(|(_, tier, _)| *tier == 1);
    let weights: Vec<(String, u32)> = first.map(|(id, _, weight)| (name(id), *weight)).collect();
    (weighted(&weights), tiers.len() > 1)
}

fn weighted(weights: &[(String, u32)]) -> String {
    match weights {
        [(name, _)] => quote(name),
        _ => {
            let entries: Vec<String> =
                weights.iter().map(|(name, weight)| format!("{name} = {weight}")).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// Leaves the weights of no more groups than linkbal has; the others keep the order of their weights.
fn limit_groups(draft: &mut Draft) {
    let mut groups: BTreeSet<String> = BTreeSet::new();
    let mut changed = Vec::new();
    for settled in &mut draft.settled {
        for setting in settled.settings.iter_mut().filter(|setting| setting.value.starts_with('{'))
        {
            if !groups.contains(&setting.value)
                && groups.len().saturating_add(1) >= MAX_GROUPS as usize
            {
                let inner = setting.value.trim_matches(['{', '}', ' ']);
                let mut entries: Vec<(u32, String)> = inner
                    .split(", ")
                    .filter_map(|entry| entry.split_once(" = "))
                    .map(|(name, weight)| (weight.parse().unwrap_or(1), quote(name)))
                    .collect();
                entries.sort_by_key(|(weight, _)| u32::MAX.saturating_sub(*weight));
                let names: Vec<String> = entries.into_iter().map(|(_, name)| name).collect();
                setting.value = values::list(&names);
                changed.push(setting.lines.clone());
                continue;
            }
            groups.insert(setting.value.clone());
        }
    }
    for lines in changed {
        let why = format!(
            "at most {} different groups of shares are possible: this one is an ordered list",
            MAX_GROUPS.saturating_sub(1)
        );
        draft.changed(lines, why);
    }
}
