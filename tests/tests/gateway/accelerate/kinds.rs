//! Every kind of path: packets take shortcuts, and are as right as those that the kernel forwards.

use std::io::Error;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Protocol, Servers};
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, OPEN, TICK, assert_undisturbed, is_ipv6, on, with_key};
use crate::shortcuts::{start_with, taken, taken_by, wait_for_shortcuts};
use crate::topologies::{put_on_one_hub, share_wan_a};

/// Number of packets of each way that take shortcuts before the flows are looked at, and meanwhile.
const PACKETS: u64 = 300;

/// Checks that flows take shortcuts, and are not disturbed by that.
fn assert_taken(gateway: &Gateway, flows: &LongFlows, least: usize) {
    wait_for_shortcuts(gateway, PACKETS);
    let before = flows.reports();
    wait_for_shortcuts(gateway, PACKETS);
    assert_undisturbed(flows, &before, least, |_| true);
}

/// Checks that no provider got packets with an address that is none of its own.
fn assert_no_foreign_sources(lab: &Lab) {
    for uplink in 0..lab.uplinks.len() {
        let (own, foreign) = lab.filtered(uplink).unwrap();
        assert!(own > 0 && foreign == 0, "{own} and {foreign} at provider {uplink}");
    }
}

/// Returns an address in the network `network` that provider `uplink` gave out.
fn given(uplink: usize, network: u16, host: u16) -> Ipv6Addr {
    let provider = 0xa + u16::try_from(uplink).unwrap();
    Ipv6Addr::new(0x2001, 0xdb8, provider, network, 0, 0, 0, host)
}

/// Builds a lab whose providers route a network of theirs to the gateway, and drop other sources.
fn routed_lab(network: u16) -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    for (index, uplink) in lab.uplinks.iter().enumerate() {
        let prefix = format!("{}/64", given(index, network, 0));
        let gateway = plan::uplink_address(Family::V6, index).to_string();
        uplink.provider.run("ip", &["route", "add", &prefix, "via", &gateway]).unwrap();
    }
    lab.filter_sources().unwrap();
    lab
}

/// Returns a configuration with a key for each uplink of the pair.
fn with_keys(config: &str, line: impl Fn(usize) -> String) -> String {
    with_key(&with_key(config, "isp-a", &line(0)), "isp-b", &line(1))
}

/// Checks the LAN's own prefix, which is translated to one of each provider, host by host.
#[test]
fn translated_prefixes() {
    const NETWORK: u16 = 0x200;
    let gateway = start_with(routed_lab(NETWORK), |config| {
        let prefix = |index| format!("prefix = \"{}/64\"", given(index, NETWORK, 0));
        let line = |index| format!("ipv6 = \"prefix\"\n{}\nnpt = \"fd77::/64\"", prefix(index));
        with_keys(config, line) + OPEN
    });
    let flows = gateway.long_flows(10);
    assert_taken(&gateway, &flows, 40);
    for flow in flows.reports().iter().filter(|flow| is_ipv6(flow)) {
        let IpAddr::V6(client) = flow.spec.source else { panic!("{flow:?}") };
        let outside = given(flow.uplink().unwrap(), NETWORK, client.segments()[7]);
        assert_eq!(flow.peer.map(|peer| peer.ip()), Some(outside.into()), "{flow:?}");
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks hosts with addresses of their provider, which are not translated.
#[test]
fn addresses_of_the_providers() {
    const NETWORK: u16 = 0x100;
    let lab = routed_lab(NETWORK);
    let add = |namespace: &Namespace, address: Ipv6Addr, interface: &str| {
        let address = format!("{address}/64");
        namespace.run("ip", &["address", "add", &address, "dev", interface, "nodad"]).unwrap();
    };
    for uplink in [0, 1] {
        add(&lab.gateway, given(uplink, NETWORK, 1), LAN_INTERFACE);
        (0..5).for_each(|host| add(&lab.lan, given(uplink, NETWORK, 9 + host), "eth0"));
    }
    let gateway = start_with(lab, |config| {
        let prefix = |index| format!("prefix = \"{}/64\"", given(index, NETWORK, 0));
        with_keys(config, |index| format!("ipv6 = \"prefix\"\n{}", prefix(index)))
    });
    let flow = |uplink, protocol, host: u16| FlowSpec {
        source: given(uplink, NETWORK, 9 + host).into(),
        ..FlowSpec::new(Family::V6, protocol, 0, 5 * uplink + usize::from(host), HTTP)
    };
    let kinds = [0, 1].into_iter().flat_map(|uplink| Protocol::ALL.map(|p| (uplink, p)));
    let specs: Vec<_> = kinds
        .flat_map(|(uplink, protocol)| (0..5).map(move |host| flow(uplink, protocol, host)))
        .collect();
    let flows = LongFlows::start(&gateway.lab.lan, &specs, TICK).unwrap();
    assert_taken(&gateway, &flows, 20);
    for flow in flows.reports() {
        assert_eq!(flow.peer.map(|peer| peer.ip()), Some(flow.spec.source), "{flow:?}");
    }
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks connections that come in from outside, to a server of the LAN.
#[test]
fn forwarded_ports() {
    const PORT: u16 = 8080;
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, 3));
    let table = format!(
        "table inet admin {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                iifname \"wan-*\" meta l4proto {{ tcp, udp }} th dport {PORT} dnat ip to {ipv4}
                iifname \"wan-*\" meta l4proto {{ tcp, udp }} th dport {PORT} dnat ip6 to {ipv6}
            }}
        }}"
    );
    lab.gateway.load_nft(&table).unwrap();
    let inside = [ipv4, ipv6].map(|ip| SocketAddr::new(ip, PORT));
    let _inside = Servers::start_at(&lab.lan, &inside).unwrap();
    let gateway = start_with(lab, str::to_owned);
    let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
    let flow = |(family, protocol), n: usize| FlowSpec {
        protocol,
        source: plan::server(family, n),
        server: SocketAddr::new(plan::uplink_address(family, n % 2), PORT),
    };
    let specs: Vec<_> = kinds.flat_map(|kind| (0..10).map(move |n| flow(kind, n))).collect();
    let flows = LongFlows::start(&gateway.lab.net, &specs, TICK).unwrap();
    assert_taken(&gateway, &flows, 40);
    for flow in flows.reports() {
        assert_eq!(flow.peer.map(|peer| peer.ip().to_canonical()), Some(flow.spec.source));
    }
    assert!(taken_by(&gateway)[..2].iter().all(|[up, down]| *up > 0 && *down > 0));
    assert_no_foreign_sources(&gateway.lab);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(status["uplinks"][0]["flows"], 0, "they are no flows of the LAN");
}

