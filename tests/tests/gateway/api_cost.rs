//! Costs of people who watch the gateway.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::turn;

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

/// A browser or Prometheus; it ends with its sender.
struct Reader {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Asks for `path` time and again; counts the answers.
    fn start(
        gateway: &Arc<Namespace>,
        (path, every): (&'static str, Duration),
        answers: &Arc<AtomicUsize>,
    ) -> Reader {
        let (gateway, answers) = (Arc::clone(gateway), Arc::clone(answers));
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _entered = gateway.enter().unwrap();
            // Events come by themselves; this connection lasts as long as the page is open.
            let _events = ask("/v1/events");
            answered("/v1/history");
            loop {
                answered(path);
                answers.fetch_add(1, Ordering::Relaxed);
                if ended.recv_timeout(every) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        });
        Reader { end, thread }
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().unwrap();
    }
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
    let _turn = turn::alone();
    let spec = |name| UplinkSpec::new(&format!("isp-{name}"), &format!("wan-{name}"), 10);
    let uplinks = ["a", "b", "c", "d"];
    let lab = Lab::new(&uplinks.map(spec)).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}\n[api]\nlisten = \"{AT}\"\n"));
    fill(&gateway, FLOWS);
    let pid = gateway.daemon.id();
    let alone = share(pid);
    let answers = Arc::new(AtomicUsize::new(0));
    let start = |path, every| Reader::start(&gateway.lab.gateway, (path, every), &answers);
    let mut readers: Vec<_> = (0..FOLLOWERS).map(|_| start("/v1/status", STATUS_EVERY)).collect();
    readers.push(start("/metrics", METRICS_EVERY));
    let watched = share(pid);
    let status = gateway.daemon.status().unwrap();
    readers.into_iter().for_each(Reader::end);
    let (live, rss) = (&uplink_status(&status, "isp-a")["live_flows"], memory(pid, "VmRSS"));
    // Code that is mapped differs from build to build.
    let own = memory(pid, "RssAnon");
    println!(
        "daemon: {alone:.2} % of a processor alone, {watched:.2} % with {FOLLOWERS} pages and \
         Prometheus ({} answers); {rss} KiB with {FLOWS} flows, \
         {own} KiB of them its own",
        answers.load(Ordering::Relaxed)
    );
    assert!(live.as_u64().unwrap() >= u64::from(FLOWS) / 2, "{live}");
    assert!(own < 20 << 10, "{own} KiB");
    // A program that is not optimised takes several times as much.
    assert!(watched - alone < 20.0, "{alone} % and {watched} %");
}
