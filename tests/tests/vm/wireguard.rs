//! Tunnels by WireGuard: one that is an uplink, and one that leads to an office past all uplinks.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol, Servers};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::lines::{PROVIDER, assert_fails_over, equal_lab, move_addresses, with_slow_probes};
use crate::tunnels::{self, start, wait_for_flows, wait_for_route, wait_for_tunnel, word};

const PORT: u16 = 51820;

/// An end of a tunnel.
struct TunnelEnd<'a> {
    namespace: &'a Namespace,
    interface: &'a str,
    /// The address at which the other end finds it.
    address: IpAddr,
    /// The prefixes behind it.
    prefixes: &'a str,
}

/// Makes the interfaces of a tunnel with keys of their own.
fn tunnel(ends: [&TunnelEnd<'_>; 2]) {
    let keys = ends.map(|end| {
        let key = end.namespace.run("wg", &["genkey"]).unwrap();
        let public = end.namespace.run_with_input("wg", &["pubkey"], &key).unwrap();
        (key, public.trim().to_owned())
    });
    for (own, other) in [(0, 1), (1, 0)] {
        let TunnelEnd { namespace, interface, .. } = ends[own];
        namespace.ip_batch(&format!("link add {interface} type wireguard")).unwrap();
        let peer = SocketAddr::new(ends[other].address, PORT);
        let config = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\
             [Peer]\nPublicKey = {}\nEndpoint = {peer}\nAllowedIPs = {}\n",
            keys[own].0.trim(),
            keys[other].1,
            ends[other].prefixes,
        );
        namespace.run_with_input("wg", &["setconf", interface, "/dev/stdin"], &config).unwrap();
    }
}

#[test]
fn a_tunnel_is_an_uplink_like_any_other() {
    let lab = equal_lab();
    let (near, far) = ("192.0.2.129", "192.0.2.130");
    lab.gateway.ip_batch(&format!("address add {near}/30 dev wan-a label wan-a:wg")).unwrap();
    lab.uplinks[0].provider.ip_batch(&format!("address add {far}/30 dev {PROVIDER}")).unwrap();
    let all = "0.0.0.0/0, ::/0";
    let provider = &lab.uplinks[0].provider;
    let end = |namespace, address: &str| TunnelEnd {
        namespace,
        interface: "wg0",
        address: address.parse().unwrap(),
        prefixes: all,
    };
    tunnel([&end(&*lab.gateway, near), &end(provider, far)]);
    move_addresses(&lab, 0, "wg0", "wg0");
    // The way of the tunnel's own packets.
    lab.gateway.ip_batch(&format!("address replace {near}/30 dev wan-a")).unwrap();
    lab.uplinks[0].provider.ip_batch(&format!("address replace {far}/30 dev {PROVIDER}")).unwrap();
    let tune = |config: &str| with_slow_probes(config).replace("\"wan-a\"", "\"wg0\"");
    let mut gateway = Gateway::start(lab, tune);
    assert_fails_over(&mut gateway, 0);
}

/// Makes both ends of a tunnel between the gateway and a server; the far end learns the address of
/// the near one.
fn roaming(lab: &Lab, outer: Family) {
    let end = |namespace, address| TunnelEnd {
        namespace,
        interface: tunnels::TUNNEL,
        address,
        prefixes: "0.0.0.0/0, ::/0",
    };
    let near = end(&*lab.gateway, plan::uplink_address(outer, 0));
    tunnel([&near, &end(&*lab.net, tunnels::endpoint(outer))]);
}

#[test]
fn a_wireguard_tunnel_uses_the_best_uplink() {
    tunnels::assert_follows_uplinks(Family::V4, Family::V4, |lab| roaming(lab, Family::V4));
}

#[test]
fn a_wireguard_tunnel_over_ipv6_uses_the_best_uplink() {
    tunnels::assert_follows_uplinks(Family::V6, Family::V6, |lab| roaming(lab, Family::V6));
}