/// Checks two uplinks with one interface, and a gateway each.
#[test]
fn a_shared_interface() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _hub = put_on_one_hub(&lab);
    lab.filter_sources().unwrap();
    let gateway = start_with(lab, share_wan_a);
    let flows = gateway.long_flows(10);
    assert_taken(&gateway, &flows, 40);
    let by = taken_by(&gateway);
    let [used_a, used_b] = [0, 1].map(|uplink| flows.reports().iter().any(on(uplink)));
    assert!(used_a && used_b && by[0][0] > 0 && by[1][0] > 0, "{by:?}");
    assert_no_foreign_sources(&gateway.lab);
}

/// Checks a LAN that is a bridge.
#[test]
fn a_bridge() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    // Else nft, which sees bridged packets first, gives them their mark, and they take no shortcut.
    for sysctl in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
        lab.gateway.set_sysctl(sysctl, "0").unwrap();
    }
    let mut bridge = String::from("link add br0 type bridge\nlink set br0 up\n");
    bridge += &format!("address flush dev {LAN_INTERFACE} scope global\n");
    for (family, length) in [(Family::V4, 24), (Family::V6, 64)] {
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        bridge += &format!("address add {}/{length} dev br0{nodad}\n", plan::lan_gateway(family));
    }
    bridge += &format!("link set {LAN_INTERFACE} master br0\n");
    lab.gateway.ip_batch(&bridge).unwrap();
    let gateway =
        start_with(lab, |config| config.replace(&format!("\"{LAN_INTERFACE}\""), "\"br0\""));
    let flows = gateway.long_flows(10);
    assert_taken(&gateway, &flows, 40);
}

/// The largest packet that the narrow uplink of a test carries.
const NARROW: u32 = 1400;

/// Counts at a provider the packets that are larger than the uplink carries.
fn count_large(provider: &Namespace) {
    let counter = format!(
        "table inet watch {{\n\
         counter large {{}}\n\
         chain in {{\n\
         type filter hook prerouting priority -300\n\
         iifname cust0 meta length > {NARROW} counter name large\n\
         }}\n}}\n"
    );
    provider.load_nft(&counter).unwrap();
}

fn large(provider: &Namespace) -> u64 {
    let listed = provider.run("nft", &["-j", "list", "counters"]).unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let mut objects = listed["nftables"].as_array().unwrap().iter();
    objects.find_map(|object| object["counter"]["packets"].as_u64()).unwrap()
}

/// Sends a request of `bytes` bytes; returns whether it was answered, or refused as too large.
fn ask(socket: &UdpSocket, bytes: usize) -> Result<(), Error> {
    let mut request = b"lb-flow?".to_vec();
    request.resize(bytes, 0);
    socket.send(&request)?;
    socket.recv(&mut [0; 64]).map(drop)
}

/// Checks an uplink that carries less than its interface, as its route says.
#[test]
fn a_narrow_uplink() {
    let lab = Lab::new(&UplinkSpec::pair()[..1]).unwrap();
    count_large(&lab.uplinks[0].provider);
    let gateway = start_with(lab, |config| with_key(config, "isp-a", &format!("mtu = {NARROW}")));
    for family in Family::ALL {
        for client in 0..10 {
            let entered = gateway.lab.lan.enter().unwrap();
            let socket = UdpSocket::bind((plan::client(family, client), 0)).unwrap();
            drop(entered);
            socket.connect((plan::server(family, client), HTTP)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let before = taken(&gateway)[0];
            while taken(&gateway)[0] == before {
                (0..20).for_each(|_| ask(&socket, 40).unwrap());
            }
            let refused = ask(&socket, 1430).expect_err("too large");
            assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{refused}");
            // From now on the client sends what fits, in fragments.
            ask(&socket, 1430).unwrap();
        }
    }
    assert_eq!(large(&gateway.lab.uplinks[0].provider), 0);
}
