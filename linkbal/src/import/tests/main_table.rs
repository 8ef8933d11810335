//! Flows that a tool leaves to the main table.

use super::*;

/// Two uplinks of VyOS, of which the first one has the default route.
const VYOS_TWO: &str = "set protocols static route 0.0.0.0/0 next-hop 203.0.113.1\n\
                        set protocols static route 0.0.0.0/0 next-hop 198.51.100.1 distance 5\n\
                        set load-balancing wan interface-health eth0 nexthop 203.0.113.1\n\
                        set load-balancing wan interface-health eth1 nexthop 198.51.100.1\n\
                        set load-balancing wan rule 10 inbound-interface eth2\n\
                        set load-balancing wan rule 10 interface eth0\n\
                        set load-balancing wan rule 10 interface eth1\n";

const EDGEOS_TWO: &str = "set interfaces ethernet eth2 firewall in modify B\n\
                          set load-balance group G interface eth0\n\
                          set load-balance group G interface eth1\n\
                          set firewall modify B rule 20 action modify\n\
                          set firewall modify B rule 20 modify lb-group G\n";

const MWAN3_TWO: &str = "config interface 'wan'\n option enabled 'on'\n\
                         config interface 'wanb'\n option enabled 'true'\n\
                         config member 'm1'\n option interface 'wan'\n\
                         config member 'm2'\n option interface 'wanb'\n\
                         config policy 'both'\n list use_member 'm1'\n list use_member 'm2'\n";

/// Returns uplinks and destinations of all rules, and the destinations that are exempt.
fn treated(kind: Tool, text: &str, network: Option<&str>) -> (Vec<String>, Vec<String>) {
    let (_, config) = imported(kind, text, network);
    let rules = config.rules.iter().map(|rule| {
        let uplinks: Vec<&str> = rule.members.iter().map(|member| &*member.uplink).collect();
        let nets: Vec<String> = rule.matches.destination.iter().map(ToString::to_string).collect();
        format!("{}: {}", uplinks.join(" "), nets.join(" "))
    });
    let exempt = config.exempt.iter().flat_map(|entry| &entry.destination);
    (rules.collect(), exempt.map(ToString::to_string).collect())
}

#[test]
fn vyos_translates_what_leaves_by_the_default_route() {
    let exclude = |to: &str| {
        format!(
            "{VYOS_TWO}set load-balancing wan rule 5 exclude\n\
             set load-balancing wan rule 5 destination address {to}\n"
        )
    };
    let of = |text: &str| treated(Tool::Vyos, text, None);
    assert_eq!(of(&exclude("192.0.2.10")).0, ["eth0: 192.0.2.10/32"]);
    assert_eq!(of(&exclude("10.9.0.0/16")), (vec![], vec!["10.9.0.0/16".to_owned()]));
    let routed =
        exclude("192.0.2.10") + "set protocols static route 192.0.2.0/24 next-hop 10.0.0.2\n";
    assert_eq!(of(&routed).1, ["192.0.2.10/32"]);
    let unknown = exclude("192.0.2.10").replace(" distance 5", "");
    let (translated, config) = imported(Tool::Vyos, &unknown, None);
    assert!(config.exempt.is_empty() && config.rules.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 8, "name an uplink"), "{translated:#?}");
}

#[test]
fn the_default_route_of_vyos_is_that_of_the_least_distance() {
    let partial =
        VYOS_TWO.to_owned() + "set load-balancing wan rule 10 source address 10.0.0.0/24\n";
    let tiers = |text: &str| {
        let (_, config) = imported(Tool::Vyos, text, None);
        config.uplinks.iter().map(|uplink| uplink.tier).collect::<Vec<_>>()
    };
    assert_eq!(tiers(&partial), [1, 2]);
    let least = partial.replacen("203.0.113.1\n", "203.0.113.1 distance 9\n", 1);
    assert_eq!(tiers(&least), [2, 1]);
    let disabled = partial.replacen("203.0.113.1\n", "203.0.113.1 disable\n", 1);
    assert_eq!(tiers(&disabled), [2, 1]);
    let device = partial.replace("next-hop 203.0.113.1", "interface eth1");
    assert_eq!(tiers(&device), [2, 1]);
    let lease = partial.replace("next-hop 203.0.113.1", "dhcp-interface eth1");
    assert_eq!(tiers(&lease), [2, 1]);
}

