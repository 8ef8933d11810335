//! Helpers of the tests of this suite's lines.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, LongFlows};

use crate::fixture::{Gateway, LIMIT, is_udp, on, wait_for_answers, wait_for_move};
use crate::kernel::{fwmark, tracked_by};

/// The provider's interface towards the gateway.
pub(crate) const PROVIDER: &str = "cust0";
/// Number of long flows of each of the four kinds.
const FLOWS: usize = 10;

/// Builds a lab of two providers with half of the flows each.
pub(crate) fn equal_lab() -> Lab {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    Lab::new(&specs).unwrap()
}

/// Sets probes for a guest that shares its processor: an answer may be late.
pub(crate) fn with_slow_probes(config: &str) -> String {
    config.to_owned() + "interval = \"500ms\"\ntimeout = \"3s\"\n"
}

/// Moves the addresses and the routes of an uplink to other interfaces of the gateway and its
/// provider, which are there already.
pub(crate) fn move_addresses(lab: &Lab, uplink: usize, gateway_end: &str, provider_end: &str) {
    let old = &lab.uplinks[uplink].spec.interface;
    let mut gateway = format!("address flush dev {old} scope global\nlink set {gateway_end} up\n");
    let mut provider =
        format!("address flush dev {PROVIDER} scope global\nlink set {provider_end} up\n");
    let metric = 100 * (uplink + 1);
    for (family, length) in [(Family::V4, 30), (Family::V6, 64)] {
        let (own, next) = (plan::uplink_address(family, uplink), plan::nexthop(family, uplink));
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        gateway += &format!("address add {own}/{length} dev {gateway_end}{nodad}\n");
        gateway += &format!("route replace default via {next} dev {gateway_end} metric {metric}\n");
        provider += &format!("address add {next}/{length} dev {provider_end}{nodad}\n");
    }
    lab.gateway.ip_batch(&gateway).unwrap();
    lab.uplinks[uplink].provider.ip_batch(&provider).unwrap();
}

/// Checks what every kind of uplink must do: carry its share; when it dies, give its flows to the
/// other one and forget its connections, while those of the other one go on; and come back.
pub(crate) fn assert_fails_over(gateway: &mut Gateway, victim: usize) {
    let other = 1 - victim;
    gateway.assert_uplinks(20, &[0, 1]);
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    gateway.lab.blackhole(victim).unwrap();
    gateway.wait_until_down(victim);
    wait_for_move(&flows, &before, |report| is_udp(report) && on(victim)(report), other);
    assert_stay(&flows, &before, other);
    let left = |family| tracked_by(&gateway.lab.gateway, family, fwmark(victim));
    assert!(Family::ALL.iter().all(|family| left(*family).is_empty()), "{:?}", left(Family::V4));
    gateway.assert_uplinks(10, &[other]);
    gateway.lab.restore(victim).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    wait_for_answers(&flows, &flows.reports(), 3, on(other));
}

/// Checks that flows that were on `uplink` are still answered there, and never were elsewhere. Late
/// answers are not counted, since the guest shares its processor.
pub(crate) fn assert_stay(flows: &LongFlows, before: &[FlowReport], uplink: usize) {
    wait_for_answers(flows, &flows.reports(), 5, on(uplink));
    let now = flows.reports();
    let pairs: Vec<_> = before.iter().zip(&now).filter(|(old, _)| on(uplink)(old)).collect();
    assert!(!pairs.is_empty(), "no flow to look at");
    for (old, new) in pairs {
        let stayed = on(uplink)(new) && new.moved == old.moved && !new.closed;
        assert!(stayed, "before: {old:?}\nnow: {new:?}");
    }
}
