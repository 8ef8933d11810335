use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Gateway, OnDown, Otherwise, StickyBy, Target};

mod ip_rules;
mod main_table;
mod marks;
mod nat;
mod own;
mod routers;
mod shell;
mod statistic;
mod tables;
mod tree;
mod uci;
mod values;

const MWAN3: &str = include_str!("../../tests/import/mwan3");
const NETWORK: &str = include_str!("../../tests/import/network");
const VYOS: &str = include_str!("../../tests/import/vyos");
const VYOS_BRACES: &str = include_str!("../../tests/import/vyos.boot");
const EDGEOS: &str = include_str!("../../tests/import/edgeos.boot");
const SCRIPT: &str = include_str!("../../tests/import/balance.sh");
const FAILOVER: &str = include_str!("../../tests/import/failover.sh");
const CHANCE: &str = include_str!("../../tests/import/chance.sh");
const BOND: &str = include_str!("../../tests/import/bond.sh");

const SAMPLES: [(Tool, &str); 8] = [
    (Tool::Mwan3, MWAN3),
    (Tool::Vyos, VYOS),
    (Tool::Vyos, VYOS_BRACES),
    (Tool::Edgeos, EDGEOS),
    (Tool::Script, SCRIPT),
    (Tool::Script, FAILOVER),
    (Tool::Script, BOND),
    (Tool::Script, CHANCE),
];

/// Translates a sample, and parses the result.
fn imported(kind: Tool, text: &str, network: Option<&str>) -> (Translation, Config) {
    let translated = translate(kind, text, "sample", network).expect("a configuration");
    let config = Config::parse(&translated.text, "linkbal.toml");
    let config = config.unwrap_or_else(|error| panic!("{error}\n{}", translated.text));
    (translated, config)
}

/// Returns whether a note of the kind names the line and contains the words.
fn notes(translated: &Translation, kind: NoteKind, line: usize, words: &str) -> bool {
    let of = |note: &&Note| note.kind == kind && note.lines.iter().any(|known| known == line);
    translated.notes.iter().filter(of).any(|note| note.why.contains(words))
}

/// Returns the number of the first line that contains `text`.
fn line_of(input: &str, text: &str) -> usize {
    input.lines().position(|line| line.contains(text)).expect("the line") + 1
}

fn shares(config: &Config) -> Vec<(&str, u32, u32)> {
    config.uplinks.iter().map(|uplink| (&*uplink.name, uplink.tier, uplink.weight)).collect()
}

fn members(config: &Config, rule: usize) -> Vec<(&str, u32, u32)> {
    let members = &config.rules[rule].members;
    members.iter().map(|member| (&*member.uplink, member.weight, member.tier)).collect()
}

#[test]
fn mwan3_becomes_uplinks_and_rules() {
    let (translated, config) = imported(Tool::Mwan3, MWAN3, Some(NETWORK));
    assert_eq!(config.lan_interfaces, ["br-lan", "br-guest"]);
    assert_eq!(shares(&config), [("lte", 2, 1), ("wan", 1, 3), ("wanb", 1, 2)]);
    let of = |name: &str| config.uplinks.iter().find(|uplink| uplink.name == name).expect("it");
    assert_eq!(of("wan").interface, "eth0.2");
    assert_eq!(of("wanb").interface, "pppoe-wanb");
    assert_eq!(of("lte").on_down, OnDown::Keep);
    assert_eq!(of("wan").probe.quorum, 2);
    assert_eq!((of("wan").probe.failure_count, of("wan").probe.success_count), (3, 8));
    assert_eq!(of("wan").probe.targets[0], Target::Echo([192, 0, 2, 53].into()));
    // The rule of the set is a comment, and the last one is in the tiers and weights.
    assert_eq!(members(&config, 0), [("wanb", 1, 1), ("wan", 1, 2)]);
    assert_eq!(config.rules[0].otherwise, Otherwise::Drop);
    assert_eq!(config.rules[0].matches.destination_port, [(25, 25), (1000, 2000)]);
    assert_eq!(config.rules[1].sticky.expect("sticky").by, StickyBy::Source);
    assert_eq!(config.rules[1].members, []);
    let ipset = line_of(MWAN3, "option ipset");
    assert!(notes(&translated, NoteKind::Untranslated, ipset, "streaming"), "{translated:#?}");
    let holes = line_of(MWAN3, "0.0.0.1");
    assert!(
        notes(&translated, NoteKind::Untranslated, holes, "mask with holes"),
        "{translated:#?}"
    );
    // What has wan6 is a part of wan.
    assert!(notes(&translated, NoteKind::Changed, line_of(MWAN3, "'wan6'"), "part of `wan`"));
}

