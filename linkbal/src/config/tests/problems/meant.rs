//! Mistakes of people who come from other tools, or from another format: each with what to write.

use super::*;

/// Expects one problem, at a place, whose message and advice contain words.
#[track_caller]
fn expect_one(text: &str, place: &str, words: &str) {
    let found = problems(text);
    let [problem] = &found[..] else { panic!("{found:#?} in:\n{text}") };
    assert!(problem.starts_with(&format!("{place} ")) && problem.contains(words), "{problem}");
}

#[track_caller]
fn expect_line(line: &str, place: &str, words: &str) {
    expect_one(&format!("{SMALLEST}{line}\n"), place, words);
}

#[test]
fn values_without_quotes() {
    let quoted = |line: &str, place: &str, value: &str| {
        expect_line(line, place, &format!("write it in double quotes: {value:?}"));
    };
    quoted("gateway = 192.0.2.1", "5:11", "192.0.2.1");
    quoted("gateway = 2001:db8::1 # the router", "5:11", "2001:db8::1");
    quoted("resolvers = [192.0.2.53]", "5:14", "192.0.2.53");
    quoted("probe = { interval = 5s, hold = \"1s\" }", "5:22", "5s");
    quoted("prefix = 198.51.100.0/24", "5:10", "198.51.100.0/24");
    expect_line("accelerate = yes", "5:14", "write true");
    expect_line("accelerate = False", "5:14", "write false");
    expect_line("nat = off", "5:7", "write true or false, or \"off\" in double quotes");
    expect_line("on_up = “drain”", "5:9", "write \"drain\", with straight double quotes");
}

#[test]
fn lines_of_other_formats() {
    expect_line("weight: 5", "5:7", "write weight = 5");
    expect_line("weight 5", "5:8", "write weight = 5");
    expect_line("on down = \"move\"", "5:4", "write on_down = \"move\"");
    expect_line("uplink.cable {", "5:14", "write the section as [uplink.cable], without braces");
}

#[test]
fn names_with_spaces() {
    let text = SMALLEST.replace("[uplink.fiber]", "[uplink.my fiber]");
    expect_one(&text, "3:11", "there is a space in a name | write [uplink.my-fiber]");
    let text = SMALLEST.replace("[uplink.fiber]", "[uplink.my old fiber]  # ours");
    expect_one(&text, "3:11", "write [uplink.my-old-fiber]");
    expect_line("[[my rule]]", "5:5", "write [[my-rule]]");
}

#[test]
fn sections_that_are_there_twice_are_one_problem() {
    expect_line(
        "[uplink.fiber]\ninterface = \"eth1\"\nweight = 1",
        "5:9",
        "the section [uplink.fiber] is there twice",
    );
    expect_line("[lan]\ninterfaces = [\"a\"]", "5:2", "the section [lan] is there twice");
    // And the problems of what follows are still there.
    let text = format!("{SMALLEST}[lan]\ninterfaces = []\n[probe]\nhold = 1\nhold = 2\n");
    let found = problems(&text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].starts_with("9:1 `hold` is there twice | remove one"), "{found:#?}");
}

#[test]
fn rules_have_two_brackets() {
    let two = "write each as [[rule]], with two brackets on each side";
    let rule = "match = { dport = 443 }\nuse = \"fiber\"";
    expect_line(&format!("[[rule]]\n{rule}\n[rule]\n{rule}"), "8:2", two);
    expect_line(&format!("[rule]\n{rule}\n[[rule]]\n{rule}"), "8:3", two);
    expect_line(&format!("[rule]\n{rule}\n[rule]\n{rule}"), "8:2", two);
    expect_line("[[sticky]]\nports = [443]\n[sticky]\nports = [22]", "7:2", "[[sticky]]");
}

