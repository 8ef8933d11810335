//! Values that are valid, but probably a mistake.

use super::{rules::TWO_UPLINKS, *};

fn warnings(text: &str) -> Warnings {
    let no_files = |_: &Path| panic!("no file is named");
    let parsed = Config::parse_with(text, Path::new("test.toml"), &no_files);
    parsed.unwrap_or_else(|error| panic!("{error}")).warnings
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    let text = format!("{TWO_UPLINKS}{text}");
    let lines: Vec<String> = warnings(&text).lines().collect();
    assert_eq!(lines, expected, "in:\n{text}");
}

const HELP: &str =
    "move it before the other one, or remove it: the first rule that matches decides";

#[test]
fn shadowed_rules() {
    let shadowed = |line: usize, later: usize, earlier: usize| {
        format!(
            "test.toml:{line}:1: rule {later} is never reached: rule {earlier} matches everything \
             that it matches ({HELP})"
        )
    };
    expect(
        "[[rule]]\nmatch = { source = \"10.0.0.0/8\" }\nuse = \"fiber\"\n\
         [[rule]]\nmatch = { source = \"10.1.0.0/16\", dport = 25 }\nuse = \"cable\"\n\
         [[rule]]\nuse = \"cable\"\n\
         [[rule]]\nmatch = { vlan = 3 }\nuse = \"fiber\"\n\
         [[rule]]\nmatch = { source = \"10.0.0.0/7\" }\n",
        &[&shadowed(10, 2, 1), &shadowed(15, 4, 3), &shadowed(18, 5, 3)],
    );
}

#[test]
fn patterns_of_iptables() {
    let of = |name: &str| warnings(&TWO_UPLINKS.replace("lan0", name)).lines().collect::<Vec<_>>();
    let told = of("br+");
    assert!(told.len() == 1 && told[0].contains("write \"br*\""), "{told:?}");
    assert!(of("br*").is_empty());
}

#[test]
fn targets_that_all_need_the_right_time() {
    let clock = |targets: &str| {
        let text = format!("{TWO_UPLINKS}[probe]\ntargets = [{targets}]\n");
        warnings(&text).lines().filter(|line| line.contains("need the right time")).count()
    };
    assert_eq!(clock("\"https://a.example/\", \"https://b.example/\""), 1);
    assert_eq!(clock("\"https://a.example/\", \"192.0.2.1\""), 0);
}

#[test]
fn a_quorum_that_one_family_cannot_reach() {
    let help = "add targets of IPv6; until then all of its 1 must answer";
    expect(
        "probe = { quorum = 2, targets = [\"192.0.2.1\", \"192.0.2.2\", \"2001:db8::1\"] }\n",
        &[&format!(
            "test.toml:7:20: `uplink.cable.probe.quorum`: 2 targets must answer, but only 1 for \
             IPv6 can ({help})"
        )],
    );
    expect(
        "[probe]\nquorum = 2\n[uplink.lte]\ninterface = \"wwan0\"\n\
         probe.targets = [\"192.0.2.1\", \"2001:db8::2\", \"2001:db8::1\"]\n",
        &[
            "test.toml:11:17: `uplink.lte.probe.quorum`: 2 targets must answer, but only 1 for IPv4 \
           can (add targets of IPv4; until then all of its 1 must answer)",
        ],
    );
    // One family without any targets is judged by the other one.
    expect("probe = { quorum = 2, targets = [\"192.0.2.1\", \"192.0.2.2\"] }\n", &[]);
    expect("[probe]\nquorum = 3\n", &[]);
}

#[test]
fn warnings_as_they_are_shown() {
    let text = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.fiber]\ninterface = \"eth0\"\n\
                [[rule]]\nuse = \"fiber\"\n[[rule]]\nmatch = { vlan = 3 }\n";
    let expected = "1 warning in test.toml

  ⚠ rule 2 is never reached: rule 1 matches everything that it matches
   ╭─[test.toml:7:1]
 4 │ interface = \"eth0\"
 5 │ [[rule]]
   · ────┬───
   ·     ╰── this one decides
 6 │ use = \"fiber\"
 7 │ [[rule]]
   · ────────
 8 │ match = { vlan = 3 }
   ╰────
  help: move it before the other one, or remove it: the first rule that matches decides
";
    assert_eq!(warnings(text).to_string(), expected);
}

#[test]
fn domains_that_are_listed_twice_and_rules_that_they_shadow() {
    expect(
        "[[rule]]\nmatch = { domain = [\"bank.com\", \"Bank.com.\", \"b.br\"] }\nuse = \"fiber\"\n\
         [[rule]]\nmatch = { domain = \"www.bank.com\", dport = 443 }\nuse = \"cable\"\n",
        &[
            "test.toml:8:33: `rule.match.domain`: bank.com is listed twice (remove one of the two)",
            &format!(
                "test.toml:10:1: rule 2 is never reached: rule 1 matches everything that it \
                 matches ({HELP})"
            ),
        ],
    );
}

#[test]
fn targets_of_one_operator() {
    let help = "add targets of others: while that one fails, every uplink looks dead";
    let warning = |at: &str, family: &str, operator: &str| {
        format!(
            "test.toml:{at}: `uplink.cable.probe.targets`: all targets of {family} are at \
             {operator} ({help})"
        )
    };
    expect(
        "probe.targets = [\"1.1.1.1\", \"tcp://1.0.0.1:443\", \"dns://[2620:fe::9]\"]\n",
        &[&warning("7:17", "IPv4", "Cloudflare")],
    );
    expect(
        "probe.targets = [\"http://a.example.com/\", \"https://b.example.com/\"]\n",
        &[&warning("7:17", "IPv4", "example.com"), &warning("7:17", "IPv6", "example.com")],
    );
    expect(
        "probe.targets = [\"1.1.1.1\", \"8.8.8.8\", \"dns://[2620:fe::9]\", \"gateway\"]\n",
        &[],
    );
    expect("probe.targets = [\"http://a.example.com/\", \"https://b.example.org/\"]\n", &[]);
}

#[test]
fn a_bond_that_nothing_uses() {
    expect(
        "[bond.bond0]\nmode = \"broadcast\"\nmembers = [\"eth8\"]\n",
        &["test.toml:7:7: no uplink and no LAN uses bond0 (write interface = \"bond0\" in an \
           uplink, or remove the bond)"],
    );
}

#[test]
fn nothing_to_reclaim_for() {
    let warning = |line: usize| {
        format!(
            "test.toml:{line}:9: `uplink.lte.on_up`: nothing is reclaimed, for no uplink is better \
             (give this one a higher tier than those that it stands in for, or remove it)"
        )
    };
    let lte = "[uplink.lte]\ninterface = \"wwan0\"\non_up = \"reclaim\"\n";
    expect(lte, &[&warning(9)]);
    for better in ["tier = 2\n", "weight = 0\n"] {
        expect(&format!("{lte}{better}"), &[]);
    }
    expect(&lte.replace("reclaim", "drain"), &[]);
}
