//! Filtering of forwarded packets by firewalls of others: a policy that drops, or a rule that drops
//! everything that comes in by an interface. Rules for single hosts, ports and networks are no such
//! policy, nor are those that keep containers apart.

use linkbal_common::uplink::Family;
use serde_json::Value;

/// Keys of `meta` for interfaces and families: a rule with these alone matches all such packets.
const WAYS: [&str; 8] =
    ["iif", "iifname", "iifgroup", "iiftype", "oif", "oifname", "oifgroup", "nfproto"];

/// Returns the families of a chain for forwarded packets; none for any other chain.
pub(super) fn families(chain: &Value) -> &'static [Family] {
    if chain["hook"] != "forward" || chain["type"] != "filter" {
        return &[];
    }
    match chain["family"].as_str() {
        Some("ip") => &[Family::Ipv4],
        Some("ip6") => &[Family::Ipv6],
        Some("inet") => &Family::ALL,
        _ => &[],
    }
}

/// Returns whether a rule of such a chain drops everything, or everything of an interface.
pub(super) fn drops(rule: &Value) -> bool {
    let statements = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| statements.iter().any(|statement| statement.get(name).is_some());
    let is_wide = |matched: &Value| {
        let left = &matched["left"];
        let key = left["meta"]["key"].as_str();
        let by_way = key.is_some_and(|key| WAYS.contains(&key));
        by_way || left["ct"]["key"] == "state" && matched["right"] != "invalid"
    };
    (has("drop") || has("reject"))
        && statements.iter().filter_map(|statement| statement.get("match")).all(is_wide)
}

/// Returns the same for a line of iptables-save, of the table `filter`.
pub(super) fn drops_words(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [":FORWARD", policy, ..] => *policy == "DROP",
        ["-A", "FORWARD", rest @ ..] => {
            let mut options = rest.iter().filter(|word| word.starts_with('-'));
            let known =
                ["-i", "-o", "-m", "--ctstate", "--state", "-j", "--reject-with", "--comment"];
            let verdict = rest.windows(2).any(|pair| matches!(pair, ["-j", "DROP" | "REJECT"]));
            verdict && !rest.contains(&"INVALID") && options.all(|option| known.contains(option))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_what_drops_everything_that_takes_a_way() {
        let by = |key: &str| json!({"match": {"left": {"meta": {"key": key}}, "right": "wan"}});
        let state =
            |state: &str| json!({"match": {"left": {"ct": {"key": "state"}}, "right": state}});
        let host = json!({"match": {"left": {"payload": {"protocol": "ip"}}, "right": "10.0.0.1"}});
        let rule = |matches: &[Value], verdict: &str| {
            let statements = [matches, &[json!({verdict: null})]].concat();
            json!({"expr": statements})
        };
        assert!(drops(&rule(&[], "drop")));
        assert!(drops(&rule(&[by("iifname"), state("new")], "reject")));
        assert!(!drops(&rule(&[by("iifname")], "accept")));
        assert!(!drops(&rule(&[state("invalid")], "drop")));
        assert!(!drops(&rule(&[by("iifname"), host], "drop")));
        assert!(!drops(&Value::Null));
    }

    #[test]
    fn the_same_in_words_of_iptables() {
        for policy in [
            ":FORWARD DROP [0:0]",
            "-A FORWARD -i eth1 -m conntrack --ctstate NEW -j DROP",
            "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
        ] {
            assert!(drops_words(policy), "{policy}");
        }
        for other in [
            ":FORWARD ACCEPT [0:0]",
            ":INPUT DROP [0:0]",
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
            "-A FORWARD -s 10.0.0.1/32 -j DROP",
            "-A FORWARD -j DOCKER-USER",
            "-A INPUT -j DROP",
            "",
        ] {
            assert!(!drops_words(other), "{other}");
        }
    }
}
