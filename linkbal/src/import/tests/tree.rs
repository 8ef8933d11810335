//! The language of VyOS and EdgeOS.

use super::*;

const HEALTH: &str = "set load-balancing wan interface-health eth0 nexthop 203.0.113.1\n\
                      set load-balancing wan interface-health eth1 nexthop 198.51.100.1\n";

#[test]
fn the_last_value_counts() {
    let text = HEALTH.to_owned()
        + "set load-balancing wan interface-health eth0 failure-count 3\n\
           set load-balancing wan interface-health eth0 failure-count 7\n\
           set load-balancing wan interface-health eth1 failure-count 3\n\
           set load-balancing wan interface-health eth1 failure-count 7\n\
           set load-balancing wan interface-health eth1 failure-count 3\n\
           set load-balancing wan rule 10 interface eth0 weight 1\n\
           set load-balancing wan rule 10 interface eth1 weight 2\n\
           set load-balancing wan rule 10 interface eth0 weight 9\n";
    let (_, config) = imported(Tool::Vyos, &text, None);
    assert_eq!(shares(&config), [("eth0", 1, 9), ("eth1", 1, 2)]);
    let counts = config.uplinks.iter().map(|uplink| uplink.probe.failure_count);
    assert_eq!(counts.collect::<Vec<_>>(), [7, 3]);
}

#[test]
fn a_rule_with_a_limit_is_a_comment() {
    for condition in ["limit rate 10", "some thing"] {
        let text = format!(
            "{HEALTH}set load-balancing wan rule 10 interface eth1\n\
             set load-balancing wan rule 10 {condition}\n\
             set load-balancing wan rule 20 interface eth0\n"
        );
        let (translated, config) = imported(Tool::Vyos, &text, None);
        assert_eq!(shares(&config), [("eth0", 1, 1), ("eth1", 2, 1)], "{condition}");
        assert!(notes(&translated, NoteKind::Untranslated, 3, "a comment"), "{translated:#?}");
    }
}

#[test]
fn a_comment_within_quotes_is_none() {
    let text = "load-balancing {\n wan {\n  interface-health eth0 {\n   nexthop dhcp\n  }\n\
                interface-health eth1 {\n   nexthop dhcp\n  }\n\
                rule 10 {\n   description \"paths /srv/* by eth0\"\n   protocol tcp\n\
                interface eth1 {\n   }\n  }\n /* don't */\n rule 20 {\n  interface eth0 {\n  }\n }\n } /* end */\n}\n";
    let (_, config) = imported(Tool::Vyos, text, None);
    assert_eq!(members(&config, 0), [("eth1", 1, 1)]);
}

#[test]
fn what_is_deleted_is_gone() {
    let text = HEALTH.to_owned()
        + "set load-balancing wan rule 10 interface eth1\n\
           set load-balancing wan rule 10 protocol tcp\n\
           set load-balancing wan rule 20 interface eth0\n\
           delete load-balancing wan rule 10\n";
    let (translated, config) = imported(Tool::Vyos, &text, None);
    assert!(config.rules.is_empty());
    for line in [3, 4, 6] {
        assert!(notes(&translated, NoteKind::Unneeded, line, "taken away"), "{translated:#?}");
    }
}

#[test]
fn any_interface_is_each_of_them() {
    let text = HEALTH.to_owned()
        + "set load-balancing wan rule 5 inbound-interface eth2\n\
           set load-balancing wan rule 5 protocol tcp\n\
           set load-balancing wan rule 5 interface eth1\n\
           set load-balancing wan rule 10 inbound-interface any\n\
           set load-balancing wan rule 10 interface eth0 weight 3\n\
           set load-balancing wan rule 10 interface eth1\n";
    let (_, config) = imported(Tool::Vyos, &text, None);
    assert_eq!(shares(&config), [("eth0", 1, 3), ("eth1", 1, 1)]);
    assert_eq!(config.rules.len(), 1);
}

#[test]
fn what_is_not_said_of_ipv6_is_told() {
    let (translated, _) = imported(Tool::Vyos, HEALTH, None);
    assert!(translated.notes.iter().any(|note| note.why.contains("IPv6")), "{translated:#?}");
    let edgeos = "set load-balance group G interface eth0\n";
    let (translated, _) = imported(Tool::Edgeos, edgeos, None);
    assert!(translated.notes.iter().any(|note| note.why.contains("IPv6")), "{translated:#?}");
    let of_script = |text: &str| {
        let (translated, _) = imported(Tool::Script, text, None);
        translated.notes.iter().any(|note| note.why.contains("IPv6"))
    };
    let ipv4 = "ip route add default via 192.0.2.1 dev eth0\n";
    assert!(of_script(ipv4));
    assert!(!of_script(&(ipv4.to_owned() + "ip -6 route add default via fe80::1 dev eth0\n")));
}

#[test]
fn a_rule_of_edgeos_for_new_flows_has_no_condition() {
    let text = "set load-balance group G interface eth0\nset load-balance group G interface eth1\n\
                set interfaces ethernet eth2 firewall in modify M\n\
                set firewall modify M rule 10 action modify\n\
                set firewall modify M rule 10 state new enable\n\
                set firewall modify M rule 10 protocol tcp\n\
                set firewall modify M rule 10 modify lb-group G\n";
    let (_, config) = imported(Tool::Edgeos, text, None);
    assert_eq!(config.rules.len(), 1);
}

#[test]
fn what_is_never_reached_is_told_by_its_own_lines() {
    let text = "config interface 'wan'\n option enabled '1'\n\
                config member 'm1'\n option interface 'wan'\n\
                config policy 'b'\n list use_member 'm1'\n\
                config rule\n option use_policy 'b'\n\
                config rule 'late'\n option proto 'tcp'\n option use_policy 'b'\n";
    let (translated, _) = imported(Tool::Mwan3, text, None);
    assert!(notes(&translated, NoteKind::Unneeded, 9, "never reached"), "{translated:#?}");
    assert!(!notes(&translated, NoteKind::Unneeded, 3, "never reached"), "{translated:#?}");
}

#[test]
fn lines_of_rules_are_about_balancing() {
    let text = "set load-balance group G interface eth0\nset load-balance group G interface eth1\n\
                set interfaces ethernet eth2 firewall in modify M\n\
                set firewall modify M rule 10 action modify\n\
                set firewall modify M rule 10 source address 10.0.5.0/24\n\
                set firewall modify M rule 10 modify lb-group G\n\
                set firewall all-ping enable\n";
    let (translated, _) = imported(Tool::Edgeos, text, None);
    assert!(notes(&translated, NoteKind::Unneeded, 7, "not about balancing"), "{translated:#?}");
    assert!(!notes(&translated, NoteKind::Unneeded, 5, "not about balancing"), "{translated:#?}");
}
