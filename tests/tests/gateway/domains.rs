//! Rules by domain: a real dnsmasq, clients that connect as soon as they have its reply, and
//! servers that report the uplink of each connection.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::HTTP;
use linkbal_lab::traffic::dns::{Dnsmasq, ask};
use linkbal_lab::traffic::local::SocketKind;
use nix::sys::signal::Signal;

use crate::fixture::{Gateway, LIMIT, config};

const A: usize = 0;

/// Number of names; each has an address of each family that no other name has.
const NAMES: u16 = 500;

/// A rule that sends traffic for the bank by isp-a, which gets three of ten other flows.
const RULE: &str = r#"
[[rule]]
match = { domain = "bank.test" }
use = "isp-a"
"#;

/// Returns the address of the additional server `number`: IPv4 of RFC 2544, IPv6 of the servers'
/// own prefix.
pub(crate) fn extra(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, high, low).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 1, number).into(),
    }
}

/// Creates a lab whose servers have the additional addresses, too.
pub(crate) fn lab() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.net.run("ip", &["route", "add", "local", "198.18.0.0/16", "dev", "lo"]).unwrap();
    lab.net.run("ip", &["route", "add", "local", "2001:db8:ff::1:0:0/80", "dev", "lo"]).unwrap();
    for uplink in &lab.uplinks {
        let route = uplink.provider.run("ip", &["route", "show", "198.51.100.0/24"]).unwrap();
        let core = route.split_whitespace().nth(2).unwrap();
        uplink.provider.run("ip", &["route", "add", "198.18.0.0/16", "via", core]).unwrap();
    }
    lab
}

fn start(more: &str) -> Gateway {
    Gateway::start(lab(), |config| format!("{config}\n{RULE}{more}"))
}

/// Returns the records of the names `n0.DOMAIN` and so on; number `n` has the additional addresses
/// `first + n`.
pub(crate) fn records(domain: &str, first: u16) -> String {
    (0..NAMES).fold(String::new(), |mut lines, n| {
        let [four, six] = Family::ALL.map(|family| extra(family, first + n));
        let _ = writeln!(lines, "host-record=n{n}.{domain},{four},{six}");
        lines
    })
}

/// Resolves a name and connects at once, both from `source`; returns the uplink.
pub(crate) fn resolve_and_connect(
    namespace: &Namespace,
    source: impl Fn(Family) -> IpAddr,
    resolver: IpAddr,
    name: &str,
    family: Family,
) -> usize {
    let _entered = namespace.enter().unwrap();
    let asks_from = if resolver.is_ipv4() { Family::V4 } else { Family::V6 };
    let addresses = ask(source(asks_from), resolver, name, family).unwrap();
    let server = SocketAddr::new(addresses[0], HTTP);
    let socket = SocketKind::Tcp.socket(server).unwrap();
    let from = source(family);
    if !from.is_unspecified() {
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    }
    let seen = SocketKind::Tcp.ask(&socket, server).unwrap();
    plan::uplink_of(seen.ip()).unwrap_or_else(|| panic!("{server} was asked by {seen}"))
}

pub(crate) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Connects to each name by each family, and returns how many of these `2 * NAMES` connections use
/// isp-a.
fn first_connections(gateway: &Gateway, domain: &str) -> usize {
    let resolvers = Family::ALL.map(plan::lan_gateway);
    let mut on_a = 0;
    for n in 0..NAMES {
        for family in Family::ALL {
            let client = |family| plan::client(family, n.into());
            let resolver = resolvers[usize::from(n / 2 % 2)];
            let name = format!("n{n}.{domain}.");
            let uplink = resolve_and_connect(&gateway.lab.lan, client, resolver, &name, family);
            on_a += usize::from(uplink == A);
        }
    }
    on_a
}

