//! Changes that others make in the kernel: they are followed, or repaired.

use linkbal_lab::topology::plan::Family;
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, uplink_status};
use crate::kernel;

/// The routing table of the first uplink.
const TABLE: u32 = 2601;

fn ip(gateway: &Gateway, command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    gateway.lab.gateway.run("ip", &words).unwrap();
}

fn wait_for(gateway: &Gateway, what: &str, condition: impl Fn() -> bool) {
    wait::until(what, LIMIT, || Ok(condition().then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
}

#[test]
fn deleted_rules_and_routes_come_back() {
    let gateway = Gateway::pair();
    let namespace = &gateway.lab.gateway;
    // The kernel lists rules of the same priority in the order of their creation.
    let rules = || {
        let mut lines: Vec<_> = kernel::rules(namespace).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = rules();
    let routes = || Family::ALL.map(|family| kernel::routes(namespace, family, TABLE));
    let before = routes();
    for family in ["-4", "-6"] {
        for priority in ["26000", "26001", "26004", "26010", "26100", "26110", "26199"] {
            ip(&gateway, &format!("{family} rule delete pref {priority}"));
            wait_for(&gateway, "all rules", || rules() == all);
        }
        ip(&gateway, &format!("{family} route flush table {TABLE}"));
        wait_for(&gateway, "all routes", || routes() == before);
    }
    gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn another_gateway_in_the_main_table_is_taken_over() {
    let gateway = Gateway::pair();
    let provider = &gateway.lab.uplinks[0].provider;
    for (family, address, length) in
        [(Family::V4, "192.0.2.250", 32), (Family::V6, "2001:db8:a::250", 64)]
    {
        let flag = family.flag();
        let own = format!("{address}/{length}");
        let added = ["address", "add", &own, "dev", "cust0"];
        provider.run("ip", &added).unwrap();
        let on = "dev wan-a onlink proto dhcp metric 100";
        ip(&gateway, &format!("{flag} route delete default dev wan-a"));
        ip(&gateway, &format!("{flag} route add default via {address} {on}"));
        wait_for(&gateway, "the new gateway in the uplink's table", || {
            let routes = kernel::routes(&gateway.lab.gateway, family, TABLE);
            routes.as_array().unwrap().iter().any(|route| route["gateway"] == address)
        });
        gateway.wait_for_uplinks_of(family, &[0, 1]);
    }
    let status = gateway.daemon.status().unwrap();
    let uplink = uplink_status(&status, "isp-a");
    assert_eq!(uplink["ipv4"]["gateway"], "192.0.2.250");
    assert_eq!(uplink["ipv6"]["gateway"], "2001:db8:a::250");
}

#[test]
fn an_added_address_leaves_by_its_own_uplink() {
    let gateway = Gateway::pair();
    for address in ["203.0.113.200/32", "2001:db8:a::200/128"] {
        ip(&gateway, &format!("address add {address} dev wan-a"));
        let rule = format!("from {} lookup {TABLE}", address.split('/').next().unwrap());
        let has_rule = || kernel::rules(&gateway.lab.gateway).contains(&rule);
        wait_for(&gateway, &rule, has_rule);
        ip(&gateway, &format!("address delete {address} dev wan-a"));
        wait_for(&gateway, "no more of that rule", || !has_rule());
    }
}

#[test]
fn a_strict_rp_filter_is_switched_off_again() {
    let gateway = Gateway::pair();
    let namespace = &gateway.lab.gateway;
    let key = "net.ipv4.conf.wan-a.rp_filter";
    assert_eq!(namespace.sysctl(key).unwrap(), "0");
    namespace.set_sysctl(key, "1").unwrap();
    // The kernel does not report changes of sysctls: the regular comparison finds them.
    wait_for(&gateway, "no source check", || namespace.sysctl(key).unwrap() == "0");
    gateway.assert_uplinks(20, &[0, 1]);
}
