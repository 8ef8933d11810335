//! Rules that change the source of packets.

use std::net::IpAddr;

use serde_json::Value;

/// Keys of matches that tell the output interface, or stand for it.
const WAYS: [&str; 7] = ["oif", "oifname", "oifgroup", "oifkind", "sdifname", "mark", "rtclassid"];

/// The effect of a rule in a chain for outgoing packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The rule sets this source, whatever the output interface.
    Source(IpAddr),
    /// The rule depends on the output interface: later rules of its chain may be for one interface
    /// only.
    ByWay,
    /// The rule does something else.
    Other,
}

/// Reads a rule.
pub(super) fn read(rule: &Value) -> Leaving {
    let statements = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let says_way = |left: &Value| {
        let key = left["meta"]["key"].as_str().or(left["ct"]["key"].as_str());
        key.is_some_and(|key| WAYS.contains(&key)) || left.get("rt").is_some()
    };
    let mut matches = statements.iter().filter_map(|statement| statement.get("match"));
    if matches.any(|part| says_way(&part["left"]) || says_way(&part["left"]["&"][0])) {
        return Leaving::ByWay;
    }
    // A map may depend on the output interface, too.
    if statements.iter().any(|statement| statement.get("vmap").is_some()) {
        return Leaving::ByWay;
    }
    let address = statements.iter().find_map(|statement| statement["snat"]["addr"].as_str());
    let address = address.and_then(|text| text.parse().ok());
    address.map_or(Leaving::Other, Leaving::Source)
}

/// Reads a rule of iptables that begins with its chain. Chains other than POSTROUTING may be called
/// for one output interface only.
pub(super) fn read_words(words: &[&str]) -> Leaving {
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at.checked_add(1)?).copied()
    };
    let says_way = ["-o", "--mark", "--ifname-out"];
    if says_way.iter().any(|option| words.contains(option)) {
        return Leaving::ByWay;
    }
    let source = after("--to-source").filter(|_| words.first() == Some(&"POSTROUTING"));
    // Ranges of addresses and ports may follow.
    let address = source.map(|text| text.split('-').next().unwrap_or_default());
    let address = address.and_then(|text| {
        let bracketed = text.strip_prefix('[').and_then(|text| text.split(']').next());
        let bare = text.split_once(':').filter(|_| text.contains('.')).map_or(text, |(ip, _)| ip);
        bracketed.unwrap_or(bare).parse().ok()
    });
    address.map_or(Leaving::Other, Leaving::Source)
}
