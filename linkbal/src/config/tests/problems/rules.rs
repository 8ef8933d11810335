//! `[[rule]]`.

use super::{super::rules::TWO_UPLINKS, *};

/// Expects the problems of `lines`, which begin at line 7.
#[track_caller]
fn expect_after_uplinks(lines: &str, expected: &[&str]) {
    expect(&format!("{TWO_UPLINKS}{lines}"), expected);
}

/// Expects one problem of a value of `match`, which stands at line 8, column 9.
#[track_caller]
fn expect_of_key(key: &str, value: &str, message: &str, help: &str) {
    let at = format!("8:{}", "match.".len() + key.len() + 4);
    let expected = format!("{at} `rule.match.{key}`: {message} | {help}");
    expect_after_uplinks(&format!("[[rule]]\nmatch.{key} = {value}\n"), &[&expected]);
}

const PREFIX_HELP: &str = "write an address or a prefix, like \"192.0.2.7\" or \"2001:db8::/32\"";

#[test]
fn rules_in_the_wrong_form() {
    expect_after_uplinks(
        "[rule]\nuse = \"fiber\"\n",
        &["7:1 `rule`: expected a list, found a section | \
           write each rule as [[rule]], with two brackets on each side"],
    );
    expect_after_uplinks(
        "[[rule]]\nmatch = \"tcp\"\nsticky = true\notherwise = 1\nuse = 1\nuses = 1\n",
        &[
            "8:9 `rule.match`: expected a section, found a text | \
             write it in braces, like match = { protocol = \"tcp\", dport = 25 }",
            "9:10 `rule.sticky`: expected a section, found true or false | \
             write it in braces, like sticky = { by = \"src\", idle = \"1h\" }",
            "10:13 `rule.otherwise`: expected a word, found a whole number | write \"balance\" (use \
             the other uplinks), \"drop\" or \"reject\" (say so to the sender)",
            "11:7 `rule.use`: expected an uplink, found a whole number | \
             write an uplink like \"fiber\"; or [\"cable\", \"fiber\"] for the first one that is \
             usable; or { fiber = 30, cable = 70 } for shares",
            "12:1 unknown key `rule.uses` | \
             did you mean `use`?",
        ],
    );
}

#[test]
fn unknown_keys_and_words_of_a_rule() {
    expect_after_uplinks(
        "[[rule]]\nmatch = { sorce = \"::/0\" }\notherwise = \"deny\"\n\
         sticky = { by = \"dst\", idle = \"1500ms\", group = 1, ports = [1] }\n",
        &[
            "8:11 unknown key `rule.match.sorce` | did you mean `source`?",
            "9:13 `rule.otherwise`: \"deny\" is unknown | write \"balance\" (use the other \
             uplinks), \"drop\" or \"reject\" (say so to the sender)",
            "10:17 `rule.sticky.by`: \"dst\" is unknown | write \"src+dst\" (a source and a \
             destination) or \"src\" (all flows of a source)",
            "10:31 `rule.sticky.idle`: 1s 500ms has a part of a second | \
             write whole seconds, like \"2s\"",
            "10:49 `rule.sticky.group`: expected true or false, found a whole number | \
             write true or false, without quotes",
            "10:52 unknown key `rule.sticky.ports` | remove it; the keys here are: by, idle, group",
        ],
    );
}

#[test]
fn uplinks_of_a_rule() {
    let empty = "name an uplink, or leave `use` out for all of them";
    expect_after_uplinks(
        "[[rule]]\nuse = \"fibre\"\n[[rule]]\nuse = [\"fiber\", \"lte\", 3, \"fiber\"]\n\
         [[rule]]\nuse = { fiber = 0, Cable = 10001 }\n[[rule]]\nuse = []\n[[rule]]\nuse = {}\n",
        &[
            "8:7 `rule.use`: there is no uplink \"fibre\" | \
             did you mean \"fiber\"? the uplinks are: fiber, cable",
            "10:17 `rule.use`: there is no uplink \"lte\" | the uplinks are: fiber, cable",
            "10:24 `rule.use`: expected a text, found a whole number | write it in double quotes",
            "10:27 `rule.use`: fiber is listed twice | remove one of the two",
            "12:17 `rule.use.fiber`: 0 is not within 1 to 10000 | write a number from 1 to 10000",
            "12:20 `rule.use`: there is no uplink \"Cable\" | \
             did you mean \"cable\"? the uplinks are: fiber, cable",
            "12:28 `rule.use.Cable`: 10001 is not within 1 to 10000 | \
             write a number from 1 to 10000",
            &format!("14:7 `rule.use`: the list is empty | {empty}"),
            &format!("16:7 `rule.use`: the group is empty | {empty}"),
        ],
    );
    expect_after_uplinks(
        "[[rule]]\nuse = \"fiber, cable\"\n",
        &[
            "8:7 `rule.use`: there is no uplink \"fiber, cable\" | write an uplink like \"fiber\"; or \
           [\"cable\", \"fiber\"] for the first one that is usable; or { fiber = 30, cable = 70 } for shares",
        ],
    );
    // Not compared with uplinks that were refused.
    let text = "uplink = 1\n[lan]\ninterfaces = [\"lan0\"]\n[[rule]]\nuse = \"fiber\"\n";
    assert_eq!(problems(text).len(), 1);
}

