//! Marks of iptables: the rules that say the same, the first of which counts.
//!
//! In iptables the last mark that fits counts, so rules are in the opposite order. What ends the way of
//! a packet keeps the mark that it has by then: it goes before all that comes later.

mod entry;
pub(super) mod statistic;

use std::collections::VecDeque;

use self::{
    entry::{Entry, is_mark},
    statistic::Shares,
};
use super::{
    chains::{Effect, Item, Walk},
    conditions::{self, MarkState},
    facts::{Facts, IpRule},
    host, ip_rule, limit_family,
    shares::policy_of,
};
use crate::import::{
    model::{Draft, Rule, Setting},
    note::Lines,
    values,
};

/// A rule with the mark of what fits it.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) effect: Effect,
    pub(super) rule: Rule,
    pub(super) state: MarkState,
    /// The words of the rule by whose chance it is reached.
    pub(super) draw: Option<*const String>,
    /// The shares of several marks, of which `effect` is one.
    shares: Option<Shares>,
}

impl Marked {
    /// Returns whether both have the same conditions, but those by chance and on marks.
    pub(super) fn has_conditions_of(&self, other: &Marked) -> bool {
        self.is_within(other) && other.is_within(self)
    }

    /// Returns whether all conditions of `other` are conditions of this one, too.
    fn is_within(&self, other: &Marked) -> bool {
        let own = &self.rule.matches;
        let has = |set: &Setting| own.iter().any(|o| o.key == set.key && o.value == set.value);
        other.rule.matches.iter().all(has)
    }

    fn empty() -> Marked {
        let state = MarkState::default();
        Marked { effect: Effect::End, rule: Rule::default(), state, draw: None, shares: None }
    }

    /// Returns the shares of all marks.
    fn shares(&self) -> Option<Shares> {
        match (self.effect, &self.shares) {
            (_, Some(shares)) => Some(shares.clone()),
            (Effect::Mark(mark), None) => Some(Shares::of_one(mark)),
            (Effect::End, None) => None,
        }
    }
}

/// Returns all marks of a family, that which counts first.
pub(super) fn of_family(draft: &mut Draft, facts: &Facts, ipv6: bool) -> Vec<Marked> {
    let mut walk = Walk::new(facts, ipv6);
    let way = walk.through(draft, "PREROUTING");
    // The line of a packet is chosen before it meets FORWARD.
    let later = if facts.saves_late { walk.through(draft, "FORWARD") } else { Vec::new() };
    let others = walk.others(draft);
    let before = way.iter().any(is_mark);
    let mut all = in_order(draft, facts, &later, before, ipv6);
    all.extend(in_order(draft, facts, &way, false, ipv6));
    let alone = |item: &Item| marked(draft, facts, item, Entry::Unmarked, ipv6);
    all.extend(others.iter().filter_map(alone));
    // Flows that stay unmarked need no rule if no mark comes behind it.
    let needed = all.iter().rposition(|one| matches!(one.effect, Effect::Mark(1..)));
    for extra in all.split_off(needed.map_or(0, |at| at.saturating_add(1))) {
        draft.unneeded(extra.rule.all_lines(), "no mark follows that it would keep off");
    }
    all
}

/// Returns the rules of a chain in the order in which the first one counts. `before` says that packets
/// may have marks of another one.
fn in_order(
    draft: &mut Draft,
    facts: &Facts,
    items: &[Item],
    before: bool,
    ipv6: bool,
) -> Vec<Marked> {
    // What is decided, and what later marks still go before.
    let (mut fixed, mut open) = (Vec::new(), Vec::new());
    let mut ended = false;
    let entries = entry::of(items, before);
    let all = items.iter().zip(entries);
    let marked = all.filter_map(|(item, entry)| marked(draft, facts, item, entry, ipv6)).collect();
    let mut list: VecDeque<Marked> = statistic::together(draft, marked).into();
    while let Some(one) = list.pop_front() {
        if ended {
            let why = "never reached: a rule before it ends the way of all packets";
            draft.unneeded(one.rule.all_lines(), why);
            continue;
        }
        match one.effect {
            _ if one.shares.is_some() => shared(draft, one, &mut fixed, &mut open, &mut list),
            Effect::Mark(_) if one.state.unmarked => open.push(one),
            Effect::Mark(_) => open.insert(0, one),
            Effect::End => ended = end(draft, one, &mut fixed, &mut open),
        }
    }
    fixed.append(&mut open);
    fixed
}

