//! The desired state of machines of many kinds.

use super::{sysctls::REFLECTION, *};
use crate::engine::{
    indexed,
    kernel::{
        diff::diff,
        network::{Address, forwarding},
        nexthop::{Nexthop, nexthop},
    },
};

const TWO_ON_ONE_WIRE: &str = r#"
[lan]
interfaces = ["lan0"]
[uplink.a]
interface = "wan0"
gateway = "203.0.113.1"
[uplink.b]
interface = "wan0"
gateway = "192.0.2.1"
"#;

pub(super) fn config(text: &str) -> (Config, Vec<Indexed>) {
    let config = Config::parse(text, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    (config, indexed)
}

pub(super) fn held(ifindex: u32, text: &str) -> Address {
    let prefix: IpNet = text.parse().expect("an address with its prefix length");
    Address {
        ifindex,
        address: prefix.addr(),
        prefix_length: prefix.prefix_len(),
        deprecated: false,
        temporary: false,
        held: false,
    }
}

pub(super) fn route(table: u32, destination: &str, kind: RouteKind) -> Route {
    Route {
        table,
        destination: destination.parse().expect("a prefix"),
        metric: 0,
        kind,
        nexthop: None,
        ifindex: Some(3),
        onlink: false,
        protocol: 2,
        mtu: None,
    }
}

/// Creates a machine with one interface, and with a rule that shows that IPv4 exists.
pub(super) fn machine(addresses: Vec<Address>) -> Snapshot {
    Snapshot {
        links: [(3, Link::ethernet(3, "wan0"))].into(),
        addresses,
        rules: vec![IpRule {
            family: Family::Ipv4,
            priority: 32_766,
            source: None,
            destination: None,
            from_here: false,
            fwmark: None,
            device: None,
            table: TABLE_MAIN,
            suppress_prefix_length: None,
            forwarded_goto: None,
            protocol: 2,
            more: String::new(),
        }],
        ..Snapshot::default()
    }
}

fn sources(desired: &Desired) -> Vec<(String, u32)> {
    let rules = desired.rules.iter();
    rules.filter_map(|rule| Some((rule.source?.to_string(), rule.table))).collect()
}

#[test]
fn two_providers_on_one_wire_have_a_table_each_and_their_own_addresses() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let snapshot = machine(vec![held(3, "203.0.113.2/24"), held(3, "192.0.2.2/24")]);
    let desired = desired(&config, &indexed, &snapshot, UpMask::default());
    assert_eq!(sources(&desired), [("203.0.113.2/32".into(), 2601), ("192.0.2.2/32".into(), 2602)]);
    assert_eq!(uplink_interfaces(&indexed, &snapshot), [(3, SHARED)].into());
    let via = |table| {
        let mut routes = desired.routes.iter().filter(|route| route.table == table);
        routes.find_map(|route| route.nexthop).map(|nexthop| nexthop.to_string())
    };
    assert_eq!(via(2601).as_deref(), Some("203.0.113.1"));
    assert_eq!(via(2602).as_deref(), Some("192.0.2.1"));
    let departures = "oifname vmap { \"wan0\" : goto departures_0 }";
    assert!(desired.nft.contains(departures), "a packet's mark alone tells which: {}", desired.nft);
}

#[test]
fn the_device_of_several_uplinks_leads_to_the_best_one_behind_the_sources() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let snapshot = machine(vec![held(3, "203.0.113.2/24"), held(3, "192.0.2.2/24")]);
    let table = |up| {
        let desired = desired(&config, &indexed, &snapshot, UpMask(up));
        let mut rules = desired.rules.into_iter().filter(|rule| rule.device.is_some());
        let rule = rules.next().expect("a rule");
        assert_eq!((rule.device.as_deref(), rules.next()), (Some("wan0"), None));
        assert!((26_130..26_146).contains(&rule.priority), "{rule}");
        rule.table
    };
    assert_eq!([table(1), table(2)], [2601, 2602]);
}

