use crate::{
    import::{Tool, translate},
    removal::Step,
};

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 101\n\
                   ip rule add fwmark 1 table 101\n";

/// Returns the steps of a script without those of its start.
fn steps(text: &str) -> Vec<Step> {
    let translated = translate(Tool::Script, text, "wan.sh", None).expect("a script");
    translated.removal.into_iter().skip(2).collect()
}

fn commands(text: &str) -> Vec<String> {
    steps(text).into_iter().map(|step| step.command + &step.what).collect()
}

/// Returns the steps behind those of two uplinks.
fn beside_two(more: &str) -> Vec<String> {
    commands(&format!("{TWO}{more}")).into_iter().skip(2).collect()
}

#[test]
fn each_command_of_a_script_is_undone() {
    let text = include_str!("../../../../tests/import/balance.sh");
    let expected = [
        "ip route flush table first",
        "ip route flush table second",
        "ip rule delete from 192.0.2.2 table first",
        "ip rule delete from 10.9.0.0/16 lookup second prio 50",
        "ip rule delete fwmark 0x10 lookup first",
        "ip rule delete fwmark 0x20 lookup second",
        "ip route replace default via 192.0.2.1 dev eth0",
        "iptables -t mangle -D PREROUTING -i eth2 -s 10.0.0.0/24 -p tcp -m multiport --dports 25,110,143 -j MARK --set-mark 0x10",
        "iptables -t mangle -D PREROUTING -i eth2 -p tcp --dport 443 -j MARK --set-mark 0x20",
        "iptables -t mangle -D PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-mark 0x20",
        "iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE",
        "route del -host bank.example.com gw 198.51.100.1 dev eth1",
    ];
    let expected = expected.map(|command| command.replace(" scope global", ""));
    assert_eq!(commands(text), expected);
}

#[test]
fn an_ip_rule_for_the_main_table_stays() {
    let text = "ip rule add to 10.0.0.0/8 lookup main prio 10\nip rule add from 10.0.0.7 table 101";
    assert_eq!(beside_two(text), ["ip rule delete from 10.0.0.7 table 101"]);
}

#[test]
fn values_that_only_a_run_tells_are_left_to_a_person() {
    let text = "ip rule add from $(hostname -I) table 101\nip route add 10.5.0.0/16 via 10.0.0.2\n\
                iptables -t mangle -I PREROUTING 1 -j MARK --set-mark 1\n";
    let expected = [
        "and what line 4 of the script made, whose values are known only when it runs",
        "iptables -t mangle -D PREROUTING -j MARK --set-mark 1",
    ];
    assert_eq!(beside_two(text), expected);
}

#[test]
fn what_is_not_for_the_uplinks_is_left_alone() {
    for line in [
        "iptables -t nat -A POSTROUTING -o tun0 -j MASQUERADE",
        "iptables -t nat -A POSTROUTING -o br0 -s 192.168.1.0/24 -d 192.168.1.10 -j MASQUERADE",
        "iptables -t nat -A POSTROUTING -j MASQUERADE",
        "iptables -t nat -A POSTROUTING ! -o eth1 -j MASQUERADE",
        "iptables -t mangle -A FORWARD -o eth0 -p udp --dport 5060 -j MARK --set-mark 5",
        "iptables -t mangle -A PREROUTING -i br0 -j MARK --set-mark 5",
        "ip rule add from 192.168.9.0/24 prohibit",
        "ip rule add from 192.168.9.0/24 blackhole table 101",
        "ip rule add to 172.16.5.0/24 table 220",
    ] {
        let told = beside_two(line);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("left alone, line 4: "), "{told:?}");
    }
    for line in [
        "iptables -t nat -A POSTROUTING -o eth+ -j MASQUERADE",
        "iptables -t nat -A POSTROUTING -o eth1 -s 10.0.0.0/8 -j MASQUERADE",
        "iptables -t mangle -A FORWARD -o eth0 -j MARK --set-mark 1",
    ] {
        assert_eq!(beside_two(line), [line.replace("-A", "-D")]);
    }
}

#[test]
fn notes_say_what_stays() {
    let text = format!(
        "{TWO}iptables -t nat -A POSTROUTING -o tun0 -j MASQUERADE\n\
         iptables -t mangle -A FORWARD -o eth0 -p udp --dport 5060 -j MARK --set-mark 5\n"
    );
    let translated = translate(Tool::Script, &text, "wan.sh", None).expect("a script");
    let why = |line: usize| {
        let mut of = translated.notes.iter().filter(|note| note.lines.iter().any(|l| l == line));
        of.next().map(|note| note.why.clone()).unwrap_or_default()
    };
    assert!(why(4).contains("no uplink's: it stays"), "{}", why(4));
    assert!(why(5).contains("asks for this mark: it stays"), "{}", why(5));
}