#[test]
fn devices_that_are_not_known_are_to_be_looked_at() {
    let (translated, config) = imported(Tool::Mwan3, MWAN3, None);
    assert!(config.lan_interfaces.is_empty());
    let fill_in = translated.notes.iter().filter(|note| note.kind == NoteKind::FillIn);
    assert_eq!(fill_in.count(), 4, "three devices and the LAN: {translated:#?}");
}

#[test]
fn vyos_becomes_uplinks_and_rules() {
    let (translated, config) = imported(Tool::Vyos, VYOS, None);
    assert_eq!(config.lan_interfaces, ["eth2"]);
    assert!(!config.local_balance);
    assert_eq!(shares(&config), [("eth0", 1, 3), ("eth1", 1, 1)]);
    assert_eq!(config.uplinks[0].gateway.ipv4, Gateway::Address([192, 0, 2, 1].into()));
    assert_eq!(config.uplinks[1].gateway.ipv4, Gateway::Auto);
    // Failover: by falling weight.
    assert_eq!(members(&config, 0), [("eth1", 1, 1), ("eth0", 1, 2)]);
    assert_eq!(config.rules[0].matches.destination_port, [(5060, 5060)]);
    assert_eq!(config.exempt.len(), 1);
    let limit = line_of(VYOS, "limit");
    assert!(notes(&translated, NoteKind::Untranslated, limit, "by rate"), "{translated:#?}");
    let late = line_of(VYOS, "rule 30");
    assert!(notes(&translated, NoteKind::Unneeded, late, "never reached"), "{translated:#?}");
    assert!(notes(&translated, NoteKind::Unneeded, 1, "`firewall`"), "{translated:#?}");
}

#[test]
fn vyos_in_braces_is_the_same() {
    let (_, config) = imported(Tool::Vyos, VYOS_BRACES, None);
    assert_eq!(config.lan_interfaces, ["eth0.10"]);
    assert_eq!(shares(&config), [("eth1", 1, 1), ("pppoe0", 1, 1)]);
    assert!(config.uplinks.iter().all(|uplink| !uplink.nat && uplink.on_down == OnDown::Reset));
    assert!(config.rules.is_empty());
}

#[test]
fn edgeos_becomes_uplinks_and_rules() {
    let (translated, config) = imported(Tool::Edgeos, EDGEOS, None);
    assert_eq!(config.lan_interfaces, ["eth0", "eth0.20"]);
    assert_eq!(shares(&config), [("eth1", 1, 70), ("pppoe0", 1, 30)]);
    assert_eq!(members(&config, 0), [("pppoe0", 1, 1), ("eth1", 1, 2)]);
    assert_eq!(config.rules[0].matches.source.len(), 2);
    assert_eq!(config.exempt[0].destination.len(), 2);
    assert_eq!(config.uplinks[0].probe.failure_count, 4);
    let own = line_of(EDGEOS, "ADDRv4_eth1");
    assert!(notes(&translated, NoteKind::Unneeded, own, "own addresses"), "{translated:#?}");
}

#[test]
fn a_script_becomes_uplinks_and_rules() {
    let (translated, config) = imported(Tool::Script, SCRIPT, None);
    assert_eq!(config.lan_interfaces, ["eth2"]);
    // An ip rule takes some of what has no mark by chance: the shares are to be filled in.
    assert_eq!(shares(&config), [("eth0", 1, 1), ("eth1", 1, 1)]);
    let without: String =
        SCRIPT.split_inclusive('\n').filter(|line| !line.contains("10.9.")).collect();
    // A half of 30 and of 70 goes to the second line.
    let (_, other) = imported(Tool::Script, &without, None);
    assert_eq!(shares(&other), [("eth0", 1, 3), ("eth1", 1, 17)]);
    let domains: Vec<_> =
        config.rules.iter().filter(|rule| !rule.matches.domain.is_empty()).collect();
    assert_eq!(domains[0].members[0].uplink, "eth1");
    let mail = config.rules.iter().find(|rule| rule.matches.destination_port.len() == 3);
    assert_eq!(mail.expect("the mark of mail").members.len(), 2);
    let net = config
        .rules
        .iter()
        .find(|rule| rule.matches.source == ["10.9.0.0/16".parse().expect("it")]);
    assert_eq!(net.expect("the ip rule").members[0].uplink, "eth1");
    let own = line_of(SCRIPT, "from 192.0.2.2");
    assert!(notes(&translated, NoteKind::Unneeded, own, "by itself"), "{translated:#?}");
    let unknown = line_of(SCRIPT, "frobnicate");
    assert!(notes(&translated, NoteKind::Untranslated, unknown, "not known"), "{translated:#?}");
}

