//! Common programs as clients of the gateway, with their own servers at the other end.

pub(crate) mod server;

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{HTTP, HTTPS};
use serde_json::Value;

use self::server::{BIG, Server, iperf3, nginx, squid};
use crate::fixture::{Gateway, LIMIT};

/// A port of the servers without sticky sessions.
const OTHER: u16 = 5001;
/// Ports of the programs.
const NGINX: u16 = 8080;
const SQUID: u16 = 3128;
const IPERF: u16 = 5201;
/// Number of requests at a time.
const REQUESTS: usize = 60;
/// Number of streams of one iperf3.
const STREAMS: usize = 40;
/// Number of servers with a session each.
const SESSIONS: usize = 40;

/// Fetches URLs by one curl, many at a time, through `proxy` unless it is empty; `each` is set for
/// every URL. Returns the lines that it writes.
fn curl(client: &Namespace, proxy: &str, each: &str, urls: &[String]) -> Vec<String> {
    // Files and variables of the user who runs the tests must have no effect.
    let alone = ["--disable", "--proxy", proxy, "--noproxy", "", "--config", "-"];
    let strict = ["--globoff", "--silent", "--show-error", "--fail", "--max-time", "30"];
    let at_a_time = ["--parallel", "--parallel-immediate"];
    let input: String = urls.iter().map(|url| format!("url = \"{url}\"\n{each}\n")).collect();
    let args = [&alone[..], &strict, &at_a_time].concat();
    let output = client.run_with_input("curl", &args, &input).unwrap();
    output.lines().map(str::to_owned).collect()
}

/// Settings for a URL: its bytes are counted, and the header `Seen` is printed.
const COUNT: &str = r#"output = "/dev/null"
write-out = "%header{seen} %{size_download}\n""#;

fn urls(family: Family, port: u16, servers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let server = |number| SocketAddr::new(plan::server(family, number), port);
    servers.into_iter().map(|number| format!("http://{}/", server(number))).collect()
}

/// Counts answers by uplink; each is the address that a server saw, and there must be `count`.
fn by_uplink(answers: &[String], count: usize) -> [usize; 2] {
    assert_eq!(answers.len(), count, "{answers:?}");
    let mut counts = [0; 2];
    for answer in answers {
        let seen: IpAddr = answer.parse().unwrap();
        counts[plan::uplink_of(seen).unwrap()] += 1;
    }
    counts
}

fn uses_both(counts: [usize; 2]) -> bool {
    counts.iter().all(|count| *count > 0)
}

#[test]
fn curl_fetches_from_nginx_by_both_uplinks() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    let _nginx = nginx(&lab.net, NGINX);
    for family in Family::ALL {
        let urls = urls(family, NGINX, 0..REQUESTS);
        let small = by_uplink(&curl(&lab.lan, "", "", &urls), REQUESTS);
        assert!(uses_both(small), "{family}: {small:?}");

        let big: Vec<_> = urls.into_iter().map(|url| url + "big").collect();
        let lines = curl(&lab.lan, "", COUNT, &big);
        let size = format!(" {BIG}");
        let whole = lines.iter().map(|line| line.strip_suffix(&size).unwrap_or(line).to_owned());
        let big = by_uplink(&whole.collect::<Vec<_>>(), REQUESTS);
        assert!(uses_both(big), "{family}: {big:?}");
    }
}

#[test]
fn a_forwarded_nginx_is_reached_by_each_uplink() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    lab.filter_sources().unwrap();
    let _nginx = nginx(&lab.lan, NGINX);
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::client(family, 0));
    let table = format!(
        "table inet admin {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                iifname \"wan-*\" tcp dport {NGINX} dnat ip to {ipv4}
                iifname \"wan-*\" tcp dport {NGINX} dnat ip6 to {ipv6}
            }}
        }}"
    );
    lab.gateway.load_nft(&table).unwrap();
    for family in Family::ALL {
        for uplink in 0..2 {
            let address = SocketAddr::new(plan::uplink_address(family, uplink), NGINX);
            let urls = vec![format!("http://{address}/big"); REQUESTS];
            let lines = curl(&lab.net, "", COUNT, &urls);
            let size = format!(" {BIG}");
            let whole = lines.iter().filter(|line| line.ends_with(&size)).count();
            assert_eq!(whole, REQUESTS, "{family}, uplink {uplink}: {lines:?}");
        }
    }
    for uplink in 0..2 {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses at provider {uplink}");
    }
}

