//! Attachment of the programs to interfaces: as filters of the clsact qdisc on Debian 12's kernel,
//! which a careless `tc` removes, and without that qdisc on a kernel that has tcx.

use linkbal::sys::datapath::attach::Method;
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::lines::with_slow_probes;

/// Returns the programs of linkbal's filters at the LAN interface, and their priorities: `tc filter
/// show`.
fn filters(gateway: &Gateway) -> Vec<String> {
    let tc = |side| {
        let arguments = ["filter", "show", "dev", LAN_INTERFACE, side];
        gateway.lab.gateway.run("tc", &arguments).unwrap_or_default()
    };
    let sides = ["ingress", "egress"].map(tc);
    let words = |line: &str| -> Option<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let name = words.iter().find(|word| word.starts_with("linkbal"))?;
        let priority = words.iter().position(|word| *word == "pref")?;
        Some(format!("{name} {}", words.get(priority + 1)?))
    };
    sides.iter().flat_map(|shown| shown.lines()).filter_map(words).collect()
}

#[test]
fn a_deleted_clsact_qdisc_is_restored_and_reported() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let gateway = Gateway::start(lab, with_slow_probes);
    let tc = |command: &str| {
        gateway.lab.gateway.run("tc", &command.split(' ').collect::<Vec<_>>()).unwrap()
    };
    let qdiscs = tc(&format!("qdisc show dev {LAN_INTERFACE}"));
    let all = filters(&gateway);
    if Method::available() == Method::Tcx {
        assert!(all.is_empty() && !qdiscs.contains("clsact"), "{qdiscs}{all:?}");
        return;
    }
    assert_eq!(all.len(), 2, "{all:?}");
    // A qdisc at the root, such as a shaper's, says nothing of them.
    tc("qdisc replace dev lan0 root pfifo");
    tc("qdisc del dev lan0 root");
    for undo in ["qdisc del dev lan0 clsact", "filter del dev lan0 ingress pref 26"] {
        tc(undo);
        wait::until(undo, LIMIT, || Ok((filters(&gateway) == all).then_some(())))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    }
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert_eq!(events.matches("eBPF program of lan0: undone by").count(), 2, "{events}");
    gateway.wait_for_uplinks(&[0, 1]);
}