#[test]
fn several_values_in_one_text() {
    let rule = |key: &str, value: &str| format!("[[rule]]\nmatch = {{ {key} = {value} }}");
    expect_line(&rule("dport", "\"80,443\""), "6:19", "write a list: dport = [80, 443]");
    expect_line(&rule("sport", "\"80, 8000-8100\""), "6:19", "sport = [80, \"8000-8100\"]");
    let list = "source = [\"10.0.0.0/8\", \"192.0.2.1\"]";
    expect_line(&rule("source", "\"10.0.0.0/8, 192.0.2.1\""), "6:20", list);
    expect_line(&rule("source", "\"10.0.0.0/8 192.0.2.1\""), "6:20", list);
    expect_line(&rule("protocol", "\"tcp,udp\""), "6:22", "protocol = [\"tcp\", \"udp\"]");
    expect_line(&rule("domain", "\"a.com, b.com\""), "6:20", "domain = [\"a.com\", \"b.com\"]");
    expect_line(&rule("dport", "[\"80,443\", 22]"), "6:20", "write the items apart: 80, 443");
    expect_line("resolvers = \"192.0.2.1, 192.0.2.2\"", "5:13", "resolvers = [\"192.0.2.1\"");
    let text = SMALLEST.replace("[\"br-lan\"]", "\"br-lan, eth1\"");
    expect_one(&text, "2:14", "interfaces = [\"br-lan\", \"eth1\"]");
    let text = SMALLEST.replace("[\"br-lan\"]", "[\"br-lan, eth1\"]");
    expect_one(&text, "2:15", "write the items apart: \"br-lan\", \"eth1\"");
}

#[test]
fn names_and_ranges_of_other_tools() {
    let rule = |key: &str, value: &str| format!("[[rule]]\nmatch = {{ {key} = {value} }}");
    for value in ["www.example.com", "https://www.example.com/login", "*.www.example.com"] {
        let domain = "write domain = \"www.example.com\"";
        expect_line(&rule("destination", &format!("{value:?}")), "6:25", domain);
    }
    expect_line(&rule("destination", "\"any\""), "6:25", "leave the key out");
    expect_line(&rule("source", "\"!10.0.0.0/8\""), "6:20", "a rule of its own before this one");
    expect_line(&rule("source", "\"10.0.0.1-10.0.0.9\""), "6:20", "a list of prefixes");
    expect_line(&rule("dport", "\"8000:8100\""), "6:19", "write \"8000-8100\"");
    expect_line(&rule("protocol", "\"TCP\""), "6:22", "did you mean \"tcp\"?");
}

#[test]
fn keys_of_other_tools() {
    let rule = |line: &str| format!("[[rule]]\n{line}");
    let in_match = |key: &str| rule(&format!("match = {{ {key} = 443 }}"));
    for key in ["ports", "port", "dst_port", "dest-port", "destinationPort"] {
        expect_line(&in_match(key), "6:11", "did you mean `dport`?");
    }
    for key in ["proto", "src_ip", "daddr", "hostname", "iif", "vlan_id"] {
        assert!(
            problems(&format!("{SMALLEST}{}", in_match(key)))[0].contains("did you mean"),
            "{key}"
        );
    }
    for line in ["dport = 443", "ports = [443]", "src = \"192.0.2.1\"", "interface = \"br-lan\""] {
        expect_line(&rule(line), "6:1", "conditions stand in `match`, like match = {");
    }
    expect_line(&rule("uplink = \"fiber\""), "6:1", "write use = \"fiber\"");
    for line in ["metric = 1", "priority = 1"] {
        expect_line(line, "5:1", "write tier = 1 for the first choice");
    }
    expect_line("gateway4 = \"192.0.2.1\"", "5:1", "write gateway = \"192.0.2.1\"");
    expect_line("via = \"203.0.113.5\"", "5:1", "| write gateway = \"203.0.113.5\"");
    expect_line("track_ip = \"9.9.9.9\"", "5:1", "like probe = { targets = [\"9.9.9.9\"] }");
    expect_line("interval = \"2s\"", "5:1", "like probe = { interval = \"2s\" }");
    expect_line(&rule("src = \"10.0.0.7\""), "6:1", "like match = { source = \"10.0.0.7\" }");
    expect_line(&rule("via = [\"fiber\"]"), "6:1", "write use = \"fiber\"");
    for line in ["track_ip = [\"1.1.1.1\"]", "targets = [\"1.1.1.1\"]", "interval = \"1s\""] {
        expect_line(line, "5:1", "keys of probes stand in `probe`");
    }
    expect_line("dhcp4 = true", "5:1", "linkbal sets up no interfaces");
    expect_line("enabled = false", "5:1", "`linkbal disable NAME` takes an uplink out of use");
    expect_line("description = \"ours\"", "5:1", "write it as a comment");
    expect_line("[probe]\ndown = 3", "6:1", "did you mean `failure_count`?");
    expect_line("[wan]", "5:2", "write a section for each uplink");
    // What was meant is not missed as well.
    let text = SMALLEST.replace("interfaces =", "interface =");
    expect_one(&text, "2:1", "write interfaces = [\"br-lan\"]");
    let text = SMALLEST.replace("interface =", "iface =").replace("ifaces", "interfaces");
    expect_one(&text, "4:1", "write interface = \"eth0\"");
}

