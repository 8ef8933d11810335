//! Tunnels by IPsec policies alone, without an interface or a route: their packets pass linkbal's
//! NAT unchanged, and the tunnel's own packets leave by the uplink of its address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, LongFlows, Protocol, Servers, open_flows};

use crate::fixture::{Gateway, TICK, wait_for_answers};
use crate::lines::{equal_lab, with_slow_probes};

const FLOWS: usize = 20;
/// The port of servers at either end.
const PORT: u16 = 8080;
const LAN: &str = "10.77.0.0/24";

/// A tunnel of the gateway, by its address on one uplink.
struct Tunnel {
    uplink: usize,
    /// The other end.
    peer: IpAddr,
    /// The prefix behind the other end.
    prefix: String,
    server: IpAddr,
}

fn tunnels() -> [Tunnel; 2] {
    [0, 1].map(|uplink| {
        let network = 50 + 10 * u8::try_from(uplink).unwrap();
        Tunnel {
            uplink,
            peer: plan::server(Family::V4, 90 + uplink),
            prefix: format!("192.168.{network}.0/24"),
            server: Ipv4Addr::new(192, 168, network, 1).into(),
        }
    })
}

/// Makes states and policies of both ends, or moves the tunnel to another uplink (`action` is `add`
/// or `update`). Nothing is encrypted: only the path is tested.
fn establish(lab: &Lab, tunnel: &Tunnel, action: &str) {
    let (near, far) = (plan::uplink_address(Family::V4, tunnel.uplink), tunnel.peer);
    // A state is known by its destination and this number.
    let spi = 0x100 + 2 * usize::from(tunnel.peer == plan::server(Family::V4, 90)) + tunnel.uplink;
    let state = |from: IpAddr, to: IpAddr| {
        format!(
            "xfrm state add src {from} dst {to} proto esp spi {spi} mode tunnel \
             auth digest_null '' enc 'ecb(cipher_null)' ''"
        )
    };
    let policy = |from: &str, to: &str, outer: [IpAddr; 2], way: &str| {
        let [source, destination] = outer;
        format!(
            "xfrm policy {action} src {from} dst {to} dir {way} \
             tmpl src {source} dst {destination} proto esp mode tunnel\n"
        )
    };
    let ends = [
        (&lab.gateway, LAN, &*tunnel.prefix, near, far),
        (&lab.net, &*tunnel.prefix, LAN, far, near),
    ];
    for (namespace, own, others, here, there) in ends {
        run(namespace, &state(here, there));
        run(namespace, &state(there, here));
        let policies = policy(own, others, [here, there], "out")
            + &policy(others, own, [there, here], "in")
            + &policy(others, own, [there, here], "fwd");
        namespace.ip_batch(&policies).unwrap();
    }
}

/// Runs `ip` by a shell, which can pass empty keys.
fn run(namespace: &Namespace, words: &str) {
    namespace.run("sh", &["-c", &format!("ip {words}")]).unwrap();
}

/// Starts a gateway with both tunnels, and with `exempt` in `[nat]`.
fn gateway(exempt: &str) -> (Gateway, Servers) {
    let lab = equal_lab();
    lab.filter_sources().unwrap();
    // Somewhere, as a default route leads in the internet.
    lab.net.ip_batch(&format!("route add {LAN} via 192.0.2.2\n")).unwrap();
    let tunnels = tunnels();
    for tunnel in &tunnels {
        establish(&lab, tunnel, "add");
        lab.net.ip_batch(&format!("address add {}/32 dev lo\n", tunnel.server)).unwrap();
    }
    let at = tunnels.map(|tunnel| SocketAddr::new(tunnel.server, PORT));
    let servers = Servers::start_at(&lab.net, &at).unwrap();
    let tune = |config: &str| format!("{}\n[nat]\nexempt = [{exempt}]\n", with_slow_probes(config));
    (Gateway::start(lab, tune), servers)
}