#[test]
fn bad_prefixes() {
    let of_source = |value, message, help| expect_of_key("source", value, message, help);
    of_source("\"lan\"", "\"lan\" is not a prefix", PREFIX_HELP);
    of_source("\"10.0.0.0/33\"", "\"10.0.0.0/33\" is not a prefix", PREFIX_HELP);
    of_source(
        "\"10.0.0.9/24\"",
        "10.0.0.9/24 has bits of the address set after its prefix",
        "write \"10.0.0.0/24\", or \"10.0.0.9\" for the one host",
    );
    of_source(
        "\"2001:db8::1/64\"",
        "2001:db8::1/64 has bits of the address set after its prefix",
        "write \"2001:db8::/64\", or \"2001:db8::1\" for the one host",
    );
    of_source(
        "\"::ffff:192.0.2.0/120\"",
        "::ffff:192.0.2.0/120 is an IPv4 prefix written as IPv6",
        "write \"192.0.2.0/24\"",
    );
    of_source(
        "7",
        "expected a prefix, found a whole number",
        &format!(
            "{PREFIX_HELP}; or write the name of a file with one prefix on each line, like \
             {{ file = \"prefixes.txt\" }}"
        ),
    );
    let help = "write a value, or leave `destination` out if any will do";
    expect_of_key("destination", "[]", "the list is empty", help);
}

#[test]
fn families_that_never_meet() {
    let help = "write sources and destinations of the same family, or of both families each";
    expect_after_uplinks(
        "[[rule]]\nmatch = { source = [\"192.0.2.1\", \"10.0.0.0/8\"], destination = \"::/0\" }\n\
         [[rule]]\nmatch = { source = \"::/0\", destination = \"0.0.0.0/0\" }\n\
         [[rule]]\nmatch = { source = [\"::1\", \"192.0.2.1\"], destination = \"0.0.0.0/0\" }\n\
         [[rule]]\nmatch = { source = [\"::/0\", \"x\"], destination = \"0.0.0.0/0\" }\n",
        &[
            &format!("8:63 `rule.match.destination`: no flow goes from IPv4 to IPv6 | {help}"),
            &format!("10:42 `rule.match.destination`: no flow goes from IPv6 to IPv4 | {help}"),
            &format!("14:29 `rule.match.source`: \"x\" is not a prefix | {PREFIX_HELP}"),
        ],
    );
}

#[test]
fn bad_protocols() {
    let names = "the names are: tcp, udp, sctp, icmp, gre, esp, ah, ipip; others are written as \
                 numbers";
    let unknown = |name: &str, advice: &str| {
        let message = format!("there is no protocol {name:?}");
        expect_of_key("protocol", &format!("{name:?}"), &message, &format!("{advice}{names}"));
    };
    unknown("icmp6", "did you mean \"icmp\"? ");
    unknown("quic", "");
    let help = "write a number from 0 to 255";
    expect_of_key("protocol", "256", "256 is not within 0 to 255", help);
    expect_of_key(
        "protocol",
        "6.0",
        "expected a protocol, found a decimal number",
        "write one of \"tcp\", \"udp\", \"sctp\", \"icmp\", \"gre\", \"esp\", \"ah\", \"ipip\", \
         or a number from 0 to 255",
    );
}

#[test]
fn bad_ports() {
    let help = "write a port like 443, or a range in double quotes like \"8000-8100\"";
    expect_of_key(
        "dport",
        "\"443\"",
        "\"443\" is not a range of ports",
        "write 443, without quotes",
    );
    for text in ["0-5", "1-65536", "http", "1-2-3", "-5"] {
        let message = format!("{text:?} is not a range of ports");
        expect_of_key("dport", &format!("{text:?}"), &message, help);
    }
    expect_of_key("sport", "true", "expected a port, found true or false", help);
    let range = "write a number from 1 to 65535";
    expect_of_key("sport", "0", "0 is not within 1 to 65535", range);
    expect_of_key("sport", "65536", "65536 is not within 1 to 65535", range);
    let backwards = "the range \"8100-8000\" ends before it begins";
    expect_of_key("dport", "\"8100-8000\"", backwards, "write \"8000-8100\"");
}

