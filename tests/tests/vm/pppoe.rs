//! Lines by PPPoE: pppd in the gateway dials an access concentrator of its provider.

pub(crate) mod line;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{BulkServers, FlowReport, FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use self::line::{Client, Concentrator, PPP, advertise, clear, link};
use crate::fixture::{Gateway, LIMIT, is_udp, on, uplink_status, wait_for_move};
use crate::kernel::{fwmark, routes, rules, tracked_by};
use crate::lines::{assert_stay, equal_lab, with_slow_probes};
use crate::shortcuts::accelerated;
use crate::{accelerate, flowtable};

/// The port on which servers send and receive as much as they can, all by the line.
const BULK: u16 = 9000;
/// Number of bytes to transfer: enough for full-size packets, and few enough for a guest without an
/// accelerator.
const BULK_SIZE: usize = 256 << 10;

/// Returns the lab's configuration for a dialled line.
fn dialled(config: &str) -> String {
    let rule = format!("\n[[rule]]\nmatch = {{ dport = {BULK} }}\nuse = \"isp-a\"\n");
    // It goes down more often than a line should, and answers come late.
    let config = with_slow_probes(config) + "hold_max = \"500ms\"\nsuccess_count = 2\n";
    config.replace("\"wan-a\"", &format!("\"{PPP}\"")) + &rule
}

/// Returns the events of a kind about the IPv4 of the dialled uplink.
fn events(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.daemon.run(&["events", "--json"]).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours = |event: &Value| event["uplink"] == "isp-a" && event["family"] == "ipv4";
    all.filter(|event| event["kind"] == kind && ours(event)).collect()
}

/// Returns the reason of each time that the dialled uplink went down.
fn falls(gateway: &Gateway) -> Vec<String> {
    let fell = |event: &Value| (event["from"] == "up").then(|| event["reason"].to_string());
    events(gateway, "uplink").iter().filter_map(fell).collect()
}

/// Waits until new flows use both uplinks, and the line by its address `own` alone.
fn wait_for_address(gateway: &mut Gateway, own: u8) {
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let own = plan::pool(0, own).to_string();
    let rules = rules(&gateway.lab.gateway);
    let from = |line: &&str| line.contains("from 100.64.0.");
    let sources: Vec<_> = rules.lines().filter(from).collect();
    assert!(sources.len() == 1 && sources[0].contains(&format!("from {own} ")), "{rules}");
    let flows: Vec<_> =
        Protocol::ALL.iter().flat_map(|p| FlowSpec::spread(Family::V4, *p, HTTP, 10)).collect();
    let seen = gateway.try_open(&flows);
    // Some may be late in a slow guest.
    let answered: Vec<_> = seen.iter().filter_map(|seen| seen.peer).collect();
    assert!(4 * answered.len() >= 3 * seen.len(), "{seen:?}");
    let addresses = answered.iter().map(|peer| peer.ip().to_string());
    let other = plan::uplink_address(Family::V4, 1).to_string();
    let (by_line, by_other): (Vec<_>, Vec<_>) = addresses.partition(|seen| *seen == own);
    assert!(!by_line.is_empty() && by_other.iter().all(|seen| *seen == other), "{seen:?}");
}

/// Waits until every flow of the line has ended or moved to the other uplink, whose own flows are
/// undisturbed.
fn wait_for_the_end_of(gateway: &Gateway, flows: &LongFlows, before: &[FlowReport]) {
    wait_for_move(flows, before, |report| is_udp(report) && on(0)(report), 1);
    wait::until("resets of the line's connections", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| on(0)(old) && !is_udp(old));
        Ok(pairs.all(|(_, new)| new.closed && new.errors == 1).then_some(()))
    })
    .unwrap();
    assert_stay(flows, before, 1);
    let left = |family| tracked_by(&gateway.lab.gateway, family, fwmark(0));
    assert!(Family::ALL.iter().all(|family| left(*family).is_empty()), "{:?}", left(Family::V4));
}

/// Loads the line in both directions, and checks that both ends send full-size segments that fit.
fn assert_full_packets_fit(gateway: &Gateway, family: Family) {
    let server = SocketAddr::new(plan::server(family, 50), BULK);
    let _streams = BulkServers::start(&gateway.lab.net, &[server]).unwrap();
    let carried = |way: &str| link(&gateway.lab)["stats64"][way]["bytes"].as_u64().unwrap();
    let before = ["rx", "tx"].map(carried);
    let entered = gateway.lab.lan.enter().unwrap();
    let mut socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(plan::client(family, 3), 0).into()).unwrap();
    socket.connect_timeout(&server.into(), LIMIT).unwrap();
    drop(entered);
    for timeout in [Socket::set_read_timeout, Socket::set_write_timeout] {
        timeout(&socket, Some(LIMIT)).unwrap();
    }
    socket.write_all(&vec![1; BULK_SIZE]).unwrap();
    socket.read_exact(&mut vec![0; BULK_SIZE]).unwrap();
    let now = ["rx", "tx"].map(carried);
    for (before, now) in before.iter().zip(now) {
        assert!(now >= before + BULK_SIZE as u64 / 2, "{before} to {now}");
    }
    // A TCP header with its time stamps.
    let most = 1492 - 32 - if family == Family::V4 { 20 } else { 40 };
    assert_eq!(segment(gateway.lab.net.run("ss", &["-tinH", &format!("sport = :{BULK}")])), most);
    assert_eq!(segment(gateway.lab.lan.run("ss", &["-tinH", &format!("dport = :{BULK}")])), most);
}

