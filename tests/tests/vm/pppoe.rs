//! Lines by PPPoE: pppd in the gateway dials an access concentrator of its provider.

mod line;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::traffic::Streams;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use self::line::{Client, Concentrator, PPP, advertise, clear, link};
use crate::fixture::{Gateway, LIMIT, uplink_status};
use crate::kernel::routes;
use crate::lines::{assert_fails_over, calm, equal_lab};

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