/// Takes a rule with shares. Flows that it leaves without a mark have that of others.
fn shared(
    draft: &mut Draft,
    mut one: Marked,
    fixed: &mut Vec<Marked>,
    open: &mut Vec<Marked>,
    later: &mut VecDeque<Marked>,
) {
    let Some(mut shares) = one.shares.clone() else { return };
    let mut known = true;
    if shares.is_partial() {
        // What is marked later only if it has no mark.
        match later.iter().find(|other| takes_rest(other)) {
            Some(next) if next.rule.broken.is_empty() && one.is_within(next) => {
                match next.effect {
                    Effect::Mark(mark) if next.shares.is_none() => shares.fill(mark),
                    _ => known = false,
                }
                one.rule.lines = one.rule.lines.and(&next.rule.lines);
            }
            Some(_) => known = false,
            None => {}
        }
    }
    let before = open.iter().filter(|other| other.rule.broken.is_empty());
    let partial = shares.is_partial() && !one.state.unmarked;
    known &= !partial || before.clone().all(|other| other.is_within(&one));
    if !known {
        return give_up(draft, one, open, later);
    }
    one.shares = Some(shares.clone());
    if !partial {
        return match (shares.is_done(), one.state.unmarked) {
            (true, _) => fixed.push(one),
            (false, true) => open.push(one),
            (false, false) => open.insert(0, one),
        };
    }
    // The earlier marks are those of the rest.
    let mut merged = false;
    for other in open.iter_mut().filter(|other| other.rule.broken.is_empty()) {
        if let Some(own) = other.shares() {
            other.shares = Some(shares.over(&own));
            other.rule.title.clone_from(&one.rule.title);
            other.rule.lines = other.rule.lines.clone().and(&one.rule.lines);
            merged |= other.has_conditions_of(&one);
        }
    }
    if !merged {
        open.push(one);
    }
}

/// Returns whether a rule marks what has no mark yet.
fn takes_rest(rule: &Marked) -> bool {
    matches!(rule.effect, Effect::Mark(_)) && rule.state.unmarked
}

