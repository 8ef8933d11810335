//! Gateways with shortcuts, and how many packets take them.

use linkbal_lab::topology::Lab;
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, is_udp};
use crate::kernel;

const SECTION: &str = "[accelerate]\nmode = \"ebpf\"\n";
/// Number of requests on each flow of UDP without a shortcut after which there is none any more: about
/// two seconds of them.
const REQUESTS: u64 = 10;

/// Returns a configuration with shortcuts: those that the lab has already, or those of mode `ebpf`.
pub(crate) fn accelerated(text: &str) -> String {
    accelerated_with(text, "")
}

/// Returns a configuration with shortcuts and further lines of `[accelerate]`.
pub(crate) fn accelerated_with(text: &str, lines: &str) -> String {
    if text.contains("[accelerate]") {
        return text.replace("[accelerate]\n", &format!("[accelerate]\n{lines}"));
    }
    format!("{SECTION}{lines}{text}")
}

/// Starts a gateway with shortcuts, whose configuration is changed by `tune`, too.
pub(crate) fn start_with(lab: Lab, tune: impl FnOnce(&str) -> String) -> Gateway {
    Gateway::start(lab, |config| accelerated(&tune(config)))
}

/// Returns the number of packets of each uplink that took shortcuts, from the LAN and to it.
pub(crate) fn taken_by(gateway: &Gateway) -> Vec<[u64; 2]> {
    let map = kernel::map(&gateway.lab.gateway, "SHORTCUT_COUNTERS");
    let of = |uplink: &Value| {
        let cpus = uplink["formatted"]["values"].as_array().unwrap().iter();
        cpus.fold([0, 0], |[up, down], cpu| {
            let cpu = &cpu["value"];
            let packets = cpu["traffic"]["packets"].as_u64().unwrap();
            [up + packets, down + cpu["down"].as_u64().unwrap()]
        })
    };
    map.as_array().unwrap().iter().map(of).collect()
}

/// Returns the number of packets of all uplinks that took shortcuts.
pub(crate) fn taken(gateway: &Gateway) -> [u64; 2] {
    taken_by(gateway).iter().fold([0, 0], |[up, down], by| [up + by[0], down + by[1]])
}

/// Waits until so many more packets took shortcuts, both ways.
pub(crate) fn wait_for_shortcuts(gateway: &Gateway, more: u64) {
    let before = taken(gateway);
    wait::until("packets by shortcuts", LIMIT, || {
        let now = taken(gateway);
        Ok((0..2).all(|way| now[way] >= before[way] + more).then_some(()))
    })
    .unwrap();
}

/// Waits until each flow of UDP has sent so many more requests.
pub(crate) fn wait_for_requests(flows: &LongFlows, more: u64) {
    let before = flows.reports();
    wait::until("requests", LIMIT, || {
        let now = flows.reports();
        let mut udp = before.iter().zip(&now).filter(|(old, _)| is_udp(old));
        Ok(udp.all(|(old, new)| new.sent >= old.sent + more).then_some(()))
    })
    .unwrap();
}

/// Waits until no packet takes a shortcut, though packets are sent.
pub(crate) fn wait_for_none(gateway: &Gateway, flows: &LongFlows, way: usize) {
    wait::until("the end of the shortcuts", LIMIT, || {
        let before = taken(gateway)[way];
        wait_for_requests(flows, REQUESTS);
        Ok((taken(gateway)[way] == before).then_some(()))
    })
    .unwrap();
}

/// Waits until each flow that was answered before is answered again, at the same uplink.
pub(crate) fn wait_for_answers(flows: &LongFlows) {
    let before = flows.reports();
    let goes_on = |(old, new): (&FlowReport, &FlowReport)| {
        assert_eq!(old.peer, new.peer, "{new:?}");
        assert!(!new.closed && new.errors == old.errors, "{new:?}");
        new.answers > old.answers
    };
    wait::until("answers on each flow", LIMIT, || {
        let now = flows.reports();
        Ok(before.iter().zip(&now).all(goes_on).then_some(()))
    })
    .unwrap();
}
