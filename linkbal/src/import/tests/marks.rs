//! Marks of iptables and ip rules of scripts.

use super::*;

/// Two lines: the first one is the default, the second one has a table, and marks lead to each.
pub(super) const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 192.0.2.1 dev eth0 table 1\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n\
                   ip rule add fwmark 1 table 1\n\
                   ip rule add fwmark 2 table 2\n";

/// Returns the rules of a script of two lines, without origins; those that are comments with a `#`.
pub(super) fn rules(more: &str) -> Vec<String> {
    rules_of(&format!("{TWO}{more}"))
}

pub(super) fn rules_of(text: &str) -> Vec<String> {
    let (translated, _) = imported(Tool::Script, text, None);
    let blocks = translated.text.split("\n\n").filter(|block| block.contains("[[rule]]"));
    let said = |line: &str| {
        let line = line.trim_start_matches("# ");
        line.split(" #").next().unwrap_or_default().trim().replace("match.", "")
    };
    blocks
        .map(|block| {
            let lines: Vec<String> = block.trim().lines().skip(1).map(said).collect();
            let sign = if block.trim().starts_with('#') { "#" } else { "" };
            format!("{sign}{}", lines.join(", "))
        })
        .collect()
}

/// Returns rules of the table mangle, each of which is put behind the others of PREROUTING.
pub(super) fn chain(rules: &[&str]) -> String {
    rules.iter().map(|rule| format!("iptables -t mangle -A PREROUTING {rule}\n")).collect()
}

#[test]
fn the_last_mark_counts_whatever_its_number() {
    let text = chain(&[
        "-s 10.0.0.0/24 -j MARK --set-mark 1",
        "-s 10.0.0.0/24 -p tcp --dport 443 -j MARK --set-mark 2",
    ]);
    let expected = [
        r#"source = "10.0.0.0/24", protocol = "tcp", dport = 443, use = "eth1""#,
        r#"source = "10.0.0.0/24""#,
    ];
    assert_eq!(rules(&text), expected);
}

#[test]
fn an_inserted_mark_stands_where_it_is_put() {
    let text = "iptables -t mangle -A PREROUTING -p udp -j MARK --set-mark 2\n\
                iptables -t mangle -A PREROUTING -p sctp -j MARK --set-mark 2\n\
                iptables -t mangle -I PREROUTING 2 -p icmp -j MARK --set-mark 2\n\
                iptables -t mangle -I PREROUTING -p gre -j MARK --set-mark 2\n";
    let order = ["sctp", "icmp", "udp", "gre"];
    let expected = order.map(|name| format!("protocol = \"{name}\", use = \"eth1\""));
    assert_eq!(rules(text), expected);
}

#[test]
fn the_first_mark_counts_for_what_is_marked_only_if_unmarked() {
    let text = chain(&[
        "-p tcp --dport 443 -j MARK --set-mark 2",
        "-s 10.0.0.0/24 -m mark --mark 0 -j MARK --set-mark 1",
        "-p udp -m mark --mark 0x0/0xff -j MARK --set-mark 2",
    ]);
    let expected = [
        r#"protocol = "tcp", dport = 443, use = "eth1""#,
        r#"source = "10.0.0.0/24""#,
        r#"protocol = "udp", use = "eth1""#,
    ];
    assert_eq!(rules(&text), expected);
}

