//! `ip rule`: which sources and destinations use which table.

use super::{
    conditions,
    facts::{DefaultRoute, Facts, IpRule},
    iptables, lines_of,
};
use crate::import::{
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
    let Some((&("add" | "a"), words)) = words.split_first() else {
        return draft.unneeded(lines, "linkbal removes only its own ip rules");
    };
    let priority = facts.free_priority(ipv6);
    let mut rule = IpRule { priority, ipv6, lines: lines.clone(), ..IpRule::default() };
    let mut words = words.iter().copied();
    while let Some(key) = words.next() {
        match key {
            "not" => rule.broken.push("linkbal has no negation, as of `not`".into()),
            "unicast" => {}
            "unreachable" | "blackhole" | "prohibit" => {
                return draft
                    .untranslated(lines, "linkbal refuses no flows by rule: a firewall does");
            }
            _ => value(&mut rule, key, words.next().unwrap_or_default()),
        }
    }
    let specific = |(key, _): &(String, String)| key.starts_with("suppress_");
    let plain = rule.words.is_empty() && rule.fwmark.is_none();
    if matches!(&*rule.table, "local" | "default" | "253" | "255")
        || rule.table.is_empty() && (plain || rule.words.iter().any(specific))
    {
        return draft.unneeded(lines, MAIN_STAYS);
    }
    facts.rules.push(rule);
}

/// Says why a rule for the main table has no place in the output.
const MAIN_STAYS: &str = "rules for the main table stay: linkbal's come before them";

/// Takes a word with its value.
fn value(rule: &mut IpRule, key: &str, value: &str) {
    match key {
        "table" | "lookup" if matches!(value, "main" | "254") => rule.table.clear(),
        "table" | "lookup" => rule.table = value.into(),
        "prio" | "pref" | "preference" | "priority" | "order" => match value.parse() {
            Ok(priority) => rule.priority = priority,
            Err(_) => rule.broken.push(format!("\"{value}\" is no priority")),
        },
        "fwmark" => match iptables::number(value) {
            Some(number) => rule.fwmark = Some(number),
            None => rule.broken.push(format!("\"{value}\" is no mark")),
        },
        "from" | "to" if matches!(value, "all" | "any" | "default") => {}
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
    let source = ip.words.iter().find(|(key, _)| key == "from");
    if ip.broken.is_empty() && source.is_some_and(|(_, source)| is_own(facts, source)) {
        let why = "what has the address of an uplink leaves by that uplink by itself";
        return draft.unneeded(ip.lines.clone(), why);
    }
    // Without a default route in it, the main table takes no flows away from the rules behind.
    let main = facts.defaults.iter().any(|route| route.table.is_empty() && route.ipv6 == ip.ipv6);
    if policy.is_none() && (last || !main) {
        return draft.unneeded(ip.lines.clone(), MAIN_STAYS);
    }
    let mut rule = Rule { lines: ip.lines.clone(), policy, ..Rule::default() };
    if rule.policy.is_none() {
        rule.title = "main table: as flows without a rule".into();
    }
    conditions(&mut rule, ip);
    for (key, device) in &ip.words {
        if matches!(&**key, "iif" | "dev") && device != "lo" {
            draft.add_lan(device, ip.lines.clone());
        }
    }
    super::limit_family(&mut rule, facts, ip.ipv6);
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

/// Returns whether a source is an address of this machine: one that the script gives it, or one in the
/// network of a gateway.
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
    let near = |route: &DefaultRoute| {
        let around = ipnet::IpNet::new(net.addr(), if net.addr().is_ipv4() { 24 } else { 64 });
        let gateway = route.gateway;
        gateway.is_some_and(|gateway| {
            net.contains(&gateway)
                || is_host && around.is_ok_and(|net| net.trunc().contains(&gateway))
        })
    };
    given || facts.defaults.iter().any(near)
}
