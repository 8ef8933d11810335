//! Conditions of commands, words of `ip`, and sources that are the machine's own.

use super::{
    marks::{chain, rules, rules_of},
    *,
};

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n";

/// Returns the rules of a script of two lines.
fn of(more: &str) -> Vec<String> {
    rules_of(&format!("{TWO}{more}"))
}

#[test]
fn what_is_set_under_a_condition_is_a_comment() {
    let rule = "ip rule add from 10.0.5.0/24 table 2";
    let commented = [r##"#source = "10.0.5.0/24", use = "eth1""##];
    for text in [
        format!("if ping -c1 8.8.8.8; then\n{rule}\nfi\n"),
        format!("if ! ip rule | grep -q x; then\ntrue\nelse\n{rule}\nfi\n"),
        format!("if [ $STATE = 1 ]; then {rule}; fi\n"),
        format!("while ! ping -c1 8.8.8.8; do\n{rule}\ndone\n"),
        format!("ping -c1 8.8.8.8 || {rule}\n"),
        format!("ping -c1 8.8.8.8 || {{\nsleep 1\n{rule}\n}}\n"),
        format!("f() {{\n{rule}\n}}\nif ping -c1 8.8.8.8; then\nf\nfi\n"),
        format!("[ -f /tmp/down ] && {rule}\n"),
    ] {
        assert_eq!(of(&text), commented, "{text}");
    }
}

#[test]
fn what_a_test_only_guards_is_a_rule() {
    let rule = "ip rule add from 10.0.5.0/24 table 2";
    let written = [r#"source = "10.0.5.0/24", use = "eth1""#];
    for text in [
        format!("ip rule | grep -q 10.0.5.0 || {rule}\n"),
        format!("if ! ip rule list | grep -q 10.0.5.0; then\n{rule}\nfi\n"),
        format!("if [ -z \"$(ip rule list from 10.0.5.0/24)\" ]; then {rule}; fi\n"),
        format!("if [ \"$1\" = start ]; then\n{rule}\nelse\ntrue\nfi\n"),
        format!("case $1 in\nstart)\n{rule}\n;;\nesac\n"),
        format!("while true; do\n{rule}\nsleep 9\ndone\n"),
        format!("f() {{\n{rule}\n}}\nif ping -c1 8.8.8.8; then\nf\nfi\nf\n"),
        format!("f() {{\nping -c1 8.8.8.8 || {{ echo no; }}\n}}\n{rule}\n"),
        format!("if ping -c1 8.8.8.8; then\ntrue\nfi\n{rule}\n"),
        format!("ping -c1 8.8.8.8 || true; {rule}\n"),
    ] {
        assert_eq!(of(&text), written, "{text}");
    }
}

#[test]
fn a_mark_under_a_condition_is_a_comment() {
    let text = format!("if [ $STATE = 2 ]; then\n{}fi\n", chain(&["-p tcp -j MARK --set-mark 2"]));
    assert_eq!(rules(&text), [r##"#protocol = "tcp", use = "eth1""##]);
}

#[test]
fn routes_of_a_table_come_one_after_the_other() {
    let text = "ip route add default via 192.0.2.1 dev eth0 table 3 metric 2\n\
                ip route add default via 198.51.100.1 dev eth1 table 3 metric 1\n\
                ip rule add from 10.0.5.0/24 table 3\n";
    assert_eq!(of(text), [r#"source = "10.0.5.0/24", use = ["eth1", "eth0"]"#]);
    let text = "if ! ping -c1 8.8.8.8; then\n\
                ip route replace default via 192.0.2.1 dev eth0 table 2\nfi\n\
                ip rule add from 10.0.5.0/24 table 2\n";
    assert_eq!(of(text), [r#"source = "10.0.5.0/24", use = ["eth1", "eth0"]"#]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
    assert!(notes(&translated, NoteKind::Changed, 4, "stands by"), "{translated:#?}");
    let text = "ip route add default table 3 nexthop via 192.0.2.1 dev eth0 weight 2 \
                nexthop via 198.51.100.1 dev eth1\nip rule add from 10.0.5.0/24 table 3\n";
    assert_eq!(of(text), [r#"source = "10.0.5.0/24", use = { eth0 = 2, eth1 = 1 }"#]);
}

#[test]
fn hosts_of_the_lan_are_not_the_machine_itself() {
    // Two modems in the network of the LAN.
    let one_network = "ip route replace default via 192.168.0.1 dev eth0\n\
                       ip route add default via 192.168.0.2 dev eth0 table 2\n\
                       ip rule add from 192.168.0.50 table 2 prio 1\n\
                       ip rule add from 192.168.0.0/24 to 203.0.113.0/24 table 2 prio 2\n";
    assert_eq!(rules_of(one_network).len(), 2);
    let marked = one_network.to_owned()
        + "ip rule add fwmark 5 table 2 prio 3\n"
        + &chain(&["-s 192.168.0.60 -j MARK --set-mark 5"]);
    assert_eq!(rules_of(&marked).len(), 3);
    // A network around a modem, and hosts in the network of one.
    let modems = "ip route replace default via 192.168.1.1 dev eth0\n\
                  ip route add default via 192.168.2.1 dev eth1 table 2\n";
    for source in ["192.168.0.0/16", "192.168.2.0/24", "192.168.2.77"] {
        let text = format!("{modems}ip rule add from {source} table 2\n");
        assert_eq!(rules_of(&text).len(), 1, "{source}");
    }
    let given = [
        "ip addr add 192.168.2.77/24 dev eth1\n",
        "ifconfig eth1 192.168.2.77 netmask 255.255.255.0\n",
        "iptables -t nat -A POSTROUTING -o eth1 -j SNAT --to-source 192.168.2.77\n",
    ];
    for given in given {
        let text = format!("{modems}{given}ip rule add from 192.168.2.77 table 2\n");
        assert_eq!(rules_of(&text).len(), 0, "{given}");
    }
}

#[test]
fn words_of_ip_may_be_cut_short() {
    let text = "ip route replace default via 192.0.2.1 dev eth0\n\
                ip ro a tab 2 default via 198.51.100.1 dev eth1\n\
                ip ru a from 10.0.5.0/24 tab 2 pri 7\n";
    assert_eq!(rules_of(text), [r#"source = "10.0.5.0/24", use = "eth1""#]);
    let (translated, _) =
        imported(Tool::Script, &format!("{TWO}ip rule add from 10.0.0.7 tbl 2\n"), None);
    assert!(notes(&translated, NoteKind::Untranslated, 3, "tbl"), "{translated:#?}");
    assert!(translated.removal.iter().all(|step| !step.command.contains("10.0.0.7")));
}

#[test]
fn a_network_behind_the_table_is_no_uplink() {
    let text = format!("{TWO}ip route add table 2 192.168.5.0/24 dev eth2\n");
    let (_, config) = imported(Tool::Script, &text, None);
    assert_eq!(config.uplinks.len(), 2);
    let local = format!("{TWO}ip route add local 0.0.0.0/0 dev lo table 100\n");
    assert_eq!(imported(Tool::Script, &local, None).1.uplinks.len(), 2);
    let short = format!("{TWO}ip route add 10.20/16 via 198.51.100.1\n");
    let (_, config) = imported(Tool::Script, &short, None);
    assert_eq!(config.rules[0].matches.destination[0].to_string(), "10.20.0.0/16");
}