/// Checks that a tunnel from the address of `line` goes up and down with that line.
fn assert_bound(inner: Family, outer: Family, line: usize, make: impl FnOnce(&Lab)) {
    let mut gateway = start(inner, outer, make);
    let device = gateway.lab.uplinks[line].spec.interface.clone();
    wait_for_route(&gateway, outer, &device);
    wait_for_flows(&gateway, inner);
    gateway.lab.blackhole(line).unwrap();
    gateway.wait_for_state(line, word(outer), "down");
    wait_for_tunnel(&mut gateway, inner, "down");
    wait_for_route(&gateway, outer, &device);
    gateway.lab.restore(line).unwrap();
    wait_for_tunnel(&mut gateway, inner, "up");
    wait_for_flows(&gateway, inner);
}

/// Makes both ends of a kernel tunnel from the second line's address.
fn bound(lab: &Lab, kind: &str) {
    let outer = if kind == "ip6gre" { Family::V6 } else { Family::V4 };
    let (near, far) = (plan::uplink_address(outer, 1), tunnels::endpoint(outer));
    let add = format!("link add {} type {kind} ttl 64", tunnels::TUNNEL);
    lab.gateway.ip_batch(&format!("{add} local {near} remote {far}")).unwrap();
    lab.net.ip_batch(&format!("{add} local {far} remote {near}")).unwrap();
}

#[test]
fn tunnels_from_the_address_of_an_uplink_use_that_uplink() {
    for (kind, inner, outer) in [
        ("gre", Family::V4, Family::V4),
        ("ipip", Family::V4, Family::V4),
        ("sit", Family::V6, Family::V4),
        ("ip6gre", Family::V4, Family::V6),
    ] {
        assert_bound(inner, outer, 1, |lab| bound(lab, kind));
    }
}

#[test]
fn a_site_behind_a_tunnel_is_reached_by_any_uplink() {
    let lab = equal_lab();
    let office = IpAddr::from([172, 16, 0, 1]);
    let (gateway_address, server) =
        (plan::uplink_address(Family::V4, 0), plan::server(Family::V4, 9));
    let near = TunnelEnd {
        namespace: &lab.gateway,
        interface: "office",
        address: gateway_address,
        prefixes: "10.77.0.0/24",
    };
    let far = TunnelEnd {
        namespace: &lab.net,
        interface: "branch",
        address: server,
        prefixes: "172.16.0.0/24",
    };
    tunnel([&near, &far]);
    lab.gateway.ip_batch("link set office up\nroute add 172.16.0.0/24 dev office\n").unwrap();
    let branch = format!("address add {office}/24 dev branch\nlink set branch up\n");
    lab.net.ip_batch(&(branch + "route add 10.77.0.0/24 dev branch\n")).unwrap();
    let gateway = Gateway::start(lab, with_slow_probes);
    let _office =
        Servers::start_at(&gateway.lab.net, &[SocketAddr::new(office, HTTP + 1)]).unwrap();
    for (victim, other) in [(0, 1), (1, 0)] {
        wait_for_site(&gateway, office);
        gateway.lab.blackhole(victim).unwrap();
        gateway.wait_for_uplinks(&[other]);
        wait_for_site(&gateway, office);
        gateway.lab.restore(victim).unwrap();
        gateway.wait_for_uplinks(&[0, 1]);
    }
}

/// Waits until each flow to the office is answered; the office sees the clients' own addresses.
fn wait_for_site(gateway: &Gateway, office: IpAddr) {
    let server = SocketAddr::new(office, HTTP + 1);
    let kinds = Protocol::ALL.map(|protocol| {
        let source = plan::client(Family::V4, 0);
        (0..5).map(move |_| FlowSpec { protocol, source, server })
    });
    let flows: Vec<_> = kinds.into_iter().flatten().collect();
    wait::until("answers of the office", LIMIT, || {
        let seen = gateway.try_open(&flows);
        let as_themselves = |seen: &linkbal_lab::traffic::FlowResult| {
            seen.peer.is_some_and(|peer| peer.ip() == plan::client(Family::V4, 0))
        };
        Ok(seen.iter().all(as_themselves).then_some(()))
    })
    .unwrap();
}