#[test]
fn the_first_connection_after_the_reply_follows_the_rule() {
    let gateway = start("");
    let lines = records("bank.test", 0) + &records("other.test", NAMES);
    let _dns = Dnsmasq::start(&gateway.lab.gateway, None, &lines).unwrap();
    let all = 2 * usize::from(NAMES);
    assert_eq!(first_connections(&gateway, "bank.test"), all);
    // Other names are spread: 30 % by isp-a, with 6 standard deviations to both sides.
    let others = first_connections(&gateway, "other.test");
    assert!((all * 30 / 100).abs_diff(others) < 87, "{others} of {all}");
    let status = gateway.daemon.status().unwrap();
    // The additional reply is the one that shows that dnsmasq is ready.
    assert_eq!(status["counters"]["dns_read"], 4 * u64::from(NAMES) + 1);
    assert_eq!(status["counters"]["dns_malformed"], 0);
}

#[test]
fn an_alias_counts_for_the_name_that_was_asked_for() {
    let gateway = start("");
    let lines = "cname=www.bank.test,edge.cdn.test\ncname=edge.cdn.test,n7.pool.test\n".to_owned()
        + &records("pool.test", 0);
    let _dns = Dnsmasq::start(&gateway.lab.gateway, None, &lines).unwrap();
    let [resolver, _] = Family::ALL.map(plan::lan_gateway);
    for client in 0..40 {
        for family in Family::ALL {
            let source = |family| plan::client(family, client);
            let lan = &gateway.lab.lan;
            let uplink = resolve_and_connect(lan, source, resolver, "www.bank.test.", family);
            assert_eq!(uplink, A, "client {client}, {family}");
        }
    }
}

/// Checks a resolver with a link-local address, as home routers often announce it.
#[test]
fn a_resolver_may_have_a_link_local_address() {
    let gateway = start("");
    let _dns = Dnsmasq::start(&gateway.lab.gateway, None, &records("bank.test", 0)).unwrap();
    let lab = &gateway.lab;
    let addresses =
        lab.gateway.run("ip", &["-6", "-br", "address", "show", "dev", "lan0"]).unwrap();
    let link_local = addresses.split_whitespace().find(|word| word.starts_with("fe80")).unwrap();
    let link_local: Ipv6Addr = link_local.split('/').next().unwrap().parse().unwrap();
    let _entered = lab.lan.enter().unwrap();
    let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
    for n in 0..40 {
        let server = std::net::SocketAddrV6::new(link_local, 53, 0, scope);
        let name = format!("n{n}.bank.test.");
        let found = linkbal_lab::traffic::dns::ask_at(
            unspecified(Family::V6),
            server.into(),
            &name,
            Family::V4,
        );
        let server = SocketAddr::new(found.unwrap()[0], HTTP);
        let seen = SocketKind::Tcp.ask(&SocketKind::Tcp.socket(server).unwrap(), server).unwrap();
        assert_eq!(plan::uplink_of(seen.ip()), Some(A), "{name}");
    }
}

/// Checks a resolver of the provider, asked by the LAN and by the gateway: it is believed if it is
/// listed.
#[test]
fn an_external_resolver_is_trusted_if_it_is_listed() {
    let [listed, unlisted] = [50, 51].map(|number| plan::server(Family::V4, number));
    let gateway = start(&format!("[dns]\nresolvers = [\"{listed}\"]\n"));
    let lines = records("bank.test", 0);
    let _servers = [listed, unlisted]
        .map(|address| Dnsmasq::start(&gateway.lab.net, Some(address), &lines).unwrap());
    let count = |namespace: &Namespace, source: &dyn Fn(Family) -> IpAddr, resolver, first: u16| {
        let numbers = first..first + 40;
        let on_a = numbers.filter(|n| {
            let name = format!("n{n}.bank.test.");
            resolve_and_connect(namespace, source, resolver, &name, Family::V4) == A
        });
        on_a.count()
    };
    let client = |family| plan::client(family, 3);
    let (lan, own) = (&gateway.lab.lan, &gateway.lab.gateway);
    assert!(count(lan, &client, unlisted, 0) < 40);
    assert!(count(own, &unspecified, unlisted, 40) < 40);
    let ignored = gateway.daemon.status().unwrap()["counters"]["dns_ignored"].clone();
    // Replies to the LAN are seen twice: as they come in, and as they leave.
    assert_eq!(ignored, 3 * 40);
    assert_eq!(count(lan, &client, listed, 80), 40);
    assert_eq!(count(own, &unspecified, listed, 120), 40);
}

