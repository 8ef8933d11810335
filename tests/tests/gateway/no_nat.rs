//! Traffic that is not translated: subnets that a provider routes to the gateway, uplinks without
//! NAT, and exemptions of the administrator.

mod exemption;
mod routed_subnet;

use std::net::{IpAddr, Ipv4Addr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;

use crate::fixture::{
    Gateway, LIMIT, TICK, assert_undisturbed, is_udp, wait_for_answers, with_key,
};

/// The port of a server on a host of the gateway's.
const INSIDE: u16 = 8080;
/// The prefixes of the LAN, which provider b accepts.
const LAN: [&str; 2] = ["10.77.0.0/24", "fd77::/64"];

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

/// Returns the uplink of each flow: b if its source is unchanged.
fn uplinks(flows: &[FlowSpec], seen: &[IpAddr]) -> Vec<usize> {
    let uplink = |(flow, seen): (&FlowSpec, &IpAddr)| {
        let family = if seen.is_ipv4() { Family::V4 } else { Family::V6 };
        if *seen == flow.source {
            return 1;
        }
        assert_eq!(*seen, plan::uplink_address(family, 0), "{flow:?}");
        0
    };
    flows.iter().zip(seen).map(uplink).collect()
}

#[test]
fn an_uplink_without_nat_translates_nothing() {
    let gateway = Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
    let flows = FlowSpec::mixed(HTTP, 40);
    let uplinks = uplinks(&flows, &seen(&gateway, &flows));
    assert!(
        [0, 1]
            .map(|uplink| uplinks.iter().filter(|at| **at == uplink).count())
            .iter()
            .all(|n| *n > 20)
    );
    assert_no_foreign_sources(&gateway.lab);
    let text = gateway.daemon.run(&["status", "--json"]).unwrap();
    assert!(
        text.contains("\"ipv6_mode\":\"routed\"") || text.contains("\"ipv6_mode\": \"routed\"")
    );
}

/// Checks that datagrams of an uplink with NAT go on without it, and the reverse.
#[test]
fn flows_move_to_and_from_an_uplink_without_nat() {
    for dead in [0, 1] {
        let mut gateway =
            Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
        let flows = LongFlows::start(&gateway.lab.lan, &FlowSpec::mixed(HTTP, 40), TICK).unwrap();
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
fn connections_of_an_uplink_without_nat_are_adopted_and_not_deleted() {
    let gateway = Gateway::start(routed_lab(), |config| with_key(config, "isp-b", "nat = \"off\""));
    let udp: Vec<_> = FlowSpec::mixed(HTTP, 30)
        .into_iter()
        .filter(|flow| flow.protocol == Protocol::Udp)
        .collect();
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
    let flows = LongFlows::start(&gateway.lab.lan, &FlowSpec::mixed(HTTP, 30), TICK).unwrap();
    assert!(gateway.counted_flows()[0] > 20, "some are on the uplink that dies");
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    wait_for_answers(&flows, &flows.reports(), 3, |_| true);
    let now = flows.reports();
    assert!(now.iter().all(|report| !report.closed && report.moved == 0), "{now:#?}");
    assert_no_foreign_sources(&gateway.lab);
}
