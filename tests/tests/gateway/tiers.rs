//! Uplinks of a higher tier, which wait until all of the lower one are down.

use linkbal_lab::topology::{Lab, UplinkSpec};

use crate::fixture::{Gateway, assert_undisturbed, uplink_status, with_key};

#[test]
fn the_second_tier_carries_flows_only_while_the_first_is_down() {
    let [a, b] = UplinkSpec::pair();
    let lab = Lab::new(&[a, b, UplinkSpec::new("lte", "wan-c", 10)]).unwrap();
    let mut gateway = Gateway::start(lab, |config| with_key(config, "lte", "tier = 2"));
    gateway.assert_uplinks(100, &[0, 1]);

    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.assert_uplinks(100, &[1]);
    assert_eq!(gateway.counted_flows()[2], 0);

    gateway.lab.cut_cable(1).unwrap();
    let status = gateway.wait_until_down(1);
    assert_eq!(uplink_status(&status, "lte")["target_share"], 1.0);
    let instead_of = ["isp-a", "isp-b"]
        .map(|uplink| serde_json::json!({"uplink": uplink, "tier": 1, "state": "down"}));
    let families = ["ipv4", "ipv6"];
    let fallback = serde_json::json!([{"families": families, "tier": 2, "instead_of": instead_of}]);
    assert_eq!(status["fallbacks"], fallback);
    let shown = gateway.daemon.run(&["status"]).unwrap();
    let said = "isp-a (tier 1) is down, isp-b (tier 1) is down: new flows use tier 2\n";
    assert!(shown.contains(said), "{shown}");
    gateway.assert_uplinks(100, &[2]);

    let flows = gateway.long_flows(25);
    let before = flows.reports();
    assert!(before.iter().all(|report| report.uplink() == Some(2)));
    gateway.lab.plug_cable(0).unwrap();
    gateway.wait_for_uplinks(&[0]);
    assert_undisturbed(&flows, &before, 100, |_| true);
    gateway.assert_uplinks(100, &[0]);
}