/// Checks names that the gateway itself resolves with its own resolver, as a proxy does.
#[test]
fn local_connections_follow_rules_by_domain() {
    let gateway = start("");
    let _dns = Dnsmasq::start(&gateway.lab.gateway, None, &records("bank.test", 0)).unwrap();
    for n in 0..100 {
        for family in Family::ALL {
            let resolver = match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            };
            let name = format!("n{n}.bank.test.");
            let own = &gateway.lab.gateway;
            let uplink = resolve_and_connect(own, unspecified, resolver, &name, family);
            assert_eq!(uplink, A, "{name} {family}");
        }
    }
}

#[test]
fn full_names_in_rules_are_resolved_in_advance() {
    let lab = lab();
    let resolver = plan::server(Family::V4, 50);
    let _dns = Dnsmasq::start(&lab.net, Some(resolver), &records("bank.test", 0)).unwrap();
    let names: Vec<_> = (0..40).map(|n| format!("\"n{n}.bank.test\"")).collect();
    let names = names.join(", ");
    let rules = format!(
        "[[rule]]\nmatch = {{ domain = [{names}] }}\nuse = \"isp-a\"\n\
         [dns]\nresolvers = [\"{resolver}\"]\n"
    );
    let mut gateway = Gateway::start(lab, |config| format!("{config}\n{rules}"));
    let resolved = |status: &serde_json::Value| status["domains"]["resolved"] == 40;
    gateway.daemon.wait_for("all names resolved", LIMIT, resolved).unwrap();
    for n in 0..40 {
        for family in Family::ALL {
            let server = SocketAddr::new(extra(family, n), HTTP);
            let _entered = gateway.lab.lan.enter().unwrap();
            let seen =
                SocketKind::Tcp.ask(&SocketKind::Tcp.socket(server).unwrap(), server).unwrap();
            assert_eq!(plan::uplink_of(seen.ip()), Some(A), "{server}");
        }
    }
}

/// Checks that a customer's connections to the bank leave by one uplink, whatever happens on the
/// gateway except the loss of that uplink.
#[test]
fn a_session_at_a_bank_keeps_one_address_through_all_changes() {
    let rule = "[[rule]]\nmatch = { domain = \"bank.test\" }\nsticky = { by = \"src\" }\n";
    let mut gateway = Gateway::start(lab(), |config| format!("{config}\n{rule}"));
    let _dns = Dnsmasq::start(&gateway.lab.gateway, None, &records("bank.test", 0)).unwrap();
    let customer = |family| plan::client(family, 5);
    let [resolver, _] = Family::ALL.map(plan::lan_gateway);
    let connect = |gateway: &Gateway, n: u16| {
        let lan = &gateway.lab.lan;
        let name = format!("n{n}.bank.test.");
        resolve_and_connect(lan, customer, resolver, &name, Family::V4)
    };
    let first = connect(&gateway, 0);
    let other = 1 - first;
    let next_fifty = |gateway: &Gateway, step: &str| {
        let uplinks = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..50).map(|n| scope.spawn(move || connect(gateway, n % 10))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(uplinks.iter().all(|uplink| *uplink == first), "{step}: {uplinks:?}");
    };
    next_fifty(&gateway, "at first");
    gateway.lab.cut_cable(other).unwrap();
    gateway.wait_until_down(other);
    next_fifty(&gateway, "without the other uplink");
    gateway.lab.plug_cable(other).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    next_fifty(&gateway, "with the other uplink back");
    // With the next configuration, all new flows go by the other uplink, after a crash as well.
    let name = &gateway.lab.uplinks[first].spec.name;
    let weight = format!("weight = {}", gateway.lab.uplinks[first].spec.weight);
    let head = format!("[uplink.{name}]");
    let text = config(&gateway.lab);
    let (before, after) = text.split_once(&head).unwrap();
    let text = format!("{before}{head}{}\n{rule}", after.replacen(&weight, "weight = 0", 1));
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    next_fifty(&gateway, "after a crash");
    let mut next = Daemon::start(&gateway.lab, &text).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
    gateway.wait_for_uplinks(&[other]);
    next_fifty(&gateway, "with other weights");
}
