//! Exemptions of the administrator from NAT (`nat.exempt`).

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{FlowSpec, Protocol, Servers};
use linkbal_lab::wait;

use super::{INSIDE, assert_no_foreign_sources, routed_lab, seen};
use crate::fixture::{Gateway, LIMIT};

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
fn exempt_traffic_keeps_its_address_until_a_reload_ends_the_exemption() {
    let lab = routed_lab();
    let mut addresses = String::new();
    for family in Family::ALL {
        for number in 0..50 {
            // On a busy machine, duplicate address detection is not over at once even here.
            let rest = if family == Family::V4 { "/32 dev lo" } else { "/128 dev lo nodad" };
            addresses += &format!("address add {}{rest}\n", remote(family, number));
        }
        let prefix = if family == Family::V4 { "192.168.50.0/24" } else { "fd50::/64" };
        let core = if family == Family::V4 { "192.0.2.5" } else { "2001:db8:fe:1::1" };
        lab.uplinks[1].provider.run("ip", &["route", "add", prefix, "via", core]).unwrap();
    }
    lab.net.ip_batch(&addresses).unwrap();
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
    let later = flows.iter().zip((40..70).cycle());
    let later: Vec<_> = later
        .map(|(flow, n)| FlowSpec { source: plan::client(family(flow), n), ..*flow })
        .collect();
    let expected: Vec<_> = later.iter().map(|flow| plan::uplink_address(family(flow), 1)).collect();
    assert_eq!(seen(&gateway, &later), expected);
    assert_no_foreign_sources(&gateway.lab);
}
