//! Lines by PPPoE: pppd in the gateway dials an access concentrator of its provider.

mod line;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use linkbal_tests::topology::Lab;
use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::traffic::{FlowReport, LongFlows, Streams};
use linkbal_tests::wait;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use self::line::{Client, Concentrator, PPP, advertise, clear, link};
use crate::fixture::{Gateway, LIMIT, is_udp, on, uplink_status, wait_for_move};
use crate::kernel::{fwmark, routes, rules, tracked_by};
use crate::lines::{assert_fails_over, assert_stay, calm, equal_lab, ip};

/// Where servers send and take as much as they can; the line has all of it.
const BULK: u16 = 9000;
/// Enough for full-size packets, and for a guest without an accelerator.
const BULK_SIZE: usize = 256 << 10;

/// The lab's configuration for a dialled line.
fn dialled(config: &str) -> String {
    let rule = format!("\n[[rule]]\nmatch = {{ dport = {BULK} }}\nuse = \"isp-a\"\n");
    calm(config).replace("\"wan-a\"", &format!("\"{PPP}\"")) + &rule
}

fn reason(status: &Value) -> &Value {
    &uplink_status(status, "isp-a")["ipv4"]["reason"]
}

#[test]
fn a_dialled_line_is_an_uplink_like_any_other() {
    let lab = equal_lab();
    clear(&lab);
    let _router = advertise(&lab);
    let _concentrator = Concentrator::start(&lab, 7);
    let mut gateway = Gateway::start_degraded(lab, dialled);
    gateway.wait_for_state(1, "ipv4", "up");
    let status = gateway.wait_for_state(0, "ipv4", "down");
    assert_eq!(reason(&status), "interface ppp0 does not exist");
    let client = Client::start(&gateway.lab, "");
    client.wait_for_line(&gateway.lab, None, 7);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let line = link(&gateway.lab);
    assert_eq!((&line["mtu"], &line["linkinfo"]["info_kind"]), (&json!(1492), &json!("ppp")));
    let main = routes(&gateway.lab.gateway, Family::V4, 254);
    assert!(!main.to_string().contains("\"dst\":\"default\",\"dev\":\"ppp0\""), "{main}");
    for family in Family::ALL {
        assert_full_packets_fit(&gateway, family);
    }
    assert_fails_over(&mut gateway, 0);
}