#[test]
fn a_rule_of_edgeos_that_accepts_ends_its_set() {
    let accept = |what: &str| {
        format!(
            "{EDGEOS_TWO}set firewall modify B rule 10 action {what}\n\
                 set firewall modify B rule 10 source address 192.168.1.50\n"
        )
    };
    let routed = accept("accept")
        + "set protocols static interface-route 0.0.0.0/0 next-hop-interface eth1\n";
    assert_eq!(treated(Tool::Edgeos, &routed, None).0, ["eth1: "]);
    for (action, why) in [("accept", "main table"), ("drop", "a firewall does")] {
        let (translated, config) = imported(Tool::Edgeos, &accept(action), None);
        assert!(config.rules.is_empty());
        assert!(notes(&translated, NoteKind::Untranslated, 6, why), "{translated:#?}");
    }
}

#[test]
fn edgeos_translates_what_leaves_by_the_default_route() {
    let text = EDGEOS_TWO.to_owned()
        + "set firewall modify B rule 10 action modify\n\
           set firewall modify B rule 10 modify table main\n\
           set firewall modify B rule 10 destination address 192.0.2.10\n\
           set protocols static interface-route 0.0.0.0/0 next-hop-interface eth0\n";
    assert_eq!(treated(Tool::Edgeos, &text, None).0, ["eth0: 192.0.2.10/32"]);
}

#[test]
fn mwan3_translates_what_leaves_by_the_default_route() {
    let network = "config interface 'wan'\n option proto 'dhcp'\n option device 'eth1'\n\
                   \x20option metric '20'\n\
                   config interface 'wanb'\n option proto 'pppoe'\n option device 'eth2'\n\
                   \x20option metric '10'\n\
                   config interface 'modem'\n option proto 'static'\n option device 'eth2'\n\
                   config interface 'lan'\n option proto 'static'\n option device 'br-lan'\n\
                   config route\n option target '203.0.113.0'\n option netmask '255.255.255.0'\n";
    let rules = "config rule\n option dest_ip '192.0.2.10'\n option use_policy 'default'\n\
                 config rule\n option dest_ip '203.0.113.7'\n option use_policy 'default'\n\
                 config rule\n option dest_ip '10.0.0.0/8'\n option use_policy 'default'\n\
                 config rule\n option use_policy 'both'\n";
    let text = format!("\u{feff}{MWAN3_TWO}{rules}");
    let (rules, exempt) = treated(Tool::Mwan3, &text, Some(network));
    assert_eq!(
        (rules, exempt),
        (
            vec!["wanb: 192.0.2.10/32".to_owned()],
            vec!["203.0.113.7/32".to_owned(), "10.0.0.0/8".to_owned()],
        )
    );
    // The page of a modem below a session is no LAN.
    let (_, config) = imported(Tool::Mwan3, &text, Some(network));
    assert_eq!(config.lan_interfaces, ["br-lan"]);
}

#[test]
fn a_source_that_is_all_of_a_family_leaves_the_other_one() {
    let rules = "config rule\n option src_ip '0.0.0.0/0'\n option use_policy 'both'\n\
                 config policy 'b'\n list use_member 'm2'\n\
                 config rule\n option src_ip '::/0'\n option family 'ipv6'\n option use_policy 'b'\n";
    let (rules, _) = treated(Tool::Mwan3, &format!("{MWAN3_TWO}{rules}"), None);
    assert_eq!(rules, ["wanb: ::/0"]);
}