#[test]
fn a_kernel_without_ipv6_is_not_asked_for_it() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let snapshot = machine(vec![held(3, "203.0.113.2/24")]);
    let desired = desired(&config, &indexed, &snapshot, UpMask::default());
    assert!(desired.rules.iter().all(|rule| rule.family == Family::Ipv4));
    assert!(desired.routes.iter().all(|route| route.family() == Family::Ipv4));
}

#[test]
fn a_point_to_point_uplink_needs_no_gateway_but_an_address() {
    let (config, indexed) =
        config("[lan]\ninterfaces = [\"lan0\"]\n[uplink.p]\ninterface = \"ppp0\"\n");
    let uplink = &indexed[0].config;
    let mut snapshot = machine(vec![]);
    snapshot.links = [(3, Link { point_to_point: true, ..Link::ethernet(3, "ppp0") })].into();
    let lacks = nexthop(&snapshot, uplink, Family::Ipv4).expect_err("no address");
    assert_eq!(lacks.to_string(), "no ipv4 address on ppp0");
    snapshot.addresses = vec![held(3, "100.64.0.9/32"), held(3, "fe80::9/64")];
    let expected = Nexthop { ifindex: 3, gateway: None };
    assert_eq!(nexthop(&snapshot, uplink, Family::Ipv4), Ok(expected));
    assert!(nexthop(&snapshot, uplink, Family::Ipv6).is_err(), "a link-local address is none");
    let desired = desired(&config, &indexed, &snapshot, UpMask::default());
    let own: Vec<_> = desired.routes.iter().filter(|route| route.table == 2601).collect();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|route| route.nexthop.is_none() && !route.onlink));
}

#[test]
fn the_reason_for_a_missing_nexthop_is_the_first_thing_to_mend() {
    let (_, indexed) = config("[lan]\ninterfaces = [\"lan0\"]\n[uplink.u]\ninterface = \"wan0\"\n");
    let uplink = &indexed[0].config;
    let lacks =
        |snapshot: &Snapshot| nexthop(snapshot, uplink, Family::Ipv4).expect_err("no nexthop");
    let reason = |snapshot: &Snapshot| lacks(snapshot).to_string();
    let mut snapshot = machine(vec![]);
    assert_eq!(reason(&Snapshot::default()), "interface wan0 does not exist");
    assert_eq!(reason(&snapshot), "no ipv4 address on wan0");
    snapshot.addresses.push(held(3, "203.0.113.2/24"));
    let unknown =
        "no ipv4 gateway known on wan0: no default route leads there, and none is configured";
    assert_eq!(reason(&snapshot), unknown);
    let default = route(TABLE_MAIN, "0.0.0.0/0", RouteKind::Unicast);
    snapshot.routes.push(Route { ifindex: Some(4), ..default });
    assert!(reason(&snapshot).contains("a metric of its own"), "{}", reason(&snapshot));
    snapshot.links = [(3, Link { carrier: false, ..Link::ethernet(3, "wan0") })].into();
    assert_eq!(reason(&snapshot), "no carrier on wan0");
    snapshot.links = [(3, Link { up: false, ..Link::ethernet(3, "wan0") })].into();
    assert_eq!(reason(&snapshot), "interface wan0 is down");
    assert_eq!(
        lacks(&snapshot).remedy().map(|remedy| remedy.to_string()).as_deref(),
        Some("`ip link set wan0 up`")
    );
}

