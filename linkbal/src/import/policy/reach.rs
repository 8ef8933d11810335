//! Rules that no flow reaches, and those that keep flows from the rules behind them.

use crate::import::model::{Draft, Rule, Setting};

/// Returns whether a rule takes all flows of a family.
pub(super) fn is_catch_all(rule: &Rule) -> bool {
    let whole = |setting: &Setting| {
        setting.key == "destination" && matches!(&*setting.value, "\"0.0.0.0/0\"" | "\"::/0\"")
    };
    rule.broken.is_empty() && rule.matches.iter().all(whole)
}

/// Takes out rules that no flow reaches: behind one that takes all flows of both families, or of theirs.
pub(super) fn drop_unreachable(draft: &mut Draft, rules: &mut Vec<Rule>) {
    drop_behind_all(draft, rules);
    drop_covered(draft, rules);
}

fn drop_behind_all(draft: &mut Draft, rules: &mut Vec<Rule>) {
    let Some(end) = rules.iter().position(|rule| is_catch_all(rule) && rule.matches.is_empty())
    else {
        return;
    };
    let decides = rules[end].lines.iter().next().unwrap_or_default();
    for rule in rules.split_off(end.saturating_add(1)) {
        let why = format!("never reached: the rule at line {decides} takes all flows before it");
        draft.unneeded(rule.own_lines(), why);
        draft.cover(rule.all_lines());
    }
}

/// Returns the value of `destination` by which a rule is for one family alone.
fn family(rule: &Rule) -> Option<&str> {
    let whole = ["\"0.0.0.0/0\"", "\"::/0\""];
    let of = rule.matches.iter().find(|setting| setting.key == "destination");
    of.map(|setting| &*setting.value).filter(|value| whole.contains(value))
}

/// Takes out rules of a family behind one that takes all of its flows.
fn drop_covered(draft: &mut Draft, rules: &mut Vec<Rule>) {
    let mut decided: Vec<(String, usize)> = Vec::new();
    for rule in std::mem::take(rules) {
        let by = decided.iter().find(|(whole, _)| family(&rule) == Some(whole));
        if let Some((_, line)) = by {
            let why = format!("never reached: the rule at line {line} takes all flows before it");
            draft.unneeded(rule.own_lines(), why);
            draft.cover(rule.all_lines());
            continue;
        }
        if let Some(whole) = family(&rule).filter(|_| is_catch_all(&rule)) {
            decided.push((whole.to_owned(), rule.lines.iter().next().unwrap_or_default()));
        }
        rules.push(rule);
    }
}

/// Returns of each rule whether it must stay for the sake of those behind it.
pub(super) fn stops(rules: &[Rule]) -> Vec<bool> {
    let mut behind = rules;
    let mut stops = Vec::new();
    while let Some((rule, rest)) = behind.split_first() {
        stops.push(is_stop(rule, rest));
        behind = rest;
    }
    stops
}

/// Returns whether a rule for all flows of a family must stay: rules behind it would take some of them.
fn is_stop(rule: &Rule, behind: &[Rule]) -> bool {
    let other = |one: &Rule| family(one).is_some_and(|whole| Some(whole) != family(rule));
    family(rule).is_some() && !behind.iter().all(other)
}