#[test]
fn a_rule_for_a_family_stays_before_rules_that_would_take_its_flows() {
    let rules = "config rule\n option dest_ip '0.0.0.0/0'\n option use_policy 'both'\n\
                 config policy 'b'\n list use_member 'm2'\n\
                 config rule\n option proto 'tcp'\n option use_policy 'b'\n\
                 config rule\n option dest_ip '0.0.0.0/0'\n option proto 'udp'\n option use_policy 'b'\n";
    let text = format!("{MWAN3_TWO}{rules}");
    let (rules, _) = treated(Tool::Mwan3, &text, None);
    assert_eq!(rules, [": 0.0.0.0/0", "wanb: "]);
    let (translated, _) = imported(Tool::Mwan3, &text, None);
    let late = line_of(&text, "udp");
    assert!(notes(&translated, NoteKind::Unneeded, late, "never reached"), "{translated:#?}");
}

#[test]
fn an_exemption_takes_nothing_from_an_earlier_rule() {
    let rules = |first: &str| {
        format!(
            "{MWAN3_TWO}config policy 'b'\n list use_member 'm2'\n\
             config rule\n option dest_ip '{first}'\n option use_policy 'b'\n\
             config rule\n option dest_ip '10.0.0.0/8'\n option use_policy 'default'\n\
             config rule\n option use_policy 'both'\n"
        )
    };
    let (treated_rules, exempt) = treated(Tool::Mwan3, &rules("10.20.0.0/16"), None);
    assert_eq!((&*treated_rules[0], exempt.len()), ("wanb: 10.20.0.0/16", 0));
    let text = rules("10.20.0.0/16");
    let (translated, _) = imported(Tool::Mwan3, &text, None);
    let line = line_of(&text, "10.0.0.0/8");
    assert!(notes(&translated, NoteKind::Untranslated, line, "earlier rule"), "{translated:#?}");
    assert_eq!(treated(Tool::Mwan3, &rules("192.0.2.0/24"), None).1, ["10.0.0.0/8"]);
}

#[test]
fn a_network_of_ones_own_is_exempt_by_whichever_interface() {
    let text = format!(
        "{VYOS_TWO}set load-balancing wan rule 5 exclude\n\
         set load-balancing wan rule 5 inbound-interface eth2\n\
         set load-balancing wan rule 5 destination address 10.0.0.0/8\n\
         set load-balancing wan rule 20 inbound-interface eth3\n\
         set load-balancing wan rule 20 interface eth1\n"
    );
    assert_eq!(treated(Tool::Vyos, &text, None).1, ["10.0.0.0/8"]);
    let (translated, _) = imported(Tool::Vyos, &text, None);
    assert!(notes(&translated, NoteKind::Changed, 9, "whichever interface"), "{translated:#?}");
}

#[test]
fn flows_outside_the_rules_of_edgeos_use_the_group_of_the_gateway() {
    let text = "set load-balance group G interface eth0\n\
                set load-balance group G interface wwan0 failover-only\n\
                set interfaces ethernet eth2 firewall in modify M\n\
                set firewall modify M rule 10 action modify\n\
                set firewall modify M rule 10 source address 192.168.1.0/24\n\
                set firewall modify M rule 10 modify lb-group G\n";
    let of = |text: &str| {
        let (_, config) = imported(Tool::Edgeos, text, None);
        config.uplinks.iter().map(|uplink| (uplink.name.clone(), uplink.tier)).collect::<Vec<_>>()
    };
    assert_eq!(of(text), [("eth0".to_owned(), 1), ("wwan0".to_owned(), 2)]);
    let two = text.to_owned()
        + "set load-balance group H interface wwan0 failover-only\n\
           set load-balance group H interface eth0\n\
           set load-balance group H lb-local disable\n\
           set load-balance group G lb-local disable\n";
    assert_eq!(of(&two), [("eth0".to_owned(), 1), ("wwan0".to_owned(), 2)]);
}
