//! Routers of scripts: which uplinks they make.

use super::*;

#[test]
fn both_families_on_a_device_are_one_uplink() {
    let text = "ip route add default via 192.0.2.1 dev eth0 metric 1\n\
                ip -6 route add default via fe80::1 dev eth0 metric 1\n\
                ip -6 route add default via fe80::2 dev eth1 metric 2\n\
                ip route add default via 198.51.100.1 dev eth1 metric 2\n";
    let (translated, config) = imported(Tool::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 1), ("eth1", 2, 1)]);
    assert_eq!(config.uplinks[0].gateway.ipv4, Gateway::Address([192, 0, 2, 1].into()));
    let ipv6 = Gateway::Address("fe80::1".parse().expect("an address"));
    assert_eq!(config.uplinks[0].gateway.ipv6, ipv6);
    let weights = translated.notes.iter().any(|note| note.why.contains("both families"));
    assert!(!weights, "{translated:#?}");
}

#[test]
fn other_weights_of_ipv6_are_told() {
    let text = "ip route add default nexthop via 192.0.2.1 dev eth0 weight 2 \
                nexthop via 198.51.100.1 dev eth1\n\
                ip -6 route add default nexthop via fe80::1 dev eth0 weight 3 \
                nexthop via fe80::2 dev eth1\n";
    let (translated, config) = imported(Tool::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 2), ("eth1", 1, 1)]);
    assert!(notes(&translated, NoteKind::Changed, 2, "both families"), "{translated:#?}");
}

#[test]
fn a_route_by_another_router_on_the_device_of_an_uplink_stays() {
    let text = "ip route add default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 table 2\n\
                ip route add 10.20.0.0/16 via 192.0.2.5 dev eth0\n\
                ip route add 203.0.113.9 via 198.51.100.1\n";
    let (translated, config) = imported(Tool::Script, text, None);
    assert_eq!(config.rules.len(), 1);
    assert!(notes(&translated, NoteKind::Unneeded, 3, "main table"), "{translated:#?}");
}

#[test]
fn a_default_route_may_be_written_as_a_prefix() {
    let text = "/sbin/route add -net 0.0.0.0/0 gw 192.0.2.1 dev eth0\n\
                route add -net 0.0.0.0 netmask 0.0.0.0 gw 198.51.100.1 metric 10 dev eth1\n\
                route -A inet6 add ::/0 gw fe80::1 dev eth2\n";
    let (_, config) = imported(Tool::Script, text, None);
    let names: Vec<&str> = config.uplinks.iter().map(|uplink| &*uplink.interface).collect();
    assert_eq!(names, ["eth0", "eth1", "eth2"]);
}

#[test]
fn what_leads_to_the_internet_is_no_lan() {
    let lan = |text: &str| {
        let text = format!("{text}GW=192.0.2.1\nip route add default via $GW\n");
        let translated = translate(Tool::Script, &text, "x", None).expect("a script");
        translated.text.lines().find(|line| line.starts_with("interfaces")).map(str::to_owned)
    };
    assert_eq!(lan("IF_INTERNET=eth5\nVLAN_WAN=eth6\n"), None);
    let out = "LAN_OUT=eth5\niptables -t nat -A POSTROUTING -o $LAN_OUT -j MASQUERADE\n";
    assert_eq!(lan(out), None);
    assert!(lan("REDE_INTERNA=eth5\n").is_some_and(|line| line.contains("eth5")));
}

#[test]
fn a_target_belongs_to_the_uplink_that_its_route_leads_to() {
    let text = "ip route add default via 192.0.2.1 dev eth0 metric 1\n\
                ip route add default via 198.51.100.1 dev eth1 metric 2\n\
                ip route add 203.0.113.8 via 192.0.2.1\n\
                ping -c1 203.0.113.8\n\
                ping -c1 -I eth1 203.0.113.9\n\
                ping -c1 203.0.113.1\n";
    let (_, config) = imported(Tool::Script, text, None);
    let of = |at: usize| -> Vec<String> {
        let targets = config.uplinks[at].probe.targets.iter();
        targets.map(|target| format!("{target:?}")).collect()
    };
    let has = |at: usize, host: &str| of(at).iter().any(|target| target.contains(host));
    assert!(has(0, "203.0.113.8") && !has(0, "203.0.113.9") && has(0, "203.0.113.1"));
    assert!(has(1, "203.0.113.9") && !has(1, "203.0.113.8") && has(1, "203.0.113.1"));
}

#[test]
fn a_gateway_that_only_a_run_tells_is_that_of_the_lease() {
    let text = "GW=$(cat /tmp/gw)\n\
                ip route add default via $GW dev eth1 table 2\n\
                ip route replace default nexthop via 192.0.2.1 dev eth0 weight 2 \
                nexthop via $GW dev eth1\n";
    let (translated, config) = imported(Tool::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 2), ("eth1", 1, 1)]);
    assert_eq!(config.uplinks[1].gateway.ipv4, Gateway::Auto);
    assert!(notes(&translated, NoteKind::Changed, 2, "the lease"), "{translated:#?}");
}

#[test]
fn an_ip_rule_for_all_flows_says_the_shares() {
    let text = "ip route add default table 222 nexthop via 192.0.2.1 dev eth0 weight 3 \
                nexthop via 198.51.100.1 dev eth1\nip rule add prio 222 table 222\n";
    let (translated, config) = imported(Tool::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 3), ("eth1", 1, 1)]);
    assert!(!translated.notes.iter().any(|note| note.why.contains("no default route")));
}

#[test]
fn halves_of_all_destinations_are_routes_like_others() {
    let text = "ip route add default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 metric 9\n\
                ip route add 0/1 via 192.0.2.1\nip route add 128.0.0.0/1 via 192.0.2.1\n";
    let (_, config) = imported(Tool::Script, text, None);
    assert_eq!(config.rules.len(), 2);
}

#[test]
fn rules_of_edgeos_for_ipv6_are_told() {
    let text = "set load-balance group G interface eth0\n\
                set firewall ipv6-modify b6 rule 1 action modify\n\
                set firewall ipv6-modify b6 rule 1 modify table 6\n";
    let (translated, _) = imported(Tool::Edgeos, text, None);
    assert!(notes(&translated, NoteKind::Untranslated, 3, "ipv6-modify"), "{translated:#?}");
}