#[test]
fn streams_of_iperf3_use_both_uplinks() {
    let gateway = Gateway::pair();
    let lab = &gateway.lab;
    let _iperf3 = iperf3(&lab.net, IPERF);
    for (family, seconds) in Family::ALL.into_iter().zip(["2", "1"]) {
        let target = plan::server(family, 0).to_string();
        let port = IPERF.to_string();
        let streams = STREAMS.to_string();
        let asked = ["--client", &target, "--port", &port, "--parallel", &streams];
        let how = ["--time", seconds, "--bitrate", "5M", "--json", "--get-server-output"];
        let text = lab.lan.run("iperf3", &[&asked[..], &how].concat()).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let list = |path: &str| report.pointer(path).unwrap().as_array().unwrap();
        let seen: Vec<_> = list("/server_output_json/start/connected")
            .iter()
            .map(|stream| stream["remote_host"].as_str().unwrap().to_owned())
            .collect();
        let counts = by_uplink(&seen, STREAMS);
        assert!(uses_both(counts), "{family}: {counts:?}");
        let ended = list("/end/streams");
        let arrived = |stream: &&Value| stream["receiver"]["bytes"].as_u64() > Some(0);
        assert_eq!(ended.iter().filter(arrived).count(), STREAMS, "{family}: {ended:?}");
    }
}

/// A gateway with a proxy on it.
struct Proxy {
    gateway: Gateway,
    _squid: Server,
}

impl Proxy {
    fn new(gateway: Gateway) -> Self {
        let address = plan::lan_gateway(Family::V4);
        Self { _squid: squid(&gateway.lab.gateway, address, SQUID), gateway }
    }

    /// Fetches from servers through the proxy; returns the addresses that they see.
    fn fetch(&self, family: Family, port: u16, servers: &[usize]) -> Vec<String> {
        let proxy = SocketAddr::new(plan::lan_gateway(Family::V4), SQUID).to_string();
        let urls = urls(family, port, servers.iter().copied());
        curl(&self.gateway.lab.lan, &proxy, "", &urls)
    }

    /// Sends `REQUESTS` requests to different servers, and counts them by uplink.
    fn spread(&self, family: Family, port: u16) -> [usize; 2] {
        let servers: Vec<_> = (0..REQUESTS).collect();
        by_uplink(&self.fetch(family, port, &servers), REQUESTS)
    }
}

#[test]
fn requests_through_squid_leave_by_both_uplinks() {
    let proxy = Proxy::new(Gateway::pair());
    for family in Family::ALL {
        let counts = proxy.spread(family, HTTP);
        assert!(uses_both(counts), "{family}: {counts:?}");
    }
    let status = proxy.gateway.daemon.status().unwrap();
    assert_eq!(status["counters"]["local_marked"], 2 * REQUESTS, "a connection for each request");
    assert_eq!(proxy.gateway.counted_flows(), [0, 0], "none is a flow of the LAN");
}

#[test]
fn rules_and_sessions_hold_for_requests_of_squid() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let rule = format!("[[rule]]\nmatch = {{ dport = {OTHER} }}\nuse = \"isp-a\"\n");
    let proxy = Proxy::new(Gateway::start(lab, |config| format!("{config}\n{rule}")));
    for family in Family::ALL {
        assert_eq!(proxy.spread(family, OTHER), [REQUESTS, 0], "{family}");
        let mut used = [0; 2];
        for server in 0..SESSIONS {
            let counts = by_uplink(&proxy.fetch(family, HTTPS, &[server; 5]), 5);
            assert!(counts.contains(&5), "{family}, server {server}: {counts:?}");
            used = [used[0] + counts[0], used[1] + counts[1]];
        }
        assert!(uses_both(used), "{family}: {used:?}");
    }
}

#[test]
fn requests_through_squid_leave_a_dead_uplink() {
    let mut proxy = Proxy::new(Gateway::pair());
    for family in Family::ALL {
        assert!(uses_both(proxy.spread(family, HTTP)));
    }
    proxy.gateway.lab.blackhole(1).unwrap();
    proxy.gateway.wait_until_down(1);
    for family in Family::ALL {
        assert_eq!(proxy.spread(family, HTTP), [REQUESTS, 0], "{family}");
    }
    proxy.gateway.lab.restore(1).unwrap();
    proxy.gateway.daemon.wait_until_up(LIMIT).unwrap();
    for family in Family::ALL {
        assert!(uses_both(proxy.spread(family, HTTP)));
    }
}
