//! Marks and ip rules: which flows use which uplink.

use super::{
    facts::{DefaultRoute, Facts, HostRoute, IpRule, Mark},
    lines_of,
    routes::{id_of, value_of},
};
use crate::import::{
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    shell::Command,
    values::{self, one_or_list, quote},
};

/// Reads `ip rule`.
pub(super) fn ip_rule(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    let Some((&"add", words)) = words.split_first() else {
        return draft.unneeded(lines, "linkbal removes only its own ip rules");
    };
    let mut rule = IpRule { lines: lines.clone(), ..IpRule::default() };
    for pair in words.chunks(2) {
        let (key, value) = (pair[0], pair.get(1).copied().unwrap_or_default());
        match key {
            "table" | "lookup" => rule.table = value.into(),
            "prio" | "pref" | "priority" | "order" => rule.priority = value.parse().ok(),
            "fwmark" => rule.fwmark = number(value),
            _ => rule.words.push((key.into(), value.into())),
        }
    }
    if matches!(&*rule.table, "main" | "local" | "default" | "") {
        return draft.unneeded(lines, "rules for the main table stay: linkbal's come before them");
    }
    facts.rules.push(rule);
}

/// Parses a mark, without its mask.
fn number(text: &str) -> Option<u32> {
    let text = text.split('/').next().unwrap_or_default();
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads `iptables`.
pub(super) fn iptables(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    let table = value_of(words, &["-t", "--table"]).unwrap_or("filter");
    let added = ["-A", "-I", "--append", "--insert"];
    let chain = value_of(words, &added).unwrap_or_default();
    let target = value_of(words, &["-j", "--jump"]).unwrap_or_default();
    let inward = value_of(words, &["-i", "--in-interface"]);
    let mark = value_of(words, &["--set-mark", "--set-xmark", "--or-mark"]).and_then(number);
    let why = match (table, target) {
        _ if chain.is_empty() => {
            "linkbal's tables are its own: what empties others does not touch them"
        }
        ("nat", "MASQUERADE") if value_of(words, &["-s", "--source"]).is_some() => {
            "linkbal translates by itself what leaves by an uplink; that a network uses one line is \
             said by a [[rule]] with match.source, not by its translation"
        }
        ("nat", "MASQUERADE") => "linkbal translates by itself what leaves by an uplink",
        ("nat", "SNAT") => "linkbal translates to the address of the uplink's interface",
        ("nat", "DNAT" | "REDIRECT") => {
            "port forwards stay yours; their answers leave by the right uplink"
        }
        ("nat", _) => "NAT rules of others go before linkbal's: see docs/coexistence.md",
        ("mangle", "CONNMARK") => "linkbal keeps the uplink of a connection in its mark by itself",
        ("mangle", "TCPMSS") => "linkbal clamps the MSS by itself: see `mtu` of an uplink",
        ("mangle", "MARK") => {
            return match mark {
                Some(0) | None => draft.unneeded(lines, "linkbal's marks are its own"),
                Some(number) => {
                    if let Some(device) = inward {
                        facts.inside.push((device.into(), lines.clone()));
                    }
                    let first = words.contains(&"-I") || words.contains(&"--insert");
                    let words = words.iter().map(|word| (*word).to_owned()).collect();
                    facts.marks.push(Mark { words, number, first, lines });
                }
            };
        }
        ("mangle", _) => {
            let why = "linkbal only chooses uplinks: other rules of the table mangle stay outside";
            return draft.untranslated(lines, why);
        }
        _ => "filters stay outside linkbal",
    };
    draft.unneeded(lines, why);
}

/// Makes rules: of marks and their ip rules, of other ip rules, and of routes to single destinations.
pub(super) fn rules(draft: &mut Draft, facts: &Facts) {
    let mut ordered: Vec<&IpRule> = facts.rules.iter().collect();
    ordered.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
    for route in &facts.hosts {
        host_route(draft, facts, route);
    }
    for rule in ordered {
        let Some(policy) = policy_of(facts, &rule.table, &rule.lines) else {
            let why = format!("the script makes no default route in the table `{}`", rule.table);
            draft.untranslated(rule.lines.clone(), why);
            continue;
        };
        match rule.fwmark {
            Some(mark) => of_mark(draft, facts, rule, mark, &policy),
            None => of_rule(draft, facts, rule, policy),
        }
    }
    for mark in &facts.marks {
        if !facts.rules.iter().any(|rule| rule.fwmark == Some(mark.number)) {
            let why = format!("no ip rule leads the mark {} to a table", mark.number);
            draft.untranslated(mark.lines.clone(), why);
        }
    }
}

/// Returns the uplinks of a table's default route.
fn policy_of(facts: &Facts, table: &str, lines: &Lines) -> Option<Policy> {
    let routes = facts.defaults.iter().filter(|route| route.table == table);
    let member = |route: &DefaultRoute| {
        Some(Member {
            uplink: id_of(facts, route.gateway, route.device.as_deref())?,
            tier: 1,
            weight: route.weight.unwrap_or(1),
            lines: route.lines.clone(),
        })
    };
    let members: Vec<Member> = routes.filter_map(member).collect();
    (!members.is_empty()).then(|| Policy { members, lines: lines.clone(), ..Policy::default() })
}

/// Makes rules of all marks with a number. In iptables the last mark counts, here the first rule.
fn of_mark(draft: &mut Draft, facts: &Facts, rule: &IpRule, number: u32, policy: &Policy) {
    let (first, later): (Vec<&Mark>, Vec<&Mark>) =
        facts.marks.iter().filter(|mark| mark.number == number).partition(|mark| mark.first);
    let in_order = first.into_iter().rev().chain(later).collect::<Vec<_>>();
    if in_order.is_empty() {
        let why = "no mark of this number is set in the script";
        return draft.untranslated(rule.lines.clone(), why);
    }
    for mark in in_order.into_iter().rev() {
        let mut made = Rule { lines: mark.lines.clone(), ..Rule::default() };
        conditions(&mut made, mark);
        let policy = Policy { lines: policy.lines.clone().and(&rule.lines), ..policy.clone() };
        draft.rules.push(Rule { policy: Some(policy), ..made });
    }
}

/// Adds the conditions of iptables to a rule.
fn conditions(rule: &mut Rule, mark: &Mark) {
    let mut words = mark.words.iter().map(String::as_str);
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let key = match word {
            "-s" | "--source" | "--src" | "--src-range" => "source",
            "-d" | "--destination" | "--dst" | "--dst-range" => "destination",
            "-p" | "--protocol" => "protocol",
            "--sport" | "--sports" | "--source-port" | "--source-ports" => "sport",
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => "dport",
            "-i" | "--in-interface" => "interface",
            "--mac-source" => "mac",
            "--dscp" => "dscp",
            "--match-set" | "--probability" | "--every" | "--uid-owner" | "--string"
            | "--ports" => {
                rule.broken.push(format!("linkbal has nothing like `{word}`"));
                continue;
            }
            _ => {
                if negated && !matches!(word, "--mark" | "--state" | "--ctstate" | "-o") {
                    rule.broken.push(format!("linkbal has no negation, as of `{word}`"));
                }
                negated = false;
                continue;
            }
        };
        let Some(value) = words.next() else { break };
        if std::mem::take(&mut negated) || value.starts_with('!') || value == "!" {
            rule.broken.push(format!("linkbal has no negation, as of `{word}`"));
        } else if let Err(why) = condition(rule, key, value, &mark.lines) {
            rule.broken.push(why);
        }
    }
}

