//! Interfaces in a VRF.

use super::*;
use crate::engine::kernel::network::Link;

#[test]
fn an_uplink_and_a_lan_in_a_vrf_are_told() {
    let link = |ifindex, name, vrf| (ifindex, Link { vrf, ..Link::ethernet(ifindex, name) });
    let links = |lan, wan| {
        let mgmt = link(9, "mgmt", None);
        BTreeMap::from([
            link(2, "lan0", lan),
            link(3, "wan-a", wan),
            link(4, "eth4", Some(9)),
            mgmt,
        ])
    };
    let found = |lan, wan| {
        let snapshot = Snapshot { links: links(lan, wan), ..machine(vec![], vec![]) };
        find(&config(), &snapshot, &Survey::default(), &BTreeSet::new())
    };
    assert_eq!(found(None, None), BTreeSet::new());
    let both = found(Some(9), Some(9));
    assert_eq!(both.len(), 2, "{both:?}");
    assert_says(both.first().expect("the LAN"), &["interface lan0 in VRF mgmt", "lan0 nomaster"]);
    assert_says(both.last().expect("the uplink"), &["interface wan-a in VRF mgmt"]);
    assert!(both.iter().all(|conflict| !conflict.compatible));
}
