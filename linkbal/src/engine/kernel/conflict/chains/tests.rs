//! Treatment of packets by chains, from listings of nft.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::survey::Survey, *};

fn chain(name: &str, policy: &str) -> Value {
    json!({"chain": {"family": "inet", "table": "fw", "name": name, "type": "filter",
                     "hook": "forward", "policy": policy}})
}

fn plain(name: &str) -> Value {
    json!({"chain": {"family": "inet", "table": "fw", "name": name}})
}

fn rule(chain: &str, expr: &Value) -> Value {
    json!({"rule": {"family": "inet", "table": "fw", "chain": chain, "expr": expr}})
}

fn by(key: &str, name: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}})
}

fn state(states: &Value) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}})
}

fn jump(to: &str) -> Value {
    json!({"jump": {"target": to}})
}

const KIND: PacketKind<'_> =
    PacketKind { family: Family::Ipv4, iif: Some("lan0"), oif: Some("wan-a"), established: false };

const BACK: PacketKind<'_> =
    PacketKind { family: Family::Ipv4, iif: Some("wan-a"), oif: Some("lan0"), established: true };

/// Returns what becomes of new packets of the LAN, and of their answers, in the chain `f`.
fn verdicts(objects: &[Value]) -> [ChainVerdict; 2] {
    let survey = Survey::of(&json!({"nftables": objects}));
    let Some(base) = survey.closing.bases.first() else { return [ChainVerdict::Accept; 2] };
    [KIND, BACK].map(|kind| survey.closing.verdict(base, kind))
}

#[test]
fn a_policy_drops_what_no_rule_accepts() {
    use ChainVerdict::{Accept, Drop, Unknown};
    let accept = json!({"accept": null});
    let with = |expr: Value| verdicts(&[chain("f", "drop"), rule("f", &expr)]);
    assert_eq!(verdicts(&[chain("f", "drop")]), [Drop; 2]);
    assert_eq!(verdicts(&[chain("f", "accept")]), [Accept; 2]);
    assert_eq!(with(json!([accept])), [Accept; 2]);
    assert_eq!(with(json!([by("iifname", "lan0"), {"counter": {}}, accept])), [Accept, Drop]);
    assert_eq!(with(json!([by("iifname", "lan*"), accept])), [Accept, Drop]);
    assert_eq!(with(json!([by("iifname", "docker0"), accept])), [Drop; 2]);
    let old = state(&json!(["established", "related"]));
    assert_eq!(with(json!([old, accept])), [Drop, Accept]);
    let host = json!({"match": {"op": "==", "right": "10.0.0.7",
                                "left": {"payload": {"protocol": "ip", "field": "saddr"}}}});
    assert_eq!(with(json!([host, accept])), [Unknown; 2]);
    let pings =
        json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}});
    assert_eq!(with(json!([pings, accept])), [Drop; 2], "no connections");
    let six = by("nfproto", "ipv6");
    assert_eq!(with(json!([six, accept])), [Drop; 2]);
    let not =
        json!({"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "wan-a"}});
    assert_eq!(with(json!([not, accept])), [Accept, Drop]);
    let set = json!({"match": {"op": "==", "left": {"meta": {"key": "oifname"}},
                               "right": {"set": ["wan-a", "lan0"]}}});
    assert_eq!(with(json!([set, accept])), [Accept; 2]);
    assert_eq!(with(json!([{"queue": {"num": 1}}])), [Unknown; 2]);
    assert_eq!(with(json!([{"limit": {"rate": 5}}, accept])), [Unknown; 2]);
    assert_eq!(with(json!([{"xt": null}])), [Unknown; 2]);
    assert_eq!(with(json!([{"xt": {"type": "match", "name": "comment"}}, accept])), [Accept; 2]);
    assert_eq!(with(json!([{"xt": {"type": "target", "name": "TCPMSS"}}])), [Drop; 2]);
}

#[test]
fn jumps_and_maps_are_followed() {
    use ChainVerdict::{Accept, Drop, Unknown};
    let accept = json!({"accept": null});
    let map = json!({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [
        ["established", {"accept": null}], ["related", {"accept": null}],
        ["new", {"jump": {"target": "out"}}], ["invalid", {"drop": null}],
    ]}}});
    let out = [plain("out"), rule("out", &json!([by("oifname", "wan-a"), accept]))];
    let all = |policy: &str, expr: &Value| {
        let base = [chain("f", policy), rule("f", expr)];
        verdicts(&[&base[..], &out[..]].concat())
    };
    assert_eq!(all("drop", &json!([map])), [Accept; 2]);
    assert_eq!(all("drop", &json!([jump("out")])), [Accept, Drop]);
    assert_eq!(all("drop", &json!([by("iifname", "docker0"), jump("out")])), [Drop; 2]);
    let named = json!({"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@ways"}});
    assert_eq!(all("drop", &json!([named])), [Unknown; 2]);
    // The last rule may drop what a policy would accept.
    let last = [
        chain("f", "accept"),
        rule("f", &json!([jump("out")])),
        rule("f", &json!([{"reject": {"type": "icmpx"}}])),
    ];
    assert_eq!(verdicts(&[&last[..], &out[..]].concat()), [Accept, Drop]);
    let circle = [chain("f", "drop"), rule("f", &json!([jump("f")]))];
    assert_eq!(verdicts(&circle), [Unknown; 2], "the kernel has no such");
}

