//! `ip rule`: which sources and destinations use which table.

use super::{
    conditions,
    facts::{DefaultRoute, Facts, IpRule},
    host, iptables, keys, lines_of,
    uplink::is_shared,
};
use crate::import::{
    excluded::{self, MainTable},
    model::{Draft, Policy, Rule},
    shell::Command,
    values,
};

/// Reads `ip rule`, of IPv6 if so.
pub(super) fn read(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    words: &[&str],
    ipv6: bool,
) {
    let lines = lines_of(command);
    let (verb, words) = words.split_first().unwrap_or((&"", &[]));
    let deletes = matches!(*verb, "del" | "delete" | "d");
    if !deletes && !matches!(*verb, "add" | "a") {
        return draft.unneeded(lines, "linkbal removes only its own ip rules");
    }
    let priority = facts.free_priority(ipv6);
    let mut rule =
        IpRule { priority, mask: u32::MAX, ipv6, lines: lines.clone(), ..IpRule::default() };
    if command.doubtful {
        rule.broken.push(super::DOUBTFUL.into());
    }
    let (mut words, mut unknown, mut to_table) = (words.iter().copied(), None, false);
    while let Some(word) = words.next() {
        match word {
            "not" => rule.broken.push("linkbal has no negation, as of `not`".into()),
            "unicast" => {}
            "unreachable" | "blackhole" | "prohibit" => {
                return draft
                    .untranslated(lines, "linkbal refuses no flows by rule: a firewall does");
            }
            _ => {
                let key = keys::of_rule(word);
                unknown = unknown.or(Some(word).filter(|_| key.is_none()));
                to_table |= matches!(key, Some("table" | "lookup"));
                value(&mut rule, key.unwrap_or(word), words.next().unwrap_or_default());
            }
        }
    }
    if deletes {
        return delete(draft, facts, command, rule);
    }
    if let Some(word) = unknown.filter(|_| !to_table) {
        return draft
            .untranslated(lines, format!("`{word}` is no word of `ip rule` that is known"));
    }
    let specific = |(key, _): &(String, String)| key.starts_with("suppress_");
    let plain = rule.words.is_empty() && rule.fwmark.is_none();
    if matches!(&*rule.table, "local" | "default" | "253" | "255")
        || rule.table.is_empty() && (plain || rule.words.iter().any(specific))
    {
        let all = rule.fwmark.is_none() && rule.words.iter().all(specific);
        if rule.table.is_empty() && all && rule.broken.is_empty() {
            facts.to_main.push((ipv6, rule.priority));
        }
        return draft.unneeded(lines, MAIN_STAYS);
    }
    facts.rules.push(rule);
}

/// Takes a rule away that the script has added before, if it always does.
fn delete(draft: &mut Draft, facts: &mut Facts, command: &Command, rule: IpRule) {
    let same = |one: &IpRule| {
        (&one.words, &one.table, one.fwmark, one.mask, one.ipv6)
            == (&rule.words, &rule.table, rule.fwmark, rule.mask, rule.ipv6)
    };
    let always = !command.conditional && !command.doubtful && command.function.is_none();
    match facts.rules.iter().rposition(same).filter(|_| always) {
        Some(at) => {
            let added = facts.rules.remove(at);
            let why = "the script adds it, and takes it away behind";
            draft.unneeded(added.lines.and(&rule.lines), why);
        }
        None => draft.unneeded(rule.lines, "linkbal removes only its own ip rules"),
    }
}

/// Says why a rule for the main table has no place in the output.
const MAIN_STAYS: &str = "rules for the main table stay: linkbal's come before them";

/// Takes a word with its value.
fn value(rule: &mut IpRule, key: &str, value: &str) {
    match key {
        "table" | "lookup" if matches!(value, "main" | "254") => rule.table.clear(),
        "table" | "lookup" => rule.table = value.into(),
        "preference" | "priority" | "order" => match value.parse() {
            Ok(priority) => rule.priority = priority,
            Err(_) => rule.broken.push(format!("\"{value}\" is no priority")),
        },
        "fwmark" => match iptables::number(value) {
            Some(number) => {
                rule.fwmark = Some(number);
                rule.mask = iptables::mask(value);
            }
            None => rule.broken.push(format!("\"{value}\" is no mark")),
        },
        "from" | "to" if matches!(value, "all" | "any" | "default") => {}
        "from" | "to" => rule.words.push((key.into(), keys::whole_address(value))),
        // Who made it says nothing about flows.
        "protocol" => {}
        _ => rule.words.push((key.into(), value.into())),
    }
}

