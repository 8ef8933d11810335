//! `[[rule]]`: the meaning of its keys.

use super::*;

/// Two uplinks and one LAN interface.
pub(super) const TWO_UPLINKS: &str = "[lan]\ninterfaces = [\"lan0\"]\n\
                                      [uplink.fiber]\ninterface = \"eth0\"\n\
                                      [uplink.cable]\ninterface = \"eth1\"\n";

fn rules(text: &str) -> Vec<Rule> {
    parse(&format!("{TWO_UPLINKS}{text}")).rules
}

/// Returns the conditions of a rule with these keys of `match`.
fn matched(keys: &str) -> Match {
    rules(&format!("[[rule]]\nmatch = {{ {keys} }}\n")).remove(0).matches
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn member(uplink: &str, weight: u32, tier: u32) -> Member {
    Member { uplink: uplink.into(), weight, tier }
}

/// Returns the rules of [`FULL`].
pub(super) fn of_the_full_file() -> [Rule; 3] {
    let sticky = RuleSticky {
        by: StickyBy::SourceAndDestination,
        idle: Duration::from_secs(3600),
        source_bits: (24, 56),
    };
    let shared = Rule {
        matches: Match {
            source: vec![net("10.0.0.0/24")],
            protocol: vec![6, 17, 132],
            source_port: vec![(5000, 5000)],
            destination_port: vec![(25, 25), (8000, 8100)],
            dscp: vec![46],
            vlan: vec![1],
            ..Match::default()
        },
        members: vec![member("fiber", 30, 1), member("Cable_1", 70, 1)],
        otherwise: Otherwise::Reject,
        sticky: Some(sticky),
    };
    let ordered = Rule {
        matches: Match {
            destination: vec![net("::/0"), net("192.0.2.1/32")],
            protocol: vec![1, 47, 58],
            interface: vec!["eth2.10".into()],
            ..Match::default()
        },
        members: vec![member("dsl-2", 1, 1), member("fiber", 1, 2)],
        otherwise: Otherwise::Drop,
        sticky: None,
    };
    let single = Rule {
        matches: Match {
            mac: vec![[2, 0, 0, 0, 0, 1]],
            domain: vec!["bank.com.br".into(), "b.br".into()],
            ..Match::default()
        },
        members: vec![member("fiber", 1, 1)],
        otherwise: Otherwise::Balance,
        sticky: None,
    };
    [shared, ordered, single]
}

#[test]
fn every_key_of_match_is_read() {
    let expected = Match {
        source: vec![net("10.0.0.0/24")],
        destination: vec![net("198.51.100.0/24"), net("2001:db8::/32")],
        protocol: vec![6],
        source_port: vec![(5000, 5000)],
        destination_port: vec![(25, 25), (110, 110), (8000, 8100)],
        dscp: vec![46],
        interface: vec!["lan0".into()],
        vlan: vec![10],
        mac: vec![[2, 0, 0, 0, 0, 0xfe]],
        domain: vec!["bank.com.br".into()],
    };
    let one_each = "source = \"10.0.0.0/24\", destination = [\"198.51.100.0/24\", \"2001:db8::/32\"], \
         protocol = \"tcp\", sport = 5000, dport = [25, 110, \"8000-8100\"], dscp = \"ef\", \
         interface = \"lan0\", vlan = 10, mac = \"02:00:00:00:00:fE\", \
         domain = \"Bank.com.BR.\"";
    assert_eq!(matched(one_each), expected);
    let lists = one_each
        .replace("\"10.0.0.0/24\"", "[\"10.0.0.0/24\"]")
        .replace("5000", "[\"5000-5000\"]")
        .replace("\"ef\"", "[46]")
        .replace("\"lan0\"", "[\"lan0\"]")
        .replace("= 10,", "= [10],")
        .replace("\"02:00:00:00:00:fE\"", "[\"02:00:00:00:00:fe\"]")
        .replace("\"Bank.com.BR.\"", "[\"bank.com.br\"]");
    assert_eq!(matched(&lists), expected);
}

#[test]
fn a_rule_without_keys_changes_nothing() {
    let nothing = Rule {
        matches: Match::default(),
        members: vec![],
        otherwise: Otherwise::Balance,
        sticky: None,
    };
    assert_eq!(rules("[[rule]]\n"), std::slice::from_ref(&nothing));
    assert_eq!(rules("[[rule]]\nmatch = {}\notherwise = \"balance\"\n"), [nothing]);
}

#[test]
fn addresses_are_prefixes_of_full_length() {
    let prefixes = matched("source = [\"192.0.2.7\", \"2001:db8::1\", \"0.0.0.0/0\", \"::/0\"]");
    let expected = ["192.0.2.7/32", "2001:db8::1/128", "0.0.0.0/0", "::/0"].map(net);
    assert_eq!(prefixes.source, expected);
}

#[test]
fn protocols_have_names_and_numbers() {
    let protocols = |list: &str| matched(&format!("protocol = {list}")).protocol;
    assert_eq!(protocols("\"icmp\""), [1, 58]);
    assert_eq!(protocols("[\"udp\", 1, 0, 255, \"icmp\"]"), [0, 1, 17, 58, 255]);
    let named = protocols("[\"tcp\", \"udp\", \"sctp\", \"gre\", \"esp\", \"ah\", \"ipip\"]");
    assert_eq!(named, [4, 6, 17, 47, 50, 51, 132]);
}

#[test]
fn ports_imply_the_protocols_that_have_them() {
    assert_eq!(matched("dport = 53").protocol, [6, 17, 132]);
    assert_eq!(matched("sport = \"1-65535\"").protocol, [6, 17, 132]);
    assert_eq!(matched("sport = 53, protocol = [\"udp\", 6]").protocol, [6, 17]);
    assert!(matched("dscp = 0").protocol.is_empty());
}

/// Checks the values of RFC 2474, RFC 2597 (section 6), RFC 3246, RFC 5865 and RFC 8622.
#[test]
fn dscp_values_have_names() {
    let text = "dscp = [\"cs0\", \"cs7\", \"af11\", \"af23\", \"af32\", \"af43\", \"ef\", \"va\", \"le\", 63]";
    assert_eq!(matched(text).dscp, [0, 56, 10, 22, 28, 38, 46, 44, 1, 63]);
}

#[test]
fn the_three_forms_of_use() {
    let members = |text: &str| rules(&format!("[[rule]]\nuse = {text}\n")).remove(0).members;
    assert_eq!(members("\"fiber\""), [member("fiber", 1, 1)]);
    assert_eq!(members("[\"fiber\", \"cable\"]"), [member("fiber", 1, 1), member("cable", 1, 2)]);
    let group = [member("fiber", 10_000, 1), member("cable", 1, 1)];
    assert_eq!(members("{ fiber = 10000, cable = 1 }"), group);
}

#[test]
fn what_becomes_of_flows_without_an_uplink() {
    let text = "[[rule]]\nmatch.vlan = 1\nuse = \"fiber\"\notherwise = \"drop\"\n\
                [[rule]]\nuse = \"fiber\"\notherwise = \"reject\"\n";
    let kinds: Vec<Otherwise> = rules(text).iter().map(|rule| rule.otherwise).collect();
    assert_eq!(kinds, [Otherwise::Drop, Otherwise::Reject]);
}

#[test]
fn sticky_of_a_rule() {
    let sticky = |text: &str| rules(&format!("[[rule]]\nsticky = {text}\n"))[0].sticky;
    let default =
        RuleSticky { by: StickyBy::Source, idle: Duration::from_secs(600), source_bits: (32, 128) };
    assert_eq!(sticky("{}"), Some(default));
    assert_eq!(sticky("{ by = \"src\", idle = \"10m\", group = false }"), Some(default));
    let changed = RuleSticky {
        by: StickyBy::SourceAndDestination,
        idle: Duration::from_secs(3600),
        source_bits: (24, 56),
    };
    assert_eq!(sticky("{ by = \"src+dst\", idle = \"1h\", group = true }"), Some(changed));
}

#[test]
fn rules_keep_the_order_of_the_file() {
    let text: String =
        (1..=MAX_RULES).rev().map(|vlan| format!("[[rule]]\nmatch.vlan = {vlan}\n")).collect();
    let vlans: Vec<u16> = rules(&text).iter().map(|rule| rule.matches.vlan[0]).collect();
    let expected: Vec<u16> = (1..=MAX_RULES as u16).rev().collect();
    assert_eq!(vlans, expected);
}

/// Checks that relative names are relative to the folder of the configuration.
#[test]
fn prefixes_of_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let prefixes = "# a provider's\n10.0.0.0/8 # private\r\n\n  2001:db8::/32\n192.0.2.1";
    fs::write(directory.path().join("prefixes.txt"), prefixes).expect("a file");
    let path = directory.path().join("linkbal.toml");
    let rule = "[[rule]]\nmatch.source = [\"172.16.0.0/12\", { file = \"prefixes.txt\" }]\n";
    fs::write(&path, format!("{TWO_UPLINKS}{rule}")).expect("a file");
    let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}")).config;
    let expected = ["172.16.0.0/12", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"].map(net);
    assert_eq!(config.rules[0].matches.source, expected);
}

