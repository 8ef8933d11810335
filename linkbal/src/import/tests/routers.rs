//! Routers of scripts: which uplinks they make.

use super::*;

#[test]
fn both_families_on_a_device_are_one_uplink() {
    let text = "ip route add default via 192.0.2.1 dev eth0 metric 1\n\
                ip -6 route add default via fe80::1 dev eth0 metric 1\n\
                ip -6 route add default via fe80::2 dev eth1 metric 2\n\
                ip route add default via 198.51.100.1 dev eth1 metric 2\n";
    let (translated, config) = imported(Kind::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 1), ("eth1", 2, 1)]);
    assert_eq!(config.uplinks[0].gateway_ipv4, Gateway::Address([192, 0, 2, 1].into()));
    let ipv6 = Gateway::Address("fe80::1".parse().expect("an address"));
    assert_eq!(config.uplinks[0].gateway_ipv6, ipv6);
    let weights = translated.notes.iter().any(|note| note.why.contains("both families"));
    assert!(!weights, "{translated:#?}");
}

#[test]
fn other_weights_of_ipv6_are_told() {
    let text = "ip route add default nexthop via 192.0.2.1 dev eth0 weight 2 \
                nexthop via 198.51.100.1 dev eth1\n\
                ip -6 route add default nexthop via fe80::1 dev eth0 weight 3 \
                nexthop via fe80::2 dev eth1\n";
    let (translated, config) = imported(Kind::Script, text, None);
    assert_eq!(shares(&config), [("eth0", 1, 2), ("eth1", 1, 1)]);
    assert!(notes(&translated, NoteKind::Changed, 2, "both families"), "{translated:#?}");
}

#[test]
fn a_route_by_another_router_on_the_device_of_an_uplink_stays() {
    let text = "ip route add default via 192.0.2.1 dev eth0\n\
                ip route add default via 198.51.100.1 dev eth1 table 2\n\
                ip route add 10.20.0.0/16 via 192.0.2.5 dev eth0\n\
                ip route add 203.0.113.9 via 198.51.100.1\n";
    let (translated, config) = imported(Kind::Script, text, None);
    assert_eq!(config.rules.len(), 1);
    assert!(notes(&translated, NoteKind::Unneeded, 3, "main table"), "{translated:#?}");
}
