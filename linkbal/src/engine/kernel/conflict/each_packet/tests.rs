//! Firewalls as distributions ship them, and as people write them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Returns the chains with a rule that counts packets of established connections. `chains` are names, and
/// the statements of their rules; `forward` is the base chain.
fn counted(sets: &[Value], chains: &[(&str, Vec<Value>)]) -> Vec<String> {
    let counting = counting_sets(sets);
    let mut forwarded = Forwarded::new();
    forwarded.add_base("forward".into());
    for (chain, rules) in chains {
        for statements in rules {
            let statements = statements.as_array().expect("statements");
            let mut rule = read(statements, &counting, &str::to_owned);
            rule.finding = rule.counts.then(|| (*chain).to_owned());
            forwarded.add_rule(chain, rule);
        }
    }
    forwarded.findings()
}

fn state(states: &[&str]) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}})
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

fn limited() -> Value {
    json!([{"limit": {"rate": 50, "per": "second", "inv": true}}, {"drop": null}])
}

#[test]
fn chains_are_followed_wherever_they_lead() {
    let source = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.9"}});
    let by_map = json!({"vmap": {
        "key": {"meta": {"key": "iifname"}},
        "data": {"set": [["lan0", {"goto": {"target": "rate"}}]]},
    }});
    for way in [json!([jump("rate")]), json!([source, jump("rate")]), json!([by_map])] {
        let chains = [("forward", vec![way]), ("rate", vec![limited()])];
        assert_eq!(counted(&[], &chains), ["rate"]);
    }
    let far = [
        ("forward", vec![json!([jump("one")])]),
        ("one", vec![json!([jump("two")])]),
        ("two", vec![limited()]),
        ("elsewhere", vec![limited()]),
    ];
    assert_eq!(counted(&[], &far), ["two"], "not the chain that nothing leads to");
}

#[test]
fn what_comes_after_established_connections_are_accepted_sees_new_ones() {
    let accepted = json!([state(&["established", "related"]), {"accept": null}]);
    let by_map = json!([{"vmap": {
        "key": {"ct": {"key": "state"}},
        "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]},
    }}]);
    for accepts in [accepted, by_map] {
        let chains = [("forward", vec![accepts.clone(), limited()])];
        assert!(counted(&[], &chains).is_empty());
        let chains = [("forward", vec![limited(), accepts.clone()])];
        assert_eq!(counted(&[], &chains), ["forward"]);
        // As ufw has it: one chain accepts them, the next one limits.
        let chains = [
            ("forward", vec![json!([jump("before")]), json!([jump("user")])]),
            ("before", vec![accepts.clone()]),
            ("user", vec![limited()]),
        ];
        assert!(counted(&[], &chains).is_empty());
        let some = json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lan1"}}, jump("before")]);
        let chains = [
            ("forward", vec![some, json!([jump("user")])]),
            ("before", vec![accepts]),
            ("user", vec![limited()]),
        ];
        assert_eq!(counted(&[], &chains), ["user"], "not all pass by the first one");
    }
    let chains =
        [("forward", vec![json!([state(&["new"]), jump("rate")])]), ("rate", vec![limited()])];
    assert!(counted(&[], &chains).is_empty());
}

#[test]
fn what_counts_may_be_deep_in_a_rule_or_in_a_set() {
    let host = json!({"payload": {"protocol": "ip", "field": "saddr"}});
    let per_host = json!([
        {"set": {"op": "update", "elem": host, "set": "@s", "stmt": [{"limit": {"rate": 50}}]}},
        {"drop": null},
    ]);
    let bytes = json!([
        {"match": {"op": ">", "left": {"ct": {"key": "bytes", "dir": "original"}}, "right": 1_000_000}},
        {"drop": null},
    ]);
    for rule in [per_host, bytes] {
        assert_eq!(counted(&[], &[("forward", vec![rule])]), ["forward"]);
    }
    let set = |element: Value| json!({"set": {"family": "inet", "name": "quotas", "table": "fw", "elem": [element]}});
    let by_set =
        || json!([{"match": {"op": "==", "left": host, "right": "@quotas"}}, {"drop": null}]);
    let quota = json!({"elem": {"val": "10.0.0.9", "quota": {"val": 5, "val_unit": "mbytes"}}});
    assert_eq!(counted(&[set(quota)], &[("forward", vec![by_set()])]), ["forward"]);
    assert!(counted(&[set(json!("10.0.0.9"))], &[("forward", vec![by_set()])]).is_empty());
    let logs = json!([{"limit": {"rate": 5}}, {"log": null}]);
    assert!(counted(&[], &[("forward", vec![logs])]).is_empty());
}

proptest! {
    #[test]
    fn chains_that_lead_to_each_other_end(ways in proptest::collection::vec((0..6_u8, 0..6_u8), 0..40)) {
        let mut forwarded = Forwarded::new();
        forwarded.add_base("0".into());
        let count = ways.len();
        for (from, to) in ways {
            let mut rule = read(&[jump(&to.to_string())], &BTreeSet::new(), &str::to_owned);
            rule.finding = Some(to);
            forwarded.add_rule(&from.to_string(), rule);
        }
        prop_assert!(forwarded.findings().len() <= count);
    }
}
