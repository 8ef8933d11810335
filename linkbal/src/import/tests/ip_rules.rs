//! Flows of scripts that no mark or the main table leads.

use super::{
    marks::{TWO, chain, rules, rules_of},
    *,
};

#[test]
fn the_main_table_is_not_the_one_of_all_flows() {
    let text = "ip route add default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 table 2\n\
                ip rule add prio 100 to 198.51.100.128/25 lookup main\n\
                ip rule add prio 105 to 10.0.0.0/8 lookup main\n\
                ip rule add prio 110 from 10.0.0.0/24 table 2\n\
                ip rule add prio 32000 table 2\n";
    let all = rules_of(text);
    let first = r#"destination = "198.51.100.128/25", use = "eth0""#;
    assert!(all[0].contains(first), "{all:?}");
    let (_, config) = imported(Tool::Script, text, None);
    assert_eq!(config.exempt.len(), 1);
    // Where all flows use it, it is that of flows without a rule.
    let same = text.replace("prio 32000 table 2", "prio 32000 table main");
    assert!(!rules_of(&same)[0].contains("use ="), "{:?}", rules_of(&same));
}

#[test]
fn what_stays_unmarked_goes_on_to_the_ip_rules_behind() {
    let marks = chain(&["-d 203.0.113.0/24 -j RETURN", "-p tcp -j MARK --set-mark 2"]);
    let alone = [r#"destination = "203.0.113.0/24""#, r#"protocol = "tcp", use = "eth1""#];
    assert_eq!(rules(&marks), alone);
    let text = format!("{TWO}ip rule add from 10.0.0.5 table 2 prio 40000\n{marks}");
    let all = rules_of(&text);
    assert!(all[0].starts_with("#destination"), "{all:?}");
}

#[test]
fn the_shares_of_some_flows_are_not_those_of_all() {
    let text = TWO.to_owned()
        + &chain(&[
            "-s 10.2.0.0/16 -m statistic --mode random ! --probability 0.2 -j MARK --set-mark 2",
        ]);
    let (translated, config) = imported(Tool::Script, &text, None);
    assert_eq!(shares(&config), [("eth0", 1, 1), ("eth1", 2, 1)]);
    let fill_in = |words: &str| notes(&translated, NoteKind::FillIn, 6, words);
    assert!(fill_in("these flows"), "{translated:#?}");
}

#[test]
fn what_lets_restored_marks_go_is_not_needed() {
    let text = TWO.to_owned()
        + &chain(&[
            "-i br0 -j CONNMARK --restore-mark",
            "-i br0 -m mark ! --mark 0 -j ACCEPT",
            "-i br0 -p tcp -j MARK --set-mark 2",
        ]);
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(notes(&translated, NoteKind::Unneeded, 7, "keeps its uplink"), "{translated:#?}");
    assert_eq!(rules_of(&text), [r#"interface = "br0", protocol = "tcp", use = "eth1""#]);
    // It is for all that has a mark if the other one is for some only.
    let other = text.replace("-i br0 -j CONNMARK", "-i br1 -j CONNMARK");
    let (translated, _) = imported(Tool::Script, &other, None);
    assert!(!notes(&translated, NoteKind::Unneeded, 7, "keeps its uplink"), "{translated:#?}");
}
