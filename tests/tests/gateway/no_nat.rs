//! Traffic that is not translated: subnets that a provider routes to the gateway, uplinks without
//! NAT, and exemptions of the administrator.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, LongFlows, Protocol, Servers, open_flows};
use linkbal_lab::wait;

use crate::fixture::{
    Gateway, LIMIT, OPEN, PLAIN, TICK, assert_undisturbed, is_udp, wait_for_answers, with_key,
};
use crate::ipv6::assert_bound_to_their_provider;
use crate::topologies::{put_on_one_hub, share_wan_a};

/// Number of hosts with addresses that a provider routes to the gateway.
const HOSTS: usize = 20;
/// The port of a server on such a host.
const INSIDE: u16 = 8080;
const HTTPS: u16 = 443;

/// Returns the address of a host that provider `uplink` routes to the gateway.
fn host(uplink: usize, number: usize) -> IpAddr {
    plan::pool(uplink, 0x10 + u8::try_from(number % HOSTS).unwrap()).into()
}

/// Makes provider `uplink` route `prefix` to the gateway, and forward packets with such a source.
fn route(lab: &Lab, uplink: usize, prefix: &str) {
    let family = if prefix.contains(':') { Family::V6 } else { Family::V4 };
    let provider = &lab.uplinks[uplink].provider;
    let gateway = plan::uplink_address(family, uplink).to_string();
    provider.run("ip", &["route", "add", prefix, "via", &gateway]).unwrap();
    let word = if family == Family::V4 { "ip" } else { "ip6" };
    let own = format!(
        "insert rule inet sources forward iifname cust0 {word} saddr {prefix} counter name own accept"
    );
    provider.run("nft", &own.split(' ').collect::<Vec<_>>()).unwrap();
}

/// Routes `prefix` from the servers to provider `uplink`.
fn reach_by(lab: &Lab, uplink: usize, prefix: &str) {
    let family = if prefix.contains(':') { Family::V6 } else { Family::V4 };
    let next = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::new(192, 0, 2, 4 * u8::try_from(uplink).unwrap() + 2)),
        Family::V6 => format!("2001:db8:fe:{uplink}::2").parse().unwrap(),
    };
    lab.net.run("ip", &["route", "add", prefix, "via", &next.to_string()]).unwrap();
}

/// Routes a subnet of each provider to the gateway, where hosts get addresses of both.
fn add_hosts(lab: &Lab) {
    for uplink in [0, 1] {
        route(lab, uplink, &format!("{}/24", plan::pool(uplink, 0)));
        lab.route_pool(uplink).unwrap();
        let inside = format!("{}/24", plan::pool(uplink, 2));
        lab.gateway.run("ip", &["address", "add", &inside, "dev", LAN_INTERFACE]).unwrap();
        for number in 0..HOSTS {
            let address = format!("{}/24", host(uplink, number));
            lab.lan.run("ip", &["address", "add", &address, "dev", CLIENT_INTERFACE]).unwrap();
        }
    }
}

fn prefix_of(uplink: usize) -> String {
    format!("prefix = \"{}/24\"", plan::pool(uplink, 0))
}

/// Starts the usual pair with a subnet of each provider; `line` is added to both uplinks, `more` to
/// the end of the configuration.
fn subnets(line: &str, more: &str) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    add_hosts(&lab);
    Gateway::start(lab, |config| {
        let lines = |uplink| format!("{}\n{line}", prefix_of(uplink));
        let config = with_key(config, "isp-a", &lines(0));
        with_key(&config, "isp-b", &lines(1)) + more
    })
}

fn flows_of(uplink: usize) -> Vec<FlowSpec> {
    let kinds = Protocol::ALL.into_iter().flat_map(|p| [PLAIN, HTTPS].map(|port| (p, port)));
    let flow = |(protocol, port)| {
        let server = move |n| SocketAddr::new(plan::server(Family::V4, n), port);
        let flow = move |n| FlowSpec { protocol, source: host(uplink, n), server: server(n) };
        (0..HOSTS).map(flow)
    };
    kinds.flat_map(flow).collect()
}

/// Opens flows, and returns the addresses that the servers saw.
fn seen(gateway: &Gateway, flows: &[FlowSpec]) -> Vec<IpAddr> {
    let seen = gateway.try_open(flows);
    let peers = flows.iter().zip(&seen).map(|(flow, seen)| {
        let peer = seen.peer.unwrap_or_else(|| panic!("{flow:?}\n{}", gateway.daemon.log()));
        peer.ip().to_canonical()
    });
    peers.collect()
}