#[test]
fn the_best_default_route_of_the_main_table_names_the_gateway() {
    let (_, indexed) = config("[lan]\ninterfaces = [\"lan0\"]\n[uplink.u]\ninterface = \"wan0\"\n");
    let mut snapshot = machine(vec![held(3, "203.0.113.2/24")]);
    let default = |table, metric, nexthop: &str, ifindex| Route {
        metric,
        nexthop: Some(nexthop.parse().expect("an address")),
        ifindex: Some(ifindex),
        ..route(table, "0.0.0.0/0", RouteKind::Unicast)
    };
    snapshot.routes = vec![
        default(TABLE_MAIN, 50, "10.0.0.1", 9),
        default(100, 1, "203.0.113.9", 3),
        default(TABLE_MAIN, 200, "203.0.113.8", 3),
        default(TABLE_MAIN, 100, "203.0.113.1", 3),
    ];
    let nexthop = nexthop(&snapshot, &indexed[0].config, Family::Ipv4).expect("a nexthop");
    assert_eq!(nexthop.gateway, Some("203.0.113.1".parse().expect("an address")));
}

#[test]
fn strict_source_validation_becomes_loose_and_all_else_stays() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let wanted = |values: &[(&str, &str)]| {
        let mut snapshot = machine(vec![]);
        let owned = values.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        snapshot.sysctls = owned.collect();
        desired(&config, &indexed, &snapshot, UpMask::default()).sysctls
    };
    let all = "net/ipv4/conf/all/rp_filter";
    let own = "net/ipv4/conf/wan0/rp_filter";
    let loose = vec![(own.to_owned(), "2".to_owned())];
    assert_eq!(wanted(&[(all, "0"), (own, "1")]), loose);
    assert_eq!(wanted(&[(all, "1"), (own, "0")]), loose);
    assert_eq!(wanted(&[(all, "1"), (own, "2")]), []);
    assert_eq!(wanted(&[(all, "2"), (own, "0")]), []);
    assert_eq!(wanted(&[(all, "0"), (own, "0")]), []);
}

#[test]
fn nft_validates_sources_where_no_more_is_asked_of_the_kernel() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let path = |interface: &str, name: &str| format!("net/ipv4/conf/{interface}/{name}");
    let values = |all: &str, lan: &str, wan: &str| -> BTreeMap<String, String> {
        let filters = [("all", all), ("lan0", lan), ("wan0", wan)];
        let filters = filters.map(|(name, value)| (path(name, "rp_filter"), value.to_owned()));
        let local = ["all", "lan0", "wan0"].map(|name| (path(name, "accept_local"), "0".into()));
        filters.into_iter().chain(local).collect()
    };
    let decide = |snapshot: &Snapshot| {
        let desired = desired(&config, &indexed, snapshot, UpMask::default());
        let sysctls: BTreeSet<_> =
            desired.sysctls.into_iter().map(|(path, value)| format!("{path}={value}")).collect();
        (sysctls, desired.nft)
    };
    let of = |name: &str, filter: bool| {
        let filter = filter.then(|| path(name, "rp_filter") + "=0");
        filter.into_iter().chain([path(name, "accept_local") + "=1"]).collect::<BTreeSet<_>>()
    };
    let with = |sysctls| Snapshot { sysctls, ..machine(vec![]) };
    for (values, expected, asked) in [
        (values("0", "0", "0"), &of("lan0", false) | &of("wan0", false), "lan0\", \"wan0"),
        (values("0", "2", "1"), &of("lan0", true) | &of("wan0", true), "lan0\", \"wan0"),
        // A strict LAN is left to the kernel.
        (values("0", "1", "2"), of("wan0", true), "wan0"),
    ] {
        let (sysctls, nft) = decide(&with(values.clone()));
        assert_eq!(sysctls, expected, "{values:?}");
        let rule = format!("iifname {{ \"{asked}\" }} jump source_validation");
        assert!(nft.contains(&rule), "{values:?}: {nft}");
        // Once they are set, that stays so: it follows from the values before.
        let mut set = Snapshot { sysctls_before: values.clone(), ..with(values) };
        for sysctl in sysctls {
            let (path, value) = sysctl.split_once('=').expect("a value");
            set.sysctls.insert(path.into(), value.into());
        }
        assert_eq!(decide(&set), (BTreeSet::new(), nft));
        // Without the record of these, no source becomes valid that was not.
        set.sysctls_before.clear();
        assert!(decide(&set).1.contains(&rule), "{set:?}");
    }
    // The administrator wants all interfaces strict: an uplink is made loose, and that is all.
    let (sysctls, nft) = decide(&with(values("1", "0", "0")));
    assert_eq!(sysctls, BTreeSet::from([path("wan0", "rp_filter") + "=2"]));
    assert!(!nft.contains("source_validation"), "{nft}");
}