/// Adds a condition to a rule; one that everything fits is none.
fn condition(rule: &mut Rule, key: &str, value: &str, lines: &Lines) -> Result<(), String> {
    let written = match key {
        "source" | "destination" => {
            let nets = values::prefixes(value)?;
            if nets.iter().any(values::is_whole_family) {
                return Ok(());
            }
            one_or_list(&values::prefix_texts(&nets))
        }
        "sport" | "dport" => one_or_list(&values::ports(value)?),
        "protocol" => match values::protocols(value)? {
            Some(names) => one_or_list(&names),
            None => return Ok(()),
        },
        "interface" => quote(&value.replace('+', "*")),
        "dscp" => match value.strip_prefix("0x").map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(number)) => number.to_string(),
            _ => value
                .parse::<u8>()
                .map(|number| number.to_string())
                .map_err(|_| no_number(value))?,
        },
        _ => quote(&value.to_lowercase()),
    };
    if !rule.matches.iter().any(|one| one.key == key) {
        rule.matches.push(Setting::new(key, written, lines.clone()));
    }
    Ok(())
}

fn no_number(text: &str) -> String {
    format!("\"{text}\" is no number")
}

/// Makes a rule of an ip rule without a mark; those for this machine's own addresses are not needed.
fn of_rule(draft: &mut Draft, facts: &Facts, ip: &IpRule, policy: Policy) {
    let mut rule = Rule { lines: ip.lines.clone(), ..Rule::default() };
    for (key, value) in &ip.words {
        if key == "from" && is_own(facts, value) {
            let why = "what has the address of an uplink leaves by that uplink by itself";
            return draft.unneeded(ip.lines.clone(), why);
        }
        let name = match &**key {
            "from" => "source",
            "to" => "destination",
            "ipproto" => "protocol",
            "sport" => "sport",
            "dport" => "dport",
            "iif" => "interface",
            _ => {
                rule.broken.push(format!("linkbal has nothing like `{key}`"));
                continue;
            }
        };
        if let Err(why) = condition(&mut rule, name, value, &ip.lines) {
            rule.broken.push(why);
        }
        if name == "interface" {
            draft.add_lan(value, ip.lines.clone());
        }
    }
    draft.rules.push(Rule { policy: Some(policy), ..rule });
}

