//! Rules of chains as [`Chains`] has them, from the listing of `nft -j` and from iptables-save.

use linkbal_common::uplink::Family;
use serde_json::Value;

use super::chains::{BaseChain, Chains, End, Hook, InterfaceSet, Rule};
use crate::per_family::PerFamily;

/// Statements that neither match nor decide anything.
const IDLE: [&str; 5] = ["counter", "log", "mangle", "notrack", "ct helper"];

/// Matches and targets of iptables that neither match nor decide anything.
const IDLE_XT: [&str; 7] = ["comment", "LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CLASSIFY"];

/// Further names of ICMP and of ICMPv6.
const ICMP: [&str; 5] = ["icmp", "icmpv6", "ipv6-icmp", "1", "58"];

impl Chains {
    /// Reads a base chain of the listing; any other chain is skipped.
    pub(super) fn read_chain(&mut self, name: &str, chain: &Value) {
        let hook = match chain["hook"].as_str() {
            Some("input") => Hook::Input,
            Some("forward") => Hook::Forward,
            Some("output") => Hook::Output,
            _ => return,
        };
        let family = chain["family"].as_str().unwrap_or_default();
        let families = PerFamily::from_fn(|each| match each {
            Family::Ipv4 => ["ip", "inet"].contains(&family),
            Family::Ipv6 => ["ip6", "inet"].contains(&family),
        });
        let drops = chain["policy"] == "drop";
        if chain["type"] == "filter" && families.values().any(|sees| *sees) {
            self.bases.push(BaseChain { chain: name.into(), hook, families, drops });
        }
    }

    /// Reads a rule of the listing.
    pub(super) fn read_rule(&mut self, chain: &str, rule: &Value) {
        let table = chain.rsplit_once(' ').map_or("", |(table, _)| table);
        let mut read = Rule::default();
        let mut ends = Vec::new();
        // Something of iptables that nft does not name.
        let mut vague = false;
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let Some((name, value)) = statement.as_object().and_then(|it| it.iter().next()) else {
                vague = true;
                continue;
            };
            let to = || format!("{table} {}", value["target"].as_str().unwrap_or_default());
            match name.as_str() {
                "match" => read.add_match(value),
                "accept" => ends.push((None, End::Accept)),
                "drop" | "reject" => ends.push((None, End::Drop)),
                "jump" => ends.push((None, End::Jump(to()))),
                "goto" => ends.push((None, End::Goto(to()))),
                "return" => ends.push((None, End::Return)),
                "vmap" => ends.extend(of_map(table, value)),
                "xt" => match value["name"].as_str() {
                    Some("REJECT") => ends.push((None, End::Drop)),
                    Some(name) if IDLE_XT.contains(&name) => {}
                    _ if value["type"] == "match" => read.narrow = true,
                    _ => vague = true,
                },
                "queue" => ends.push((None, End::Unknown)),
                name if IDLE.contains(&name) => {}
                _ => read.narrow = true,
            }
        }
        if vague && ends.is_empty() {
            ends.push((None, End::Unknown));
        }
        read.narrow |= vague;
        for (matched, end) in ends {
            let mut rule = Rule { end, ..read.clone() };
            if let Some(matched) = matched {
                rule.add_match(&matched);
            }
            self.add(chain, rule);
        }
    }

    /// Reads a line of iptables-save, of the table `filter` whose chains begin with `table`.
    pub(super) fn read_words(&mut self, table: &str, family: Family, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [chain, policy, ..] if chain.starts_with(':') => {
                let chain = chain.trim_start_matches(':');
                let hook = match chain {
                    "INPUT" => Hook::Input,
                    "FORWARD" => Hook::Forward,
                    "OUTPUT" => Hook::Output,
                    _ => return,
                };
                let families = PerFamily::from_fn(|each| each == family);
                let (chain, drops) = (format!("{table} {chain}"), *policy == "DROP");
                self.bases.push(BaseChain { chain, hook, families, drops });
            }
            ["-A", chain, rest @ ..] => {
                if let Some(rule) = of_words(table, rest) {
                    self.add(&format!("{table} {chain}"), rule);
                }
            }
            _ => {}
        }
    }
}

