//! Two lines of one provider at one switch: one subnet, one gateway, two cards.

use std::net::{IpAddr, UdpSocket};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use crate::fixture::{Gateway, LIMIT};

/// The provider's interface, and the lengths of the prefixes that contain both lines.
const ROUTER: &str = "cust0";
const LENGTHS: [u8; 2] = [28, 47];
const CARDS: [&str; 2] = ["wan-a", "wan-b"];
/// Number of times that the router resolves the lines' addresses anew.
const ROUNDS: usize = 8;

/// Connects both cards of the gateway and the first provider's router by a bridge.
fn put_lines_on_one_switch(lab: &Lab) -> Namespace {
    let switch = Namespace::new("switch").unwrap();
    lab.gateway.ip_batch("link delete wan-a\nlink delete wan-b\n").unwrap();
    let router = &lab.uplinks[0].provider;
    let ends = [(CARDS[0], &*lab.gateway), (CARDS[1], &*lab.gateway), (ROUTER, router)];
    let mut bridge = String::from("link add br0 type bridge\nlink set br0 up\n");
    for (number, (interface, namespace)) in ends.into_iter().enumerate() {
        bridge += &format!(
            "link add port{number} type veth peer name {interface} netns {}\n\
             link set port{number} master br0\nlink set port{number} up\n",
            namespace.name()
        );
    }
    switch.ip_batch(&bridge).unwrap();
    let (mut near, mut far) = (String::new(), format!("link set {ROUTER} up\n"));
    for card in CARDS {
        near += &format!("link set {card} up\n");
    }
    for (family, length) in Family::ALL.into_iter().zip(LENGTHS) {
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        let nexthop = plan::nexthop(family, 0);
        far += &format!("address add {nexthop}/{length} dev {ROUTER}{nodad}\n");
        for (index, card) in CARDS.into_iter().enumerate() {
            let own = plan::uplink_address(family, index);
            let metric = 100 * (index + 1);
            near += &format!(
                "address add {own}/{length} dev {card}{nodad}\n\
                 route add default via {nexthop} dev {card} proto dhcp metric {metric}\n"
            );
        }
    }
    router.ip_batch(&far).unwrap();
    lab.gateway.ip_batch(&near).unwrap();
    // The servers reach the second line by the first provider, too.
    lab.net
        .ip_batch(
            "route replace 203.0.113.4/30 via 192.0.2.2\n\
         route replace 2001:db8:b::/48 via 2001:db8:fe::2\n",
        )
        .unwrap();
    switch
}

fn hardware_address(namespace: &Namespace, interface: &str) -> String {
    let shown = oracle::ip_json(namespace, &["link", "show", "dev", interface]).unwrap();
    shown[0]["address"].as_str().unwrap().to_owned()
}

/// Counts at the router the packets of each card, with its own address and with that of the other.
fn watch_senders(router: &Namespace, cards: &[String; 2]) {
    let mut rules = String::from(
        "table inet watch {\nchain in {\ntype filter hook prerouting priority -300;\n",
    );
    for (own, card) in cards.iter().enumerate() {
        for (number, family) in Family::ALL.into_iter().enumerate() {
            let word = ["ip", "ip6"][number];
            for index in [own, 1 - own] {
                let kind = if index == own { "right" } else { "wrong" };
                let address = plan::uplink_address(family, index);
                // Traffic inside the subnet goes by the main table's route.
                let nexthop = plan::nexthop(family, 0);
                rules += &format!(
                    "ether saddr {card} {word} saddr {address} {word} daddr != {nexthop} \
                     counter comment \"{kind} {own} {word}\"\n"
                );
            }
        }
    }
    router.load_nft(&(rules + "}\n}\n")).unwrap();
}

/// Returns the number of packets of each rule, by its comment.
fn senders(router: &Namespace) -> Vec<(String, u64)> {
    let listed = router.run("nft", &["-j", "list", "table", "inet", "watch"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let rules = listed["nftables"].as_array().unwrap().iter().map(|item| &item["rule"]);
    let rules = rules.filter(|rule| rule.is_object());
    rules
        .map(|rule| {
            let mut parts = rule["expr"].as_array().unwrap().iter();
            let packets = parts.find_map(|part| part["counter"]["packets"].as_u64());
            (rule["comment"].as_str().unwrap().to_owned(), packets.unwrap())
        })
        .collect()
}

/// Sends a datagram from the router to a neighbour, and returns the hardware address that it finds.
fn found_at(router: &Namespace, flag: &str, neighbour: IpAddr) -> String {
    let entered = router.enter().unwrap();
    let any = if neighbour.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).unwrap().send_to(b"hello", (neighbour, 9)).unwrap();
    drop(entered);
    let neighbour = neighbour.to_string();
    let asked = [flag, "neighbour", "show", neighbour.as_str(), "dev", ROUTER];
    wait::until("the answer of a neighbour", LIMIT, || {
        let known = oracle::ip_json(router, &asked)?;
        Ok(known[0]["lladdr"].as_str().map(str::to_owned))
    })
    .unwrap()
}

#[test]
fn two_lines_at_one_switch_are_two_uplinks() {
    let lab =
        Lab::new(&[UplinkSpec::new("isp-a", CARDS[0], 1), UplinkSpec::new("isp-b", CARDS[1], 1)])
            .unwrap();
    let switch = put_lines_on_one_switch(&lab);
    for card in CARDS {
        lab.gateway.set_sysctl(&format!("net.ipv4.conf.{card}.rp_filter"), "0").unwrap();
    }
    let cards = CARDS.map(|card| hardware_address(&lab.gateway, card));
    watch_senders(&lab.uplinks[0].provider, &cards);
    let mut gateway = Gateway::start(lab, str::to_owned);
    let router = &gateway.lab.uplinks[0].provider;
    for _ in 0..ROUNDS {
        for (family, flag) in Family::ALL.into_iter().zip(["-4", "-6"]) {
            router.run("ip", &[flag, "neighbour", "flush", "dev", ROUTER]).unwrap();
            for (index, card) in cards.iter().enumerate() {
                let line = plan::uplink_address(family, index);
                assert_eq!(found_at(router, flag, line), *card, "{line}");
            }
        }
    }
    for family in Family::ALL {
        let counts = gateway.open(&FlowSpec::spread(family, Protocol::Udp, HTTP, 400));
        // 200 are expected, and 5 sigma are 50.
        assert!((150..=250).contains(&counts[0]), "{family}: {counts:?}");
    }
    let status = gateway.daemon.status().unwrap();
    for uplink in status["uplinks"].as_array().unwrap() {
        assert_eq!(
            (&uplink["ipv4"]["state"], &uplink["ipv6"]["state"]),
            (&"up".into(), &"up".into())
        );
    }
    for (kind, packets) in senders(router) {
        assert_eq!(packets > 0, kind.starts_with("right"), "{kind}: {packets} packets");
    }
    let sysctl = |card: &str, name: &str| {
        gateway.lab.gateway.sysctl(&format!("net.ipv4.conf.{card}.{name}")).unwrap()
    };
    for card in CARDS {
        assert_eq!([sysctl(card, "arp_ignore"), sysctl(card, "arp_announce")], ["1", "2"]);
    }
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    for card in CARDS {
        assert_eq!([sysctl(card, "arp_ignore"), sysctl(card, "arp_announce")], ["0", "0"]);
    }
    drop(switch);
}
