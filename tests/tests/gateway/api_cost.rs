//! What people who watch the gateway cost it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::{Lab, UplinkSpec};

use crate::api_tcp::AT;
use crate::fixture::{Gateway, uplink_status};
use crate::flows::fill;
use crate::usage::{cpu, memory};

/// Number of browsers that show the page.
const FOLLOWERS: usize = 10;
/// Number of live flows.
const FLOWS: u32 = 100_000;
/// Time that is measured, without followers and with them.
const MEASURED: Duration = Duration::from_secs(20);
/// Times between the questions of a page, and of Prometheus.
const STATUS_EVERY: Duration = Duration::from_secs(3);
const METRICS_EVERY: Duration = Duration::from_secs(15);

/// Sends a request, and returns the connection.
fn ask(path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(AT).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {AT}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Sends a request, and checks that it is answered.
fn answered(path: &str) {
    let mut answer = String::new();
    ask(path).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
}

/// Asks for `paths` time and again, until `ended`; counts the rounds.
fn repeat(
    gateway: &Arc<Namespace>,
    (paths, every): (&'static [&'static str], Duration),
    (ended, rounds): (&Arc<AtomicBool>, &Arc<AtomicUsize>),
) -> JoinHandle<()> {
    let (gateway, ended, rounds) = (Arc::clone(gateway), Arc::clone(ended), Arc::clone(rounds));
    thread::spawn(move || {
        let _entered = gateway.enter().unwrap();
        // Events come by themselves; this connection lasts as long as the page is open.
        let _events = ask("/v1/events");
        answered("/v1/history");
        while !ended.load(Ordering::Relaxed) {
            paths.iter().for_each(|path| answered(path));
            rounds.fetch_add(1, Ordering::Relaxed);
            let next = Instant::now() + every;
            while Instant::now() < next && !ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
        }
    })
}

/// Returns the share of a processor that the daemon takes, in percent.
fn share(pid: u32) -> f64 {
    let (before, begun) = (cpu(pid), Instant::now());
    thread::sleep(MEASURED);
    (cpu(pid) - before) as f64 / begun.elapsed().as_secs_f64()
}

/// Checks that ten open pages and Prometheus cost next to nothing, and prints how much.
#[test]
fn ten_pages_and_prometheus_cost_little() {
    let spec = |name| UplinkSpec::new(&format!("isp-{name}"), &format!("wan-{name}"), 10);
    let uplinks = ["a", "b", "c", "d"];
    let lab = Lab::new(&uplinks.map(spec)).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}\n[api]\nlisten = \"{AT}\"\n"));
    fill(&gateway, FLOWS);
    let pid = gateway.daemon.id();
    let alone = share(pid);
    let (ended, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let namespace = &gateway.lab.gateway;
    let state = (&ended, &rounds);
    let mut readers: Vec<_> =
        (0..FOLLOWERS).map(|_| repeat(namespace, (&["/v1/status"], STATUS_EVERY), state)).collect();
    readers.push(repeat(namespace, (&["/metrics"], METRICS_EVERY), state));
    let watched = share(pid);
    let status = gateway.daemon.status().unwrap();
    ended.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let (live, rss) = (&uplink_status(&status, "isp-a")["live_flows"], memory(pid, "VmRSS"));
    // Code that is mapped differs from build to build.
    let own = memory(pid, "RssAnon");
    println!(
        "daemon: {alone:.2} % of a processor alone, {watched:.2} % with {FOLLOWERS} pages and \
         Prometheus ({} answers); {rss} KiB with {FLOWS} flows, \
         {own} KiB of them its own",
        rounds.load(Ordering::Relaxed)
    );
    assert!(live.as_u64().unwrap() >= u64::from(FLOWS) / 2, "{live}");
    assert!(own < 20 << 10, "{own} KiB");
    // A program that is not optimised takes several times as much.
    assert!(watched - alone < 20.0, "{alone} % and {watched} %");
}
