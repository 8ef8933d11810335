//! A flowtable, which takes packets of known connections past most of the kernel, and past our
//! fwmark.

use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::lines::{assert_fails_over, equal_lab, with_slow_probes};

/// An administrator's own table.
const FLOWTABLE: &str = "
table inet fast {
    flowtable quick {
        hook ingress priority 0
        devices = { lan0, wan-a, wan-b }
    }
    chain forward {
        type filter hook forward priority 0
        meta l4proto { tcp, udp } flow add @quick
    }
}
";

#[test]
fn offloaded_flows_leave_a_dead_uplink_too() {
    let lab = equal_lab();
    lab.gateway.load_nft(FLOWTABLE).unwrap();
    let mut gateway = Gateway::start(lab, with_slow_probes);
    let flows = gateway.long_flows(1);
    wait::until("an offloaded connection", LIMIT, || {
        let tracked = gateway.lab.gateway.run("conntrack", &["-L"])?;
        Ok(tracked.contains("[OFFLOAD]").then_some(()))
    })
    .unwrap();
    drop(flows);
    assert_fails_over(&mut gateway, 0);
}
