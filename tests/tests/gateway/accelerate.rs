//! Shortcuts: established flows pass the gateway without the kernel's forwarding, which keeps its
//! say about them.

use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, assert_undisturbed};
use crate::kernel;

fn accelerated(text: &str) -> String {
    let text = text.strip_prefix("[accelerate]\nmode = \"ebpf\"\n").unwrap_or(text);
    format!("[accelerate]\nmode = \"ebpf\"\n{text}")
}

fn start() -> Gateway {
    Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), accelerated)
}

/// Returns the number of packets that took shortcuts, from the LAN and to it.
fn taken(gateway: &Gateway) -> [u64; 2] {
    let map = kernel::map(&gateway.lab.gateway, "SHORTCUT_PACKETS");
    [0, 1].map(|way: usize| {
        let values = map[way]["formatted"]["values"].as_array();
        let values = values.unwrap_or_else(|| panic!("{map}"));
        values.iter().map(|value| value["value"].as_u64().unwrap()).sum()
    })
}

/// Waits until so many more packets took shortcuts, both ways.
fn wait_for_shortcuts(gateway: &Gateway, more: u64) {
    let before = taken(gateway);
    wait::until("packets by shortcuts", LIMIT, || {
        let now = taken(gateway);
        Ok((0..2).all(|way| now[way] >= before[way] + more).then_some(()))
    })
    .unwrap();
}

#[test]
fn established_flows_take_shortcuts_both_ways_and_nothing_is_lost() {
    let gateway = start();
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 500);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
}