#[test]
fn chains_that_drop_nothing_are_not_kept() {
    let objects = [chain("f", "accept"), rule("f", &json!([{"accept": null}]))];
    assert!(Survey::of(&json!({"nftables": objects})).closing.is_empty());
}

#[test]
fn rules_of_iptables_legacy() {
    let verdicts = |text: &str| {
        let mut survey = Survey::default();
        survey.read_iptables("iptables-legacy-save", &format!("*filter\n{text}COMMIT\n"));
        let closing = survey.closing;
        let base = closing.bases.first().cloned();
        [KIND, BACK].map(|kind| {
            base.as_ref().map_or(ChainVerdict::Accept, |base| closing.verdict(base, kind))
        })
    };
    let policy = ":FORWARD DROP [0:0]\n:MINE - [0:0]\n";
    let old = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    assert_eq!(verdicts(":FORWARD ACCEPT [0:0]\n"), [ChainVerdict::Accept; 2]);
    assert_eq!(verdicts(policy), [ChainVerdict::Drop; 2]);
    assert_eq!(verdicts(&format!("{policy}{old}")), [ChainVerdict::Drop, ChainVerdict::Accept]);
    let mine = "-A FORWARD -j MINE\n-A MINE -i lan+ -m comment --comment \"to all\" -j ACCEPT\n";
    assert_eq!(verdicts(&format!("{policy}{old}{mine}")), [ChainVerdict::Accept; 2]);
    let pings = "-A FORWARD -p icmp -j ACCEPT\n-A FORWARD ! -i lan0 -j ACCEPT\n";
    assert_eq!(verdicts(&format!("{policy}{pings}")), [ChainVerdict::Drop, ChainVerdict::Accept]);
    let host = "-A FORWARD -s 10.0.0.7/32 -j ACCEPT\n";
    assert_eq!(verdicts(&format!("{policy}{host}")), [ChainVerdict::Unknown; 2]);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let names = proptest::option::of(
        (proptest::sample::select(vec!["lan0", "wan-a", "wan*"]), any::<bool>())
            .prop_map(|(name, others)| InterfaceSet { names: vec![name.into()], others }),
    );
    let end = prop_oneof![
        Just(End::Accept),
        Just(End::Drop),
        Just(End::Return),
        Just(End::Unknown),
        Just(End::Jump("x".into())),
        Just(End::Goto("f".into())),
    ];
    (names.clone(), names, any::<[bool; 4]>(), end).prop_map(
        |(iif, oif, [new, established, icmp, narrow], end)| Rule {
            iif,
            oif,
            new,
            established,
            icmp,
            narrow,
            end,
            ..Rule::default()
        },
    )
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_everything_decides(
        rules in proptest::collection::vec((any::<bool>(), any_rule()), 0..12),
        drops in any::<bool>(),
    ) {
        let base = BaseChain {
            chain: "f".into(),
            hook: Hook::Forward,
            families: PerFamily::from_fn(|_| true),
            drops,
        };
        for (end, verdict) in [(End::Accept, ChainVerdict::Accept), (End::Drop, ChainVerdict::Drop)] {
            let mut chains = Chains { bases: vec![base.clone()], ..Chains::default() };
            chains.add("f", Rule { end, ..Rule::default() });
            for (first, rule) in &rules {
                chains.add(if *first { "f" } else { "x" }, rule.clone());
            }
            chains.prune();
            prop_assert!(chains.bases.is_empty() || chains.verdict(&base, KIND) == verdict);
        }
    }
}