#[test]
fn marks_are_kept_for_those_that_stay() {
    let restore = "iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark\n";
    let mark = "iptables -t mangle -A PREROUTING -p tcp -j MARK --set-mark 1\n";
    let deleted = |text: &str| text.trim().replace("-A", "-D");
    assert_eq!(beside_two(&format!("{restore}{mark}")), [deleted(restore), deleted(mark)]);
    let other = "iptables -t mangle -A FORWARD -p udp -j MARK --set-mark 5\n";
    let told = beside_two(&format!("{restore}{mark}{other}"));
    assert!(told[0].contains("may need it"), "{told:?}");
    assert_eq!(told[1], deleted(mark));
}

#[test]
fn comments_in_quotes_are_one_word() {
    let line = "iptables -t mangle -A PREROUTING -p tcp -m comment --comment \"it's for ISP 2\" \
                -j MARK --set-mark 1";
    let expected = "iptables -t mangle -D PREROUTING -p tcp -m comment --comment \
                    'it'\\''s for ISP 2' -j MARK --set-mark 1";
    assert_eq!(beside_two(line), [expected]);
}

#[test]
fn the_metric_of_a_route_with_several_ways_is_kept() {
    let text = "ip route replace default scope global metric 50 \
                nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 198.51.100.1 dev eth1 weight 2\n";
    assert_eq!(commands(text), ["ip route replace default metric 50 via 192.0.2.1 dev eth0"]);
}

#[test]
fn commands_within_others_are_undone() {
    let text = "up ip rule add from 10.0.0.7 table 101\n\
                post-up /sbin/iptables -t nat -A POSTROUTING -o eth1 -j MASQUERADE\n\
                ip -batch - <<EOF\nrule add from 10.0.0.8 table 101\n# no rule\nEOF\n";
    let expected = [
        "ip rule delete from 10.0.0.7 table 101",
        "/sbin/iptables -t nat -D POSTROUTING -o eth1 -j MASQUERADE",
        "ip rule delete from 10.0.0.8 table 101",
    ];
    assert_eq!(beside_two(text), expected);
}

#[test]
fn routes_that_became_rules_are_deleted() {
    let text = "ip route add 203.0.113.0/24 via 198.51.100.1\n\
                ip route add 10.5.0.0/16 via 10.0.0.2\n\
                route add -net 192.0.2.128 netmask 255.255.255.128 gw 198.51.100.1\n\
                /sbin/route add -host 203.0.113.9 gw 198.51.100.1\n\
                ip route add 203.0.113.7 via 192.0.2.1 table 101\n";
    let expected = [
        "ip route delete 203.0.113.0/24 via 198.51.100.1",
        "route del -net 192.0.2.128 netmask 255.255.255.128 gw 198.51.100.1",
        "/sbin/route del -host 203.0.113.9 gw 198.51.100.1",
    ];
    assert_eq!(beside_two(text), expected);
}

#[test]
fn chains_that_only_balance_go() {
    let text = "iptables -t mangle -N WAN\n\
                iptables -t mangle -A WAN -p tcp -j MARK --set-mark 1\n\
                iptables -t mangle -A WAN -p tcp -j RETURN\n\
                iptables -t mangle -A PREROUTING -i br0 -j WAN\n";
    let expected = [
        "iptables -t mangle -D PREROUTING -i br0 -j WAN",
        "iptables -t mangle -F WAN",
        "iptables -t mangle -X WAN",
    ];
    assert_eq!(beside_two(text), expected);
    let mixed = format!("{text}iptables -t mangle -A WAN -p udp -j DSCP --set-dscp 46\n");
    let told = beside_two(&mixed);
    assert_eq!(told[0], "iptables -t mangle -D WAN -p tcp -j MARK --set-mark 1");
    assert!(told.iter().any(|step| step.contains("does more than mark")), "{told:?}");
    assert!(!told.iter().any(|step| step.contains("-X")), "{told:?}");
}

#[test]
fn rules_that_are_not_read_are_told() {
    for text in [
        "iptables-restore <<EOF\n*mangle\n-A PREROUTING -j MARK --set-mark 1\nCOMMIT\nEOF\n",
        "nft add rule ip mangle prerouting meta mark set 1\n",
        "iptables-restore /etc/rules.v4\n",
    ] {
        let told = beside_two(text);
        assert!(told[0].starts_with("and what line"), "{text}: {told:?}");
    }
    assert!(beside_two("nft add rule ip filter input drop\n").is_empty());
    let hmark = "iptables -t mangle -A PREROUTING -j HMARK --hmark-tuple src --hmark-mod 2";
    assert_eq!(beside_two(hmark), [hmark.replace("-A", "-D")]);
}