/// Returns the longest segment that the only connection sends.
fn segment(shown: anyhow::Result<String>) -> usize {
    let shown = shown.unwrap();
    let mss = shown.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
    mss.unwrap_or_else(|| panic!("{shown}")).parse().unwrap()
}

/// Returns the devices of the main table's IPv4 default routes.
fn defaults(lab: &Lab) -> Vec<Value> {
    let main = routes(&lab.gateway, Family::V4, 254);
    let all = main.as_array().unwrap().iter();
    all.filter(|route| route["dst"] == "default").map(|route| route["dev"].clone()).collect()
}

/// Builds a lab whose first uplink is to be dialled, and whose second one has a default route as an
/// administrator writes it by hand: without a metric.
fn lab() -> Lab {
    let lab = equal_lab();
    clear(&lab);
    let route = format!("default via {} dev wan-b", plan::nexthop(Family::V4, 1));
    lab.gateway.ip_batch(&format!("route delete {route}\nroute add {route}\n")).unwrap();
    lab
}

#[test]
fn a_pppoe_uplink_is_used_while_it_lasts_and_by_its_next_address_after_a_redial() {
    let lab = lab();
    let _router = advertise(&lab);
    let concentrator = Concentrator::start(&lab, 7);
    let mut gateway = Gateway::start_degraded(lab, dialled);
    gateway.wait_for_state(1, "ipv4", "up");
    let status = gateway.wait_for_state(0, "ipv4", "down");
    let reason = &uplink_status(&status, "isp-a")["ipv4"]["reason"];
    assert_eq!(reason, "interface dsl0 does not exist");
    // There is a default route, and pppd gives way to it.
    let client = Client::start(&gateway.lab, "defaultroute");
    let first = client.wait_for_line(&gateway.lab, 7);
    wait_for_address(&mut gateway, 7);
    assert_eq!(defaults(&gateway.lab), ["wan-b"]);
    let line = link(&gateway.lab);
    assert_eq!((&line["mtu"], &line["linkinfo"]["info_kind"]), (&json!(1492), &json!("ppp")));
    for family in Family::ALL {
        assert_full_packets_fit(&gateway, family);
    }
    let flows = gateway.long_flows(5);
    let before = flows.reports();
    // The provider ends the session, and takes no calls for a while.
    concentrator.close();
    client.wait_for_no_line(&gateway.lab);
    gateway.wait_until_down(0);
    wait_for_the_end_of(&gateway, &flows, &before);
    gateway.assert_uplinks(5, &[1]);
    let concentrator = Concentrator::start(&gateway.lab, 21);
    let second = client.wait_for_line(&gateway.lab, 21);
    wait_for_address(&mut gateway, 21);
    // It hangs up, as many do once a day, and takes the next call at once.
    concentrator.hang_up(&gateway.lab);
    let third = client.wait_for_line(&gateway.lab, 22);
    wait_for_address(&mut gateway, 22);
    assert!(first != second && second != third, "{first} {second} {third}");
    // The next pppd takes the place of the default route, and puts it back when it ends.
    client.end();
    let client = Client::start(&gateway.lab, "defaultroute\nreplacedefaultroute");
    client.wait_for_line(&gateway.lab, 23);
    wait_for_address(&mut gateway, 23);
    assert_eq!(defaults(&gateway.lab), [PPP]);
    // The cable is pulled, which pppd finds out last.
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    client.wait_for_no_line(&gateway.lab);
    client.end();
    assert_eq!(defaults(&gateway.lab), ["wan-b"]);
    assert_stay(&flows, &before, 1);
    let falls = falls(&gateway);
    let gone = |reason: &String| reason.starts_with("\"interface dsl0 ");
    assert!(falls.len() == 4 && falls[..3].iter().all(gone) && !gone(&falls[3]), "{falls:?}");
    let told = events(&gateway, "address");
    let told: Vec<_> = told.iter().map(|event| event["to"].as_str().unwrap()).collect();
    assert_eq!(told, ["100.64.0.21", "100.64.0.22", "100.64.0.23"]);
}

/// Checks that the kernel's flowtable serves a line, though its packets have no link-layer header.
/// Checks flows by a dialled line with `accelerate` in its configuration, by `assert_fast`.
fn check_fast(accelerate: fn(&str) -> String, assert_fast: fn(&Gateway)) {
    let lab = lab();
    let _router = advertise(&lab);
    let _concentrator = Concentrator::start(&lab, 7);
    let mut gateway = Gateway::start_degraded(lab, |config| accelerate(&dialled(config)));
    let client = Client::start(&gateway.lab, "defaultroute");
    client.wait_for_line(&gateway.lab, 7);
    wait_for_address(&mut gateway, 7);
    assert_fast(&gateway);
    for family in Family::ALL {
        assert_full_packets_fit(&gateway, family);
    }
}

#[test]
fn flows_by_a_line_are_in_the_flowtable() {
    check_fast(flowtable::offloading, flowtable::assert_offloads);
}

#[test]
fn flows_by_a_line_take_shortcuts() {
    check_fast(accelerated, accelerate::assert_taken);
}