#[test]
fn ports_of_protocols_without_ports() {
    let help = "ports are for \"tcp\", \"udp\" and \"sctp\": write a rule of its own";
    let problem = |place: &str, name: &str| {
        format!(
            "{place} `rule.match.protocol`: protocol {name} has no ports, but the rule names \
             some | {help}"
        )
    };
    expect_after_uplinks(
        "[[rule]]\nmatch = { dport = 53, protocol = [\"tcp\", \"icmp\", 97] }\n",
        &[&problem("8:42", "icmp"), &problem("8:50", "97")],
    );
    expect_after_uplinks(
        "[[rule]]\nmatch = { protocol = \"esp\", sport = 53 }\n",
        &[&problem("8:22", "esp")],
    );
}

#[test]
fn bad_dscp_values() {
    let help = "write a number from 0 to 63, or a name: \"cs0\" to \"cs7\", \"af11\" to \"af43\", \
                \"ef\", \"va\" or \"le\"";
    for name in ["cs8", "af44", "af50", "EF", ""] {
        let message = format!("there is no DSCP value {name:?}");
        expect_of_key("dscp", &format!("{name:?}"), &message, help);
    }
    expect_of_key(
        "dscp",
        "[]",
        "the list is empty",
        "write a value, or leave `dscp` out if any will do",
    );
    expect_of_key("dscp", "64", "64 is not within 0 to 63", "write a number from 0 to 63");
    expect_of_key("dscp", "false", "expected a DSCP value, found true or false", help);
}

#[test]
fn bad_interfaces_vlans_and_macs() {
    let listed = "the interfaces of [lan] are: lan0";
    let interface = |name: &str, help: &str| {
        let message = format!("{name} is not an interface of the LAN");
        expect_of_key("interface", &format!("{name:?}"), &message, help);
    };
    interface("lna0", &format!("did you mean \"lan0\"? {listed}"));
    interface("eth0", listed);
    for vlan in [0, 4095] {
        let message = format!("{vlan} is not within 1 to 4094");
        expect_of_key("vlan", &vlan.to_string(), &message, "write a number from 1 to 4094");
    }
    let help = "write six pairs of hexadecimal digits, like \"02:00:00:00:00:01\"";
    for mac in [
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "02-00-00:00-00-01",
        "2:0:0:0:0:1",
        "+2:00:00:00:00:01",
    ] {
        let message = format!("{mac:?} is not a MAC address");
        expect_of_key("mac", &format!("{mac:?}"), &message, help);
    }
    for other in ["02-00-00-00-AB-01", "0200.0000.ab01"] {
        let message = format!("{other:?} is not a MAC address");
        let written = "write \"02:00:00:00:ab:01\"";
        expect_of_key("mac", &format!("{other:?}"), &message, written);
    }
    expect_of_key("mac", "2", "expected a MAC address, found a whole number", help);
}

#[test]
fn too_many_rules() {
    let rules: String = (1..=129).map(|vlan| format!("[[rule]]\nmatch.vlan = {vlan}\n")).collect();
    expect_after_uplinks(
        &rules,
        &["263:1 `rule`: 129 rules, at most 128 are possible | \
           join rules with the same `use`: every key of `match` can be a list"],
    );
}

/// Returns `file:line:column message | help` of every problem of a rule that names a file with this
/// text.
fn problems_of_file(prefixes: &str) -> Vec<String> {
    let text = format!("{TWO_UPLINKS}[[rule]]\nmatch.source = {{ file = \"a/b.txt\" }}\nuse = 1\n");
    let read = |path: &Path| {
        assert_eq!(path, Path::new("etc/a/b.txt"));
        Ok(prefixes.to_owned())
    };
    let error = Config::parse_with(&text, Path::new("etc/test.toml"), &read)
        .expect_err("a file with problems");
    let shown = error.to_string();
    let (last, problems) = error.problems().split_last().expect("a problem");
    assert!(last.message.starts_with("`rule.use`: "), "{shown}");
    let describe = |problem: &Problem| {
        let at = problem.location.as_ref().expect("a place");
        let file = problem.file().unwrap_or("etc/test.toml");
        let place = format!("{file}:{}:{}", at.line, at.column);
        assert!(shown.contains(&format!("[{place}]")), "{place} is not in:\n{shown}");
        format!("{place} {} | {}", problem.message, problem.help)
    };
    problems.iter().map(describe).collect()
}

