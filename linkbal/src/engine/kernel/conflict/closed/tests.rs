//! Firewalls that cut off the LAN, or this machine.

use serde_json::{Value, json};

use super::*;
use crate::engine::kernel::network::Address;

fn config() -> Config {
    let text = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
                [uplink.b]\ninterface = \"wan-b\"\n";
    Config::parse(text, "test").expect("a valid configuration")
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let links = [(2, "lan0", "10.0.0.1"), (3, "wan-a", "203.0.113.2"), (4, "wan-b", "192.0.2.2")];
    for (ifindex, name, own) in links {
        snapshot.links.insert(ifindex, Link::ethernet(ifindex, name));
        let address = own.parse().expect("an address");
        let own = Address {
            ifindex,
            address,
            prefix_length: 24,
            deprecated: false,
            temporary: false,
            held: false,
        };
        snapshot.addresses.push(own);
    }
    snapshot
}

fn survey(table: [&str; 3], hook: &str, rules: &[Value]) -> Survey {
    let [family, table, name] = table;
    let chain = json!({"chain": {"family": family, "table": table, "name": name, "type": "filter",
                                 "hook": hook, "policy": "drop"}});
    let rule = |expr: &Value| json!({"rule": {"family": family, "table": table, "chain": name, "expr": expr}});
    let mut objects = vec![chain];
    objects.extend(rules.iter().map(rule));
    Survey::of(&json!({"nftables": objects}))
}

fn found(survey: &Survey) -> Vec<Conflict> {
    find(&config(), &snapshot(), survey)
}

fn out(key: &str, name: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}})
}

const FW: [&str; 3] = ["inet", "fw", "f"];

#[test]
fn a_policy_that_cuts_the_lan_off_is_named_with_what_mends_it() {
    let found = found(&survey(FW, "forward", &[]));
    assert!(found.len() == 1 && !found[0].compatible, "{found:?}");
    assert_eq!(found[0].what, "firewall chain inet fw f");
    assert!(found[0].meaning.contains("connections from lan0 to wan-a and wan-b"), "{found:?}");
    let command = "`nft 'insert rule inet fw f ct state established,related accept; insert rule \
                   inet fw f iifname { \"lan0\" } oifname { \"wan-a\", \"wan-b\" } accept'`";
    assert!(found[0].advice.contains(command), "{found:?}");
}

#[test]
fn rules_that_may_accept_something_make_a_note_at_most() {
    let accept = json!({"accept": null});
    let old = json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}},
                                "right": ["established", "related"]}}, accept]);
    let lan = json!([out("iifname", "lan0"), accept]);
    assert_eq!(found(&survey(FW, "forward", &[old.clone(), lan])), []);
    let a = json!([out("oifname", "wan-a"), accept]);
    let one = found(&survey(FW, "forward", &[old.clone(), a]));
    assert!(one.len() == 1 && one[0].compatible, "{one:?}");
    assert!(one[0].meaning.contains("it drops what goes from lan0 to wan-b"), "{one:?}");
    let host = json!({"match": {"op": "==", "right": "10.0.0.7",
                                "left": {"payload": {"protocol": "ip", "field": "saddr"}}}});
    let some = found(&survey(FW, "forward", &[old.clone(), json!([host, accept])]));
    assert!(some.len() == 1 && some[0].compatible, "{some:?}");
    assert!(some[0].advice.contains("from lan0 to wan-a and wan-b"), "{some:?}");
    let alone = found(&survey(FW, "forward", &[old]));
    assert!(alone.len() == 1 && !alone[0].compatible, "answers alone are no connections");
}

#[test]
fn the_own_packets_and_their_answers() {
    for (hook, words, command) in [
        ("input", "the answers to this machine's own", "-I X -m conntrack --ctstate"),
        ("output", "this machine's own packets", "-I X -o wan-a -j ACCEPT"),
        ("forward", "the LAN off", "-I X -i lan0 -o wan-b -j ACCEPT"),
    ] {
        let chain = hook.to_uppercase();
        let survey = survey(["ip", "filter", &chain], hook, &[]);
        let found = found(&survey);
        assert!(found.len() == 1 && !found[0].compatible, "{found:?}");
        assert!(found[0].meaning.contains(words), "{found:?}");
        assert!(found[0].advice.contains(&command.replace('X', &chain)), "{found:?}");
        let own = own_traffic(&config(), &snapshot(), &survey);
        assert_eq!(own.len(), usize::from(hook != "forward"));
    }
    // Of IPv6, there is nothing here.
    assert_eq!(found(&survey(["ip6", "filter", "FORWARD"], "forward", &[])), []);
}

#[test]
fn docker_has_a_chain_for_others() {
    let mut survey = survey(["ip", "filter", "FORWARD"], "forward", &[]);
    survey.chains.insert("ip filter DOCKER-USER".into());
    let found = found(&survey);
    assert!(found[0].advice.contains("iptables -I DOCKER-USER -i lan0"), "{found:?}");
}
