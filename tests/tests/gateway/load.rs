//! New flows, which leave a line that is full, and come back when it has room.

use std::process::Stdio;

use linkbal_lab::namespace::Process;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};
use serde_json::Value;

use crate::applications::server::{Server, iperf3};
use crate::fixture::{Gateway, LIMIT, assert_undisturbed, on, uplink_status, with_key};

const PORT: u16 = 5201;
/// Capacity of the shaped line, in Mbit/s.
const CAPACITY: u64 = 10;

/// Traffic on the first uplink, until it is dropped: more than half of the line's capacity, but not
/// so much that probes are lost.
struct Upload {
    _client: Process,
    _server: Server,
}

impl Upload {
    fn start(lab: &Lab) -> Self {
        let server = iperf3(&lab.net, PORT);
        let mut command = lab.lan.command("iperf3");
        command.args(["--client", &plan::server(Family::V4, 0).to_string()]);
        command.args(["--port", &PORT.to_string(), "--time", "600", "--bitrate", "8M"]);
        // Small pieces: a burst would overflow the bucket's queue, and other flows would lose
        // packets.
        command.args(["--length", "4K"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { _client: lab.lan.spawn(&mut command).unwrap(), _server: server }
    }
}

/// Starts a gateway with two uplinks. The first one has a token bucket of [`CAPACITY`], spills over
/// at half of that, and gets all uploads; `second` is a line of the other one's section.
fn start(second: &str) -> Gateway {
    start_with("spillover = 0.5", second, "")
}

fn start_with(first: &str, second: &str, rest: &str) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let rate = format!("{CAPACITY}mbit");
    let shape = ["qdisc", "add", "dev", "wan-a", "root", "tbf", "rate", &rate];
    lab.gateway.run("tc", &[&shape[..], &["burst", "16k", "latency", "500ms"]].concat()).unwrap();
    Gateway::start(lab, |config| {
        let first = format!("capacity = \"{CAPACITY}mbit\"\n{first}");
        let config = with_key(&with_key(config, "isp-a", &first), "isp-b", second);
        format!("{config}\n[[rule]]\nmatch = {{ dport = {PORT} }}\nuse = \"isp-a\"\n{rest}")
    })
}

fn wait_for_full(gateway: &mut Gateway, full: bool) -> Value {
    let what = format!("isp-a full: {full}");
    let reached = |status: &Value| uplink_status(status, "isp-a")["load"]["full"] == full;
    gateway.daemon.wait_for(&what, LIMIT, reached).unwrap()
}

/// Checks that new flows, which used `uplinks`, use the second one alone while an upload fills the
/// first one, and that existing flows stay.
fn check_spillover(mut gateway: Gateway, uplinks: &[usize]) {
    gateway.assert_uplinks(50, uplinks);
    let flows = gateway.long_flows(10);
    let before = flows.reports();
    assert!(before.iter().any(on(0)));

    let upload = Upload::start(&gateway.lab);
    let status = wait_for_full(&mut gateway, true);
    let load = &uplink_status(&status, "isp-a")["load"];
    assert_eq!(load["capacity"]["up"], CAPACITY * 1_000_000);
    let up = load["up"].as_u64().unwrap();
    assert!((CAPACITY * 500_000..CAPACITY * 1_100_000).contains(&up), "{up}");
    assert_eq!(uplink_status(&status, "isp-b")["target_share"], 1.0);
    gateway.assert_uplinks(50, &[1]);
    assert_undisturbed(&flows, &before, 40, |_| true);
    let text = gateway.daemon.run(&["status"]).unwrap();
    assert!(text.contains("it is full: new flows avoid it"), "{text}");

    drop(upload);
    wait_for_full(&mut gateway, false);
    gateway.assert_uplinks(50, uplinks);
    assert_undisturbed(&flows, &before, 40, |_| true);
    let events = gateway.daemon.run(&["events"]).unwrap();
    for change in ["room -> full", "full -> room"] {
        let text = format!("uplink isp-a: {change}: ");
        assert_eq!(events.matches(&text).count(), 1, "{events}");
    }
}

#[test]
fn a_full_uplink_spills_over_into_the_next_tier() {
    check_spillover(start("tier = 2"), &[0]);
}

#[test]
fn a_full_uplink_leaves_new_flows_to_the_others_of_its_tier() {
    check_spillover(start("tier = 1"), &[0, 1]);
}

#[test]
fn adaptive_weights_send_new_flows_to_the_uplink_with_capacity_left() {
    let mut gateway = start_with("", "", "[balance]\nadaptive = true\n");
    let upload = Upload::start(&gateway.lab);
    let wanted = |status: &Value| uplink_status(status, "isp-a")["target_share"].as_f64().unwrap();
    // 30 and 70 as long as both have room; with 80 % of the first one in use 6 and 70.
    let what = "a share that follows the load";
    let status = gateway.daemon.wait_for(what, LIMIT, |status| wanted(status) < 0.12).unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["load"]["full"], false, "it has no spillover");
    let flows: Vec<_> = (0..400)
        .map(|n| FlowSpec::new(Family::V4, Protocol::Udp, n, 7 * n + n / 100, HTTP))
        .collect();
    let counts = gateway.open(&flows);
    assert!((1..80).contains(&counts[0]), "{counts:?}, where the weights alone would say 120");

    drop(upload);
    let back = |status: &Value| (wanted(status) - gateway.lab.share(0)).abs() < 0.02;
    gateway.daemon.wait_for("the configured share", LIMIT, back).unwrap();
}