/// Loads the line in both directions: neither end has to be told more than once how little fits.
fn assert_full_packets_fit(gateway: &Gateway, family: Family) {
    let server = SocketAddr::new(plan::server(family, 50), BULK);
    let _streams = Streams::start(&gateway.lab.net, &[server]).unwrap();
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

/// The longest segment that the only connection sends.
fn segment(shown: anyhow::Result<String>) -> usize {
    let shown = shown.unwrap();
    let mss = shown.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
    mss.unwrap_or_else(|| panic!("{shown}")).parse().unwrap()
}

/// The events of a kind about the IPv4 of the dialled uplink.
fn events(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.daemon.run(&["events", "--json"]).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours = |event: &Value| event["uplink"] == "isp-a" && event["family"] == "ipv4";
    all.filter(|event| event["kind"] == kind && ours(event)).collect()
}

/// Why the dialled uplink went down, each time that it did.
fn falls(gateway: &Gateway) -> Vec<String> {
    let fell = |event: &Value| (event["from"] == "up").then(|| event["reason"].to_string());
    events(gateway, "uplink").iter().filter_map(fell).collect()
}

/// Waits until new flows use both uplinks, and the dialled one by the address `own` alone.
fn wait_for_address(gateway: &mut Gateway, own: u8) {
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let own = plan::pool(0, own).to_string();
    let rules = rules(&gateway.lab.gateway);
    let sources = rules.lines().filter_map(|line| line.split("from 100.64.0.").nth(1));
    let sources: Vec<_> = sources.map(|rest| rest.split(' ').next().unwrap_or(rest)).collect();
    assert_eq!(sources, [own.rsplit('.').next().unwrap()], "{rules}");
    let flows = gateway.long_flows(5);
    let ours: Vec<_> = flows.reports().into_iter().filter(on(0)).collect();
    let seen = |report: &FlowReport| report.peer.unwrap().ip().to_canonical();
    let ipv4 = ours.iter().map(seen).filter(|address| address.is_ipv4());
    assert!(ipv4.clone().count() > 0 && ipv4.clone().all(|seen| seen.to_string() == own));
}

/// Waits until every flow of the dialled uplink has ended or gone over to the other one, whose own
/// have not noticed anything.
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

#[test]
fn a_line_that_is_lost_is_left_at_once_and_used_again_with_its_next_address() {
    let lab = equal_lab();
    clear(&lab);
    let _router = advertise(&lab);
    let concentrator = Concentrator::start(&lab, 7);
    let client = Client::start(&lab, "");
    let first = client.wait_for_line(&lab, None, 7);
    let mut gateway = Gateway::start(lab, dialled);
    let flows = gateway.long_flows(5);
    let before = flows.reports();
    // The provider ends the session, and takes no calls for a while.
    concentrator.close();
    client.wait_for_the_end_of_the_line(&gateway.lab);
    gateway.wait_until_down(0);
    wait_for_the_end_of(&gateway, &flows, &before);
    gateway.assert_uplinks(5, &[1]);
    let concentrator = Concentrator::start(&gateway.lab, 21);
    let second = client.wait_for_line(&gateway.lab, Some(first), 21);
    wait_for_address(&mut gateway, 21);
    // The provider hangs up, as many do once a day, and takes the next call at once.
    concentrator.hang_up(&gateway.lab);
    let third = client.wait_for_line(&gateway.lab, Some(second), 22);
    wait_for_address(&mut gateway, 22);
    // The cable is pulled: of that, pppd learns last.
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    client.wait_for_the_end_of_the_line(&gateway.lab);
    gateway.lab.plug_cable(0).unwrap();
    client.wait_for_line(&gateway.lab, Some(third), 23);
    wait_for_address(&mut gateway, 23);
    assert_stay(&flows, &before, 1);
    let falls = falls(&gateway);
    let gone = |reason: &String| reason.starts_with("\"interface ppp0 ");
    assert!(falls.len() == 3 && falls[..2].iter().all(gone) && !gone(&falls[2]), "{falls:?}");
    let told = events(&gateway, "address");
    let told: Vec<_> = told.iter().map(|event| event["to"].as_str().unwrap()).collect();
    assert_eq!(told, ["100.64.0.21", "100.64.0.22", "100.64.0.23"]);
}

/// The other uplink's default route in the main table, and whether the line has one.
fn defaults(lab: &Lab) -> (bool, bool) {
    let main = routes(&lab.gateway, Family::V4, 254);
    let by = |device: &str| {
        let mut all = main.as_array().into_iter().flatten();
        all.any(|route| route["dst"] == "default" && route["dev"] == device)
    };
    (by("wan-b"), by(PPP))
}

#[test]
fn whatever_pppd_does_to_the_default_route_both_uplinks_work() {
    let lab = equal_lab();
    clear(&lab);
    // As an administrator writes it by hand.
    let nexthop = plan::nexthop(Family::V4, 1);
    ip(
        &lab.gateway,
        &format!(
            "route delete default via {nexthop} dev wan-b
route add default via {nexthop} dev wan-b\n"
        ),
    );
    let _router = advertise(&lab);
    let _concentrator = Concentrator::start(&lab, 31);
    // It finds a default route, and gives way.
    let client = Client::start(&lab, "defaultroute");
    let first = client.wait_for_line(&lab, None, 31);
    let mut gateway = Gateway::start(lab, dialled);
    assert_eq!(defaults(&gateway.lab), (true, false));
    wait_for_address(&mut gateway, 31);
    let flows = gateway.long_flows(5);
    let before = flows.reports();
    client.end();
    // This one takes its place, and puts it back when it hangs up.
    let client = Client::start(&gateway.lab, "defaultroute\nreplacedefaultroute");
    client.wait_for_line(&gateway.lab, Some(first), 32);
    wait_for_address(&mut gateway, 32);
    assert_eq!(defaults(&gateway.lab), (false, true));
    client.end();
    gateway.wait_until_down(0);
    assert_eq!(defaults(&gateway.lab), (true, false));
    gateway.assert_uplinks(5, &[1]);
    assert_stay(&flows, &before, 1);
}
