//! Sysctls that are given back.

use std::collections::BTreeMap;

use linkbal_common::uplink::UpMask;

use super::*;
use crate::engine::kernel::{
    desired::{
        desired,
        tests::{config, machine},
    },
    diff::{assume, diff},
    network::Change,
};

const BOTH: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n\
                    [uplink.b]\ninterface = \"wan1\"\n";
const ONE: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n";

fn path(interface: &str, name: &str) -> String {
    format!("net/ipv4/conf/{interface}/{name}")
}

/// Returns a machine as Debian starts it, with `rp_filter` 2 on its interfaces.
fn debian() -> Snapshot {
    let mut snapshot = machine(vec![]);
    for interface in ["all", "lan0", "wan0", "wan1"] {
        let rp_filter = if interface == "all" { "0" } else { "2" };
        snapshot.sysctls.insert(path(interface, "rp_filter"), rp_filter.into());
        snapshot.sysctls.insert(path(interface, "accept_local"), "0".into());
        snapshot.sysctls.insert(path(interface, "arp_ignore"), "0".into());
        snapshot.sysctls.insert(format!("net/ipv6/conf/{interface}/accept_ra"), "1".into());
    }
    let off = Family::ALL.map(forwarding).into_iter().chain(REFLECTION).chain([LIBERAL, RESETS]);
    snapshot.sysctls.extend(off.map(|path| (path.to_owned(), "0".to_owned())));
    snapshot.sysctls.insert(UNACKNOWLEDGED.into(), "300".into());
    snapshot
}

/// Makes the changes that a configuration asks for; returns them.
fn reconcile(text: &str, snapshot: &mut Snapshot) -> Vec<Change> {
    let (config, indexed) = config(text);
    let changes = diff(&desired(&config, &indexed, snapshot, UpMask::default()), snapshot);
    assume(snapshot, &changes);
    // Whoever reads the table only learns that it stands.
    snapshot.nft_current = false;
    changes
}

fn sysctls(changes: &[Change]) -> Vec<(&str, &str)> {
    let each = changes.iter().filter_map(|change| match change {
        Change::SetSysctl(path, value) => Some((&**path, &**value)),
        _ => None,
    });
    each.collect()
}

#[test]
fn an_interface_that_is_no_uplink_any_more_is_validated_by_the_kernel_before_nft_lets_go() {
    let before = debian();
    let mut snapshot = before.clone();
    reconcile(BOTH, &mut snapshot);
    assert_eq!(snapshot.sysctls[&path("wan1", "accept_local")], "1");
    assert_eq!(snapshot.sysctls_set[&path("wan1", "rp_filter")], "0");
    assert_eq!(sysctls(&reconcile(BOTH, &mut snapshot)), [], "nothing is given back meanwhile");
    let changes = reconcile(ONE, &mut snapshot);
    let (rp_filter, accept_local) = (path("wan1", "rp_filter"), path("wan1", "accept_local"));
    assert_eq!(sysctls(&changes), [(&*accept_local, "0"), (&*rp_filter, "2")]);
    let nft = changes.iter().position(|change| matches!(change, Change::ReplaceNft(_)));
    assert_eq!(nft, Some(2), "{changes:?}");
    assert!(!snapshot.sysctls_before.contains_key(&rp_filter), "that is over");
    // Forwarding goes on, so that the interface goes on to accept router advertisements.
    let accept_ra = "net/ipv6/conf/wan1/accept_ra";
    assert_eq!(snapshot.sysctls[accept_ra], "2");
    assert_eq!(sysctls(&reconcile(ONE, &mut snapshot)), []);
    reconcile(&ONE.replace("\"lan0\"", ""), &mut snapshot);
    assert_eq!(snapshot.sysctls[accept_ra], "1");
    assert_eq!(snapshot.sysctls[forwarding(Family::Ipv4)], "0");
}

#[test]
fn what_others_have_set_meanwhile_is_theirs() {
    let mut snapshot = debian();
    reconcile(BOTH, &mut snapshot);
    snapshot.sysctls.insert(path("wan1", "rp_filter"), "1".into());
    let changes = reconcile(ONE, &mut snapshot);
    assert_eq!(sysctls(&changes), [(&*path("wan1", "accept_local"), "0")]);
}

#[test]
fn a_kernel_that_is_strict_everywhere_now_validates_all() {
    let mut snapshot = debian();
    reconcile(BOTH, &mut snapshot);
    snapshot.sysctls.insert(path("all", "rp_filter"), "1".into());
    reconcile(BOTH, &mut snapshot);
    for interface in ["lan0", "wan0", "wan1"] {
        assert_eq!(snapshot.sysctls[&path(interface, "accept_local")], "0");
        assert_eq!(snapshot.sysctls[&path(interface, "rp_filter")], "2");
    }
    assert_eq!(sysctls(&reconcile(BOTH, &mut snapshot)), []);
}

#[test]
fn connections_that_took_shortcuts_go_on_without_them() {
    let mut snapshot = debian();
    reconcile(&format!("[accelerate]\nmode = \"ebpf\"\n{BOTH}"), &mut snapshot);
    assert_eq!(snapshot.sysctls[LIBERAL], "1");
    let plain = format!("[local]\nbalance = false\n{BOTH}");
    let changes = reconcile(&plain, &mut snapshot);
    assert_eq!(sysctls(&changes), REFLECTION.map(|path| (path, "0")));
    assert_eq!(snapshot.sysctls[LIBERAL], "1");
}

#[test]
fn what_shares_a_segment_does_so_after_a_moment_without_address() {
    let mut snapshot = debian();
    let kept = path("wan0", "arp_ignore");
    snapshot.sysctls.insert(kept.clone(), "1".into());
    snapshot.sysctls_set.insert(kept.clone(), "1".into());
    snapshot.sysctls_before.insert(kept.clone(), "0".into());
    reconcile(BOTH, &mut snapshot);
    assert_eq!(snapshot.sysctls[&kept], "1");
    reconcile(&ONE.replace("wan0", "wan1"), &mut snapshot);
    assert_eq!(snapshot.sysctls[&kept], "0");
}

#[test]
fn records_without_a_value_of_linkbal_s_stay() {
    let mut snapshot = debian();
    snapshot.sysctls_before = BTreeMap::from([(path("wan1", "rp_filter"), "1".into())]);
    assert!(!sysctls(&reconcile(ONE, &mut snapshot)).iter().any(|(path, _)| path.contains("wan1")));
}