#[test]
fn keys_in_another_case() {
    expect_line("Weight = 3", "5:1", "write `weight`: in lower case, with `_`");
    expect_line("onDown = \"move\"", "5:1", "write `on_down`");
    expect_line("reclaim-after = \"1m\"", "5:1", "write `reclaim_after`");
    let text = SMALLEST.replace("[lan]", "[LAN]");
    expect_one(&text, "1:2", "write `lan`");
}

#[test]
fn words_where_true_or_false_was_written() {
    for (line, word) in [
        ("nat = true", "\"masquerade\""),
        ("ipv6 = false", "\"off\""),
        ("on_down = true", "\"reset\""),
        ("on_up = false", "\"drain\""),
        ("probe.on_degraded = true", "\"avoid\""),
        ("[firewall]\ninbound = false", "\"established\""),
        ("[accelerate]\nmode = true", "\"ebpf\""),
        ("[[rule]]\notherwise = true", "\"balance\""),
        ("[[sticky]]\nports = [443]\nby = true", "\"src\""),
    ] {
        let found = problems(&format!("{SMALLEST}{line}\n"));
        let [problem] = &found[..] else { panic!("{found:#?}") };
        assert!(problem.contains("expected a word, found true or false | write \""), "{problem}");
        assert!(problem.contains(word), "{problem}");
    }
    for line in ["accelerate = \"yes\"", "accelerate = \"On\""] {
        expect_line(line, "5:14", "write true, without quotes");
    }
}

#[test]
fn the_kernels_numbers_of_a_bond() {
    let bond = |mode: &str| {
        let text = SMALLEST.replace("eth0", "bond0");
        problems(&format!("{text}[bond.bond0]\nmode = {mode}\nmembers = [\"eth8\", \"eth9\"]\n"))
    };
    for (mode, name) in [("0", "balance-rr"), ("\"4\"", "802.3ad"), ("6", "balance-alb")] {
        let found = bond(mode);
        assert!(found[0].contains(&format!("write {name:?}, the kernel's name of")), "{found:#?}");
    }
    assert!(bond("7")[0].contains("write one of \"balance-rr\""), "{:?}", bond("7"));
}

#[test]
fn targets_in_other_spellings() {
    let target = |target: &str, help: &str| {
        expect_line(&format!("[probe]\ntargets = [{target:?}]"), "6:12", help);
    };
    target("dns:8.8.8.8", "| write \"dns://8.8.8.8\"");
    target("8.8.8.8:53", "| write \"tcp://8.8.8.8:53\" or \"dns://8.8.8.8\"");
    target("ping://8.8.8.8", "| write \"8.8.8.8\"");
    target("http:/x", "| write \"http://x\"");
}

#[test]
fn a_file_of_another_format_is_one_problem() {
    let yaml = "lan:\n  interfaces:\n    - br-lan\nuplink:\n  fiber:\n    interface: eth0\n";
    expect_one(yaml, "1:1", "this looks like YAML | linkbal's configuration is TOML");
    let script =
        "#!/bin/sh\nip route add default via 192.0.2.1\nfor i in 1 2; do\n  echo $i\ndone\n";
    expect_one(script, "1:1", "linkbal import script FILE");
}

#[test]
fn uplinks_in_a_section_of_another_name_are_checked_in_the_same_run() {
    let text = SMALLEST.replace("[uplink.fiber]", "[wan.fiber]") + "weight = \"3\"\ncolour = 1\n";
    let found = problems(&text);
    let starts = [
        "3:2 unknown key `wan` ",
        "5:10 `wan.fiber.weight`: ",
        "6:1 unknown key `wan.fiber.colour`",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{found:#?}");
    }
}

#[test]
fn all_keys_are_listed_once_in_a_section_and_only_where_no_key_is_near() {
    let found = problems(&format!("{SMALLEST}colour = 1\nshape = 1\nwieght = 1\n"));
    let listed: Vec<bool> = found.iter().map(|problem| problem.contains("the keys here")).collect();
    assert_eq!(listed, [true, false, false], "{found:#?}");
}