/// Makes comments of a rule whose shares are not known, and of those that depend on it.
fn give_up(
    draft: &mut Draft,
    mut one: Marked,
    open: &mut Vec<Marked>,
    later: &mut VecDeque<Marked>,
) {
    let same = |other: &Marked| other.rule.broken.is_empty() && other.has_conditions_of(&one);
    for other in open.iter_mut().chain(later) {
        if same(other) || takes_rest(other) && one.is_within(other) {
            let taken = std::mem::replace(other, Marked::empty());
            *other = statistic::give_up(draft, taken);
        }
    }
    one.shares = None;
    open.push(statistic::give_up(draft, one));
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
    // Comments mark nothing.
    let alone = open.iter().all(|other| !other.rule.broken.is_empty()) && !one.state.marked;
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
fn marked(
    draft: &mut Draft,
    facts: &Facts,
    item: &Item,
    entry: Entry,
    ipv6: bool,
) -> Option<Marked> {
    // On a device of several uplinks, others may be, too.
    let own = |draft: &Draft, device: &str| {
        let mut of_device =
            draft.uplinks.iter().filter(|uplink| uplink.device.name() == Some(device));
        of_device.next().is_some() && of_device.next().is_none()
    };
    let words = || item.words.iter().flat_map(|words| devices(words));
    let of_uplink = words().find(|(_, device)| own(draft, device));
    if let Some((inward, _)) = of_uplink {
        let asked = |number| facts.rules.iter().any(|ip| ip.leads(number));
        match item.effect {
            Effect::Mark(number @ 1..) if !asked(number) => {
                let why = "no ip rule of the script asks for this mark: it stays outside linkbal";
                draft.unneeded(item.lines.clone(), why);
            }
            _ if inward => {
                let why =
                    "an answer leaves by the uplink that its connection came in by, by itself";
                draft.unneeded(item.lines.clone(), why);
            }
            _ => draft.unneeded(item.lines.clone(), "a connection keeps its uplink by itself"),
        }
        return None;
    }
    let mut rule = Rule { lines: item.lines.clone(), ..Rule::default() };
    let (mut state, mut draw) = (MarkState::default(), None);
    let last = item.words.len().saturating_sub(1);
    for (at, words) in item.words.iter().enumerate() {
        let own = conditions::read(&mut rule, words, &item.lines);
        // That of a jump is one for packets when they enter its chain.
        state.unmarked |= own.unmarked && (at == last || entry == Entry::First);
        if own.unmarked && at < last && entry == Entry::Unknown {
            rule.broken.push(entry::WHY.into());
        }
        state.marked |= own.marked;
        state.existing |= own.existing;
        if let Some(chance) = own.chance {
            if state.chance.replace(chance).is_some() {
                rule.broken.push("it is reached by several chances".into());
            }
            draw = Some(words.as_ptr());
        }
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
        inward.for_each(|(_, device)| {
            draft.add_lan(&values::pattern(device), item.lines.clone());
        });
    }
    limit_family(&mut rule, facts, ipv6);
    if matches!(item.effect, Effect::End | Effect::Mark(0)) {
        rule.title = "left unmarked: as flows without a rule".into();
    }
    Some(Marked { effect: item.effect, rule, state, draw, shares: None })
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
pub(super) fn write(
    draft: &mut Draft,
    facts: &Facts,
    ordered: &[&IpRule],
    marked: Vec<Marked>,
    ipv6: bool,
) {
    let numbers: Vec<u32> = marked
        .iter()
        .filter_map(Marked::shares)
        .flat_map(|shares| shares.marks())
        .map(|(number, _)| number)
        .collect();
    for ip in ordered {
        if ip.fwmark.is_some() && !numbers.iter().any(|number| ip.leads(*number)) {
            draft.untranslated(ip.lines.clone(), "no mark of this number is set in the script");
        }
    }
    // They go on to the ip rules behind; those for all flows are for flows without a rule.
    let mut behind = ordered.iter().skip_while(|ip| ip.fwmark.is_none());
    let passed = behind.any(|ip| {
        let plain = ip.fwmark.is_none() && !ip.table.is_empty() && !ip.words.is_empty();
        plain && !ip_rule::is_for_own(facts, ip)
    });
    for mut one in marked {
        if passed && one.shares.is_none() && matches!(one.effect, Effect::Mark(0) | Effect::End) {
            let why = "what stays unmarked goes on to the ip rules behind those of the marks: a rule \
                       would keep it from these";
            one.rule.broken.push(why.into());
        }
        match one.effect {
            _ if one.shares.is_some() => of_shares(draft, facts, ordered, one, ipv6),
            Effect::Mark(number @ 1..) => of_number(draft, facts, ordered, number, &one.rule),
            Effect::Mark(0) | Effect::End => {
                if one.rule.broken.is_empty() {
                    host::rules(draft, facts, &one.rule, "", ipv6);
                }
                draft.rules.push(one.rule);
            }
        }
    }
}

/// Writes a rule with the shares of several marks.
fn of_shares(draft: &mut Draft, facts: &Facts, ordered: &[&IpRule], one: Marked, ipv6: bool) {
    let Some(shares) = &one.shares else { return };
    match statistic::policy(facts, ordered, shares, ipv6, &one.rule.lines) {
        Ok(policy) => draft.rules.push(Rule { policy: Some(policy), ..one.rule }),
        Err(why) => {
            let mut rule = statistic::give_up(draft, one).rule;
            rule.broken.push(why);
            draft.rules.push(rule);
        }
    }
}

/// Writes the rules of a mark, one for each ip rule.
fn of_number(draft: &mut Draft, facts: &Facts, ordered: &[&IpRule], number: u32, rule: &Rule) {
    let mut leading = ordered.iter().filter(|ip| ip.leads(number)).peekable();
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
                host::rules(draft, facts, &rule, &ip.table, ip.ipv6);
                let all = ip.words.is_empty() && ip.broken.is_empty();
                draft.rules.push(Rule { policy, ..rule });
                // No packet goes on to those behind it.
                if all {
                    return;
                }
            }
            Err(why) => {
                let lines: Lines = rule.lines.clone().and(&ip.lines);
                draft.untranslated(lines, why);
            }
        }
    }
}
