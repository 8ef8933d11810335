//! Marks of iptables: the rules that say the same, the first of which counts.
//!
//! In iptables the last mark that fits counts, so rules are in the opposite order. What ends the way of
//! a packet keeps the mark that it has by then: it goes before all that comes later.

use super::{
    chains::{Effect, Item, Walk},
    conditions::{self, State},
    facts::{Facts, IpRule},
    ip_rule, limit_family,
    uplink::policy_of,
};
use crate::import::{
    model::{Draft, Rule},
    note::Lines,
};

/// A rule with the mark of what fits it.
#[derive(Debug)]
pub(super) struct Marked {
    effect: Effect,
    rule: Rule,
    state: State,
}

/// Returns all marks of a family, that which counts first.
pub(super) fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) -> Vec<Marked> {
    let mut walk = Walk::new(facts, ipv6);
    let way = walk.through(draft, "PREROUTING");
    let later = walk.through(draft, "FORWARD");
    let others = walk.others(draft);
    let mut all = in_order(draft, facts, later, ipv6);
    all.extend(in_order(draft, facts, way, ipv6));
    all.extend(others.iter().filter_map(|item| marked(draft, facts, item, ipv6)));
    // Flows that stay unmarked need no rule if no mark comes behind it.
    let needed = all.iter().rposition(|one| matches!(one.effect, Effect::Mark(1..)));
    for extra in all.split_off(needed.map_or(0, |at| at.saturating_add(1))) {
        draft.unneeded(extra.rule.all_lines(), "no mark follows that it would keep off");
    }
    all
}

/// Returns the rules of a chain in the order in which the first one counts.
fn in_order(draft: &mut Draft, facts: &Facts, items: Vec<Item>, ipv6: bool) -> Vec<Marked> {
    // What is decided, and what later marks still go before.
    let (mut fixed, mut open) = (Vec::new(), Vec::new());
    let mut ended = false;
    for item in items {
        if ended {
            let why = "never reached: a rule before it ends the way of all packets";
            draft.unneeded(item.lines, why);
            continue;
        }
        let Some(one) = marked(draft, facts, &item, ipv6) else { continue };
        match one.effect {
            Effect::Mark(_) if one.state.unmarked => open.push(one),
            Effect::Mark(_) => open.insert(0, one),
            Effect::End => ended = end(draft, one, &mut fixed, &mut open),
        }
    }
    fixed.append(&mut open);
    fixed
}

/// Takes a rule that ends the way of packets; returns whether no packet goes on.
fn end(draft: &mut Draft, one: Marked, fixed: &mut Vec<Marked>, open: &mut Vec<Marked>) -> bool {
    let lines = one.rule.all_lines();
    let all = one.rule.matches.is_empty() && one.rule.broken.is_empty();
    let same = |other: &Marked| {
        let pairs = |rule: &Rule| {
            rule.matches.iter().map(|set| (set.key.clone(), set.value.clone())).collect::<Vec<_>>()
        };
        other.rule.broken.is_empty()
            && other.state == one.state
            && pairs(&other.rule) == pairs(&one.rule)
    };
    let alone = open.is_empty() && !one.state.marked;
    if all && !one.state.unmarked {
        draft.cover(lines);
        fixed.append(open);
        return !one.state.marked;
    }
    if one.rule.broken.is_empty() && !open.is_empty() && same(&open[0]) {
        draft.cover(lines);
        fixed.push(open.remove(0));
    } else if alone || !one.rule.broken.is_empty() {
        fixed.push(one);
    } else {
        let why = "what fits keeps the mark that it has by then, and later marks do not count for it: \
                   look at the order of the rules";
        draft.untranslated(lines, why);
    }
    false
}

