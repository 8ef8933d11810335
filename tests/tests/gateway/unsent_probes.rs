//! Probes that cannot be sent: the fault is this machine's, and no uplink's.

use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::Value;

use crate::descriptors::{fill_table, limit_files};
use crate::fixture::{FAMILIES, Gateway, LIMIT, states, uplink_status, with_tcp_targets};

#[test]
fn probes_that_cannot_be_sent_are_reported_and_take_no_uplink_down() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, with_tcp_targets);
    let unprobed = |status: &Value| {
        let told = status["refused"].as_object().unwrap().len() == 4;
        told && ["isp-a", "isp-b"].iter().all(|name| {
            FAMILIES.iter().all(|family| {
                uplink_status(status, name)[family]["reason"]
                    .as_str()
                    .is_some_and(|text| text.contains("not probed") && text.contains("os error 24"))
            })
        })
    };
    let status = wait::until("all uplinks unprobed", LIMIT, || {
        // A probe that was under way may have left its number free.
        fill_table(&gateway);
        Ok(gateway.daemon.status().ok().filter(unprobed))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    assert_eq!(["isp-a", "isp-b"].map(|name| states(&status, name)), [["up", "up"]; 2]);
    assert!(uplink_status(&status, "isp-a")["ipv6"]["not_probed_since"].is_string(), "{status}");
    // The kernel still reports the carrier.
    gateway.lab.cut_cable(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    gateway.lab.plug_cable(0).unwrap();

    limit_files(&gateway, 4096);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let all_probed = |status: &Value| status["refused"].as_object().unwrap().is_empty();
    gateway.daemon.wait_for("all uplinks probed", LIMIT, all_probed).unwrap();
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events: Vec<Value> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let told = |to: &str| {
        let to = |event: &&Value| event["kind"] == "trouble" && event["to"] == to;
        events.iter().filter(to).count()
    };
    assert!(told("refused") >= 4 && told("granted") >= 4, "{events:#?}");
    let blamed = |event: &&Value| {
        event["kind"] == "uplink" && event["uplink"] == "isp-b" && event["to"] == "down"
    };
    assert!(!events.iter().any(|event| blamed(&event)), "{events:#?}");
}

/// Checks that probes that the machine's own firewall drops are not taken for a fault of the line.
#[test]
fn probes_that_the_local_firewall_drops_take_no_uplink_down() {
    let mut gateway = Gateway::pair();
    let drop = "table inet strict { chain output { type filter hook output priority 0; \
                icmp type echo-request drop; icmpv6 type echo-request drop; }\n}\n";
    gateway.lab.gateway.load_nft(drop).unwrap();
    let told = |status: &Value| status["refused"].as_object().unwrap().len() == 4;
    let status = gateway.daemon.wait_for("probes refused", LIMIT, told).unwrap();
    assert_eq!(["isp-a", "isp-b"].map(|name| states(&status, name)), [["up", "up"]; 2]);
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "strict"]).unwrap();
    let probed = |status: &Value| status["refused"].as_object().unwrap().is_empty();
    gateway.daemon.wait_for("probes sent", LIMIT, probed).unwrap();
    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
}
