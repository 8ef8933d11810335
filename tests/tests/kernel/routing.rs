//! Routes, ip rules and the snapshot.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use linkbal::{
    engine::kernel::{
        network::{Change, IpRule, NetworkEvent, PROTOCOL, Route, RouteKind, Snapshot, TABLE_MAIN},
        resource::ResourceKind,
    },
    sys::Kernel,
};
use linkbal_common::uplink::Family;
use tempfile::tempdir;

use crate::{
    default_route,
    namespace::{self, ip, shell},
    wan_ifindex,
};

fn route_lines(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<_> =
        snapshot.routes.iter().map(|route| route_line(snapshot, route)).collect();
    lines.sort();
    lines
}

fn route_line(snapshot: &Snapshot, route: &Route) -> String {
    let device = route.ifindex.map(|ifindex| snapshot.links[&ifindex].name.clone());
    format!(
        "{} {} table {} proto {} via {:?} dev {device:?} onlink {} metric {}",
        format!("{:?}", route.kind).to_lowercase(),
        route.destination,
        route.table,
        route.protocol,
        route.nexthop.map(|nexthop| nexthop.to_string()),
        route.onlink,
        route.metric,
    )
}

fn rule_lines(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<_> = snapshot.rules.iter().map(rule_line).collect();
    lines.sort();
    lines
}

fn rule_line(rule: &IpRule) -> String {
    let family = if rule.family == Family::Ipv4 { "-4" } else { "-6" };
    format!(
        "{family} {} from {:?} to {:?} from here {} forwarded goto {:?} fwmark {:?} oif {:?} table {} suppress {:?} proto {}",
        rule.priority,
        rule.source.map(|source| source.to_string()),
        rule.destination.map(|destination| destination.to_string()),
        rule.from_here,
        rule.forwarded_goto,
        // As C prints a zero.
        rule.fwmark.map(|(fwmark, mask)| format!("{fwmark:#x}/{mask:#x}").replace("0x0/", "0/")),
        rule.device.as_deref(),
        rule.table,
        rule.suppress_prefix_length,
        rule.protocol,
    )
}

/// Returns every shape of route that linkbal makes.
fn routes(wan: u32) -> Result<Vec<Route>> {
    let ipv4 = default_route("0.0.0.0/0", Some("192.0.2.1"), wan)?;
    let ipv6 = default_route("::/0", Some("2001:db8::1"), wan)?;
    let unreachable = |route: &Route| Route {
        kind: RouteKind::Unreachable,
        metric: u32::MAX,
        nexthop: None,
        ifindex: None,
        ..route.clone()
    };
    let far = |route: &Route, nexthop: &str| -> Result<Route> {
        Ok(Route { table: 2602, nexthop: Some(nexthop.parse()?), onlink: true, ..route.clone() })
    };
    let direct = |route: &Route| Route { table: 2603, nexthop: None, ..route.clone() };
    Ok(vec![
        unreachable(&ipv4),
        unreachable(&ipv6),
        far(&ipv4, "203.0.113.1")?,
        far(&ipv6, "fe80::9")?,
        far(&ipv6, "2001:db8:ffff::1")?,
        direct(&ipv4),
        direct(&ipv6),
        Route { table: 7, destination: "198.51.100.0/24".parse()?, ..ipv4.clone() },
        Route { table: 7, destination: "2001:db8:7::/48".parse()?, ..ipv6.clone() },
        Route { table: 2604, nexthop: Some("fe80::1".parse()?), ..ipv4.clone() },
        ipv4,
        ipv6,
    ])
}

/// Returns every shape of ip rule that linkbal makes.
fn ip_rules() -> Result<Vec<IpRule>> {
    let mut rules = Vec::new();
    for (family, source, endpoint) in [
        (Family::Ipv4, "192.0.2.2/32", "198.51.100.9/32"),
        (Family::Ipv6, "2001:db8::/64", "2001:db8:ff::9/128"),
    ] {
        let lookup = IpRule {
            family,
            priority: 26199,
            source: None,
            destination: None,
            from_here: false,
            fwmark: None,
            device: None,
            table: 2600,
            suppress_prefix_length: None,
            forwarded_goto: None,
            protocol: PROTOCOL,
            more: String::new(),
        };
        rules.extend([
            IpRule {
                priority: 26000,
                table: TABLE_MAIN,
                suppress_prefix_length: Some(0),
                ..lookup.clone()
            },
            IpRule { priority: 26001, source: Some(source.parse()?), ..lookup.clone() },
            IpRule { priority: 26002, fwmark: Some((0x100_0000, 0x3f00_0000)), ..lookup.clone() },
            IpRule {
                priority: 26003,
                fwmark: Some((0, 0x3f00_0000)),
                device: Some("lo".into()),
                ..lookup.clone()
            },
            IpRule {
                priority: 26004,
                destination: Some(endpoint.parse()?),
                from_here: true,
                suppress_prefix_length: Some(1),
                ..lookup.clone()
            },
            IpRule { priority: 26005, table: 0, forwarded_goto: Some(26199), ..lookup.clone() },
            lookup,
        ]);
    }
    Ok(rules)
}

