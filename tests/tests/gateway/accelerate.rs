//! Shortcuts: packets of established flows pass the gateway without the kernel's forwarding, which
//! keeps its say about them.

mod changes;
mod kinds;
mod obstacles;
mod streams;
mod teardown;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sys::signal::Signal;

use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, assert_undisturbed, linkbal, linkbal_with, text, with_key};
use crate::kernel;
use crate::shortcuts::{
    accelerated, taken_by, wait_for_answers, wait_for_none, wait_for_shortcuts,
};

fn start() -> Gateway {
    Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), accelerated)
}

pub(crate) fn nft(gateway: &Namespace, script: &str) {
    gateway.run_with_input("nft", &["-f", "-"], script).unwrap();
}

#[test]
fn established_flows_take_shortcuts_both_ways_and_nothing_is_lost() {
    let mut gateway = start();
    let tracking = |gateway: &Gateway| {
        let names = ["be_liberal", "ignore_invalid_rst", "timeout_unacknowledged"];
        let value = |name| format!("net.netfilter.nf_conntrack_tcp_{name}");
        names.map(|name| gateway.lab.gateway.sysctl(&value(name)).unwrap())
    };
    assert_eq!(tracking(&gateway), ["1", "1", "7440"]);
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 500);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
    let counted = gateway.daemon.status().unwrap()["shortcuts"].clone();
    let counted = ["up", "down"].map(|way| counted[way].as_u64().unwrap());
    assert!(counted.iter().all(|packets| *packets >= 1000), "{counted:?}");
    // Idle connections live long, though connection tracking takes their data for unacknowledged.
    let tracked = gateway.lab.gateway.run("conntrack", &["-L", "-p", "tcp"]).unwrap();
    let established = || tracked.lines().filter(|line| line.contains("ESTABLISHED"));
    let seconds = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap();
    assert!(established().count() > 0);
    assert!(established().all(|line| seconds(line) > 7000), "{tracked}");
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    assert_eq!(tracking(&gateway), ["0", "0", "300"]);
}

/// Checks that the administrator's firewall has its say about flows that have begun, each way.
#[test]
fn a_drop_rule_ends_shortcuts_and_they_come_back_without_it() {
    let gateway = start();
    let flows = gateway.long_flows(10);
    for (way, interface) in [(0, "iifname"), (1, "oifname")] {
        wait_for_shortcuts(&gateway, 200);
        nft(
            &gateway.lab.gateway,
            &format!(
                "table inet admin {{\n\
                 chain forward {{\n\
                 type filter hook forward priority filter\n\
                 {interface} \"lan0\" meta l4proto {{ tcp, udp }} drop\n\
                 }}\n}}\n"
            ),
        );
        wait_for_none(&gateway, &flows, way);
        nft(&gateway.lab.gateway, "delete table inet admin");
        wait_for_answers(&flows);
    }
    wait_for_shortcuts(&gateway, 200);
}

#[test]
fn flows_outlive_the_deletion_of_all_tracked_connections() {
    let gateway = start();
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    gateway.lab.gateway.run("conntrack", &["-F"]).unwrap();
    wait_for_answers(&flows);
    wait_for_shortcuts(&gateway, 200);
    wait_for_answers(&flows);
    // One packet a second keeps the new entries alive.
    let tracked = kernel::tracked(&gateway.lab.gateway, Family::V4, "udp").len();
    assert!(tracked >= 10, "{tracked}");
}

/// Checks that a router that is replaced gets the packets, as soon as the kernel knows its address.
#[test]
fn shortcuts_follow_the_address_of_a_new_router() {
    let gateway = start();
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    let mac = "02:00:00:00:77:01";
    let provider = &gateway.lab.uplinks[0].provider;
    provider.run("ip", &["link", "set", "cust0", "address", mac]).unwrap();
    for family in Family::ALL {
        let router = plan::nexthop(family, 0).to_string();
        let known = ["neighbor", "replace", &router, "lladdr", mac, "dev", "wan-a"];
        gateway.lab.gateway.run("ip", &known).unwrap();
    }
    wait_for_answers(&flows);
    wait_for_shortcuts(&gateway, 200);
    wait_for_answers(&flows);
}

/// Checks packets that get a link-layer header, and that lose it.
#[test]
fn flows_take_shortcuts_by_a_point_to_point_uplink() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.route_pool(0).unwrap();
    lab.gateway.run("ip", &["link", "delete", "wan-a"]).unwrap();
    let _line = lab.dial(0, "ppp0", plan::pool(0, 7), plan::pool(0, 1)).unwrap();
    let gateway = Gateway::start(lab, |config| {
        let config = accelerated(config).replace("\"wan-a\"", "\"ppp0\"");
        let config = with_key(&config, "isp-a", "ipv6 = \"off\"");
        with_key(&config, "isp-b", "tier = 2")
    });
    let flows = gateway.long_flows(10);
    let used = flows.reports().iter().filter(|flow| flow.uplink() == Some(0)).count();
    assert_eq!(used, 20, "those of IPv4");
    // More than those of IPv6, which use the other uplink.
    wait_for_shortcuts(&gateway, 500);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
}

#[test]
fn an_uplink_may_be_left_out() {
    let gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), |config| {
        with_key(&accelerated(config), "isp-a", "accelerate = false")
    });
    let flows = gateway.long_flows(10);
    assert!(flows.reports().iter().any(|flow| flow.uplink() == Some(0)));
    wait_for_shortcuts(&gateway, 200);
    let by = taken_by(&gateway);
    assert!(by[0] == [0, 0] && by[1][0] > 0, "{by:?}");
}

/// Checks that a kernel without flowtables loses nothing but them, and says so.
#[test]
fn a_kernel_without_flowtables_forwards_as_ever_and_says_so() {
    let mut gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), |config| {
        accelerated(config).replace("\"ebpf\"", "\"flowtable\"")
    });
    let tried = "table inet tried {\nflowtable t {\nhook ingress priority 0\n}\n}\n";
    let exist = gateway.lab.gateway.run_with_input("nft", &["-c", "-f", "-"], tried).is_ok();
    let table = "nft table inet linkbal_flowtable";
    let flows = gateway.long_flows(10);
    let before = flows.reports();
    wait::until("the flowtable, or its refusal", LIMIT, || {
        let status = gateway.daemon.status()?;
        let tables = gateway.lab.gateway.run("nft", &["list", "tables"])?;
        let refused = status["refused"][table].as_str().unwrap_or_default();
        assert!(tables.contains("table inet linkbal\n"), "{tables}");
        let expected = if exist {
            tables.contains("linkbal_flowtable") && refused.is_empty()
        } else {
            !tables.contains("linkbal_flowtable") && refused.contains("CONFIG_NF_FLOW_TABLE")
        };
        Ok(expected.then_some(()))
    })
    .unwrap();
    assert_undisturbed(&flows, &before, 40, |_| true);
    let path = gateway.daemon.config_path();
    let checked = linkbal_with(&gateway.lab, "check", &path);
    let machine = ["check", "--machine", "--config", &path.to_string_lossy()];
    let machine = linkbal(&gateway.lab, &machine);
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(text(&machine.stderr).contains("take no shortcuts"), !exist, "{machine:?}");
    gateway.daemon.check_running().unwrap();
}
