//! The MTU of an uplink: both ends of a TCP connection send segments that fit it, as their own
//! kernels report, which know the other end's MSS by its SYN or the answer to one.

use std::net::SocketAddr;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use socket2::{Domain, Socket, Type};

use crate::applications::server::nginx;
use crate::fixture::{Gateway, LIMIT, with_key};

const PORT: u16 = 8080;
const MTU: u32 = 1400;
/// The MSS that a client has which knows of a narrow path itself.
const SMALL: u32 = 1000;
/// The option of time stamps, which each segment has.
const STAMPS: u32 = 12;

/// Returns what the kernel knows of the connections to the port, which is that of this `end`.
fn established(namespace: &Namespace, end: &str) -> String {
    let filter = format!("{end} = :{PORT}");
    namespace.run("ss", &["-tinH", "state", "established", &filter]).unwrap()
}

/// Connects from `client` to the server, and returns the longest segments that client and server
/// send.
fn segments(gateway: &Gateway, client: &Namespace, family: Family, mss: Option<u32>) -> [u32; 2] {
    let server = SocketAddr::new(plan::server(family, 0), PORT);
    segments_between(client, &gateway.lab.net, server, mss)
}

/// Connects from `client` to a server in the namespace `net`; returns the same.
fn segments_between(
    client: &Namespace,
    net: &Namespace,
    server: SocketAddr,
    mss: Option<u32>,
) -> [u32; 2] {
    wait::until("the end of the connection before", LIMIT, || {
        let none = established(client, "dport").is_empty() && established(net, "sport").is_empty();
        Ok(none.then_some(()))
    })
    .unwrap();
    let entered = client.enter().unwrap();
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    if let Some(mss) = mss {
        socket.set_tcp_mss(mss).unwrap();
    }
    socket.connect_timeout(&server.into(), LIMIT).unwrap();
    drop(entered);
    let sent_by = |namespace: &Namespace, end: &str| {
        let shown = established(namespace, end);
        let mss = shown.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
        mss.unwrap_or_else(|| panic!("{shown}")).parse().unwrap()
    };
    let both = [sent_by(client, "dport"), sent_by(net, "sport")];
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    both
}

const fn fitting(mtu: u32, family: Family) -> u32 {
    mtu - STAMPS - if matches!(family, Family::V4) { 40 } else { 60 }
}

#[test]
fn both_ends_send_what_fits_and_a_smaller_mss_stays() {
    let lab = Lab::new(&UplinkSpec::pair()[..1]).unwrap();
    let name = lab.uplinks[0].spec.name.clone();
    let _server = nginx(&lab.net, PORT);
    let gateway = Gateway::start(lab, |text| with_key(text, &name, &format!("mtu = {MTU}")));
    for family in Family::ALL {
        for client in [&gateway.lab.lan, &gateway.lab.gateway] {
            let fits = fitting(MTU, family);
            assert_eq!(segments(&gateway, client, family, None), [fits; 2], "{family:?}");
            let [_, server] = segments(&gateway, client, family, Some(SMALL));
            assert_eq!(server, SMALL - STAMPS, "{family:?}");
        }
        assert_eq!(route_mtu(&gateway, family), Some(MTU.into()), "{family:?}");
    }
}

/// Returns the MTU of the default route in the uplink's own table, as the kernel has it.
fn route_mtu(gateway: &Gateway, family: Family) -> Option<u64> {
    let family = if family == Family::V4 { "-4" } else { "-6" };
    let args = [family, "route", "show", "default", "table", "2601"];
    let routes = oracle::ip_json(&gateway.lab.gateway, &args).unwrap();
    let unicast = routes.as_array().unwrap().iter().find(|route| !route["gateway"].is_null());
    unicast.unwrap()["metrics"][0]["mtu"].as_u64()
}

/// Forwards the port of both families to a host of the LAN, with an address that the lab has there.
fn forward_port(gateway: &Gateway) {
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, 0));
    let table = format!(
        "table inet forwards {{
            chain forwards {{
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"wan-*\" tcp dport {PORT} dnat ip to {ipv4}
                iifname \"wan-*\" tcp dport {PORT} dnat ip6 to {ipv6}
            }}
        }}\n"
    );
    gateway.lab.gateway.run_with_input("nft", &["-f", "-"], &table).unwrap();
}

/// Connects from outside to the uplink's address; returns the longest segments that client and
/// server send.
fn segments_from_outside(gateway: &Gateway, family: Family) -> [u32; 2] {
    let server = SocketAddr::new(plan::uplink_address(family, 0), PORT);
    segments_between(&gateway.lab.net, &gateway.lab.lan, server, None)
}

#[test]
fn a_narrow_route_or_interface_limits_what_is_announced_outside() {
    let lab = Lab::new(&UplinkSpec::pair()[..1]).unwrap();
    let interface = lab.uplinks[0].spec.interface.clone();
    let _servers = [nginx(&lab.net, PORT), nginx(&lab.lan, PORT)];
    let gateway = Gateway::start(lab, str::to_owned);
    forward_port(&gateway);
    let wait_for = |mtu: u32| {
        for family in Family::ALL {
            wait::until("segments that fit", LIMIT, || {
                let fits = fitting(mtu, family);
                let [_, answers] = segments(&gateway, &gateway.lab.lan, family, None);
                let [requests, _] = segments_from_outside(&gateway, family);
                Ok(([answers, requests] == [fits; 2]).then_some(()))
            })
            .unwrap();
        }
    };
    wait_for(1500);
    for family in Family::ALL {
        let family = if family == Family::V4 { "-4" } else { "-6" };
        let shown = gateway.lab.gateway.run("ip", &[family, "route", "show", "default"]).unwrap();
        let route: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
        let narrow = [&[family, "route", "replace"], &route[..], &["mtu", "1400"]].concat();
        gateway.lab.gateway.run("ip", &narrow).unwrap();
    }
    wait_for(1400);
    assert_eq!(Family::ALL.map(|family| route_mtu(&gateway, family)), [Some(1400); 2]);
    gateway.lab.gateway.run("ip", &["link", "set", &interface, "mtu", "1300"]).unwrap();
    wait_for(1300);
    assert_eq!(
        Family::ALL.map(|family| route_mtu(&gateway, family)),
        [None; 2],
        "the interface says it"
    );
}

#[test]
fn without_the_key_the_interface_decides() {
    let lab = Lab::new(&UplinkSpec::pair()[..1]).unwrap();
    let _server = nginx(&lab.net, PORT);
    let gateway = Gateway::start(lab, str::to_owned);
    for family in Family::ALL {
        let fits = fitting(1500, family);
        assert_eq!(segments(&gateway, &gateway.lab.lan, family, None), [fits; 2], "{family:?}");
    }
}