#[test]
fn the_last_mark_counts_and_so_is_the_first_rule() {
    let text = "ip route add default via 192.0.2.1 dev eth0 table 1\n\
                ip rule add fwmark 1 table 1\n\
                iptables -t mangle -A PREROUTING -p tcp -j MARK --set-mark 1\n\
                iptables -t mangle -A PREROUTING -p tcp --dport 25 -j MARK --set-mark 1\n\
                iptables -t mangle -I PREROUTING -p udp -j MARK --set-mark 1\n";
    let (_, config) = imported(Tool::Script, text, None);
    let ports: Vec<_> =
        config.rules.iter().map(|rule| rule.matches.destination_port.len()).collect();
    assert_eq!(ports, [1, 0, 0]);
    assert_eq!(config.rules[2].matches.protocol, [17]);
}

#[test]
fn a_failover_script_becomes_tiers_and_targets() {
    let (_, config) = imported(Tool::Script, FAILOVER, None);
    assert_eq!(shares(&config), [("eth0", 1, 1), ("ppp0", 2, 1)]);
    assert_eq!(config.uplinks[0].probe.targets.len(), 2);
}

#[test]
fn a_bond_becomes_a_bond() {
    let (_, config) = imported(Tool::Script, BOND, None);
    let bond = &config.bonds[0];
    assert_eq!((&*bond.name, bond.members.len(), bond.addresses.len()), ("bond0", 2, 2));
    assert!(bond.promisc);
    assert_eq!(config.uplinks.iter().map(|uplink| uplink.weight).collect::<Vec<_>>(), [30, 70]);
}

#[test]
fn other_texts_are_refused_with_what_they_are() {
    let looks = |kind, text| translate(kind, text, "x", None).expect_err("refused").to_string();
    assert!(looks(Tool::Mwan3, VYOS).contains("looks like VyOS"));
    assert!(looks(Tool::Vyos, MWAN3).contains("linkbal import mwan3"));
    assert!(looks(Tool::Edgeos, SCRIPT).contains("linkbal import script"));
    let unknown = "ip route add default via $1 dev $2\n";
    assert!(looks(Tool::Script, unknown).contains("in line 1 a value"));
    assert!(looks(Tool::Script, "").contains("empty"));
    assert!(looks(Tool::Script, "Dear all,").contains("begins with"));
    assert!(looks(Tool::Mwan3, "mwan3.wan=interface").contains("uci show"));
    let commands = "#!/bin/sh\nuci set mwan3.wan=interface\n";
    assert!(looks(Tool::Script, commands).contains("commands of `uci`"));
    assert!(looks(Tool::Mwan3, commands).contains("commands of `uci`"));
}

#[test]
fn what_linkbal_refuses_is_left_out() {
    let many: String = (0..20)
        .map(|n| {
            format!("config interface 'w.{n}'\n option enabled 1\n list track_ip 192.0.2.{n}\n")
        })
        .collect();
    let text = format!("{many}config rule\n option use_policy x\n");
    let (translated, config) = imported(Tool::Mwan3, &text, None);
    assert_eq!(config.uplinks.len(), 16);
    assert!(notes(&translated, NoteKind::Untranslated, 58, "at most 16"), "{translated:#?}");
}

/// Checks a translation: it parses, or only devices are missing, and each line is told of.
fn holds(kind: Tool, text: &str) {
    let Ok(translated) = translate(kind, text, "a\nb", Some(NETWORK)) else { return };
    if let Err(error) = Config::parse(&translated.text, "") {
        let missing =
            |problem: &crate::config::Problem| problem.message.contains("has no interface");
        let allowed = error.problems().iter().all(missing);
        assert!(allowed, "{error}\n{}", translated.text);
    }
    // Each line is named in the output, or said to be covered: nothing is silently unknown.
    let told: BTreeSet<usize> =
        translated.notes.iter().flat_map(|note| note.lines.iter()).collect();
    assert!(told.iter().all(|line| *line <= text.lines().count()));
}

proptest! {
    #[test]
    fn any_text_is_translated_or_refused(text in ".{0,400}", kind in 0..4_usize) {
        holds(Tool::ALL[kind], &text);
    }

    /// Takes lines out of a sample, and swaps others.
    #[test]
    fn a_changed_sample_is_translated_or_refused(
        sample in 0..SAMPLES.len(),
        out in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        swapped in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 0..8),
    ) {
        let (kind, text) = SAMPLES[sample];
        let mut lines: Vec<&str> = text.lines().collect();
        for [a, b] in swapped {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        for at in out {
            lines.remove(at.index(lines.len()));
        }
        holds(kind, &lines.join("\n"));
    }

    /// Replaces words of a sample by others of it, and by odd ones.
    #[test]
    fn a_sample_with_other_words_is_translated_or_refused(
        sample in 0..SAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        odd in "[\\PC]{0,12}",
    ) {
        let (kind, text) = SAMPLES[sample];
        let mut parts: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let words = parts.clone();
        for (number, (at, from)) in changes.iter().enumerate() {
            let word = if number % 3 == 0 { odd.clone() } else { from.get(&words).clone() };
            let at = at.index(parts.len());
            parts[at] = word;
        }
        holds(kind, &parts.join(" "));
    }
}