#[test]
fn routes_of_every_shape_come_and_go() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let before = namespace::routes()?;
        let wan = wan_ifindex(&kernel.snapshot(&[]).await?)?;
        for route in routes(wan)? {
            for _ in 0..2 {
                kernel.apply(&Change::ReplaceRoute(route.clone())).await?;
                let snapshot = kernel.snapshot(&[]).await?;
                assert!(snapshot.routes.contains(&route), "{route} in {snapshot:#?}");
                let mut expected = before.clone();
                expected.push(route_line(&snapshot, &route));
                expected.sort();
                assert_eq!(namespace::routes()?, expected);
            }
            for _ in 0..2 {
                kernel.apply(&Change::DeleteRoute(route.clone())).await?;
                assert_eq!(namespace::routes()?, before);
            }
        }
        Ok(())
    });
}

#[test]
fn a_route_replaces_every_other_with_its_key() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let wan = wan_ifindex(&kernel.snapshot(&[]).await?)?;
        for (any, gateway, other) in
            [("0.0.0.0/0", "192.0.2.1", "192.0.2.9"), ("::/0", "2001:db8::1", "2001:db8::9")]
        {
            let variants = [
                default_route(any, Some(gateway), wan)?,
                default_route(any, Some(other), wan)?,
                default_route(any, None, wan)?,
                Route {
                    kind: RouteKind::Unreachable,
                    ifindex: None,
                    ..default_route(any, None, wan)?
                },
            ];
            for first in &variants {
                for second in &variants {
                    kernel.apply(&Change::ReplaceRoute(first.clone())).await?;
                    kernel.apply(&Change::ReplaceRoute(second.clone())).await?;
                    let snapshot = kernel.snapshot(&[]).await?;
                    let ours: Vec<_> = snapshot
                        .routes
                        .iter()
                        .filter(|route| {
                            route.table == first.table && route.family() == first.family()
                        })
                        .collect();
                    assert_eq!(ours, [second], "after {first}");
                }
            }
        }
        assert_eq!(route_lines(&kernel.snapshot(&[]).await?), namespace::routes()?);
        Ok(())
    });
}

#[test]
fn rules_of_every_shape_come_and_go() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let before = namespace::rules()?;
        let mut expected = before.clone();
        for rule in ip_rules()? {
            expected.push(rule_line(&rule));
            expected.sort();
            for _ in 0..2 {
                kernel.apply(&Change::AddRule(rule.clone())).await?;
                assert_eq!(namespace::rules()?, expected);
            }
        }
        assert_eq!(rule_lines(&kernel.snapshot(&[]).await?), expected);
        for rule in ip_rules()? {
            for _ in 0..2 {
                kernel.apply(&Change::DeleteRule(rule.clone())).await?;
            }
            expected.retain(|line| *line != rule_line(&rule));
            assert_eq!(namespace::rules()?, expected);
        }
        assert_eq!(expected, before);
        Ok(())
    });
}

#[test]
fn failures_name_the_object_and_the_cause() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let route = default_route("0.0.0.0/0", None, 4_000_000)?;
        let error = kernel
            .apply(&Change::ReplaceRoute(route.clone()))
            .await
            .expect_err("there is no such device");
        assert_eq!(
            format!("{error:#}"),
            "failed to add route 0.0.0.0/0 dev 4000000 table 2601 metric 10: \
             No such device (os error 19)"
        );
        // Deleting it is done already.
        Ok(kernel.apply(&Change::DeleteRoute(route)).await?)
    });
}

