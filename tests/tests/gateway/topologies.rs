//! Unusual ways to be connected.

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};

use crate::fixture::{
    Gateway, assert_undisturbed, is_udp, on, uplink_status, wait_for_move, with_key,
};

#[test]
fn two_uplinks_may_have_the_same_gateway_address() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    for (index, uplink) in lab.uplinks.iter().enumerate() {
        uplink
            .provider
            .ip_batch(
                "address add 192.0.2.254/32 dev cust0\naddress add fe80::1/64 dev cust0 nodad\n",
            )
            .unwrap();
        let interface = &uplink.spec.interface;
        let on = format!("dev {interface} onlink proto dhcp metric {}", 100 * (index + 1));
        for family in Family::ALL {
            let delete = [family.flag(), "route", "delete", "default", "dev", interface];
            lab.gateway.run("ip", &delete).unwrap();
        }
        let lines = format!(
            "route add default via 192.0.2.254 {on}\n\
             route add default via fe80::1 {on}\n"
        );
        lab.gateway.ip_batch(&lines).unwrap();
    }
    let mut gateway = Gateway::start(lab, str::to_owned);
    let status = gateway.daemon.status().unwrap();
    for name in ["isp-a", "isp-b"] {
        let uplink = uplink_status(&status, name);
        assert_eq!(uplink["ipv4"]["gateway"], "192.0.2.254");
        assert_eq!(uplink["ipv6"]["gateway"], "fe80::1");
    }
    assert_share(&gateway);
    assert_survives_a_black_hole(&mut gateway);
}

#[test]
fn two_providers_may_share_one_interface() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let hub = put_on_one_hub(&lab);
    let mut gateway = Gateway::start(lab, share_wan_a);
    assert_share(&gateway);
    assert_survives_a_black_hole(&mut gateway);
    drop(gateway);
    drop(hub);
}

/// Puts both uplinks of a configuration on `wan-a`.
pub(crate) fn share_wan_a(config: &str) -> String {
    let shared = config.replace("\"wan-b\"", "\"wan-a\"");
    (0..2).fold(shared, |config, index| {
        let [ipv4, ipv6] = Family::ALL.map(|family| plan::nexthop(family, index));
        let gateway = format!("gateway = {{ ipv4 = \"{ipv4}\", ipv6 = \"{ipv6}\" }}");
        with_key(&config, ["isp-a", "isp-b"][index], &gateway)
    })
}

/// Connects the gateway's `wan-a` and both providers by a bridge, in place of a link for each.
pub(crate) fn put_on_one_hub(lab: &Lab) -> Namespace {
    let hub = Namespace::new("hub").unwrap();
    lab.gateway.ip_batch("link delete wan-a\nlink delete wan-b\n").unwrap();
    let mut bridge = String::from("link add br0 type bridge\nlink set br0 up\n");
    let peers = [
        ("wan-a", lab.gateway.name()),
        ("cust0", lab.uplinks[0].provider.name()),
        ("cust0", lab.uplinks[1].provider.name()),
    ];
    for (number, (interface, namespace)) in peers.into_iter().enumerate() {
        let port = format!("port{number}");
        bridge += &format!(
            "link add {port} type veth peer name {interface} netns {namespace}\n\
             link set {port} master br0\nlink set {port} up\n"
        );
    }
    hub.ip_batch(&bridge).unwrap();
    let mut gateway = String::from("link set wan-a up\n");
    for (index, uplink) in lab.uplinks.iter().enumerate() {
        let mut provider = String::from("link set cust0 up\n");
        for (family, rest) in Family::ALL.into_iter().zip(["/30", "/64"]) {
            let nodad = if family == Family::V6 { " nodad" } else { "" };
            let own = plan::uplink_address(family, index);
            gateway += &format!("address add {own}{rest} dev wan-a{nodad}\n");
            let nexthop = plan::nexthop(family, index);
            provider += &format!("address add {nexthop}{rest} dev cust0{nodad}\n");
        }
        uplink.provider.ip_batch(&provider).unwrap();
    }
    lab.gateway.ip_batch(&gateway).unwrap();
    hub
}

/// Checks that both uplinks carry their share in both families; wide limits, for few flows.
fn assert_share(gateway: &Gateway) {
    for family in Family::ALL {
        let flows = FlowSpec::spread(family, Protocol::Udp, HTTP, 400);
        let counts = gateway.open(&flows);
        // 120 are expected, and 5 sigma are 46.
        assert!((74..=166).contains(&counts[0]), "{family}: {counts:?}");
    }
}

/// Checks that traffic survives if the second uplink dies behind its interface, which stays up, and
/// comes back.
fn assert_survives_a_black_hole(gateway: &mut Gateway) {
    let flows = gateway.long_flows(10);
    let before = flows.reports();
    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    gateway.assert_uplinks(20, &[0]);
    assert_undisturbed(&flows, &before, 4, on(0));
    wait_for_move(&flows, &before, |report| is_udp(report) && on(1)(report), 0);
    gateway.lab.restore(1).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}
