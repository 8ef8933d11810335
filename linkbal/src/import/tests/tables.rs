//! Routes within tables, and their order among rules; what else must not be lost.

use super::{
    marks::{chain, rules_of},
    *,
};

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 101\n";

/// Three uplinks, the last of which has routes of its own in the main table.
const THREE: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                     ip route add default via 198.51.100.1 dev eth1 table 101\n\
                     ip route add default via 203.0.113.1 dev eth2 table 102\n";

/// Returns the rules of a script of two lines.
fn of(more: &str) -> Vec<String> {
    rules_of(&format!("{TWO}{more}"))
}

fn of_three(more: &str) -> Vec<String> {
    rules_of(&format!("{THREE}{more}"))
}

#[test]
fn a_route_that_refuses_is_the_last_resort_of_its_table() {
    let rule = "ip rule add from 192.168.1.0/25 table 101\n";
    for (route, word) in [
        ("ip route add blackhole default metric 999 table 101\n", "drop"),
        ("ip route add table 101 unreachable 0.0.0.0/0 metric 999\n", "reject"),
        ("ip route add prohibit default table 101 metric 999\n", "reject"),
    ] {
        let expected =
            format!("source = \"192.168.1.0/25\", use = \"eth1\", otherwise = \"{word}\"");
        assert_eq!(of(&format!("{route}{rule}")), [expected]);
    }
    let other = "ip route add blackhole default metric 999 table 102\n";
    assert_eq!(of(&format!("{other}{rule}")), [r#"source = "192.168.1.0/25", use = "eth1""#]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{other}{rule}"), None);
    assert!(notes(&translated, NoteKind::Untranslated, 3, "no ip rule"), "{translated:#?}");
    // By a mark, too.
    let marked =
        "ip route add blackhole default metric 999 table 101\nip rule add fwmark 1 table 101\n"
            .to_owned()
            + &chain(&["-p tcp -j MARK --set-mark 1"]);
    assert_eq!(of(&marked), [r#"protocol = "tcp", use = "eth1", otherwise = "drop""#]);
}

#[test]
fn a_table_of_edgeos_has_its_last_resort_and_all_its_ways() {
    let text = |more: &str| {
        format!(
            "set load-balance group G interface eth0\nset load-balance group G interface eth1\n\
             set interfaces ethernet eth0 address 192.0.2.2/24\n\
             set interfaces ethernet eth1 address 198.51.100.2/24\n\
             set interfaces ethernet eth2 firewall in modify M\n\
             set firewall modify M rule 10 source address 192.168.1.9\n\
             set firewall modify M rule 10 modify table 1\n\
             set firewall modify M rule 20 modify lb-group G\n\
             set protocols static table 1 route 0.0.0.0/0 next-hop 198.51.100.1\n{more}"
        )
    };
    let (_, config) = imported(
        Tool::Edgeos,
        &text("set protocols static table 1 route 0.0.0.0/0 blackhole distance 255\n"),
        None,
    );
    assert_eq!(config.rules[0].otherwise, Otherwise::Drop);
    assert_eq!(members(&config, 0), [("eth1", 1, 1)]);
    let second = "set protocols static table 1 route 0.0.0.0/0 next-hop 192.0.2.1 distance 10\n";
    let (_, config) = imported(Tool::Edgeos, &text(second), None);
    assert_eq!(members(&config, 0), [("eth1", 1, 1), ("eth0", 1, 2)]);
}

#[test]
fn routes_of_the_main_table_come_where_it_is_looked_up() {
    let host = "ip route add 192.0.2.128/25 via 203.0.113.1\n";
    let host_rule = r#"destination = "192.0.2.128/25", use = "eth2""#;
    let net_rule = r#"source = "10.0.0.0/24", use = "eth1""#;
    let rule = "ip rule add from 10.0.0.0/24 table 101\n";
    assert_eq!(of_three(&format!("{rule}{host}")), [net_rule, host_rule]);
    for first in [
        "ip rule add lookup main prio 9\n",
        "ip rule add table main suppress_prefixlength 0 prio 9\n",
    ] {
        let text = format!("{host}ip rule add from 10.0.0.0/24 table 101 prio 10\n{first}");
        assert_eq!(of_three(&text), [host_rule, net_rule], "{first}");
    }
    let late = "ip rule add from 10.0.0.0/24 table 101 prio 32800\n";
    assert_eq!(of_three(&format!("{late}{host}")), [host_rule, net_rule]);
    // Marks come before, and what stays unmarked goes on.
    let marked = "ip rule add fwmark 1 table 101\n".to_owned()
        + &chain(&["-p tcp -j MARK --set-mark 1", "-s 10.0.9.0/24 -j MARK --set-mark 0"]);
    let expected = [
        r#"source = "10.0.9.0/24", destination = "192.0.2.128/25", use = "eth2""#,
        r#"source = "10.0.9.0/24""#,
        r#"protocol = "tcp", use = "eth1""#,
        host_rule,
    ];
    assert_eq!(of_three(&format!("{marked}{host}")), expected);
    // Flows that look the main table up before the others meet its routes there.
    let text = format!(
        "{host}ip rule add from 10.0.0.9 lookup main prio 5\nip rule add from 10.0.0.0/24 table 101 prio 10\n"
    );
    let expected = [
        r#"source = "10.0.0.9", destination = "192.0.2.128/25", use = "eth2""#,
        r#"source = "10.0.0.9""#,
        net_rule,
        host_rule,
    ];
    assert_eq!(of_three(&text), expected);
}

#[test]
fn an_exception_within_a_table_is_one_of_its_rules() {
    let route = "ip route add 192.0.2.128/25 via 203.0.113.1 dev eth2 table 101\n";
    let rule = "ip rule add from 10.0.0.0/24 table 101\n";
    let expected = [
        r#"source = "10.0.0.0/24", destination = "192.0.2.128/25", use = "eth2""#,
        r#"source = "10.0.0.0/24", use = "eth1""#,
    ];
    assert_eq!(of_three(&format!("{route}{rule}")), expected);
    // Outside of what the rule is for, it is none.
    let to = "ip rule add to 198.18.0.0/15 table 101\n";
    let text = format!("{THREE}{route}{to}");
    assert_eq!(rules_of(&text), [r#"destination = "198.18.0.0/15", use = "eth1""#]);
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(notes(&translated, NoteKind::Untranslated, 4, "exception"), "{translated:#?}");
    for (text, words) in [
        ("ip route add blackhole 192.0.2.128/25 table 101\n", "a firewall does"),
        ("ip route add throw 192.0.2.128/25 table 101\n", "passes by the table"),
    ] {
        let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
        assert!(notes(&translated, NoteKind::Untranslated, 3, words), "{translated:#?}");
    }
}

#[test]
fn lines_of_a_batch_are_commands() {
    let text = "NET=10.0.5.0/24\nip -batch - <<EOF\nrule add from $NET table 101\n\n\
                frob\nEOF\nip -b /etc/batch\n";
    assert_eq!(of(text), [r#"source = "10.0.5.0/24", use = "eth1""#]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
    assert!(notes(&translated, NoteKind::Untranslated, 7, "`ip frob`"), "{translated:#?}");
    assert!(notes(&translated, NoteKind::Untranslated, 9, "not in the text"), "{translated:#?}");
}

#[test]
fn what_a_route_says_of_packets_is_told() {
    let text = format!(
        "{TWO}ip route add default via 203.0.113.1 dev ppp0 table 102 mtu lock 1492 initcwnd 10\n"
    );
    let (translated, config) = imported(Tool::Script, &text, None);
    let of = config.uplinks.iter().find(|uplink| uplink.interface == "ppp0").expect("it");
    assert_eq!(of.mtu, Some(1492));
    assert!(notes(&translated, NoteKind::Changed, 3, "initcwnd"), "{translated:#?}");
}

#[test]
fn a_plus_is_a_star() {
    let text =
        format!("{TWO}ip rule add fwmark 1 table 101\n{}", chain(&["-i br+ -j MARK --set-mark 1"]));
    let (_, config) = imported(Tool::Script, &text, None);
    assert_eq!(config.lan_interfaces, ["br*"]);
    let text = format!("{TWO}ip rule add iif lan+ table 101\n");
    assert_eq!(imported(Tool::Script, &text, None).1.lan_interfaces, ["lan*"]);
}

#[test]
fn a_comment_in_quotes_is_no_condition() {
    let text = "ip rule add fwmark 1 table 101\n".to_owned()
        + &chain(&["-p tcp -m comment --comment \"web -> ISP 1\" -j MARK --set-mark 1"]);
    assert_eq!(of(&text), [r#"protocol = "tcp", use = "eth1""#]);
    let function = "mark() {\niptables -t mangle -A PREROUTING -p $1 -m comment --comment \"$2\" \
                    -j MARK --set-mark $3\n}\nip rule add fwmark 1 table 101\nmark tcp \"a b\" 1\n";
    assert_eq!(of(function).len(), 1);
}

#[test]
fn a_stanza_of_interfaces_knows_its_interface() {
    let text = "auto eth0\niface eth0 inet static\n\
                up ip route add default via 192.0.2.1 dev $IFACE table 1\n\
                up ip rule add from 10.0.1.0/24 table 1\n\
                iface eth1 inet static\n\
                post-up /sbin/ip route add default via 198.51.100.1 dev $IFACE table 2\n\
                post-up ip rule add from 10.0.2.0/24 table 2\n";
    let (_, config) = imported(Tool::Script, text, None);
    let devices: Vec<_> = config.uplinks.iter().map(|uplink| &*uplink.interface).collect();
    assert_eq!((devices, config.rules.len()), (vec!["eth0", "eth1"], 2));
}

#[test]
fn shares_by_a_hash_are_to_be_filled_in() {
    let text = TWO.to_owned()
        + "ip rule add fwmark 1 table 101\n"
        + &chain(&["-j HMARK --hmark-tuple src --hmark-mod 2 --hmark-offset 1"]);
    let (translated, _) = imported(Tool::Script, &text, None);
    assert!(notes(&translated, NoteKind::FillIn, 4, "HMARK"), "{translated:#?}");
}

#[test]
fn a_translation_of_one_network_is_changed() {
    let rule = "iptables -t nat -A POSTROUTING -s 192.168.0.0/16 -o eth1 -j MASQUERADE\n";
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{rule}"), None);
    assert!(notes(&translated, NoteKind::Changed, 3, "only 192.168.0.0/16"), "{translated:#?}");
    let whole = rule.replace("-s 192.168.0.0/16 ", "");
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{whole}"), None);
    assert!(notes(&translated, NoteKind::Unneeded, 3, "by itself"), "{translated:#?}");
}

#[test]
fn a_condition_that_is_not_known_makes_a_rule_of_mwan3_a_comment() {
    let text = "config interface 'wan'\n option enabled 1\nconfig interface 'wanb'\n option enabled 1\n\
                config member 'm'\n option interface 'wanb'\n option weight '0'\n\
                config policy 'p'\n list use_member 'm'\n\
                config rule 'r'\n option src_mac '02:00:00:00:00:01'\n option use_policy 'p'\n";
    let (translated, config) = imported(Tool::Mwan3, text, None);
    assert!(config.rules.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 11, "src_mac"), "{translated:#?}");
    assert!(notes(&translated, NoteKind::Changed, 7, "weight of 0"), "{translated:#?}");
}

#[test]
fn the_gateways_own_source_takes_no_flows_of_the_lan() {
    let text = "set load-balance group G interface eth0\nset load-balance group G interface eth1\n\
                set interfaces ethernet eth2 firewall in modify M\n\
                set firewall modify M rule 10 source group address-group ADDRv4_eth3\n\
                set firewall modify M rule 10 modify lb-group G\n";
    let (translated, config) = imported(Tool::Edgeos, text, None);
    assert!(config.rules.is_empty());
    assert!(notes(&translated, NoteKind::Unneeded, 4, "own addresses"), "{translated:#?}");
}

#[test]
fn policy_routes_and_test_programs_of_vyos_are_told() {
    let text = "set load-balancing wan interface-health eth0 nexthop 192.0.2.1\n\
                set load-balancing wan interface-health eth1 nexthop 198.51.100.1\n\
                set load-balancing wan interface-health eth1 test 1 type user-defined\n\
                set load-balancing wan rule 1 interface eth0\n\
                set load-balancing wan rule 1 inbound-interface eth2\n\
                set policy route P rule 10 set table 11\n\
                set policy route P rule 10 source address 10.0.0.9\n\
                set protocols static table 11 route 0.0.0.0/0 next-hop 198.51.100.1\n";
    let (translated, _) = imported(Tool::Vyos, text, None);
    assert!(notes(&translated, NoteKind::Untranslated, 6, "use = \"eth1\""), "{translated:#?}");
    assert_eq!(translated.text.matches("without tests").count(), 1, "{}", translated.text);
    assert!(translated.text.contains("the program that tested"), "{}", translated.text);
}
