//! New flows are spread by weight.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};

use crate::fixture::{Gateway, ping};
use crate::kernel;

const FLOWS: usize = 2000;

#[test]
fn flows_are_spread_by_weight_as_the_servers_see_them() {
    let gateway = Gateway::pair();
    let mut total = [0; 2];
    for family in Family::ALL {
        let mut counts = [0; 2];
        for protocol in Protocol::ALL {
            let flows = FlowSpec::spread(family, protocol, HTTP, FLOWS / 2);
            let seen = gateway.open(&flows);
            counts = [counts[0] + seen[0], counts[1] + seen[1]];
        }
        assert_eq!(counts.iter().sum::<usize>(), FLOWS);
        // Binomial: 3 sigma hold 99.7 % of all runs, 4 sigma all but one of 15,000.
        let expected = FLOWS as f64 * gateway.lab.share(0);
        let sigma = (expected * (1.0 - gateway.lab.share(0))).sqrt();
        let off = (counts[0] as f64 - expected).abs();
        assert!(off <= 4.0 * sigma, "{family}: {counts:?}");
        total = [total[0] + counts[0], total[1] + counts[1]];
    }
    let counted = gateway.counted_flows();
    assert_eq!(counted, total.map(|count| count as u64), "the status agrees with the servers");
}

#[test]
fn pings_of_the_lan_are_answered_and_spread() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    lab.lan.set_sysctl("net.ipv4.ping_group_range", "0 2147483647").unwrap();
    for (family, protocol) in Family::ALL.into_iter().zip(["icmp", "icmpv6"]) {
        for client in 0..40 {
            let _entered = lab.lan.enter().unwrap();
            ping(plan::client(family, client), plan::server(family, client));
        }
        // The gateway's own probes are tracked, too, but come from none of the clients.
        let tracked = kernel::tracked(&lab.gateway, family, protocol);
        let from_lan = |client| {
            let source = format!("src={}", plan::client(family, client));
            let ping = tracked.iter().find(|ping| ping.tuples[1] == source);
            let ping = ping.unwrap_or_else(|| panic!("no ping with {source}"));
            (0..2).find(|&uplink| ping.mark == kernel::fwmark(uplink)).unwrap()
        };
        let used: Vec<_> = (0..40).map(from_lan).collect();
        assert!(used.contains(&0) && used.contains(&1), "{family}: {used:?}");
    }
    assert_eq!(gateway.counted_flows().iter().sum::<u64>(), 80);
}