/// Returns the rule of a line; `None` if it says nothing about flows of the LAN.
fn marked(draft: &mut Draft, facts: &Facts, item: &Item, ipv6: bool) -> Option<Marked> {
    let own = |draft: &Draft, device: &str| {
        draft.uplinks.iter().any(|uplink| uplink.device.name() == Some(device))
    };
    let words = || item.words.iter().flat_map(|words| devices(words));
    if words().any(|(_, device)| own(draft, device)) {
        let why = "an answer leaves by the uplink that its connection came in by, by itself";
        draft.unneeded(item.lines.clone(), why);
        return None;
    }
    let mut rule = Rule { lines: item.lines.clone(), ..Rule::default() };
    let mut state = State::default();
    for words in &item.words {
        let own = conditions::read(&mut rule, words, &item.lines);
        state.unmarked |= own.unmarked;
        state.marked |= own.marked;
        state.existing |= own.existing;
    }
    if state.existing {
        let why = "a connection that exists keeps its uplink by itself";
        draft.unneeded(item.lines.clone(), why);
        return None;
    }
    let marks = matches!(item.effect, Effect::Mark(_));
    if marks && state.marked {
        rule.broken.push("it depends on the mark of another rule".into());
    }
    rule.broken.extend(item.broken.clone());
    if marks && item.broken.is_none() {
        let inward = words().filter(|(inward, device)| *inward && *device != "lo");
        inward.for_each(|(_, device)| draft.add_lan(device, item.lines.clone()));
    }
    limit_family(&mut rule, facts, ipv6);
    if matches!(item.effect, Effect::End | Effect::Mark(0)) {
        rule.title = "left unmarked: as flows without a rule".into();
    }
    Some(Marked { effect: item.effect, rule, state })
}

/// Returns the devices that packets come in by (`true`) or leave by, without those behind a negation.
fn devices(words: &[String]) -> impl Iterator<Item = (bool, &str)> {
    let before = std::iter::once("").chain(words.iter().map(String::as_str));
    let triples = before.zip(words).zip(words.iter().skip(1));
    triples.filter_map(|((before, key), value)| {
        let inward = match &**key {
            "-i" | "--in-interface" => true,
            "-o" | "--out-interface" => false,
            _ => return None,
        };
        (before != "!" && !value.starts_with('!')).then_some((inward, &**value))
    })
}

/// Writes the rules of marks, each with the uplinks of its ip rule.
pub(super) fn write(draft: &mut Draft, facts: &Facts, ordered: &[&IpRule], marked: Vec<Marked>) {
    let numbers: Vec<u32> = marked
        .iter()
        .filter_map(|one| match one.effect {
            Effect::Mark(number) => Some(number),
            Effect::End => None,
        })
        .collect();
    for ip in ordered {
        if ip.fwmark.is_some_and(|number| !numbers.contains(&number)) {
            draft.untranslated(ip.lines.clone(), "no mark of this number is set in the script");
        }
    }
    for one in marked {
        match one.effect {
            Effect::Mark(number @ 1..) => of_number(draft, facts, ordered, number, &one.rule),
            Effect::Mark(0) | Effect::End => draft.rules.push(one.rule),
        }
    }
}

/// Writes the rules of a mark, one for each ip rule.
fn of_number(draft: &mut Draft, facts: &Facts, ordered: &[&IpRule], number: u32, rule: &Rule) {
    let mut leading = ordered.iter().filter(|ip| ip.fwmark == Some(number)).peekable();
    if leading.peek().is_none() {
        let why = format!("no ip rule of its family leads the mark {number} to a table");
        draft.untranslated(rule.lines.clone(), why);
    }
    for ip in leading {
        match policy_of(facts, ip) {
            Ok(policy) => {
                let mut rule = rule.clone();
                ip_rule::conditions(&mut rule, ip);
                if policy.is_none() {
                    rule.title = "main table: as flows without a rule".into();
                    rule.lines = rule.lines.and(&ip.lines);
                }
                draft.rules.push(Rule { policy, ..rule });
            }
            Err(why) => {
                let lines: Lines = rule.lines.clone().and(&ip.lines);
                draft.untranslated(lines, why);
            }
        }
    }
}