#[test]
fn router_advertisements_are_kept_before_forwarding_would_end_them() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let mut snapshot = machine(vec![]);
    let accept = "net/ipv6/conf/wan0/accept_ra";
    let forwarding = "net/ipv6/conf/all/forwarding";
    snapshot.sysctls = [(forwarding.into(), "0".into()), (accept.into(), "1".into())].into();
    let wanted = desired(&config, &indexed, &snapshot, UpMask::default()).sysctls;
    assert_eq!(wanted, [(accept.into(), "2".into()), (forwarding.into(), "1".into())]);
}

#[test]
fn without_a_lan_forwarding_is_left_alone_and_answers_carry_their_mark() {
    let forwarding = Family::ALL.map(forwarding);
    let off: BTreeMap<String, String> =
        forwarding.iter().chain(&REFLECTION).map(|path| ((*path).into(), "0".into())).collect();
    let wanted = |text: &str| {
        let (config, indexed) = config(text);
        let mut snapshot = machine(vec![]);
        snapshot.sysctls.clone_from(&off);
        let sysctls = desired(&config, &indexed, &snapshot, UpMask::default()).sysctls;
        sysctls.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(wanted(TWO_ON_ONE_WIRE), [forwarding, REFLECTION].concat());
    let without_lan = TWO_ON_ONE_WIRE.replace("\"lan0\"", "");
    assert_eq!(wanted(&without_lan), REFLECTION);
    let without_balance = format!("[local]\nbalance = false\n{TWO_ON_ONE_WIRE}");
    assert_eq!(wanted(&without_balance), forwarding);
}

#[test]
fn datagrams_come_from_the_first_address_that_the_internet_knows() {
    let (_, indexed) = config(TWO_ON_ONE_WIRE);
    let mut snapshot = machine(vec![
        held(3, "203.0.113.2/24"),
        held(3, "192.0.2.2/24"),
        held(3, "192.0.2.1/24"),
        held(3, "2001:db8:a::2/64"),
    ]);
    let addresses = |snapshot: &Snapshot, indexed: &[Indexed]| {
        let all = uplink_addresses(indexed, snapshot).into_iter();
        all.map(|((index, family), own)| format!("{index} {} {own}", family.name()))
            .collect::<Vec<_>>()
    };
    let expected = ["0 ipv4 203.0.113.2", "1 ipv4 192.0.2.2"];
    assert_eq!(addresses(&snapshot, &indexed), expected, "of IPv6 the owner is not known");
    snapshot.addresses.insert(0, held(3, "fd00::2/64"));
    snapshot.addresses.insert(0, held(3, "fe80::2/64"));
    assert_eq!(addresses(&snapshot, &indexed[..1]), ["0 ipv4 203.0.113.2", "0 ipv6 2001:db8:a::2"]);
}

#[test]
fn datagrams_come_from_the_address_in_the_network_of_the_gateway() {
    let text = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.u]\ninterface = \"wan0\"\n";
    let (_, indexed) = config(text);
    let modem = held(3, "192.168.100.2/24");
    let mut snapshot = machine(vec![modem, held(3, "203.0.113.5/24")]);
    let address = |snapshot: &Snapshot, indexed: &[Indexed]| {
        uplink_addresses(indexed, snapshot).values().next().map(ToString::to_string)
    };
    assert_eq!(address(&snapshot, &indexed).as_deref(), Some("192.168.100.2"), "no gateway");
    let default = route(TABLE_MAIN, "0.0.0.0/0", RouteKind::Unicast);
    let gateway = Some("203.0.113.1".parse().expect("an address"));
    snapshot.routes.push(Route { nexthop: gateway, ..default });
    assert_eq!(address(&snapshot, &indexed).as_deref(), Some("203.0.113.5"));
    // A configured one counts more, and one in no network leaves the first address.
    let with = |gateway: &str| config(&format!("{text}gateway = \"{gateway}\"\n")).1;
    assert_eq!(address(&snapshot, &with("192.168.100.1")).as_deref(), Some("192.168.100.2"));
    assert_eq!(address(&snapshot, &with("198.51.100.1")).as_deref(), Some("192.168.100.2"));
}