fn flows_to(tunnel: &Tunnel) -> Vec<FlowSpec> {
    let flow = |n| FlowSpec {
        protocol: Protocol::ALL[n % 2],
        source: plan::client(Family::V4, n),
        server: SocketAddr::new(tunnel.server, PORT),
    };
    (0..FLOWS).map(flow).collect()
}

/// Returns the number of flows to the other end that are answered, and seen there without NAT.
fn answered(gateway: &Gateway, tunnel: &Tunnel) -> usize {
    let flows = flows_to(tunnel);
    let seen = gateway.try_open(&flows);
    let own = flows
        .iter()
        .zip(seen)
        .filter(|(flow, seen)| seen.peer.map(|peer| peer.ip().to_canonical()) == Some(flow.source));
    own.count()
}

#[test]
fn exempt_traffic_passes_ipsec_tunnels_of_both_uplinks() {
    let prefixes = tunnels().map(|tunnel| format!("\"{}\"", tunnel.prefix)).join(", ");
    let exempt = format!("{{ source = \"{LAN}\", destination = [{prefixes}] }}");
    let (mut gateway, _servers) = gateway(&exempt);
    for _ in 0..2 {
        for tunnel in tunnels() {
            let before = gateway.lab.filtered(tunnel.uplink).unwrap().0;
            assert_eq!(answered(&gateway, &tunnel), FLOWS, "by uplink {}", tunnel.uplink);
            let left = gateway.lab.filtered(tunnel.uplink).unwrap().0 - before;
            assert!(left >= FLOWS as u64, "{left} packets of the tunnel");
        }
    }
    // The other end begins.
    let inside = SocketAddr::new(plan::client(Family::V4, 3), PORT);
    let _inside = Servers::start_at(&gateway.lab.lan, &[inside]).unwrap();
    for tunnel in tunnels() {
        let flow = |n: usize| FlowSpec {
            protocol: Protocol::ALL[n % 2],
            source: tunnel.server,
            server: inside,
        };
        let flows: Vec<_> = (0..FLOWS).map(flow).collect();
        for seen in open_flows(&gateway.lab.net, &flows).unwrap() {
            let peer = seen.peer.map(|peer| peer.ip().to_canonical());
            assert_eq!(peer, Some(tunnel.server), "by uplink {}", tunnel.uplink);
        }
    }
    gateway.assert_uplinks(10, &[0, 1]);
    for uplink in [0, 1] {
        assert_eq!(gateway.lab.filtered(uplink).unwrap().1, 0, "foreign addresses at {uplink}");
    }

    // Connections in a tunnel outlive the uplink, and go on where the tunnel goes.
    let [moved, other] = tunnels();
    let flows = LongFlows::start(&gateway.lab.lan, &flows_to(&moved), TICK).unwrap();
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    assert_eq!(answered(&gateway, &other), FLOWS, "with the other uplink dead");
    establish(&gateway.lab, &Tunnel { uplink: 1, ..moved }, "update");
    wait_for_answers(&flows, &flows.reports(), 3, |_| true);
    let reports = flows.reports();
    let goes_on = |report: &FlowReport| !report.closed && report.moved == 0;
    assert!(reports.iter().all(goes_on), "{reports:#?}");
    gateway.assert_uplinks(5, &[1]);
    assert_eq!(gateway.lab.filtered(1).unwrap().1, 0, "foreign addresses");
}

/// Checks that nothing passes without the exemption, so that the test above can fail.
#[test]
fn translated_traffic_passes_no_ipsec_tunnel() {
    let (gateway, _servers) = gateway("{ destination = \"192.168.99.0/24\" }");
    for tunnel in tunnels() {
        assert_eq!(answered(&gateway, &tunnel), 0, "by uplink {}", tunnel.uplink);
    }
    let counts = gateway.open(&FlowSpec::spread(Family::V4, Protocol::Udp, HTTP, 20));
    assert_eq!(counts.iter().sum::<usize>(), 20);
}
