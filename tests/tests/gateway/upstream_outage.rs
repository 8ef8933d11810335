//! A provider that lost the internet, but whose own hosts still answer; and a line that merely
//! drops probes.

use std::time::{Duration, SystemTime};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec, UpstreamOutage};
use linkbal_lab::traffic::{Clients, FlowSpec, HTTP, LongFlows, Protocol, ProviderHosts};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, TICK, uplink_status};
use crate::kernel;

/// Longest time until the verdict. In simulated time two seconds are enough; this machine may be
/// busy.
const VERDICT_LIMIT: Duration = Duration::from_secs(5);

/// The provider's failures, each with the time between two connections of the LAN, if it tries any.
const PATTERNS: [(UpstreamOutage, Option<Duration>); 7] = [
    (UpstreamOutage::Silent, Some(Duration::from_millis(25))),
    (UpstreamOutage::Silent, Some(Duration::from_millis(200))),
    (UpstreamOutage::Silent, Some(Duration::from_secs(3))),
    (UpstreamOutage::Silent, None),
    (UpstreamOutage::Reset, Some(Duration::from_millis(25))),
    (UpstreamOutage::Unreachable, Some(Duration::from_millis(25))),
    (UpstreamOutage::Portal, Some(Duration::from_millis(25))),
];

/// Starts a gateway with two equal uplinks; the first provider's resolver goes by its uplink.
fn gateway() -> Gateway {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    let lab = Lab::new(&specs).unwrap();
    let config = |config: &str| config.to_owned() + "hold_max = \"500ms\"\n";
    let resolvers = |config: &str, lab: &Lab| ProviderHosts::config(config, lab, 0);
    let tuned = resolvers(&config(&crate::fixture::config(&lab)), &lab);
    Gateway::start(lab, |_| tuned)
}

/// Returns how long after a moment isp-a went down in a family, and the reason.
fn went_down(gateway: &Gateway, family: &str, after: SystemTime) -> Option<(Duration, String)> {
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let down = |event: &Value| {
        event["uplink"] == "isp-a" && event["family"] == family && event["to"] == "down"
    };
    let mut downs = events.filter(down).filter_map(|event| {
        let time = humantime::parse_rfc3339(event["time"].as_str()?).unwrap();
        Some((time.duration_since(after).ok()?, event["reason"].as_str()?.to_owned()))
    });
    downs.next()
}

#[test]
fn an_uplink_where_only_the_provider_answers_goes_down() {
    let mut gateway = gateway();
    let _near = ProviderHosts::start(&gateway.lab, 0).unwrap();
    for (how, pause) in PATTERNS {
        // Connections by both uplinks are answered.
        gateway.assert_uplinks(20, &[0, 1]);
        let clients = Clients::start(&gateway.lab, 0, pause).unwrap();
        wait::until("answers", LIMIT, || Ok(clients.are_answered().then_some(()))).unwrap();
        let moment = gateway.lab.cut_upstream(0, how).unwrap();
        gateway.wait_until_down(0);
        for family in ["ipv4", "ipv6"] {
            let (after, reason) = went_down(&gateway, family, moment).unwrap();
            println!("{how:?}, a connection each {pause:?}, {family}: {after:.2?}: {reason}");
            assert!(after < VERDICT_LIMIT, "{how:?}, {pause:?}, {family}: {after:?}");
            assert!(reason.ends_with("answers arrive, but of few networks"), "{how:?}: {reason}");
        }
        drop(clients);
        gateway.lab.restore(0).unwrap();
        gateway.daemon.wait_until_up(LIMIT).unwrap();
    }
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(!events.contains("uplink isp-b ipv4: up -> down"), "{events}");
}

/// Number of networks with a flow, about half of them by the first uplink.
const NETWORKS: u8 = 60;
/// Number of answering networks, as linkbal tells them apart, that count as the internet.
const MANY: usize = 8;

/// Returns the number of networks that have answered settled flows of isp-a, by family.
fn networks(gateway: &Gateway) -> [usize; 2] {
    let listed = kernel::map(&gateway.lab.gateway, "UPLINK_COUNTERS");
    let mut seen = [[false; 32]; 2];
    for cpu in listed[0]["formatted"]["values"].as_array().unwrap() {
        for (family, seen) in seen.iter_mut().enumerate() {
            let counts = cpu["value"]["networks"][family].as_array().unwrap();
            for (seen, count) in seen.iter_mut().zip(counts) {
                *seen |= count.as_u64().unwrap() > 0;
            }
        }
    }
    seen.map(|seen| seen.iter().filter(|seen| **seen).count())
}

#[test]
fn an_uplink_that_loses_all_probes_stays_up_while_many_networks_answer_in_that_family() {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    let lab = Lab::new(&specs).unwrap();
    lab.add_networks(NETWORKS).unwrap();
    let mut gateway = Gateway::start(lab, str::to_owned);
    let flows = Family::ALL.map(|family| {
        let flow = |network| FlowSpec {
            server: (plan::far_server(family, network), HTTP).into(),
            ..FlowSpec::new(family, Protocol::Tcp, network.into(), 0, HTTP)
        };
        let flows: Vec<_> = (0..NETWORKS).map(flow).collect();
        LongFlows::start(&gateway.lab.lan, &flows, TICK).unwrap()
    });
    wait::until("settled flows to many networks", LIMIT, || {
        Ok(networks(&gateway).iter().all(|count| *count > MANY).then_some(()))
    })
    .unwrap();
    gateway.lab.drop_pings(0).unwrap();
    let lost = |status: &Value| {
        let isp = uplink_status(status, "isp-a");
        ["ipv4", "ipv6"]
            .iter()
            .all(|family| isp[family]["loss"] == 1.0 || isp[family]["state"] != "up")
    };
    let status = gateway.daemon.wait_for("a hundred lost probes", LIMIT, lost).unwrap();
    for family in ["ipv4", "ipv6"] {
        let isp = &uplink_status(&status, "isp-a")[family];
        assert_eq!(isp["state"], "up", "{}", gateway.daemon.log());
        assert_eq!(isp["reason"], "probes are lost, but answers arrive");
    }
    // Answers by IPv4 alone say nothing about IPv6.
    let [ipv4, ipv6] = flows;
    drop(ipv6);
    gateway.wait_for_state(0, "ipv6", "down");
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["ipv4"]["state"], "up");
    drop(ipv4);
    gateway.wait_for_state(0, "ipv4", "down");
}