/// Checks that no provider got packets with an address of another.
fn assert_no_foreign_sources(lab: &Lab) {
    for uplink in 0..lab.uplinks.len() {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses at provider {uplink}");
    }
}

#[test]
fn hosts_of_a_routed_subnet_use_its_provider_whatever_rules_say() {
    let gateway = subnets("", "\n[[rule]]\nuse = \"isp-b\"\n");
    for uplink in [0, 1] {
        let flows = flows_of(uplink);
        let expected: Vec<_> = flows.iter().map(|flow| flow.source).collect();
        assert_eq!(seen(&gateway, &flows), expected);
    }
    let others = FlowSpec::spread(Family::V4, Protocol::Tcp, PLAIN, 40);
    let own = plan::uplink_address(Family::V4, 1);
    assert!(seen(&gateway, &others).iter().all(|address| *address == own));
    // Local traffic that is bound to a source has no mark: the ip rules route it by that source.
    for uplink in [0, 1] {
        let source = IpAddr::from(plan::pool(uplink, 2));
        let flow = |n| FlowSpec {
            protocol: Protocol::ALL[n % 2],
            source,
            server: SocketAddr::new(plan::server(Family::V4, n), PLAIN),
        };
        let flows: Vec<_> = (0..HOSTS).map(flow).collect();
        for seen in open_flows(&gateway.lab.gateway, &flows).unwrap() {
            assert_eq!(seen.peer.map(|peer| peer.ip().to_canonical()), Some(source));
        }
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks that servers on the internet reach a host of the subnet, whose answers leave by its
/// provider.
fn assert_reached(gateway: &Gateway, uplink: usize) {
    let server = [SocketAddr::new(host(uplink, 3), INSIDE)];
    let _server = Servers::start_at(&gateway.lab.lan, &server).unwrap();
    let flow = |n| FlowSpec {
        protocol: Protocol::ALL[n % 2],
        source: plan::server(Family::V4, n),
        server: server[0],
    };
    let flows: Vec<_> = (0..HOSTS).map(flow).collect();
    let before = gateway.lab.filtered(uplink).unwrap().0;
    let seen = open_flows(&gateway.lab.net, &flows).unwrap();
    for (flow, seen) in flows.iter().zip(seen) {
        assert_eq!(seen.peer.map(|peer| peer.ip().to_canonical()), Some(flow.source), "{flow:?}");
    }
    let answers = gateway.lab.filtered(uplink).unwrap().0 - before;
    assert!(answers >= flows.len() as u64, "{answers} packets at provider {uplink}");
}

#[test]
fn hosts_of_a_routed_subnet_are_reached_and_answer_by_its_provider() {
    let gateway = subnets("", OPEN);
    for uplink in [0, 1] {
        assert_reached(&gateway, uplink);
    }
    let status = gateway.daemon.status().unwrap();
    assert_eq!(status["counters"]["flow_inbound"], 2 * HOSTS, "{status}");
    assert_no_foreign_sources(&gateway.lab);
}

#[test]
fn hosts_of_a_dead_providers_subnet_are_told_at_once_and_their_connections_wait() {
    let mut gateway = subnets("on_down = \"keep\"", "");
    let (flows, hosts) = ([&*flows_of(0), &flows_of(1)], [host(0, 5), host(1, 5)]);
    assert_bound_to_their_provider(&mut gateway, flows, hosts, ErrorKind::HostUnreachable);
}

/// The prefixes of the LAN, which provider b accepts.
const LAN: [&str; 2] = ["10.77.0.0/24", "fd77::/64"];

/// Creates a lab in which provider b and the servers route the prefixes of the LAN.
fn routed_lab() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    for prefix in LAN {
        route(&lab, 1, prefix);
        reach_by(&lab, 1, prefix);
    }
    lab
}

fn of_each_kind(port: u16, count: usize) -> Vec<FlowSpec> {
    FlowSpec::mixed(port, count)
}

/// Returns the uplink of each flow: b if its source is unchanged.
fn ways(flows: &[FlowSpec], seen: &[IpAddr]) -> Vec<usize> {
    let way = |(flow, seen): (&FlowSpec, &IpAddr)| {
        let family = if seen.is_ipv4() { Family::V4 } else { Family::V6 };
        if *seen == flow.source {
            return 1;
        }
        assert_eq!(*seen, plan::uplink_address(family, 0), "{flow:?}");
        0
    };
    flows.iter().zip(seen).map(way).collect()
}

#[test]
fn an_uplink_without_nat_translates_nothing() {
    let gateway = Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
    let flows = of_each_kind(PLAIN, 40);
    let ways = ways(&flows, &seen(&gateway, &flows));
    assert!([0, 1].map(|way| ways.iter().filter(|at| **at == way).count()).iter().all(|n| *n > 20));
    assert_no_foreign_sources(&gateway.lab);
    let text = gateway.daemon.run(&["status", "--json"]).unwrap();
    assert!(
        text.contains("\"ipv6_mode\":\"routed\"") || text.contains("\"ipv6_mode\": \"routed\"")
    );
}

/// Checks that datagrams of an uplink with NAT go on without it, and the other way round.
#[test]
fn flows_move_to_and_from_an_uplink_without_nat() {
    for dead in [0, 1] {
        let mut gateway =
            Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
        let flows = LongFlows::start(&gateway.lab.lan, &of_each_kind(PLAIN, 40), TICK).unwrap();
        let left_by = |report: &FlowReport| {
            let as_it_is =
                report.peer.map(|peer| peer.ip().to_canonical()) == Some(report.spec.source);
            usize::from(as_it_is)
        };
        let before = flows.reports();
        assert!(before.iter().filter(|report| left_by(report) == dead).count() > 20);
        gateway.lab.blackhole(dead).unwrap();
        gateway.wait_until_down(dead);
        wait::until("the flows on their new uplink", LIMIT, || {
            let now = flows.reports();
            let over = |new: &FlowReport| left_by(new) != dead || (new.closed && !is_udp(new));
            Ok(now.iter().all(over).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
        wait_for_answers(&flows, &flows.reports(), 3, |report| !report.closed);
        assert_no_foreign_sources(&gateway.lab);
    }
}

/// Returns the id of each UDP entry that a client began, and whether it has a mark.
fn entries(gateway: &Gateway) -> Vec<(String, bool)> {
    let both = ["ipv4", "ipv6"].map(|family| {
        let list = ["-L", "-f", family, "-p", "udp", "-o", "id"];
        gateway.lab.gateway.run("conntrack", &list).unwrap()
    });
    let words = |line: &str, name: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        word.unwrap_or_default().to_owned()
    };
    let mut entries: Vec<_> = both
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| ["src=10.77.0.", "src=fd77::"].iter().any(|word| line.contains(word)))
        .map(|line| (words(line, "id="), words(line, "mark=") != "0"))
        .collect();
    entries.sort();
    entries
}

#[test]
fn connections_that_are_rightly_untranslated_are_adopted_and_not_forgotten() {
    let gateway = Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
    let udp: Vec<_> =
        of_each_kind(PLAIN, 30).into_iter().filter(|flow| flow.protocol == Protocol::Udp).collect();
    let flows = LongFlows::start(&gateway.lab.lan, &udp, TICK).unwrap();
    let before = flows.reports();
    let known = entries(&gateway);
    assert_eq!(known.len(), udp.len());
    assert!(known.iter().all(|(_, marked)| *marked));
    for family in ["ipv4", "ipv6"] {
        gateway.lab.gateway.run("conntrack", &["-U", "-f", family, "-m", "0"]).unwrap();
    }
    wait::until("all connections marked again", LIMIT, || {
        Ok(entries(&gateway).iter().all(|(_, marked)| *marked).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    assert_eq!(entries(&gateway), known, "the same entries");
    assert_undisturbed(&flows, &before, udp.len(), |_| true);
}

/// Checks that TCP connections go on, too, if no address changes.
#[test]
fn connections_survive_on_another_uplink_without_nat() {
    let lab = routed_lab();
    for prefix in LAN {
        route(&lab, 0, prefix);
    }
    let mut gateway = Gateway::start(lab, |config| {
        let lines = "nat = \"off\"\non_down = \"move\"";
        with_key(&with_key(config, "isp-a", lines), "isp-b", lines)
    });
    let flows = LongFlows::start(&gateway.lab.lan, &of_each_kind(PLAIN, 30), TICK).unwrap();
    assert!(gateway.counted_flows()[0] > 20, "some are on the uplink that dies");
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    wait_for_answers(&flows, &flows.reports(), 3, |_| true);
    let now = flows.reports();
    assert!(now.iter().all(|report| !report.closed && report.moved == 0), "{now:#?}");
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks two uplinks on one interface: the fwmark tells what is translated, and the address which
/// uplink a connection came in by.
#[test]
fn on_a_shared_interface_each_uplink_has_its_own_subnet_and_translation() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    let hub = put_on_one_hub(&lab);
    for prefix in LAN {
        route(&lab, 1, prefix);
        reach_by(&lab, 1, prefix);
    }
    add_hosts(&lab);
    let gateway = Gateway::start(lab, |config| {
        let config = share_wan_a(config);
        let config = with_key(&config, "isp-a", &prefix_of(0));
        with_key(&config, "isp-b", &format!("nat = \"off\"\n{}", prefix_of(1))) + OPEN
    });
    for uplink in [0, 1] {
        let flows = flows_of(uplink);
        let expected: Vec<_> = flows.iter().map(|flow| flow.source).collect();
        assert_eq!(seen(&gateway, &flows), expected);
        assert_reached(&gateway, uplink);
    }
    let flows = of_each_kind(PLAIN, 40);
    let ways = ways(&flows, &seen(&gateway, &flows));
    assert!([0, 1].iter().all(|way| ways.iter().filter(|at| *at == way).count() > 20));
    assert_no_foreign_sources(&gateway.lab);
    drop(gateway);
    drop(hub);
}

/// Beginnings of the addresses in a company network behind provider b.
const REMOTE: [&str; 2] = ["192.168.50", "fd50:"];

fn remote(family: Family, number: usize) -> IpAddr {
    let text = match family {
        Family::V4 => format!("{}.{}", REMOTE[0], 1 + number % 50),
        Family::V6 => format!("{}:{:x}", REMOTE[1], 1 + number % 50),
    };
    text.parse().unwrap()
}

fn flows_to_remote(count: usize) -> Vec<FlowSpec> {
    let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
    let flow = |(family, protocol)| {
        (0..count).map(move |n| FlowSpec {
            protocol,
            source: plan::client(family, n),
            server: SocketAddr::new(remote(family, n), INSIDE),
        })
    };
    kinds.flat_map(flow).collect()
}

/// An exemption; it begins a section, since the lab's configuration ends in one.
const EXEMPT: &str = "
[nat]
exempt = [{ source = [\"10.77.0.0/24\", \"fd77::/64\"], destination = [\"192.168.50.0/24\", \"fd50::/64\"], uplink = \"isp-b\" }]
";
const RULE: &str = "
[[rule]]
match = { destination = [\"192.168.50.0/24\", \"fd50::/64\"] }
use = \"isp-b\"
";

#[test]
fn what_is_exempt_on_an_uplink_keeps_its_address_there_and_a_reload_changes_that() {
    let lab = routed_lab();
    let mut addresses = String::new();
    for family in Family::ALL {
        for number in 0..50 {
            let length = if family == Family::V4 { 32 } else { 128 };
            addresses += &format!("address add {}/{length} dev lo\n", remote(family, number));
        }
        let prefix = if family == Family::V4 { "192.168.50.0/24" } else { "fd50::/64" };
        let core = if family == Family::V4 { "192.0.2.5" } else { "2001:db8:fe:1::1" };
        lab.uplinks[1].provider.run("ip", &["route", "add", prefix, "via", core]).unwrap();
    }
    lab.net.run_with_input("ip", &["-batch", "-"], &addresses).unwrap();
    let at = Family::ALL.into_iter().flat_map(|family| {
        (0..50).map(move |number| SocketAddr::new(remote(family, number), INSIDE))
    });
    let _servers = Servers::start_at(&lab.net, &at.collect::<Vec<_>>()).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}{EXEMPT}{RULE}"));
    let flows = flows_to_remote(30);
    let sources: Vec<_> = flows.iter().map(|flow| flow.source).collect();
    assert_eq!(seen(&gateway, &flows), sources);
    // All other flows have the uplink's address.
    gateway.assert_uplinks(30, &[0, 1]);

    let text = std::fs::read_to_string(gateway.daemon.config_path()).unwrap();
    std::fs::write(gateway.daemon.config_path(), text.replace(EXEMPT, "")).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    wait::until("the table without the exemption", LIMIT, || {
        let table = gateway.lab.gateway.run("nft", &["list", "table", "inet", "linkbal"])?;
        Ok((!table.contains("192.168.50.0")).then_some(()))
    })
    .unwrap();
    // Other clients, whose connections are certainly new.
    let family = |flow: &FlowSpec| if flow.source.is_ipv4() { Family::V4 } else { Family::V6 };
    let later = flows.iter().zip(40..);
    let later: Vec<_> = later
        .map(|(flow, n)| FlowSpec { source: plan::client(family(flow), n), ..*flow })
        .collect();
    let expected: Vec<_> = later.iter().map(|flow| plan::uplink_address(family(flow), 1)).collect();
    assert_eq!(seen(&gateway, &later), expected);
    assert_no_foreign_sources(&gateway.lab);
}