#[test]
fn problems_in_files_of_prefixes() {
    let problems =
        problems_of_file("# mine\n10.0.0.0/8\n\t10.0.0.1/8 # not this\n\nü 192.0.2.1\r\n");
    let expected = [
        "etc/a/b.txt:3:2 10.0.0.1/8 has bits of the address set after its prefix | \
         write \"10.0.0.0/8\", or \"10.0.0.1\" for the one host",
        &format!("etc/a/b.txt:5:1 \"ü 192.0.2.1\" is not a prefix | {PREFIX_HELP}"),
    ];
    assert_eq!(problems, expected);
    let empty = "etc/test.toml:8:25 `rule.match.source.file`: no prefix is in etc/a/b.txt | \
                 write one prefix on each line";
    assert_eq!(problems_of_file(" \n# none"), [empty]);
}

#[test]
fn files_of_something_else() {
    let problems = problems_of_file(&"x\n".repeat(12));
    let expected = "etc/test.toml:8:25 `rule.match.source.file`: 12 lines of etc/a/b.txt are \
                    refused | the first 10 are shown; check that it is the right file";
    assert_eq!(problems.len(), 11, "{problems:#?}");
    assert_eq!(problems[10], expected);
    let problems = problems_of_file(&"10.0.0.0/8\n".repeat(100_001));
    let expected = "etc/a/b.txt:100001:1 more than 100000 prefixes | \
                    join neighbours, or leave out what is within others";
    assert_eq!(problems, [expected]);
}

#[test]
fn files_that_cannot_be_read() {
    let help = "the name is relative to the folder of the configuration";
    expect_after_uplinks(
        "[[rule]]\nmatch.source = [{ file = \"p.txt\" }, {}, { file = 3, line = 1 }]\n",
        &[
            &format!("8:26 `rule.match.source.file`: failed to read p.txt: unsupported | {help}"),
            "8:37 no file is named | write the name of a file with one prefix on each line, like \
             { file = \"prefixes.txt\" }",
            "8:50 `rule.match.source.file`: expected a text, found a whole number | \
             write it in double quotes",
            "8:53 unknown key `rule.match.source.line` | remove it; the keys here are: file",
        ],
    );
}

#[test]
fn bad_domains() {
    let refused = |name: &str, reason: &str, help: &str| {
        expect_of_key("domain", &format!("{name:?}"), &format!("{name:?} {reason}"), help);
    };
    let help = "write a name like \"bank.com.br\", which stands for its subdomains, too";
    expect_of_key("domain", "\"\"", "the name is empty", help);
    expect_of_key("domain", "\".\"", "the name is empty", help);
    expect_of_key("domain", "7", "expected a domain name, found a whole number", help);
    let without = "write a value, or leave `domain` out if any will do";
    expect_of_key("domain", "[]", "the list is empty", without);
    let first_dot = "has no name before its first dot";
    let included = "subdomains are included: write \"bank.com\"";
    refused("*.Bank.com", first_dot, included);
    refused(".bank.com", first_dot, included);
    let page = "is the address of a page";
    refused("https://www.bank.com/login", page, "write the name only: \"www.bank.com\"");
    refused("http://bank.com:8080", page, "write the name only: \"bank.com\"");
    let address = "is an address, not a name";
    for text in ["192.0.2.7", "2001:db8::1", "192.0.2.0/24"] {
        let help = format!("write it as the destination: destination = {text:?}");
        refused(text, address, &help);
    }
    let ascii = "write its ASCII form, which begins with xn-- where letters are not ASCII";
    refused("itaú.com.br", "has letters that are not ASCII", ascii);
    let letters = "names are made of letters, digits, hyphens and dots";
    refused("bank.com/login", "has the character '/'", letters);
    refused("bank.*.com", "has the character '*'", letters);
    refused("bank com", "has the character ' '", letters);
    refused("bank..com", "has two dots in a row", help);
    let (label, long) = ("a".repeat(64), format!("{}bank.com", "a.".repeat(123)));
    let check = |most: u32| format!("at most {most} are possible: check the name");
    refused(&format!("{label}.com"), "has 64 bytes between two dots", &check(63));
    refused(&long, "has 254 bytes", &check(253));
}