/// Returns whether a source is an address of this machine: one that the script gives it, or one in the
/// network of a gateway.
fn is_own(facts: &Facts, source: &str) -> bool {
    let Ok(nets) = values::prefixes(source) else { return false };
    let [net] = nets.as_slice() else { return false };
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

/// Makes a rule of a route to a destination by one of the uplinks.
fn host_route(draft: &mut Draft, facts: &Facts, route: &HostRoute) {
    let lines = route.lines.clone();
    let of_gateway =
        facts.defaults.iter().find(|one| route.gateway.is_some() && one.gateway == route.gateway);
    let by_device = || {
        let same = |one: &&DefaultRoute| route.device.is_some() && one.device == route.device;
        facts
            .defaults
            .iter()
            .find(same)
            .filter(|_| route.gateway.is_some() || route.table.is_empty())
    };
    let found = of_gateway.or_else(by_device);
    let uplink = found.and_then(|one| id_of(facts, one.gateway, one.device.as_deref()));
    let contains_gateway = values::prefixes(&route.destination).is_ok_and(|nets| {
        let gateways = facts.defaults.iter().filter_map(|one| one.gateway);
        gateways.into_iter().any(|gateway| nets.iter().any(|net| net.contains(&gateway)))
    });
    let Some(uplink) = uplink.filter(|_| route.table.is_empty() && !contains_gateway) else {
        let why = "routes to networks of your own stay in the main table, where linkbal looks them up; \
                   its own tables need none";
        return draft.unneeded(lines, why);
    };
    let mut rule = Rule { lines: lines.clone(), ..Rule::default() };
    let setting = match values::prefixes(&route.destination) {
        Ok(nets) if !nets.is_empty() => {
            Setting::new("destination", one_or_list(&values::prefix_texts(&nets)), lines.clone())
        }
        _ => Setting::new("domain", quote(&route.destination.to_lowercase()), lines.clone()),
    };
    rule.matches.push(setting);
    let member = Member { uplink, tier: 1, weight: 1, lines: Lines::default() };
    rule.policy = Some(Policy { members: vec![member], ..Policy::default() });
    let why = "remove this route from the main table: the rule takes its place, and destinations with \
               a route of their own are not balanced";
    draft.changed(lines, why);
    draft.rules.push(rule);
}