#[test]
fn the_snapshot_says_what_ip_says() {
    namespace::run(|| async {
        shell(
            "ip route add default via 192.0.2.1 metric 5
            ip route add 10.0.0.0/8 nexthop via 192.0.2.7 dev wan0 nexthop via 192.0.2.9 dev wan0
            ip -6 route add 2001:db8:5::/48 nexthop via 2001:db8::7 nexthop via 2001:db8::9
            ip route add blackhole 10.9.0.0/16 table 99
            ip route add prohibit 10.8.0.0/16
            ip route add 10.7.0.0/16 via inet6 fe80::5 dev wan0 table 70000
            ip -6 route add default via fe80::1 dev wan0 onlink proto ra
            ip rule add from 192.0.2.0/24 iif isp0 blackhole pref 5
            ip -6 rule add fwmark 0x100/0x3f00 lookup 77777 suppress_prefixlength 8 pref 6
            ip link add down0 type veth peer name down1
            ip link set down0 up
            ip addr add 198.51.100.1 peer 198.51.100.2/32 dev isp0
            ip -6 addr add fd00::1 peer fd00::2/128 dev isp0",
        )?;
        namespace::wait_for_routes("local fd00::1/128", 1)?;
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let asked = ["net/ipv4/conf/wan0/rp_filter", "net/ipv4/conf/gone0/rp_filter"];
        let snapshot = kernel.snapshot(&asked.map(String::from)).await?;

        assert_eq!(route_lines(&snapshot), namespace::routes()?);
        assert_eq!(rule_lines(&snapshot), namespace::rules()?);
        assert_eq!(link_lines(&snapshot), ip_links()?);
        assert_eq!(address_lines(&snapshot), ip_addresses()?);
        let rp_filter = std::fs::read_to_string("/proc/sys/net/ipv4/conf/wan0/rp_filter")?;
        assert_eq!(snapshot.sysctls.len(), 1);
        assert_eq!(snapshot.sysctls[asked[0]], rp_filter.trim());
        assert!(!snapshot.nft_current);
        Ok(())
    });
}

#[test]
fn addresses_in_duplicate_detection_are_left_out() {
    namespace::run(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/wan0/accept_dad", "1")?;
        // Long enough for the whole test.
        std::fs::write("/proc/sys/net/ipv6/conf/wan0/dad_transmits", "1000")?;
        shell("ip addr add 2001:db8::5/64 dev wan0")?;
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let snapshot = kernel.snapshot(&[]).await?;
        let listed = ip("-6 addr show dev wan0 tentative")?;
        assert_eq!(listed[0]["addr_info"][0]["local"], "2001:db8::5");
        assert!(!address_lines(&snapshot).iter().any(|line| line.contains("2001:db8::5/")));
        assert!(address_lines(&snapshot).iter().any(|line| line.contains("2001:db8::2/")));
        Ok(())
    });
}

fn link_lines(snapshot: &Snapshot) -> BTreeSet<String> {
    let line = |link: &linkbal::engine::kernel::network::Link| {
        format!(
            "{} {} {} {} {}",
            link.ifindex, link.name, link.up, link.carrier, link.point_to_point
        )
    };
    snapshot.links.values().map(line).collect()
}

fn ip_links() -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for link in ip("link show")? {
        let has =
            |flag: &str| link["flags"].as_array().is_some_and(|all| all.contains(&flag.into()));
        let name = link["ifname"].as_str().context("no name")?;
        let point_to_point = has("POINTOPOINT") || has("NOARP");
        lines.insert(format!(
            "{} {name} {} {} {point_to_point}",
            link["ifindex"],
            has("UP"),
            has("LOWER_UP")
        ));
    }
    Ok(lines)
}

fn address_lines(snapshot: &Snapshot) -> BTreeSet<String> {
    let addresses = snapshot.addresses.iter();
    addresses
        .map(|held| format!("{} {}/{}", held.ifindex, held.address, held.prefix_length))
        .collect()
}

fn ip_addresses() -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for link in ip("addr show")? {
        for address in link["addr_info"].as_array().context("no addresses")? {
            let local = address["local"].as_str().context("no address")?;
            lines.insert(format!("{} {local}/{}", link["ifindex"], address["prefixlen"]));
        }
    }
    Ok(lines)
}

#[test]
fn deletions_by_others_are_reported_and_own_ones_are_not() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, mut events) = Kernel::connect(directory.path())?;
        let wan = wan_ifindex(&kernel.snapshot(&[]).await?)?;
        for (any, gateway) in [("0.0.0.0/0", "192.0.2.1"), ("::/0", "2001:db8::1")] {
            let route = default_route(any, Some(gateway), wan)?;
            kernel.apply(&Change::ReplaceRoute(route.clone())).await?;
            kernel.apply(&Change::DeleteRoute(route.clone())).await?;
            let rule = ip_rules()?.into_iter().find(|rule| rule.family == route.family());
            let rule = rule.context("a rule of the family")?;
            kernel.apply(&Change::AddRule(rule.clone())).await?;
            kernel.apply(&Change::DeleteRule(rule)).await?;
            kernel.apply(&Change::ReplaceRoute(route.clone())).await?;
            let option = if any.contains(':') { "-6" } else { "-4" };
            shell(&format!("ip {option} route del {any} table {}", route.table))?;
            let first = loop {
                let event = events.next().await.context("the events ended")?;
                if matches!(&event, NetworkEvent::ResourceChanged { what, .. } if *what != ResourceKind::Sysctls)
                {
                    break event;
                }
            };
            let NetworkEvent::ResourceChanged { what: ResourceKind::Routes, by: Some(by) } = &first
            else {
                bail!("{first:?}");
            };
            assert!(by.name.as_deref().is_none_or(|name| name == "ip"), "{by:?}");
        }
        Ok(())
    });
}
