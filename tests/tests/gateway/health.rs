//! Signs besides lost probes: saturated, silent and bad uplinks.

use std::time::Duration;

use linkbal_lab::namespace::Process;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, is_udp, on, uplink_status, wait_for_move};

/// Number of long flows of each of the four kinds.
const FLOWS: usize = 50;

fn equal_uplinks(tune: impl FnOnce(&str) -> String) -> Gateway {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    Gateway::start(Lab::new(&specs).unwrap(), tune)
}

fn events(gateway: &Gateway) -> String {
    gateway.daemon.run(&["events"]).unwrap()
}

/// Starts uploads by TCP and, in packets as small as probes, by UDP with 6 Mbit/s of payload (14
/// Mbit/s on the line), through whichever uplinks the flows take.
fn load(gateway: &Gateway, seconds: &str) -> Vec<Process> {
    let server = plan::server(Family::V4, 0).to_string();
    let lab = &gateway.lab;
    let spawn = |ports: &str, args: &[&str]| {
        let server_args = ["-s", "-1", "-p", ports];
        let serving = lab.net.spawn(lab.net.command("iperf3").args(server_args)).unwrap();
        let client = || {
            let mut command = lab.lan.command("iperf3");
            command.args(["-c", &server, "-p", ports, "-t", seconds]).args(args);
            lab.lan.spawn(&mut command)
        };
        // The client ends at once if no server listens yet.
        let running = wait::until("iperf3", LIMIT, || {
            let listening = lab.net.run("ss", &["-Hltn", &format!("sport = :{ports}")])?;
            Ok(if listening.is_empty() { None } else { Some(client()?) })
        });
        [serving, running.unwrap()]
    };
    let tcp = spawn("5301", &["-P", "16"]);
    let udp = spawn("5302", &["-u", "-b", "2M", "-P", "3", "-l", "32"]);
    tcp.into_iter().chain(udp).collect()
}

#[test]
fn a_saturated_uplink_never_goes_down() {
    let gateway = equal_uplinks(str::to_owned);
    for uplink in ["wan-a", "wan-b"] {
        let shape = format!("qdisc add dev {uplink} root tbf rate 5mbit burst 5kb limit 15kb");
        let shape: Vec<&str> = shape.split(' ').collect();
        gateway.lab.gateway.run("tc", &shape).unwrap();
    }
    gateway.wait_for_uplinks(&[0, 1]);
    let before = events(&gateway);
    let mut load = load(&gateway, "60");
    assert!(load[1].wait(LIMIT + Duration::from_secs(60)).unwrap().success());
    assert_eq!(events(&gateway), before, "a verdict fell");
    let shapers = gateway.lab.gateway.run("tc", &["-s", "qdisc", "show"]).unwrap();
    let idle = "(dropped 0, ";
    let full =
        shapers.split("qdisc ").filter(|each| each.starts_with("tbf") && !each.contains(idle));
    assert_eq!(full.count(), 2, "the lines were not saturated:\n{shapers}");
}

#[test]
fn a_black_hole_under_load_is_suspected_by_the_traffic() {
    let mut gateway = equal_uplinks(|config| config.to_owned() + "interval = \"1h\"\n");
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    gateway.lab.blackhole(0).unwrap();
    // The next regular round is an hour away.
    gateway.wait_until_down(0);
    wait_for_move(&flows, &before, |report| is_udp(report) && on(0)(report), 1);
    let events = events(&gateway);
    assert!(!events.contains("uplink isp-b ipv4: up -> down"), "{events}");
}

#[test]
fn an_unreachable_gateway_is_detected_by_neighbour_discovery_before_probes() {
    // By probes alone this would take more than half an hour.
    let mut gateway =
        equal_uplinks(|config| config.to_owned() + "interval = \"2s\"\nfailure_count = 1000\n");
    gateway.lab.silence_nexthop(0).unwrap();
    gateway.wait_until_down(0);
    let events = events(&gateway);
    for (family, nexthop) in [("ipv4", Family::V4), ("ipv6", Family::V6)] {
        let nexthop = plan::nexthop(nexthop, 0);
        let told = format!(
            "isp-a {family}: up -> down: the gateway {nexthop} is not found on the link, and"
        );
        assert!(events.contains(&told), "{events}");
    }
    assert!(!events.contains("uplink isp-b ipv4: up -> down"), "{events}");
    gateway.lab.restore_nexthop(0).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn an_uplink_that_loses_too_much_is_avoided_and_not_taken_down() {
    // Three of ten packets are lost: now and then in three rounds in a row.
    let limits = "limits = { loss = \"10%\" }\nfailure_count = 10\n";
    let tune = |config: &str| config.to_owned() + limits;
    let mut gateway = equal_uplinks(tune);
    gateway.lab.brown_out(0).unwrap();
    let is_degraded = |status: &serde_json::Value| {
        let isp = uplink_status(status, "isp-a");
        isp["ipv4"]["degraded"] == true && isp["ipv6"]["degraded"] == true
    };
    let status = gateway.daemon.wait_for("isp-a degraded", LIMIT, is_degraded).unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["state"], "up");
    gateway.wait_for_uplinks(&[1]);
    let told = events(&gateway);
    assert!(told.contains("uplink isp-a ipv4: good -> degraded: loss "), "{told}");
    assert!(!told.contains("-> down"), "{told}");
    gateway.lab.restore(0).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}
