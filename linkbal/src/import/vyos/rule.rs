//! `rule`: which flows use which interfaces.

use super::health;
use crate::import::{
    excluded::{self, MainTable},
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    tree::Node,
    values::{self, one_or_list, quote},
};

/// Reads all rules, in the order of their numbers.
pub(super) fn read_all(draft: &mut Draft, wan: &Node, main: &MainTable) {
    let mut nodes = wan.values("rule");
    nodes.sort_by_key(|node| node.word.parse::<u32>().unwrap_or(u32::MAX));
    for node in &nodes {
        for interface in node.values("interface") {
            if draft.uplink(&interface.word).is_none() {
                let why = format!(
                    "`{}` has no tests: linkbal's own six targets are asked",
                    interface.word
                );
                draft.changed(interface.line, why);
                draft.uplinks.push(health::new_uplink(&interface.word, interface.line));
            }
        }
    }
    let inside = lan(draft, &nodes);
    for node in nodes {
        draft.cover(node.line);
        if node.get("disable").is_some() {
            draft.untranslated(node.lines(), "the rule is disabled");
            continue;
        }
        let rule = read(draft, node, &inside);
        if node.get("exclude").is_some() {
            excluded::leave(draft, rule, node.lines(), main);
        } else {
            balance(draft, node, rule);
        }
    }
}

/// Collects the interfaces that flows come in by; returns their names.
fn lan(draft: &mut Draft, nodes: &[&Node]) -> Vec<String> {
    for node in nodes {
        for name in node.values("inbound-interface") {
            let pattern = values::pattern(&name.word);
            let everything = pattern.trim_matches('*').is_empty() || pattern == "any";
            let excluded = node.get("exclude").is_some();
            let open = excluded && pattern.contains('*');
            if !(everything || open || pattern.starts_with('!')) {
                draft.add_lan(&pattern, name.line);
            }
        }
    }
    draft.lan.iter().map(|lan| lan.value.clone()).collect()
}

/// Reads what a rule matches.
fn read(draft: &mut Draft, node: &Node, inside: &[String]) -> Rule {
    let mut rule = Rule { lines: node.line.into(), ..Rule::default() };
    rule.title = match node.value("description") {
        Some((text, line)) => {
            draft.cover(line);
            format!("rule {}: {text}", node.word)
        }
        None => format!("rule {}", node.word),
    };
    inbound(&mut rule, node, inside);
    if let Some((text, line)) = node.value("protocol") {
        match values::protocols(text) {
            Ok(None) => draft.cover(line),
            Ok(Some(names)) => {
                rule.matches.push(Setting::new("protocol", one_or_list(&names), line));
            }
            Err(why) => rule.broken.push(why),
        }
    }
    for (side, address, port) in
        [("source", "source", "sport"), ("destination", "destination", "dport")]
    {
        let Some(side) = node.get(side) else { continue };
        draft.cover(side.line);
        for child in &side.children {
            match &*child.word {
                "address" => addresses(&mut rule, &child.with_last(), address),
                "port" => ports(&mut rule, &child.with_last(), port),
                word => rule.broken.push(format!("linkbal has nothing like `{word}`")),
            }
        }
    }
    for child in &node.children {
        match &*child.word {
            "description" | "inbound-interface" | "protocol" | "source" | "destination"
            | "interface" | "failover" | "exclude" | "disable" => {}
            "per-packet-balancing" => {
                let why = "linkbal never spreads the packets of one flow";
                draft.untranslated(child.lines(), why);
            }
            "limit" => rule.broken.push("linkbal has no rules by rate".into()),
            word => rule.broken.push(format!("linkbal has nothing like `{word}`")),
        }
    }
    rule
}

fn inbound(rule: &mut Rule, node: &Node, inside: &[String]) {
    let names = node.values("inbound-interface");
    let patterns: Vec<String> = names.iter().map(|name| values::pattern(&name.word)).collect();
    let lines: Lines = names.iter().map(|name| name.line).collect();
    if let Some(name) = patterns.iter().find(|name| name.starts_with('!')) {
        rule.broken.push(format!("linkbal has no \"all interfaces but {}\"", &name[1..]));
    }
    // All interfaces of the LAN need no condition.
    let all = inside.iter().all(|name| patterns.contains(name));
    let every =
        patterns.iter().any(|name| name == "any" || name.contains('*') && !inside.contains(name));
    if all || every || patterns.is_empty() {
        rule.lines = rule.lines.clone().and(&lines);
        return;
    }
    let names: Vec<String> = patterns.iter().map(|name| quote(name)).collect();
    rule.matches.push(Setting::new("interface", one_or_list(&names), lines));
}

/// Adds addresses to the conditions of a rule.
pub(in crate::import) fn addresses(rule: &mut Rule, node: &Node, key: &str) {
    let mut nets = Vec::new();
    for value in &node.children {
        match values::prefixes(&value.word) {
            Ok(found) => nets.extend(found),
            Err(why) => rule.broken.push(why),
        }
    }
    if !nets.is_empty() && !nets.iter().any(values::is_whole_family) {
        let value = one_or_list(&values::prefix_texts(&nets));
        rule.matches.push(Setting::new(key, value, node.lines()));
    } else {
        rule.lines = rule.lines.clone().and(&node.lines());
    }
}

/// Adds ports to the conditions of a rule.
pub(in crate::import) fn ports(rule: &mut Rule, node: &Node, key: &str) {
    let mut all = Vec::new();
    for value in &node.children {
        match values::ports(&value.word) {
            Ok(found) => all.extend(found),
            Err(why) => rule.broken.push(why),
        }
    }
    if !all.is_empty() {
        rule.matches.push(Setting::new(key, one_or_list(&all), node.lines()));
    }
}

/// Sets the shares, or the order with `failover`: by falling weight.
fn balance(draft: &mut Draft, node: &Node, mut rule: Rule) {
    let mut members = Vec::new();
    for interface in node.values("interface") {
        let weight = match interface.value("weight").map(|(weight, line)| (weight.parse(), line)) {
            Some((Ok(weight), _)) => weight,
            Some((Err(_), line)) => {
                draft.changed(line, "no number: the weight is 1");
                1
            }
            None => 1,
        };
        for child in interface.children.iter().filter(|child| child.word != "weight") {
            draft.untranslated(child.lines(), format!("linkbal has nothing like `{}`", child.word));
        }
        let (uplink, lines) = (interface.word.clone(), interface.lines());
        members.push(Member { uplink, tier: 1, weight, lines });
    }
    if members.is_empty() {
        return draft.untranslated(node.lines(), "the rule names no interface");
    }
    let mut lines = Lines::default();
    if let Some(failover) = node.get("failover") {
        lines = failover.line.into();
        members.sort_by_key(|member| u32::MAX.saturating_sub(member.weight));
        for (tier, member) in (1..).zip(&mut members) {
            (member.tier, member.weight) = (tier, 1);
        }
    }
    rule.policy = Some(Policy { members, lines, ..Policy::default() });
    if !rule.broken.is_empty() {
        rule.lines = node.lines();
    }
    draft.rules.push(rule);
}