#[test]
fn names_and_labels_of_full_length_are_accepted() {
    let (label, long) = ("a".repeat(63), format!("{}bank.org", "ab.".repeat(81) + "c."));
    assert_eq!(long.len(), 253);
    let text = format!("{TWO_UPLINKS}[[rule]]\nmatch.domain = [\"{label}.com\", \"{long}.\"]\n");
    let rules = parse(&text).rules;
    assert_eq!(rules[0].matches.domain, [format!("{label}.com"), long]);
}

#[test]
fn too_many_domains() {
    let rule = |names: std::ops::Range<u32>| {
        let names: Vec<String> = names.map(|number| format!("\"n{number}.com\"")).collect();
        format!("[[rule]]\nmatch = {{ domain = [{}] }}\n", names.join(","))
    };
    let most = [rule(0..600), rule(500..1024), rule(0..600)].concat();
    assert_eq!(parse(&format!("{TWO_UPLINKS}{most}")).rules.len(), 3);
    expect_after_uplinks(
        &[most, rule(1024..1025), rule(1025..1026)].concat(),
        &["13:1 `rule`: more than 1024 different domains in all rules together | write parents \
           that several have in common, like \"bank.com\" for \"www.bank.com\" and \
           \"api.bank.com\""],
    );
}

#[test]
fn too_many_macs_interfaces_resolvers_and_ports() {
    let list = |count: u16, item: fn(u16) -> String| {
        let items: Vec<String> = (0..count).map(|number| format!("\"{}\"", item(number))).collect();
        items.join(",")
    };
    let mac = |number: u16| format!("02:00:00:00:{:02x}:{:02x}", number >> 8, number & 255);
    let server = |number: u16| format!("10.0.{}.{}", number >> 8, number & 255);
    let interfaces = list(64, |number| format!("lan{number}"));
    let rule = |key: &str, items: &str| format!("[[rule]]\nmatch = {{ {key} = [{items}] }}\n");
    let text = |lan: &str, more: &str| TWO_UPLINKS.replace("\"lan0\"", lan) + more;
    for (lan, more, expected) in [
        (
            "\"lan0\"",
            rule("mac", &list(4096, mac)),
            "more than 4095 different MAC addresses in all rules",
        ),
        (
            &*interfaces,
            rule("interface", &interfaces),
            "more than 63 different interfaces in all rules",
        ),
        (
            "\"lan0\"",
            format!("[dns]\nresolvers = [{}]\n", list(129, server)),
            "129 servers, at most 128",
        ),
        (
            "\"lan0\"",
            format!("[[sticky]]\nports = {:?}\n", Vec::from_iter(1..=1921)),
            "1921 ports in all classes, at most 1920",
        ),
    ] {
        let problems = problems(&text(lan, &more));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
    assert_eq!(parse(&text("\"lan0\"", &rule("mac", &list(4095, mac)))).rules.len(), 1);
}

#[test]
fn bad_resolvers() {
    let help = "write addresses of DNS servers as a list, like [\"192.0.2.53\", \"2001:db8::53\"]";
    expect_after_uplinks(
        "[dns]\nresolvers = [\"127.0.0.1\", \"dns.bank.com\", \"192.0.2.1\", \"192.0.2.1\"]\n\
         servers = 1\n",
        &[
            &format!("8:14 `dns.resolvers`: 127.0.0.1 is a loopback address | {help}"),
            &format!(
                "8:27 `dns.resolvers`: \"dns.bank.com\" is not an IP address | {help}; names \
                 cannot be looked up while an uplink is down"
            ),
            "8:56 `dns.resolvers`: 192.0.2.1 is listed twice | remove one of the two",
            "9:1 unknown key `dns.servers` | did you mean `resolvers`?",
        ],
    );
}

#[test]
fn bad_resolvers_of_uplinks() {
    expect(
        "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.cable]\ninterface = \"eth1\"\nipv6 = \"off\"\n\
         resolvers = [\"192.0.2.1\", \"2001:db8::1\"]\n[uplink.fiber]\ninterface = \"eth0\"\n\
         resolvers = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.2\"]\n",
        &[
            "6:27 `uplink.cable.resolvers`: 2001:db8::1 is an IPv6 address, and ipv6 is off here | \
             remove it, or let the uplink carry IPv6",
            "9:14 `uplink.fiber.resolvers`: 192.0.2.1 is a resolver of uplink cable, too | one that \
             answers all clients belongs into `resolvers` of [dns]; take it out of one of the two",
            "9:40 `uplink.fiber.resolvers`: 192.0.2.2 is listed twice | remove one of the two",
        ],
    );
}
