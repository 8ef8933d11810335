use std::net::IpAddr;

use serde_json::json;

use super::*;
use crate::engine::kernel::network::{Address, Link};

const CONFIG: &str = "[lan]\ninterfaces = [\"lan0\"]\n\
    [uplink.a]\ninterface = \"wan-a\"\ngateway = \"192.0.2.1\"\n\
    [uplink.b]\ninterface = \"wan-b\"\ngateway = \"198.51.100.1\"\n";

fn config() -> Config {
    Config::parse(CONFIG, "test").expect("a configuration")
}

fn route(table: u32, gateway: &str, ifindex: u32) -> Route {
    Route {
        table,
        destination: "0.0.0.0/0".parse().expect("a network"),
        metric: 0,
        kind: RouteKind::Unicast,
        nexthop: gateway.parse::<IpAddr>().ok(),
        ifindex: Some(ifindex),
        onlink: false,
        protocol: 3,
        mtu: None,
    }
}

fn rule(priority: u32, fwmark: Option<(u32, u32)>, table: u32) -> IpRule {
    IpRule { fwmark, ..IpRule::by_hand(priority, table) }
}

fn snapshot(routes: Vec<Route>, rules: Vec<IpRule>) -> Snapshot {
    let names = [(2, "wan-a"), (3, "wan-b"), (4, "lan0"), (5, "wg0")];
    let links = names.map(|(ifindex, name)| (ifindex, Link::ethernet(ifindex, name)));
    Snapshot { links: links.into(), routes, rules, ..Snapshot::default() }
}

fn commands(snapshot: &Snapshot, survey: &Survey) -> Vec<String> {
    steps(&config(), snapshot, survey).into_iter().map(|step| step.command).collect()
}

#[test]
fn rules_marks_masquerading_and_tables_of_a_script_are_found() {
    let mut survey = Survey::default();
    survey.read_iptables(
        "iptables-legacy-save",
        "*mangle\n\
         -A PREROUTING -i lan0 -p tcp --dport 443 -j MARK --set-xmark 0x1/0xffffffff\n\
         -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\n\
         -A PREROUTING -i lan0 -j MARK --set-xmark 0x77/0xffffffff\nCOMMIT\n\
         *nat\n-A POSTROUTING -o wan-a -j MASQUERADE\n-A POSTROUTING -s 10.0.0.0/24 -o wan-b -j MASQUERADE\n\
         -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n\
         -A POSTROUTING -s 10.8.0.0/24 -j MASQUERADE\nCOMMIT\n",
    );
    let snapshot = snapshot(
        vec![route(101, "192.0.2.1", 2), route(102, "198.51.100.1", 3), route(200, "10.9.0.1", 5)],
        vec![
            rule(32_764, Some((1, u32::MAX)), 101),
            rule(900, None, 102),
            rule(901, None, 200),
            rule(902, Some((7, 0xff)), 777),
            rule(32_766, None, TABLE_MAIN),
            IpRule { protocol: PROTOCOL, ..rule(26_000, None, 2600) },
        ],
    );
    let expected = [
        "ip rule delete pref 32764 fwmark 0x1/0xffffffff lookup 101",
        "ip rule delete pref 900 lookup 102",
        "ip rule delete pref 902 fwmark 0x7/0xff lookup 777",
        "iptables-legacy -t mangle -D PREROUTING -i lan0 -p tcp --dport 443 -j MARK --set-xmark 0x1/0xffffffff",
        "iptables-legacy -t mangle -D PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "iptables-legacy -t nat -D POSTROUTING -o wan-a -j MASQUERADE",
        "iptables-legacy -t nat -D POSTROUTING -s 10.0.0.0/24 -o wan-b -j MASQUERADE",
        "ip route flush table 101",
        "ip route flush table 102",
    ];
    assert_eq!(commands(&snapshot, &survey), expected);
}

#[test]
fn masquerading_of_nft_is_found_by_the_uplink_that_it_names() {
    let rule = |interface: &str, handle: u32| {
        json!({"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": handle, "expr": [
            {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": interface}},
            {"masquerade": null},
        ]}})
    };
    let survey = Survey::of(&json!({"nftables": [rule("wan-a", 7), rule("tun0", 8)]}));
    let found = commands(&snapshot(vec![], vec![]), &survey);
    assert_eq!(found, ["nft delete rule ip nat post handle 7"]);
}

#[test]
fn rules_of_a_vpn_that_is_down_are_left() {
    let source = "192.168.5.0/24".parse().ok();
    let of_source = IpRule { source, ..rule(900, None, 200) };
    let marked = IpRule { source, ..rule(901, Some((7, 0xff)), 200) };
    let coming_in = IpRule { more: "iif wg0".into(), ..rule(902, Some((7, 0xff)), 200) };
    let down = snapshot(vec![], vec![of_source, marked, coming_in]);
    assert!(commands(&down, &Survey::default()).is_empty());
}