#[test]
fn this_machine_and_the_networks_it_knows_are_bypassed_and_defaults_are_not() {
    let (_, indexed) = config(TWO_ON_ONE_WIRE);
    let snapshot = Snapshot {
        routes: vec![
            route(TABLE_MAIN, "0.0.0.0/0", RouteKind::Unicast),
            Route { ifindex: Some(4), ..route(TABLE_MAIN, "10.0.0.0/24", RouteKind::Unicast) },
            // A worse one to the same destination, and one with several nexthops.
            Route {
                ifindex: Some(5),
                metric: 700,
                ..route(TABLE_MAIN, "10.0.0.0/24", RouteKind::Unicast)
            },
            Route { ifindex: None, ..route(TABLE_MAIN, "10.0.9.0/24", RouteKind::Unicast) },
            route(TABLE_MAIN, "203.0.113.0/24", RouteKind::Unicast),
            route(TABLE_LOCAL, "203.0.113.2/32", RouteKind::Local),
            route(TABLE_LOCAL, "10.0.0.1/32", RouteKind::Local),
            route(TABLE_LOCAL, "ff00::/8", RouteKind::Local),
            route(100, "198.18.0.0/15", RouteKind::Unicast),
        ],
        ..machine(vec![])
    };
    let prefixes = bypass(&[], &indexed, &snapshot);
    let prefixes: Vec<_> = prefixes.iter().map(|(net, by)| (net.to_string(), *by)).collect();
    let expected = [
        ("10.0.0.0/24", bypass::by(bypass::MAIN, 4)),
        ("10.0.0.1/32", bypass::MAIN),
        ("10.0.9.0/24", bypass::by(bypass::MAIN, bypass::NOWHERE)),
        ("203.0.113.0/24", bypass::by(bypass::UPLINK, 3)),
        ("203.0.113.2/32", bypass::MAIN),
        ("ff00::/8", bypass::MAIN),
    ];
    assert_eq!(prefixes, expected.map(|(net, by)| (net.to_owned(), by)));
}

#[test]
fn foreign_routes_and_rules_are_never_changed() {
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let mut snapshot = machine(vec![held(3, "203.0.113.2/24")]);
    snapshot.routes = vec![
        route(2601, "198.18.0.0/15", RouteKind::Unicast),
        route(TABLE_MAIN, "0.0.0.0/0", RouteKind::Unicast),
    ];
    snapshot.rules[0].priority = 26_000;
    let changes = diff(&desired(&config, &indexed, &snapshot, UpMask::default()), &snapshot);
    let deletes = |change: &&crate::engine::kernel::network::Change| {
        use crate::engine::kernel::network::Change::{DeleteRoute, DeleteRule};
        matches!(change, DeleteRoute(_) | DeleteRule(_))
    };
    assert_eq!(changes.iter().filter(deletes).count(), 0);
}

