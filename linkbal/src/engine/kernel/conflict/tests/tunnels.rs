//! Tunnels whose other end is not known.

use super::*;
use crate::{
    engine::kernel::network::{Link, Tunnel},
    per_family::PerFamily,
};

const IFINDEX: u32 = 7;

fn found(endpoint: &str, tunnel: Option<Tunnel>) -> BTreeSet<Conflict> {
    let vpn = format!("[uplink.vpn]\ninterface = \"tun0\"\nover = [\"a\"]\n{endpoint}");
    let config = Config::parse(&format!("{CONFIG}{vpn}"), "test").expect("a valid configuration");
    let link = Link {
        ifindex: IFINDEX,
        name: "tun0".into(),
        up: true,
        carrier: true,
        point_to_point: true,
        ethernet: false,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    };
    let snapshot = Snapshot {
        links: BTreeMap::from([(IFINDEX, link)]),
        tunnels: tunnel.map(|tunnel| (IFINDEX, tunnel)).into_iter().collect(),
        ..machine(vec![], vec![])
    };
    find(&config, &snapshot, &Survey::default(), &BTreeSet::new())
}

#[test]
fn a_tunnel_is_led_only_if_its_other_end_is_known() {
    let program = found("", None).pop_first().expect("a conflict");
    assert_says(&program, &["tunnel tun0", "does not tell", "write `endpoint = \"ADDRESS\"`"]);
    assert!(!program.compatible);
    let waiting = found("", Some(Tunnel::default())).pop_first().expect("a conflict");
    assert_says(&waiting, &["tunnel tun0", "not know its other end yet"]);
    assert!(waiting.compatible);

    let endpoints = BTreeSet::from(["203.0.113.9".parse().expect("an address")]);
    let known = Tunnel { endpoints, ..Tunnel::default() };
    assert_eq!(found("", Some(known)), BTreeSet::new());
    assert_eq!(found("endpoint = \"203.0.113.9\"\n", None), BTreeSet::new());
}
