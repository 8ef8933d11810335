//! A provider that lost the internet, but whose own hosts still answer.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::topology::{DeadEnd, Lab, UplinkSpec};
use linkbal_tests::traffic::dns::{Dnsmasq, Questions};
use linkbal_tests::traffic::{FlowSpec, Opener, Protocol, Servers};
use linkbal_tests::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, PLAIN, with_key};

/// Names that the LAN asks the provider's resolver for, in each family.
const QUESTIONS: Duration = Duration::from_millis(25);

/// Connections each second, a hundredth.
const PATTERNS: [(DeadEnd, Option<Duration>); 7] = [
    (DeadEnd::Silent, Some(Duration::from_millis(25))),
    (DeadEnd::Silent, Some(Duration::from_millis(200))),
    (DeadEnd::Silent, Some(Duration::from_secs(3))),
    (DeadEnd::Silent, None),
    (DeadEnd::Reset, Some(Duration::from_millis(25))),
    (DeadEnd::Unreachable, Some(Duration::from_millis(25))),
    (DeadEnd::Portal, Some(Duration::from_millis(25))),
];

/// Two providers with half of the flows each; the first one's resolver answers its customers.
fn gateway() -> Gateway {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    Gateway::start(Lab::new(&specs).unwrap(), |config| {
        let own = Family::ALL.map(|family| format!("\"{}\"", plan::resolver(family, 0)));
        with_key(config, "isp-a", &format!("resolvers = [{}]", own.join(", ")))
    })
}

/// When isp-a went down in a family, after a moment.
fn went_down(gateway: &Gateway, family: &str, after: SystemTime) -> Option<(Duration, Value)> {
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let at = |event: &Value| {
        let time = humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
        time.duration_since(after).ok()
    };
    let down = |event: &Value| {
        event["uplink"] == "isp-a" && event["family"] == family && event["to"] == "down"
    };
    events.filter(down).find_map(|event| Some((at(&event)?, event)))
}

#[test]
fn an_uplink_whose_provider_alone_answers_is_down_within_two_seconds() {
    let mut gateway = gateway();
    let provider = &gateway.lab.uplinks[0].provider;
    let resolvers = Family::ALL.map(|family| plan::resolver(family, 0));
    let _dns = resolvers.map(|at| Dnsmasq::start(provider, Some(at), "").unwrap());
    let portal = Family::ALL.map(|family| plan::nexthop(family, 0));
    let portal = portal.map(|at| SocketAddr::new(at, DeadEnd::PORTAL));
    let _portal = Servers::start_at(provider, &portal).unwrap();
    let flows = FlowSpec::spread(Family::V4, Protocol::Tcp, PLAIN, 1000);
    let flows_ipv6 = FlowSpec::spread(Family::V6, Protocol::Tcp, PLAIN, 1000);
    for (how, connects) in PATTERNS {
        let lan = &gateway.lab.lan;
        let questions = Family::ALL.map(|family| {
            let client = plan::client(family, 0);
            Questions::start(lan, client, plan::resolver(family, 0), QUESTIONS)
        });
        let openers = connects.map(|pause| {
            [&flows, &flows_ipv6].map(|flows| Opener::start(lan, flows.clone(), pause).unwrap())
        });
        wait::until("connections", LIMIT, || {
            Ok(openers.iter().flatten().all(|opener| opener.answered() > 1).then_some(()))
        })
        .unwrap();
        let moment = gateway.lab.dead_end(0, how).unwrap();
        gateway.wait_until_down(0);
        for family in ["ipv4", "ipv6"] {
            let (after, event) = went_down(&gateway, family, moment).unwrap();
            println!("{how:?}, connects {connects:?}, {family}: {after:.2?}: {}", event["reason"]);
        }
        drop((questions, openers));
        gateway.lab.restore(0).unwrap();
        gateway.daemon.wait_until_up(LIMIT).unwrap();
    }
}