/// Returns a rule of iptables; `None` if it decides nothing.
fn of_words(table: &str, words: &[&str]) -> Option<Rule> {
    let mut rule = Rule::default();
    let mut end = None;
    let mut words = words.iter().peekable();
    let mut others = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_default();
        let names =
            |value: &str| Some(InterfaceSet { names: vec![value.replace('+', "*")], others });
        match *word {
            "!" => {
                others = true;
                continue;
            }
            "-i" => rule.iif = names(value()),
            "-o" => rule.oif = names(value()),
            "-m" if ["conntrack", "state", "comment"].contains(&value()) => {}
            "--comment" => {
                // It may be quoted, and have blanks.
                let first = value();
                if first.starts_with('"') && !(first.len() > 1 && first.ends_with('"')) {
                    while words.next().is_some_and(|word| !word.ends_with('"')) {}
                }
            }
            "--ctstate" | "--state" => rule.add_states(&value().to_lowercase(), others),
            "-p" => {
                rule.icmp = ICMP.contains(&value()) && !others;
                rule.narrow = true;
            }
            "-j" | "-g" if end.is_none() => end = of_target(table, word, value()),
            "--reject-with" => _ = value(),
            _ => rule.narrow = true,
        }
        others = false;
    }
    end.map(|end| Rule { end, ..rule })
}

fn of_target(table: &str, option: &str, target: &str) -> Option<End> {
    match target {
        "ACCEPT" => Some(End::Accept),
        "DROP" | "REJECT" => Some(End::Drop),
        "RETURN" => Some(End::Return),
        "NFQUEUE" => Some(End::Unknown),
        name if IDLE_XT.contains(&name) => None,
        chain if option == "-g" => Some(End::Goto(format!("{table} {chain}"))),
        chain => Some(End::Jump(format!("{table} {chain}"))),
    }
}

/// Returns the verdicts of a map, each with what it matches; one that is unknown for a named map.
fn of_map(table: &str, map: &Value) -> Vec<(Option<Value>, End)> {
    let Some(elements) = map["data"]["set"].as_array() else {
        return vec![(None, End::Unknown)];
    };
    let of_element = |element: &Value| {
        let (key, verdict) = (&element[0], &element[1]);
        let to = |name: &str| Some(format!("{table} {}", verdict.get(name)?["target"].as_str()?));
        let end = match verdict {
            _ if verdict.get("accept").is_some() => End::Accept,
            _ if verdict.get("drop").is_some() => End::Drop,
            _ if verdict.get("return").is_some() => End::Return,
            _ => to("jump")
                .map(End::Jump)
                .or_else(|| to("goto").map(End::Goto))
                .unwrap_or(End::Unknown),
        };
        let matched = serde_json::json!({"op": "==", "left": map["key"], "right": key});
        (Some(matched), end)
    };
    elements.iter().map(of_element).collect()
}

impl Rule {
    fn add_match(&mut self, matched: &Value) {
        let (left, right) = (&matched["left"], &matched["right"]);
        let others = matched["op"] == "!=";
        let list = texts(right);
        let is = |list: &Option<Vec<String>>, known: &[&str]| {
            list.as_ref().is_some_and(|list| list.iter().all(|each| known.contains(&&**each)))
        };
        match left["meta"]["key"].as_str() {
            Some("iif" | "iifname") if list.is_some() && self.iif.is_none() => {
                self.iif = list.map(|names| InterfaceSet { names, others });
            }
            Some("oif" | "oifname") if list.is_some() && self.oif.is_none() => {
                self.oif = list.map(|names| InterfaceSet { names, others });
            }
            Some("nfproto") if list.is_some() => {
                self.add_families(&list.unwrap_or_default(), others);
            }
            Some("l4proto") => {
                self.icmp |= is(&list, &ICMP) && !others;
                self.narrow = true;
            }
            Some(_) => self.narrow = true,
            None if left["ct"]["key"] == "state" => {
                self.add_states(&right.to_string(), others);
            }
            None => {
                let payload = &left["payload"];
                let protocol = payload["protocol"].as_str().unwrap_or_default();
                let of_icmp = matches!(payload["field"].as_str(), Some("protocol" | "nexthdr"))
                    && is(&list, &ICMP)
                    && !others;
                self.icmp |= of_icmp || ["icmp", "icmpv6"].contains(&protocol);
                match protocol {
                    "ip" => self.families[Family::Ipv6] = false,
                    "ip6" => self.families[Family::Ipv4] = false,
                    _ => {}
                }
                self.narrow = true;
            }
        }
    }

    fn add_families(&mut self, names: &[String], others: bool) {
        for (family, matched) in self.families.iter_mut() {
            *matched &= names.iter().any(|name| name == family.name()) != others;
        }
    }

    fn add_states(&mut self, states: &str, others: bool) {
        let known = ["new", "established", "related", "invalid", "untracked"];
        if !known.iter().any(|state| states.contains(state)) {
            self.narrow = true;
            return;
        }
        self.new &= states.contains("new") != others;
        self.established &= states.contains("established") != others;
    }
}

/// Returns the texts of the right side of a match; `None` if there is something else.
fn texts(right: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.starts_with('@') => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match right {
        Value::Array(list) => list.iter().map(text).collect(),
        Value::Object(_) => right["set"].as_array()?.iter().map(text).collect(),
        other => Some(vec![text(other)?]),
    }
}