#[test]
fn what_comes_back_at_boot_is_told() {
    let mut survey = Survey::default();
    survey.read_iptables("iptables-save", "*nat\n-A POSTROUTING -o wan-a -j MASQUERADE\nCOMMIT\n");
    let delete = "iptables -t nat -D POSTROUTING -o wan-a -j MASQUERADE";
    let empty = snapshot(vec![], vec![]);
    assert_eq!(commands(&empty, &survey), [delete]);
    survey.saved = ["/etc/iptables/rules.v4", "/etc/nftables.conf"].map(str::to_owned).into();
    assert_eq!(commands(&empty, &survey), [delete, "netfilter-persistent save"]);
    survey.masquerades[0].delete = "nft delete rule ip nat postrouting handle 4".into();
    let found = steps(&config(), &empty, &survey);
    assert_eq!(
        found[1].what,
        "/etc/nftables.conf may set them again at boot: take them out there, too"
    );
    assert_eq!((found.len(), &*found[1].command), (2, ""));
    survey.masquerades.clear();
    assert!(commands(&empty, &survey).is_empty(), "what others need is theirs");
    let networkd = IpRule { protocol: 4, ..rule(9, Some((1, u32::MAX)), 101) };
    let found = snapshot(vec![route(101, "192.0.2.1", 2)], vec![networkd]);
    let found = steps(&config(), &found, &survey);
    assert!(found[0].what.contains("[RoutingPolicyRule]"), "{found:?}");
}

#[test]
fn masquerading_is_left_to_uplinks_without_nat() {
    let mut survey = Survey::default();
    survey.read_iptables(
        "iptables-save",
        "*nat\n-A POSTROUTING -o wan-a -j MASQUERADE\n-A POSTROUTING -o wan-b -j MASQUERADE\n\
         -A POSTROUTING -j MASQUERADE\nCOMMIT\n",
    );
    let empty = snapshot(vec![], vec![]);
    assert_eq!(commands(&empty, &survey).len(), 3);
    let config = Config::parse(&(CONFIG.to_owned() + "nat = \"off\"\n"), "test").expect("one");
    let found: Vec<_> = steps(&config, &empty, &survey).into_iter().map(|it| it.command).collect();
    assert_eq!(found, ["iptables -t nat -D POSTROUTING -o wan-a -j MASQUERADE"]);
}

#[test]
fn masquerading_everywhere_goes_on_by_the_interfaces_inside() {
    let mut survey = Survey::default();
    survey.read_iptables("iptables-save", "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n");
    let own = |ifindex| Address {
        ifindex,
        address: "10.0.0.1".parse().expect("an address"),
        prefix_length: 24,
        deprecated: false,
        temporary: false,
        held: false,
    };
    let machine = |inner: &[u32]| Snapshot {
        addresses: inner.iter().copied().map(own).collect(),
        ..snapshot(vec![], vec![])
    };
    let found = |inner| steps(&config(), &machine(inner), &survey);
    let [alone] = &found(&[2, 3, 4])[..] else { panic!("one rule") };
    let delete = "iptables -t nat -D POSTROUTING -j MASQUERADE";
    assert_eq!((&*alone.what, &*alone.command), ("", delete));
    let [several] = &found(&[2, 3, 4, 5])[..] else { panic!("one rule") };
    assert_eq!(several.what, "it still translates what leaves by lan0, wg0");
    let kept = "iptables -t nat -A POSTROUTING -o wg0 -j MASQUERADE; ";
    assert!(several.command.contains(kept) && several.command.ends_with(delete), "{several:?}");
    let kept = masquerade_by("nft delete rule ip nat post handle 7", "wg0");
    assert_eq!(kept, "nft add rule ip nat post oifname wg0 masquerade");
}

#[test]
fn of_several_ways_one_is_left_if_the_configuration_knows_the_gateways() {
    let both = snapshot(
        vec![route(TABLE_MAIN, "192.0.2.1", 2), route(TABLE_MAIN, "198.51.100.1", 3)],
        vec![],
    );
    let left = ["ip route replace default via 192.0.2.1 dev wan-a"];
    assert_eq!(commands(&both, &Survey::default()), left);
    let other = snapshot(
        vec![route(TABLE_MAIN, "192.0.2.9", 2), route(TABLE_MAIN, "198.51.100.1", 3)],
        vec![],
    );
    assert!(commands(&other, &Survey::default()).is_empty());
    let one = snapshot(vec![route(TABLE_MAIN, "192.0.2.1", 2)], vec![]);
    assert!(commands(&one, &Survey::default()).is_empty());
}

#[test]
fn a_service_that_balances_is_stopped_as_a_whole() {
    let mwan3 = snapshot(vec![], vec![rule(2001, Some((0x100, 0x3f00)), 1)]);
    let found = commands(&mwan3, &Survey::default());
    assert_eq!(found, ["service mwan3 stop; service mwan3 disable"]);
}