/// Makes a rule of an ip rule without a mark; those for this machine's own addresses are not needed.
/// `last` says that no rule for another table comes behind it.
pub(super) fn rule(
    draft: &mut Draft,
    facts: &Facts,
    ip: &IpRule,
    policy: Option<Policy>,
    last: bool,
) {
    if is_for_own(facts, ip) {
        let why = "what has the address of an uplink leaves by that uplink by itself";
        return draft.unneeded(ip.lines.clone(), why);
    }
    // Without a default route in it, the main table takes no flows away from the rules behind.
    let main = facts.defaults.iter().any(|route| route.table.is_empty() && route.ipv6 == ip.ipv6);
    let to_main = ip.table.is_empty();
    if to_main && last {
        return draft.unneeded(ip.lines.clone(), MAIN_STAYS);
    }
    let mut rule = Rule { lines: ip.lines.clone(), policy, ..Rule::default() };
    if rule.policy.is_none() {
        rule.title = "main table: as flows without a rule".into();
    }
    conditions(&mut rule, ip);
    for (key, device) in &ip.words {
        if matches!(&**key, "iif" | "dev") && device != "lo" {
            draft.add_lan(&values::pattern(device), ip.lines.clone());
        }
    }
    super::limit_family(&mut rule, facts, ip.ipv6);
    host::rules(draft, facts, &rule, &ip.table, ip.ipv6);
    if to_main && !main {
        return draft.unneeded(ip.lines.clone(), MAIN_STAYS);
    }
    let inside = MainTable::default();
    if to_main && rule.policy.is_some() && inside.leaves(&rule) {
        return excluded::leave(draft, rule, ip.lines.clone(), &inside);
    }
    draft.rules.push(rule);
}

/// Adds the conditions of an ip rule to a rule.
pub(super) fn conditions(rule: &mut Rule, ip: &IpRule) {
    rule.broken.extend(ip.broken.iter().cloned());
    for (key, value) in &ip.words {
        let name = match &**key {
            "from" => "source",
            "to" => "destination",
            "ipproto" => "protocol",
            "sport" => "sport",
            "dport" => "dport",
            "iif" | "dev" => "interface",
            _ => {
                rule.broken.push(format!("linkbal has nothing like `{key}`"));
                continue;
            }
        };
        if let Err(why) = conditions::add(rule, name, value, &ip.lines) {
            rule.broken.push(why);
        }
    }
}

/// Returns whether an ip rule is for the machine's own addresses alone: with other conditions, it is about
/// flows of others.
pub(super) fn is_for_own(facts: &Facts, ip: &IpRule) -> bool {
    let own = |(key, source): &(String, String)| key == "from" && is_own(facts, source);
    ip.broken.is_empty() && ip.words.len() == 1 && ip.words.iter().all(own)
}

/// Returns whether a source is an address of this machine: one that the script gives it, or one in the
/// small network of a single gateway. A private address may as well be that of a host behind it.
fn is_own(facts: &Facts, source: &str) -> bool {
    let Ok(nets) = values::prefixes(source) else { return false };
    let [net] = nets.as_slice() else { return false };
    if values::is_whole_family(net) {
        return false;
    }
    let is_host = net.prefix_len() == net.max_prefix_len();
    let given = facts.own.iter().any(|own| is_host && net.contains(own))
        || facts.addresses.iter().any(|(_, address, _)| {
            address.parse::<ipnet::IpNet>().is_ok_and(|own| is_host && own.addr() == net.addr())
        });
    let (around, small) = if net.addr().is_ipv4() { (24, 29) } else { (64, 64) };
    let around = match is_host {
        true if values::is_private(net) => None,
        true => ipnet::IpNet::new(net.addr(), around).ok().map(|net| net.trunc()),
        false => Some(*net).filter(|net| net.prefix_len() >= small),
    };
    given || around.is_some_and(|net| has_one_gateway(facts, &net))
}

/// Returns whether a network has one gateway, whose device is that of a single uplink.
fn has_one_gateway(facts: &Facts, net: &ipnet::IpNet) -> bool {
    let near = |route: &&DefaultRoute| route.gateway.is_some_and(|one| net.contains(&one));
    let mut routes = facts.defaults.iter().filter(near);
    let Some(first) = routes.next() else { return false };
    let shared = first.device.as_deref().is_some_and(|device| is_shared(facts, device, None));
    !shared && routes.all(|other| other.gateway == first.gateway)
}