#[test]
fn on_one_wire_each_provider_sees_its_own_ipv6_address() {
    let with_ipv6 = TWO_ON_ONE_WIRE
        .replace("\"203.0.113.1\"", "\"2001:db8:a::1\"")
        .replace("\"192.0.2.1\"", "\"2001:db8:b::1\"");
    let (config, indexed) = config(&with_ipv6);
    let nft = |addresses| {
        let snapshot = machine(addresses);
        desired(&config, &indexed, &snapshot, UpMask::default()).nft
    };
    let text = nft(vec![held(3, "2001:db8:a::2/64"), held(3, "2001:db8:b::2/64")]);
    assert!(text.contains("== 0x01000000 snat ip6 to 2001:db8:a::2\n"), "{text}");
    assert!(text.contains("== 0x02000000 snat ip6 to 2001:db8:b::2\n"), "{text}");
    let foreign = nft(vec![held(3, "2001:db8:c::2/64")]);
    assert!(!foreign.contains("snat"), "{foreign}");
}

#[test]
fn forwarding_begins_when_translation_routes_and_rules_are_there() {
    use crate::engine::kernel::network::Change;
    let (config, indexed) = config(TWO_ON_ONE_WIRE);
    let mut snapshot = machine(vec![held(3, "203.0.113.2/24")]);
    snapshot.sysctls = [("net/ipv4/ip_forward".to_owned(), "0".to_owned())].into();
    let changes = diff(&desired(&config, &indexed, &snapshot, UpMask::default()), &snapshot);
    assert!(matches!(changes.first(), Some(Change::ReplaceNft(_))), "{changes:?}");
    let forward = Change::SetSysctl("net/ipv4/ip_forward".into(), "1".into());
    assert_eq!(changes.last(), Some(&forward));
}

#[test]
fn the_flowtable_has_interfaces_that_exist_and_uplinks_that_want_it() {
    let text = "[accelerate]\nmode = \"flowtable\"\n[lan]\ninterfaces = [\"lan0\", \"lan1\"]\n\
        [uplink.a]\ninterface = \"wan0\"\n[uplink.b]\ninterface = \"wan1\"\naccelerate = false\n\
        [uplink.c]\ninterface = \"ppp0\"\n\
        [uplink.d]\ninterface = \"wan2\"\ngateway = \"192.0.2.1\"\n\
        [uplink.e]\ninterface = \"wan2\"\ngateway = \"198.51.100.1\"\n";
    let links = ["lan0", "wan0", "wan1", "wan2"].into_iter().enumerate();
    let links = links.map(|(at, name)| (at as u32 + 2, Link::ethernet(at as u32 + 2, name)));
    let snapshot = Snapshot { links: links.collect(), ..Snapshot::default() };
    let wanted = |text: &str| {
        let (config, indexed) = config(text);
        desired(&config, &indexed, &snapshot, UpMask::default()).flowtable
    };
    let table = wanted(text).expect("a table");
    // Those that share an interface are left out, and so is an uplink without one.
    assert!(table.contains("devices = { \"lan0\", \"wan0\" }"), "{table}");
    assert!(table.contains("{ 0x01000000, 0x03000000 }"), "{table}");
    assert_eq!(wanted(&text.replace("\"flowtable\"", "\"ebpf\"")), None);
    let excepted = text.replace("[lan]", "except = [\"lan*\"]\n[lan]");
    let excepted = excepted.replace("\"lan1\"", "\"lan*\"");
    let table = wanted(&excepted).expect("a table");
    assert!(table.contains("devices = { \"wan0\" }") && !table.contains("lan0"), "{table}");
}

#[test]
fn the_flowtable_is_asked_for_when_it_is_another_one_alone() {
    use crate::engine::kernel::network::Change;
    let desired = Desired { flowtable: Some("text".into()), ..Desired::default() };
    let mut snapshot = Snapshot { nft_current: true, ..Snapshot::default() };
    assert_eq!(diff(&desired, &snapshot), []);
    snapshot.flowtable_stale = true;
    assert_eq!(diff(&desired, &snapshot), [Change::SetFlowtable(Some("text".into()))]);
    assert_eq!(diff(&Desired::default(), &snapshot), [Change::SetFlowtable(None)]);
}