/// Reads the largest number of prefixes in each of several rules that have to be compared.
#[test]
fn large_files_are_read() {
    let lines: String = (0..100_000u32)
        .map(|i| format!("{}/25\n", std::net::Ipv4Addr::from(0x0a00_0000 + i * 256)))
        .collect();
    let rules: String = (1..=4)
        .map(|vlan| {
            format!("[[rule]]\nmatch = {{ vlan = {vlan}, destination = {{ file = \"x\" }} }}\n")
        })
        .collect();
    let text =
        format!("{TWO_UPLINKS}{rules}[[rule]]\nmatch = {{ destination = {{ file = \"x\" }} }}\n");
    let parsed = Config::parse_with(&text, Path::new("test.toml"), &|_| Ok(lines.clone()));
    let Parsed { config, warnings } = parsed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.rules[4].matches.destination.len(), 100_000);
    assert!(warnings.problems().is_empty(), "{warnings}");
}

#[test]
fn interfaces_may_be_patterns() {
    let text = "[lan]\ninterfaces = [\"br-*\", \"wg*\", \"lan0\", \"*.20\"]\n\
                [uplink.a]\ninterface = \"br-wan\"\n[bond.br-b]\nmode = \"active-backup\"\n\
                members = [\"eth1\", \"eth2\"]\nmiimon = 100\n";
    let rule = |interface: &str| {
        format!("{text}[[rule]]\nmatch = {{ interface = {interface:?} }}\nuse = \"a\"\n")
    };
    let parsed = Config::parse(text, "test").expect("a valid configuration");
    assert_eq!(parsed.lan_interfaces, ["br-*", "wg*", "lan0", "*.20"]);
    for interface in ["br-*", "br-9f", "br-1*", "lan*", "wg0", "eth0.20", "*"] {
        let config = Config::parse(&rule(interface), "test").expect(interface);
        assert_eq!(config.rules[0].matches.interface, [interface]);
    }
    for interface in ["eth0", "lan1"] {
        let error = Config::parse(&rule(interface), "test").expect_err(interface).to_string();
        assert!(error.contains("is not an interface of the LAN"), "{error}");
    }
    for pattern in ["br /*", "a:*", "abcdefghijklmnop*"] {
        let text = text.replace("wg*", pattern);
        let error = Config::parse(&text, "test").expect_err(pattern).to_string();
        assert!(error.contains("is not a network interface"), "{error}");
    }
}

#[test]
fn resolvers_of_uplinks_come_before_all_rules() {
    let text = "lan.interfaces = [\"br-lan\"]\n[uplink.cable]\ninterface = \"eth1\"\n\
                resolvers = [\"192.0.2.53\", \"2001:db8::53\"]\n[uplink.fiber]\n\
                interface = \"eth0\"\n[[rule]]\nuse = \"fiber\"\n";
    let config = parse(text);
    assert_eq!(config.rules.len(), 2);
    let Rule { matches, members, otherwise, .. } = &config.rules[0];
    let destinations = ["192.0.2.53/32", "2001:db8::53/128"];
    let destination = destinations.map(|net| net.parse().expect("a prefix")).to_vec();
    assert_eq!(*matches, Match { destination, ..Match::default() });
    assert_eq!((members[0].uplink.as_str(), members.len()), ("cable", 1));
    assert_eq!(*otherwise, Otherwise::Reject);
    assert_eq!(config.uplinks[0].resolvers.len(), 2);
}
