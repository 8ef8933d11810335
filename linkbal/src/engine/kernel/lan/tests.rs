use std::{collections::BTreeMap, time::Duration};

use linkbal_common::uplink::UpMask;

use super::*;
use crate::engine::{
    Command, Engine, Event, indexed,
    kernel::network::{Address, NetworkEvent, Role, Route, RouteKind},
    report::Report,
};

const CONFIG: &str = r#"
[lan]
interfaces = ["lan0", "br-*", "w*"]
[uplink.a]
interface = "wan0"
[bond.bond0]
mode = "active-backup"
members = ["wired1", "wired2"]
miimon = 100
"#;

fn config() -> Config {
    Config::parse(CONFIG, "test").expect("a valid configuration")
}

fn snapshot(links: &[Link]) -> Snapshot {
    let links = links.iter().map(|link| (link.ifindex, link.clone())).collect();
    Snapshot { links, nft_current: true, ..Snapshot::default() }
}

fn engine() -> Engine {
    let config = config();
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    Engine::new(config, indexed, UpMask::default(), Vec::new(), &BTreeMap::new(), Duration::ZERO)
}

/// Index and name of the LAN interfaces that the datapath is attached to, and reports on the LAN.
type Seen = (Vec<(u32, String)>, Vec<(String, bool)>);

/// Passes on an observation, and returns the LAN interfaces that the datapath is then attached to,
/// and the reports on the LAN.
fn observe(engine: &mut Engine, links: &[Link]) -> Seen {
    engine.handle_event(Event::Observed(snapshot(links)), Duration::from_secs(1));
    let (mut attached, mut told) = (Vec::new(), Vec::new());
    while let Some(command) = engine.next_command() {
        match command {
            Command::Attach(links) => {
                let lan = links.into_iter().filter(|(role, _)| *role == Role::Lan);
                attached = lan.map(|(_, link)| (link.ifindex, link.name)).collect();
            }
            Command::Report(Report::Lan { interface, exists }) => told.push((interface, exists)),
            _ => {}
        }
    }
    (attached, told)
}

#[test]
fn what_matches_a_pattern_is_taken_unless_it_has_another_job() {
    let port = Link { port: true, ..Link::ethernet(8, "br-port") };
    let links = [
        Link::ethernet(1, "lo"),
        Link::ethernet(2, "lan0"),
        Link::ethernet(3, "wan0"),
        Link::ethernet(4, "wired1"),
        Link::ethernet(5, "br-1f"),
        Link::ethernet(6, "wg0"),
        Link::ethernet(7, "xbr-"),
        port,
    ];
    let snapshot = snapshot(&links);
    let names: Vec<&str> =
        present(&config(), &snapshot).iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lan0", "br-1f", "wg0"]);
}

#[test]
fn interfaces_that_match_come_and_go_and_come_back() {
    let mut engine = engine();
    let here = |ifindex| vec![Link::ethernet(2, "lan0"), Link::ethernet(ifindex, "br-1")];
    let lan = (2, "lan0".to_owned());
    let both = |ifindex| vec![lan.clone(), (ifindex, "br-1".to_owned())];
    let came = vec![("br-1".to_owned(), true)];
    assert_eq!(observe(&mut engine, &here(5)), (both(5), vec![]), "no news at the start");
    assert_eq!(observe(&mut engine, &here(9)), (both(9), vec![]), "under another index");
    assert_eq!(observe(&mut engine, &[Link::ethernet(2, "lan0")]), (vec![lan.clone()], vec![]));
    assert_eq!(engine.lan().len(), 1);
    assert_eq!(observe(&mut engine, &here(11)), (both(11), came));
    let renamed = [Link::ethernet(2, "lan0"), Link::ethernet(11, "other")];
    assert_eq!(observe(&mut engine, &renamed), (vec![lan.clone()], vec![]));
    let back = [Link::ethernet(2, "lan0"), Link::ethernet(11, "br-2")];
    let renamed = vec![lan.clone(), (11, "br-2".to_owned())];
    assert_eq!(observe(&mut engine, &back), (renamed, vec![("br-2".to_owned(), true)]));
    let mut port = Link::ethernet(11, "br-2");
    port.port = true;
    assert_eq!(observe(&mut engine, &[Link::ethernet(2, "lan0"), port]), (vec![lan], vec![]));
}

#[test]
fn an_interface_that_comes_is_looked_at_soon() {
    let mut engine = engine();
    observe(&mut engine, &[Link::ethernet(2, "lan0")]);
    let now = Duration::from_secs(2);
    engine.handle_event(Event::Network(NetworkEvent::Link(Link::ethernet(5, "br-1"))), now);
    engine.handle_timeout(now + Duration::from_millis(100));
    let mut commands = std::iter::from_fn(|| engine.next_command());
    assert!(commands.any(|command| command == Command::Observe));
}

#[test]
fn what_looks_like_a_lan_and_is_none_is_named_with_what_to_write() {
    let address = |ifindex, text: &str| Address {
        ifindex,
        address: text.parse().expect("an address"),
        prefix_length: 24,
        deprecated: false,
        temporary: false,
        held: false,
    };
    let names = ["lo", "lan0", "wan0", "docker0", "br-9", "eth9", "lte0", "down0"];
    let links: Vec<Link> = (1..).zip(names).map(|(at, name)| Link::ethernet(at, name)).collect();
    let mut snapshot = snapshot(&links);
    snapshot.links.get_mut(&8).expect("there").up = false;
    let addresses = [
        address(1, "10.0.0.1"),
        address(2, "10.1.0.1"),
        address(3, "10.2.0.1"),
        address(4, "172.17.0.1"),
        address(5, "10.3.0.1"),
        address(6, "192.0.2.1"),
        address(7, "10.4.0.1"),
        address(8, "10.5.0.1"),
    ];
    snapshot.addresses = addresses.into();
    snapshot.routes.push(Route {
        table: TABLE_MAIN,
        destination: "0.0.0.0/0".parse().expect("a prefix"),
        metric: 0,
        kind: RouteKind::Unicast,
        nexthop: None,
        ifindex: Some(7),
        onlink: false,
        protocol: 3,
        mtu: None,
    });
    let [hint] = &hints(&config(), &snapshot)[..] else { panic!("one hint") };
    assert!(hint.starts_with("docker0 (172.17.0.1) looks like a LAN"), "{hint}");
    assert!(hint.contains(r#"interfaces = ["lan0", "br-*", "w*", "docker0"]"#), "{hint}");
}
