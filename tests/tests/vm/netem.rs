//! Lines with much delay, loss or jitter, which alone is no reason to give them up.

use linkbal_lab::topology::Lab;
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, uplink_status};
use crate::lines::{PROVIDER, equal_lab};

/// Number of packets of a line after which its verdict is checked: each round of probes has four
/// answers.
const LONG_ENOUGH: u64 = 400;

/// Impairs the packets of the provider's interface towards its customer, by netem.
fn impair(lab: &Lab, uplink: usize, how: &str) {
    let words = format!("qdisc replace dev {PROVIDER} root netem {how}");
    let words: Vec<_> = words.split(' ').collect();
    lab.uplinks[uplink].provider.run("tc", &words).unwrap();
}

/// Waits until `count` more packets came through.
fn wait_for_packets(lab: &Lab, uplink: usize, count: u64) {
    let args = ["-s", "-j", "qdisc", "show", "dev", PROVIDER];
    let carried = || -> anyhow::Result<u64> {
        let shown: Value = serde_json::from_str(&lab.uplinks[uplink].provider.run("tc", &args)?)?;
        Ok(shown[0]["packets"].as_u64().unwrap_or(0))
    };
    let first = carried().unwrap();
    wait::until("packets through the line", 2 * LIMIT, || {
        Ok((carried()? >= first + count).then_some(()))
    })
    .unwrap();
}

fn events(gateway: &Gateway) -> String {
    gateway.daemon.run(&["events"]).unwrap()
}

/// Waits until isp-a is degraded or not, in both families.
fn wait_for_degraded(gateway: &mut Gateway, wanted: bool) -> Value {
    let what = if wanted { "isp-a degraded" } else { "isp-a good" };
    let reached = |status: &Value| {
        let isp = uplink_status(status, "isp-a");
        isp["ipv4"]["degraded"] == wanted && isp["ipv6"]["degraded"] == wanted
    };
    gateway.daemon.wait_for(what, LIMIT, reached).unwrap()
}

#[test]
fn a_satellite_uplink_does_not_flap() {
    let lab = equal_lab();
    impair(&lab, 0, "delay 700ms 150ms");
    let gateway = Gateway::start(lab, str::to_owned);
    let before = events(&gateway);
    wait_for_packets(&gateway.lab, 0, LONG_ENOUGH);
    let after = events(&gateway);
    let fallen: Vec<_> = after.lines().filter(|line| !before.contains(*line)).collect();
    let fallen = fallen.iter().find(|line| line.contains("uplink isp-a"));
    assert_eq!(fallen, None, "the verdict fell although the line only is long");
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["state"], "up");
}

#[test]
fn an_uplink_with_30_percent_loss_is_degraded_by_its_limits() {
    let limits = "limits = { loss = \"10%\" }\nfailure_count = 10\n";
    let mut gateway = Gateway::start(equal_lab(), |config| config.to_owned() + limits);
    impair(&gateway.lab, 0, "loss 30%");
    let status = wait_for_degraded(&mut gateway, true);
    assert_eq!(uplink_status(&status, "isp-a")["state"], "up");
    gateway.wait_for_uplinks(&[1]);
    let told = events(&gateway);
    assert!(told.contains("uplink isp-a ipv4: good -> degraded: loss "), "{told}");
    assert!(!told.contains("uplink isp-a ipv4: up -> down"), "{told}");
    impair(&gateway.lab, 0, "loss 0%");
    wait_for_degraded(&mut gateway, false);
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn an_uplink_with_total_loss_is_down() {
    let mut gateway = Gateway::start(equal_lab(), str::to_owned);
    impair(&gateway.lab, 0, "loss 100%");
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    impair(&gateway.lab, 0, "loss 0%");
    gateway.daemon.wait_until_up(LIMIT).unwrap();
}

#[test]
fn an_uplink_with_jitter_is_degraded_by_its_limits() {
    let limits = "limits = { jitter = \"150ms\" }\n";
    let mut gateway = Gateway::start(equal_lab(), |config| config.to_owned() + limits);
    impair(&gateway.lab, 0, "delay 500ms 450ms");
    let status = wait_for_degraded(&mut gateway, true);
    assert_eq!(uplink_status(&status, "isp-a")["state"], "up");
    let told = events(&gateway);
    assert!(told.contains("uplink isp-a ipv4: good -> degraded: jitter "), "{told}");
}
