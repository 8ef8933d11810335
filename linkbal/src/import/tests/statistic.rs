//! Marks by chance: the shares that they say.

use super::{
    marks::{TWO, chain, rules, rules_of},
    *,
};

const BOTH: &str = "use = { eth0 = 1, eth1 = 1 }";

#[test]
fn probabilities_are_shares() {
    let last = chain(&[
        "-i br0 -m state --state NEW -j MARK --set-mark 1",
        "-i br0 -m state --state NEW -m statistic --mode random --probability 0.3 -j MARK --set-mark 2",
        "-j CONNMARK --save-mark",
    ]);
    assert_eq!(rules(&last), [r#"interface = "br0", use = { eth0 = 7, eth1 = 3 }"#]);
    let first = chain(&[
        "-m mark ! --mark 0 -j ACCEPT",
        "-i br0 -m mark --mark 0 -m statistic --mode random --probability 0.25 -j MARK --set-mark 1",
        "-i br0 -m mark --mark 0 -m statistic --mode random --probability .3333 -j MARK --set-mark 2",
        "-m mark --mark 0 -j MARK --set-mark 1",
    ]);
    assert_eq!(rules(&first), [r#"interface = "br0", use = { eth0 = 3, eth1 = 1 }"#]);
}

#[test]
fn counters_are_shares() {
    let nth = |number: u32, end: &str| {
        format!("-p tcp -m statistic --mode nth --every 2 --packet {number} {end}")
    };
    let expected = [format!(r#"protocol = "tcp", {BOTH}"#)];
    let plain = chain(&[&nth(0, "-j CONNMARK --set-mark 1"), &nth(1, "-j CONNMARK --set-mark 2")]);
    assert_eq!(rules(&plain), expected);
    // What is marked leaves the chain, and the second counter counts the rest.
    let leaving = chain(&[
        &nth(0, "-j MARK --set-mark 1"),
        "-m mark ! --mark 0 -j RETURN",
        "-p tcp -j MARK --set-mark 2",
    ]);
    assert_eq!(rules(&leaving), expected);
    let chains = "iptables -t mangle -A ISP1 -j MARK --set-mark 1\n\
                  iptables -t mangle -A ISP1 -j ACCEPT\n\
                  iptables -t mangle -A ISP2 -j MARK --set-mark 2\n\
                  iptables -t mangle -A ISP2 -j ACCEPT\n"
        .to_owned()
        + &chain(&[&nth(0, "-j ISP1"), "-p tcp -j ISP2"]);
    assert!(rules(&chains).iter().any(|rule| rule.ends_with(BOTH)), "{:?}", rules(&chains));
}

#[test]
fn the_rest_has_the_shares_of_the_main_table() {
    let text = chain(&[
        "-p tcp -m statistic --mode random --probability 0.5 -j MARK --set-mark 2",
        "-p tcp --dport 443 -j MARK --set-mark 2",
    ]);
    let expected = [
        r#"protocol = "tcp", dport = 443, use = "eth1""#.to_owned(),
        format!(r#"protocol = "tcp", {BOTH}"#),
    ];
    assert_eq!(rules(&text), expected);
}

#[test]
fn what_an_earlier_rule_marks_has_that_mark_for_the_rest() {
    let text = chain(&[
        "-p tcp --dport 25 -j MARK --set-mark 1",
        "-p tcp -m statistic --mode random --probability 0.5 -j MARK --set-mark 2",
    ]);
    let expected = [
        format!(r#"protocol = "tcp", dport = 25, {BOTH}"#),
        format!(r#"protocol = "tcp", {BOTH}"#),
    ];
    assert_eq!(rules(&text), expected);
}

#[test]
fn shares_that_are_not_known_are_to_be_filled_in() {
    let cases = [
        chain(&[
            "-p tcp -m statistic --mode nth --every 2 -j MARK --set-mark 1",
            "-p tcp -m statistic --mode nth --every 3 -j MARK --set-mark 2",
        ]),
        chain(&[
            "-s 10.0.0.0/24 -j MARK --set-mark 1",
            "-p tcp -m statistic --mode random --probability 0.5 -j MARK --set-mark 2",
        ]),
        chain(&[
            "-p tcp -j MARK --set-mark 1",
            "-p tcp -m statistic --mode other -j MARK --set-mark 2",
        ]),
    ];
    for text in cases {
        let text = TWO.to_owned() + &text;
        let (translated, config) = imported(Tool::Script, &text, None);
        let fill_in = |note: &&Note| note.kind == NoteKind::FillIn && note.why.contains("weight");
        assert!(translated.notes.iter().any(|note| fill_in(&note)), "{translated:#?}");
        // The default route does not say them, either.
        assert!(config.uplinks.iter().all(|uplink| uplink.tier == 1), "{text}");
        let tcp = rules_of(&text).into_iter().filter(|rule| rule.contains("tcp"));
        assert!(tcp.clone().count() > 0);
        assert!(tcp.clone().any(|rule| rule.starts_with('#')), "{text}");
    }
}

#[test]
fn all_lines_of_shares_are_told() {
    let text = TWO.to_owned()
        + &chain(&[
            "-i br0 -j MARK --set-mark 1",
            "-i br0 -m statistic --mode random --probability 0.5 -j MARK --set-mark 2",
        ]);
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(!translated.notes.iter().any(|note| note.why == "not understood"), "{translated:#?}");
}

#[test]
fn a_script_that_balances_by_chance_becomes_weights() {
    let (translated, config) = imported(Tool::Script, CHANCE, None);
    assert_eq!(config.lan_interfaces, ["eth2"]);
    let tables = config.uplinks.iter().map(|uplink| uplink.interface.as_str());
    assert_eq!(tables.collect::<Vec<_>>(), ["eth0", "eth1", "ppp0"]);
    let bank = config.rules.iter().position(|rule| !rule.matches.domain.is_empty());
    assert_eq!(members(&config, bank.expect("the bank")), [("eth1", 1, 1)]);
    let shared = config.rules.iter().position(|rule| rule.members.len() == 3).expect("shares");
    assert_eq!(members(&config, shared), [("eth0", 2, 1), ("eth1", 1, 1), ("ppp0", 1, 1)]);
    assert_eq!(config.exempt.len(), 2);
    let conditional = line_of(CHANCE, "10.0.0.7");
    let told = notes(&translated, NoteKind::Untranslated, conditional, "under a condition");
    assert!(told, "{translated:#?}");
    assert!(!translated.notes.iter().any(|note| note.why == "not understood"), "{translated:#?}");
}
