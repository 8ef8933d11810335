//! Routes that the uplinks' tables repeat.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::engine::kernel::{
    desired::{
        desired,
        tests::{config, held, machine, route},
    },
    diff::{assume, diff},
    network::{IpRule, Link},
};

const TWO: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n\
                   [uplink.b]\ninterface = \"wan1\"\n";

fn with(routes: Vec<Route>) -> Snapshot {
    let links = [(3, "wan0"), (4, "wan1"), (5, "lan0"), (6, "tun0"), (7, "tun1")];
    let links = links.map(|(ifindex, name)| (ifindex, Link::ethernet(ifindex, name)));
    let mut snapshot = machine(vec![held(3, "203.0.113.2/24"), held(4, "192.0.2.2/24")]);
    let ipv6 = IpRule { family: Family::Ipv6, ..snapshot.rules[0].clone() };
    snapshot.rules.push(ipv6);
    Snapshot { links: links.into(), routes, ..snapshot }
}

fn by(ifindex: u32, destination: &str) -> Route {
    Route { ifindex: Some(ifindex), ..route(TABLE_MAIN, destination, RouteKind::Unicast) }
}

/// Returns the routes of the first uplink's table, the last one left out.
fn repeated_routes(snapshot: &Snapshot) -> Vec<(String, Option<u32>)> {
    let (config, indexed) = config(TWO);
    let desired = desired(&config, &indexed, snapshot, UpMask::default());
    let of_table = desired.routes.iter().filter(|route| route.table == 2601 && !route.is_default());
    of_table.map(|route| (route.destination.to_string(), route.ifindex)).collect()
}

#[test]
fn of_several_next_hops_and_interfaces_the_first_counts() {
    let hops = ["10.9.0.1", "10.9.0.2"].map(|hop| Some(hop.parse().expect("an address")));
    let [one, other] = hops.map(|nexthop| Route { nexthop, ..by(6, "10.0.0.0/8") });
    let other = Route { ifindex: Some(7), ..other };
    let expected = [("10.0.0.0/8".to_owned(), Some(6))];
    assert_eq!(repeated_routes(&with(vec![one.clone(), other.clone()])), expected);
    let worse = Route { metric: 9, ..other.clone() };
    assert_eq!(repeated_routes(&with(vec![one.clone(), worse])).len(), 2, "another metric");
    // The network of another uplink is none of this one's.
    let elsewhere = Route { ifindex: Some(4), ..one };
    let expected = [("10.0.0.0/8".to_owned(), Some(7))];
    assert_eq!(repeated_routes(&with(vec![elsewhere, other])), expected);
}

#[test]
fn the_link_local_network_of_an_uplink_is_its_own_interface_s() {
    let mut routes = vec![by(5, "fe80::/64"), by(4, "fe80::/64"), by(3, "fe80::/64")];
    routes.extend([by(3, "ff00::/8"), by(3, "169.254.0.0/16")]);
    let expected = [("169.254.0.0/16".to_owned(), Some(3)), ("fe80::/64".to_owned(), Some(3))];
    assert_eq!(repeated_routes(&with(routes.clone())), expected);
    // Also if the main table is asked first: the rule of the device comes before that.
    let many = (0..=MAX_REPEATED).map(|at| by(6, &format!("10.{}.{}.0/24", at / 250, at % 250)));
    routes.extend(many);
    assert_eq!(repeated_routes(&with(routes)), expected);
}

proptest! {
    // A second route with the table, destination and metric of another one would replace it, and be
    // replaced by it, for ever.
    #[test]
    fn no_two_routes_have_one_place(
        routes in proptest::collection::vec((0_usize..5, 0_u32..3, 3_u32..8, 0_u8..3), 0..12),
    ) {
        let networks = ["10.0.0.0/8", "10.0.0.0/24", "fe80::/64", "fd00::/64", "0.0.0.0/0"];
        let routes = routes.into_iter().map(|(network, metric, ifindex, hop)| {
            let nexthop = (hop > 0).then(|| IpAddr::V4(Ipv4Addr::new(10, 9, 0, hop)));
            let nexthop = nexthop.filter(|_| !networks[network].contains(':'));
            Route { metric, nexthop, ..by(ifindex, networks[network]) }
        });
        let mut snapshot = with(routes.collect());
        let (config, indexed) = config(TWO);
        let desired = desired(&config, &indexed, &snapshot, UpMask::default());
        let places = desired.routes.iter().map(|route| (route.table, route.destination, route.metric));
        prop_assert_eq!(places.collect::<BTreeSet<_>>().len(), desired.routes.len());
        let changes = diff(&desired, &snapshot);
        assume(&mut snapshot, &changes);
        prop_assert_eq!(diff(&desired, &snapshot), []);
    }
}