#[test]
fn the_first_mark_counts_if_its_packets_leave_the_chain() {
    let leave = ["-p tcp --dport 443 -j RETURN", "-m mark ! --mark 0 -j ACCEPT"];
    for leave in leave {
        let text = chain(&[
            "-p tcp --dport 443 -j MARK --set-mark 2",
            leave,
            "-s 10.0.0.0/24 -j MARK --set-mark 1",
        ]);
        let expected =
            [r#"protocol = "tcp", dport = 443, use = "eth1""#, r#"source = "10.0.0.0/24""#];
        assert_eq!(rules(&text), expected, "{leave}");
    }
}

#[test]
fn what_leaves_the_chain_before_all_marks_is_an_exception() {
    let text = chain(&[
        "-d 192.0.2.128/25 -j RETURN",
        "-s 10.0.0.0/24 -j MARK --set-mark 2",
        "-s 10.0.0.7 -j MARK --set-mark 0",
    ]);
    let expected = [
        r#"destination = "192.0.2.128/25""#,
        r#"source = "10.0.0.7""#,
        r#"source = "10.0.0.0/24", use = "eth1""#,
    ];
    assert_eq!(rules(&text), expected);
}

#[test]
fn what_leaves_the_chain_with_another_mark_is_told() {
    let text = TWO.to_owned()
        + &chain(&[
            "-s 10.0.0.0/24 -j MARK --set-mark 1",
            "-p tcp --dport 443 -j ACCEPT",
            "-p tcp -j MARK --set-mark 2",
        ]);
    let (translated, _) = imported(Tool::Script, &text, None);
    let ends = line_of(&text, "-j ACCEPT");
    assert!(notes(&translated, NoteKind::Untranslated, ends, "order"), "{translated:#?}");
}

#[test]
fn a_chain_has_the_conditions_of_what_jumps_to_it() {
    let text = "iptables -t mangle -N LINK2\n\
                iptables -t mangle -A LINK2 -p tcp -j MARK --set-mark 2\n\
                iptables -t mangle -A LINK2 -j RETURN\n\
                iptables -t mangle -A PREROUTING -s 10.0.0.7 -j LINK2\n\
                iptables -t mangle -A PREROUTING -s 10.0.0.8 -j LINK2\n";
    let expected = ["10.0.0.8", "10.0.0.7"]
        .map(|source| format!(r#"source = "{source}", protocol = "tcp", use = "eth1""#));
    assert_eq!(rules(text), expected);
}

#[test]
fn marks_that_flows_of_the_lan_do_not_meet_are_comments() {
    let chains = [
        ("OUTPUT", "gateway's own"),
        ("POSTROUTING", "chosen already"),
        ("FORWARD", "chosen already"),
        ("X", "chain X"),
    ];
    for (name, why) in chains {
        let text = format!("{TWO}iptables -t mangle -A {name} -p tcp -j MARK --set-mark 2\n");
        assert_eq!(rules_of(&text), [r##"#protocol = "tcp", use = "eth1""##], "{name}");
        let (translated, _) = imported(Tool::Script, &text, None);
        assert!(notes(&translated, NoteKind::Untranslated, 6, why), "{translated:#?}");
    }
}

#[test]
fn an_answer_needs_no_mark_by_the_uplink_that_it_came_in_by() {
    let text = TWO.to_owned()
        + &chain(&["-i eth1 -m state --state NEW -j CONNMARK --set-mark 2"])
        + "iptables -t mangle -A POSTROUTING -o eth1 -j CONNMARK --set-mark 2\n";
    assert!(rules_of(&text).is_empty());
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(notes(&translated, NoteKind::Unneeded, 6, "an answer"), "{translated:#?}");
    assert!(notes(&translated, NoteKind::Unneeded, 7, "keeps its uplink"), "{translated:#?}");
}

#[test]
fn the_mark_of_a_connection_is_a_mark() {
    let text = chain(&["-p tcp --dport 25 -j CONNMARK --set-mark 2", "-j CONNMARK --restore-mark"]);
    assert_eq!(rules(&text), [r#"protocol = "tcp", dport = 25, use = "eth1""#]);
}

#[test]
fn a_condition_that_linkbal_does_not_have_makes_a_comment() {
    let text = chain(&["-p tcp -m time --timestart 08:00 -j MARK --set-mark 2"]);
    assert_eq!(rules(&text), [r##"#protocol = "tcp", use = "eth1""##]);
}

#[test]
fn an_ip_rule_without_a_priority_goes_before_the_others() {
    let text = "ip route replace default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 table 2\n\
                ip rule add from 10.0.0.0/16 table 2\n\
                ip rule add from 10.0.1.0/24 table 2 prio 40000\n\
                ip rule add from 10.0.2.0/24 table 2 prio 7\n\
                ip rule add from 10.0.3.0/24 table 2\n";
    let nets = ["10.0.3.0/24", "10.0.2.0/24", "10.0.0.0/16", "10.0.1.0/24"];
    let expected = nets.map(|net| format!("source = \"{net}\", use = \"eth1\""));
    assert_eq!(rules_of(text), expected);
}

#[test]
fn an_ip_rule_for_all_sources_is_none_for_own_addresses() {
    let text = "ip rule add from all to 203.0.113.0/24 table 2\n\
                ip rule add from 0/0 iif eth3 table 2\n\
                ip rule add from 198.51.100.2 table 2\n";
    let expected =
        [r#"interface = "eth3", use = "eth1""#, r#"destination = "203.0.113.0/24", use = "eth1""#];
    assert_eq!(rules(text), expected);
}

#[test]
fn an_ip_rule_that_negates_is_a_comment_and_one_that_refuses_is_told() {
    let text = format!("{TWO}ip rule add not from 10.0.1.0/24 table 2\nip rule add prohibit\n");
    assert_eq!(rules_of(&text), [r##"#source = "10.0.1.0/24", use = "eth1""##]);
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(notes(&translated, NoteKind::Untranslated, 7, "a firewall"), "{translated:#?}");
}

#[test]
fn an_ip_rule_for_the_main_table_is_an_exception_to_those_behind_it() {
    let text = "ip rule add from 10.0.0.0/24 table 2 prio 20\n\
                ip rule add from 10.0.0.7 lookup main prio 10\n\
                ip rule add from 10.0.0.8 lookup main prio 30\n";
    let expected = [r#"source = "10.0.0.7""#, r#"source = "10.0.0.0/24", use = "eth1""#];
    let without_marks = TWO.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(rules_of(&(without_marks + text)), expected);
}

#[test]
fn the_rules_of_ipv6_are_for_ipv6() {
    let text = "ip -6 route add default via 2001:db8::1 dev eth1 table 6\n\
                ip -6 rule add fwmark 2 table 6\n\
                ip -6 rule add iif eth3 table 6\n\
                ip6tables -t mangle -A PREROUTING -p tcp -j MARK --set-mark 2\n\
                iptables -t mangle -A PREROUTING -p udp -j MARK --set-mark 2\n";
    let expected = [
        r#"protocol = "udp", destination = "0.0.0.0/0", use = "eth1""#,
        r#"interface = "eth3", destination = "::/0", use = "eth1""#,
        r#"protocol = "tcp", destination = "::/0", use = "eth1""#,
    ];
    assert_eq!(rules(text), expected);
}

#[test]
fn a_way_through_chains_has_an_end_that_is_told() {
    let mut text = TWO.to_owned() + &chain(&["-j C0"]);
    for number in 0..8 {
        let jump = format!("iptables -t mangle -A C{number} -j C{}\n", number + 1);
        text.push_str(&jump.repeat(6));
    }
    text.push_str("iptables -t mangle -A C3 -p tcp -j MARK --set-mark 2\n");
    let (translated, _) = imported(Tool::Script, &text, None);
    let told = translated.notes.iter().any(|note| note.why.contains("too long"));
    assert!(told, "{translated:#?}");
}

#[test]
fn a_mark_of_forward_that_connections_keep_is_one() {
    let text = "iptables -t mangle -A FORWARD -p tcp -j MARK --set-mark 2\n\
                iptables -t mangle -A POSTROUTING -j CONNMARK --save-mark\n";
    assert_eq!(rules(text), [r#"protocol = "tcp", use = "eth1""#]);
}

#[test]
fn a_mark_is_compared_by_the_mask() {
    let text = "ip route replace default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 table 2\n\
                ip rule add fwmark 0x200/0xf00 table 2\n"
        .to_owned()
        + &chain(&[
            "-p tcp -j MARK --set-xmark 0x200/0xf00",
            "-p udp -j MARK --set-mark 0x201",
            "-p sctp -j MARK --or-mark 0x200",
        ]);
    let expected = [
        r##"#protocol = "sctp", use = "eth1""##,
        r#"protocol = "udp", use = "eth1""#,
        r#"protocol = "tcp", use = "eth1""#,
    ];
    assert_eq!(rules_of(&text), expected);
    let several = text + "iptables -t mangle -A PREROUTING -p esp -j MARK --set-mark 1/0xf\n";
    assert_eq!(rules_of(&several).iter().filter(|rule| rule.starts_with('#')).count(), 2);
    let (translated, _) = imported(Tool::Script, &several, None);
    assert!(notes(&translated, NoteKind::Untranslated, 4, "several masks"), "{translated:#?}");
}

#[test]
fn a_mark_for_a_name_is_a_rule_for_a_domain() {
    let text = chain(&["-d bb.com.br -j MARK --set-mark 2"]);
    assert_eq!(rules(&text), [r#"domain = "bb.com.br", use = "eth1""#]);
}

#[test]
fn what_leaves_the_chain_behind_comments_alone_is_an_exception() {
    let text = chain(&[
        "-p tcp -m time --timestart 08:00 -j MARK --set-mark 2",
        "-d 192.168.0.0/16 -j RETURN",
        "-p udp -j MARK --set-mark 2",
    ]);
    let expected = [
        r#"destination = "192.168.0.0/16""#,
        r##"#protocol = "tcp", use = "eth1""##,
        r#"protocol = "udp", use = "eth1""#,
    ];
    let mut found = rules(&text);
    found.sort();
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(rules(&text)[0], r#"destination = "192.168.0.0/16""#);
}

#[test]
fn a_jump_for_packets_without_a_mark_says_nothing_within_its_chain() {
    let jump = "iptables -t mangle -A PREROUTING -i lan0 -m mark --mark 0 -j LB\n";
    let two = "iptables -t mangle -A LB -j MARK --set-mark 1\n\
               iptables -t mangle -A LB -p tcp --dport 80 -j MARK --set-mark 2\n";
    let expected = [
        r#"interface = "lan0", protocol = "tcp", dport = 80, use = "eth1""#,
        r#"interface = "lan0""#,
    ];
    assert_eq!(rules(&format!("{jump}{two}")), expected);
    // Earlier marks stay: a single rule of the chain says so, several are comments.
    let before = chain(&["-p udp -j MARK --set-mark 2"]);
    let one = "iptables -t mangle -A LB -j MARK --set-mark 1\n";
    let expected = [r#"protocol = "udp", use = "eth1""#, r#"interface = "lan0""#];
    assert_eq!(rules(&format!("{before}{jump}{one}")), expected);
    let all = rules(&format!("{before}{jump}{two}"));
    assert_eq!(all.iter().filter(|rule| rule.starts_with('#')).count(), 2, "{all:?}");
    let shared = "iptables -t mangle -A LB -m statistic --mode random --probability 0.5 -j MARK --set-mark 1\n\
                  iptables -t mangle -A LB -m statistic --mode random --probability 0.5 -j MARK --set-mark 2\n";
    let (_, config) = imported(Tool::Script, &format!("{TWO}{jump}{shared}"), None);
    // A half has the last mark, and a quarter none: it leaves by the default route.
    assert_eq!(members(&config, 0).len(), 2);
}

#[test]
fn what_the_script_takes_away_again_is_gone() {
    let text = "ip rule add from 10.0.0.5 table 2\nip rule del from 10.0.0.5 table 2\n\
                ip rule del from 10.0.0.6 table 2\nip rule add from 10.0.0.6 table 2\n\
                iptables -t mangle -I PREROUTING -p tcp -j MARK --set-mark 2\n\
                iptables -t mangle -D PREROUTING -p tcp -j MARK --set-mark 2\n";
    assert_eq!(rules(text), [r#"source = "10.0.0.6", use = "eth1""#]);
    let unsure = "ip rule add from 10.0.0.5 table 2\n\
                  if ping -c1 x; then ip rule del from 10.0.0.5 table 2; fi\n";
    assert_eq!(rules(unsure).len(), 1);
}
