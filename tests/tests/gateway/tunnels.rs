//! A tunnel as the best uplink: its outer packets use the lines, and fail over with them.

use std::net::IpAddr;

use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, uplink_status, with_key};

/// The tunnel's interface, at both ends.
pub(crate) const TUNNEL: &str = "tun0";
/// Number of the tunnel among the uplinks of the address plan.
const VPN: usize = 2;
/// Number of the server that is the tunnel's other end.
const END: usize = 8;

/// Returns the address of the tunnel's other end, on the far side of both providers.
pub(crate) fn endpoint(family: Family) -> IpAddr {
    plan::server(family, END)
}

/// Gives the ends of a tunnel their addresses.
fn address(lab: &Lab, inner: Family) {
    let length = if inner == Family::V4 { 30 } else { 64 };
    let (own, far) = (plan::uplink_address(inner, VPN), plan::nexthop(inner, VPN));
    let nodad = if inner == Family::V6 { " nodad" } else { "" };
    lab.gateway
        .ip_batch(&format!(
            "address add {own}/{length} dev {TUNNEL}{nodad}\nlink set {TUNNEL} up\n\
             route add default via {far} dev {TUNNEL} metric 50\n"
        ))
        .unwrap();
    lab.net
        .ip_batch(&format!(
            "address add {far}/{length} dev {TUNNEL}{nodad}\nlink set {TUNNEL} up\n"
        ))
        .unwrap();
}

/// Returns the interface by which packets reach the tunnel's other end.
fn device_of_route(gateway: &Gateway, outer: Family, more: &[&str]) -> String {
    let to = endpoint(outer).to_string();
    let asked = [&["route", "get", to.as_str()], more].concat();
    let route = oracle::ip_json(&gateway.lab.gateway, &asked).unwrap();
    route[0]["dev"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn wait_for_route(gateway: &Gateway, outer: Family, device: &str) {
    let what = format!("outer packets by {device}");
    wait::until(&what, LIMIT, || {
        // Independent of the mark of the packet inside.
        let lookups = [&[][..], &["mark", "0x1000000"], &["mark", "0x3000000"]];
        Ok(lookups.iter().all(|more| device_of_route(gateway, outer, more) == device).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
}

/// Lets the far end of a VXLAN learn the address of the near one again. The kernel learns the new
/// address by itself, but keeps the route to the former one (`vxlan_snoop` in drivers/net/vxlan).
fn forget_near_end(lab: &Lab) {
    // Only a VXLAN has such entries.
    let Ok(known) = lab.net.run("bridge", &["-j", "fdb", "show", "dev", TUNNEL]) else { return };
    let known: Value = serde_json::from_str(&known).unwrap();
    for entry in known.as_array().unwrap() {
        if let (Some(mac), Some(end)) = (entry["mac"].as_str(), entry["dst"].as_str()) {
            // The entry may have been learned again meanwhile.
            let _ = lab.net.run("bridge", &["fdb", "del", mac, "dev", TUNNEL, "dst", end]);
        }
    }
}

/// Waits until new flows use the tunnel alone, also those to the tunnel's other end: clients are
/// balanced as always.
pub(crate) fn wait_for_flows(gateway: &Gateway, inner: Family) {
    let mut first = 0;
    wait::until("flows by the tunnel", LIMIT, || {
        let flows: Vec<FlowSpec> = (first..first + 20)
            .map(|n| FlowSpec::new(inner, Protocol::Tcp, n, if n % 2 == 0 { END } else { n }, HTTP))
            .collect();
        first += 20;
        forget_near_end(&gateway.lab);
        let seen = gateway.try_open(&flows);
        Ok(seen.iter().all(|seen| seen.uplink() == Some(VPN)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
}

/// Starts linkbal with the tunnel as the best of three uplinks, and returns when all of them are
/// up.
pub(crate) fn start(inner: Family, outer: Family, make: impl FnOnce(&Lab)) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    make(&lab);
    address(&lab, inner);
    let tune = |config: &str| {
        let config = ["isp-a", "isp-b"]
            .iter()
            .fold(config.to_owned(), |config, name| with_key(&config, name, "tier = 2"));
        let vpn = format!("[uplink.vpn]\ninterface = \"{TUNNEL}\"\n\n[probe]");
        // A tunnel misses the probes that its line loses before that line is down.
        config.replace("[probe]", &vpn) + "failure_count = 5\n"
    };
    let mut gateway = Gateway::start_degraded(lab, tune);
    wait_for_tunnel(&mut gateway, inner, "up");
    for line in 0..2 {
        gateway.wait_for_state(line, word(outer), "up");
    }
    gateway
}

pub(crate) fn word(family: Family) -> &'static str {
    if family == Family::V4 { "ipv4" } else { "ipv6" }
}

pub(crate) fn wait_for_tunnel(gateway: &mut Gateway, inner: Family, state: &str) {
    let reached = |status: &Value| uplink_status(status, "vpn")[word(inner)]["state"] == state;
    gateway.daemon.wait_for(&format!("the tunnel {state}"), LIMIT, reached).unwrap();
}

/// Checks a tunnel while its lines go down, come back, and change their order; `make` creates both
/// ends.
pub(crate) fn assert_follows_uplinks(inner: Family, outer: Family, make: impl FnOnce(&Lab)) {
    let mut gateway = start(inner, outer, make);
    // The line with the higher weight is the better one.
    wait_for_route(&gateway, outer, "wan-b");
    wait_for_flows(&gateway, inner);
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_for_state(1, word(outer), "down");
    wait_for_route(&gateway, outer, "wan-a");
    wait_for_flows(&gateway, inner);
    gateway.lab.restore(1).unwrap();
    gateway.wait_for_state(1, word(outer), "up");
    wait_for_route(&gateway, outer, "wan-b");
    wait_for_flows(&gateway, inner);
    // Another order of the lines, without a restart.
    let path = gateway.daemon.config_path();
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, with_key(&config, "vpn", "over = [\"isp-a\", \"isp-b\"]")).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    wait_for_route(&gateway, outer, "wan-a");
    wait_for_flows(&gateway, inner);
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    for flag in ["-4", "-6"] {
        let rules = oracle::ip_json(&gateway.lab.gateway, &[flag, "rule", "show"]).unwrap();
        let left = rules.as_array().unwrap().iter().filter(|rule| rule["dst"] != Value::Null);
        assert_eq!(left.count(), 0, "{rules}");
        let tables = ["route", "show", "table", "all", "proto", "201"];
        let routes = oracle::ip_json(&gateway.lab.gateway, &[&[flag][..], &tables].concat());
        assert_eq!(routes.unwrap().as_array().unwrap().len(), 0);
    }
}

/// Creates both ends of a VXLAN; the far one learns the address of the near one.
fn vxlan(lab: &Lab, outer: Family) {
    let end = endpoint(outer);
    let common = format!("link add {TUNNEL} type vxlan id 7 dstport 4789");
    lab.gateway.ip_batch(&format!("{common} remote {end}\n")).unwrap();
    lab.net.ip_batch(&format!("{common} local {end}\n")).unwrap();
}

#[test]
fn a_vxlan_uses_the_best_uplink() {
    assert_follows_uplinks(Family::V4, Family::V4, |lab| vxlan(lab, Family::V4));
}

#[test]
fn a_vxlan_over_ipv6_uses_the_best_uplink() {
    assert_follows_uplinks(Family::V6, Family::V6, |lab| vxlan(lab, Family::V6));
}
