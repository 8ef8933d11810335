//! A lab with linkbal in its gateway.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family, SERVERS};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{
    FlowReport, FlowResult, FlowSpec, HTTP, LongFlows, Protocol, Servers, flows_per_uplink,
    open_flows,
};
use linkbal_lab::wait;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// Longest wait for a condition; generous, so that a busy machine fails no test.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The keys of both families in a status.
pub(crate) const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// The pause between two requests of a long flow.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// A running gateway. Its parts are taken down from the first to the last.
pub(crate) struct Gateway {
    pub(crate) daemon: Daemon,
    _servers: Servers,
    pub(crate) lab: Lab,
    /// Number of pairs of ends that had a flow.
    flows: AtomicUsize,
}

impl Gateway {
    /// Starts the usual pair of uplinks, and returns when both are up.
    pub(crate) fn pair() -> Self {
        Self::start(Lab::new(&UplinkSpec::pair()).unwrap(), str::to_owned)
    }

    /// Starts linkbal with the lab's configuration as `tune` changes it; returns when all uplinks
    /// are up.
    pub(crate) fn start(lab: Lab, tune: impl FnOnce(&str) -> String) -> Self {
        let mut gateway = Self::start_degraded(lab, tune);
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        gateway
    }

    /// Starts linkbal like [`Gateway::start`], but waits for nothing.
    pub(crate) fn start_degraded(lab: Lab, tune: impl FnOnce(&str) -> String) -> Self {
        let daemon = Daemon::start(&lab, &tune(&config(&lab))).unwrap();
        Self::with(daemon, lab)
    }

    /// Creates a gateway with a daemon that was started already.
    pub(crate) fn with(daemon: Daemon, lab: Lab) -> Self {
        let servers = Servers::start(&lab.net).unwrap();
        Self { daemon, _servers: servers, lab, flows: AtomicUsize::new(0) }
    }

    /// Opens flows, each of which must be answered, and counts them by uplink.
    pub(crate) fn open(&self, flows: &[FlowSpec]) -> Vec<usize> {
        let seen = self.try_open(flows);
        let lost: Vec<_> = flows.iter().zip(&seen).filter(|(_, s)| s.uplink().is_none()).collect();
        assert!(lost.is_empty(), "flows without an answer: {lost:?}\n{}", self.daemon.log());
        // Floods of other tests fill the queues of the machine now and then.
        let resent = seen.iter().filter(|seen| seen.resent).count();
        assert!(resent <= 1 + seen.len() / 20, "{resent} requests were lost");
        flows_per_uplink(&seen, self.lab.uplinks.len())
    }

    pub(crate) fn try_open(&self, flows: &[FlowSpec]) -> Vec<FlowResult> {
        open_flows(&self.lab.lan, flows).unwrap()
    }

    /// Opens `count` flows of each kind, which must be answered and use exactly `uplinks`.
    pub(crate) fn assert_uplinks(&self, count: usize, uplinks: &[usize]) {
        let counts = self.open(&self.fresh_of_each_kind(count));
        let used = (0..counts.len()).filter(|&uplink| counts[uplink] > 0);
        assert!(used.eq(uplinks.iter().copied()), "{counts:?}\n{}", self.daemon.log());
    }

    /// Waits until new flows of both families use exactly `uplinks`.
    pub(crate) fn wait_for_uplinks(&self, uplinks: &[usize]) {
        for family in Family::ALL {
            self.wait_for_uplinks_of(family, uplinks);
        }
    }

    /// Waits until new flows of `family` use exactly `uplinks`.
    pub(crate) fn wait_for_uplinks_of(&self, family: Family, uplinks: &[usize]) {
        let what = format!("new {family} flows on exactly {uplinks:?}");
        let all = 0..self.lab.uplinks.len();
        let result = wait::until(&what, LIMIT, || {
            let seen = self.try_open(&self.fresh(family, Protocol::Udp, 40));
            let counts = flows_per_uplink(&seen, all.len());
            let exact = all.clone().all(|uplink| (counts[uplink] > 0) == uplinks.contains(&uplink));
            Ok((exact && counts.iter().sum::<usize>() == seen.len()).then_some(()))
        });
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.daemon.log()));
    }

    /// Opens `count` flows of each kind and keeps them alive.
    pub(crate) fn long_flows(&self, count: usize) -> LongFlows {
        let flows = self.fresh_of_each_kind(count);
        LongFlows::start(&self.lab.lan, &flows, TICK).unwrap()
    }

    /// Returns flows between ends that had none before, until all 10,000 pairs had one: a source
    /// port that comes up again between the same ends would continue an earlier flow.
    fn fresh(&self, family: Family, protocol: Protocol, count: usize) -> Vec<FlowSpec> {
        let first = self.flows.fetch_add(count, Ordering::Relaxed);
        let pairs = first..first + count;
        let server = |n| 7 * n + n / usize::from(SERVERS);
        pairs.map(|n| FlowSpec::new(family, protocol, n, server(n), HTTP)).collect()
    }

    fn fresh_of_each_kind(&self, count: usize) -> Vec<FlowSpec> {
        let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
        kinds.flat_map(|(family, protocol)| self.fresh(family, protocol, count)).collect()
    }

    /// Waits until `uplink` of the status has `state` in `family` (`ipv4`, `ipv6`).
    pub(crate) fn wait_for_state(&mut self, uplink: usize, family: &str, state: &str) -> Value {
        let name = self.lab.uplinks[uplink].spec.name.clone();
        let what = format!("{name} {family} {state}");
        let reached = |status: &Value| uplink_status(status, &name)[family]["state"] == state;
        self.daemon.wait_for(&what, LIMIT, reached).unwrap()
    }

    /// Waits until `uplink` is down in both families.
    pub(crate) fn wait_until_down(&mut self, uplink: usize) -> Value {
        self.wait_for_state(uplink, "ipv4", "down");
        self.wait_for_state(uplink, "ipv6", "down")
    }

    /// Returns the flows by uplink as the status counts them, in the order of the lab.
    pub(crate) fn counted_flows(&self) -> Vec<u64> {
        let status = self.daemon.status().unwrap();
        let names = self.lab.uplinks.iter().map(|uplink| &uplink.spec.name);
        names.map(|name| uplink_status(&status, name)["flows"].as_u64().unwrap()).collect()
    }
}

/// Returns the lab's configuration with a short hold time; it ends inside `[probe]`.
pub(crate) fn config(lab: &Lab) -> String {
    lab.config() + "hold = \"500ms\"\n"
}

/// A section that lets connections from outside reach hosts of the LAN by their own addresses.
pub(crate) const OPEN: &str = "\n[firewall]\ninbound = \"open\"\n";

/// Replaces the probe targets of a configuration by those of a list in TOML, without brackets.
pub(crate) fn with_targets(config: &str, targets: &str) -> String {
    let line = config.lines().find(|line| line.starts_with("targets = ")).unwrap();
    config.replace(line, &format!("targets = [{targets}]"))
}

/// Replaces the probe targets of a configuration by TCP ports, whose probes take a socket each.
pub(crate) fn with_tcp_targets(config: &str) -> String {
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    with_targets(config, &format!("\"tcp://{ipv4}:{HTTP}\", \"tcp://[{ipv6}]:{HTTP}\""))
}

/// Returns one uplink of a status.
pub(crate) fn uplink_status<'a>(status: &'a Value, name: &str) -> &'a Value {
    let mut uplinks = status["uplinks"].as_array().unwrap().iter();
    uplinks.find(|uplink| uplink["name"] == name).unwrap()
}

/// Returns the states of an uplink in each of the [`FAMILIES`].
pub(crate) fn states(status: &Value, uplink: &str) -> [String; 2] {
    FAMILIES.map(|family| uplink_status(status, uplink)[family]["state"].as_str().unwrap().into())
}

/// Adds a line to the section of an uplink.
pub(crate) fn with_key(config: &str, uplink: &str, line: &str) -> String {
    let head = format!("[uplink.{uplink}]\n");
    assert!(config.contains(&head), "{config}");
    config.replace(&head, &format!("{head}{line}\n"))
}

/// Runs linkbal in the gateway of `lab` to its end, with success or not.
pub(crate) fn linkbal(lab: &Lab, args: &[&str]) -> Output {
    let program = daemon::find_program().unwrap();
    lab.gateway.command(program).args(args).output().unwrap()
}

/// Runs `linkbal ACTION --config PATH`.
pub(crate) fn linkbal_with(lab: &Lab, action: &str, path: &Path) -> Output {
    linkbal(lab, &[action, "--config", path.to_str().unwrap()])
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until each chosen flow that still lives has `count` more answers than in `before`.
pub(crate) fn wait_for_answers(
    flows: &LongFlows,
    before: &[FlowReport],
    count: u64,
    chosen: impl Fn(&FlowReport) -> bool,
) {
    wait::until("answers on each long flow", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| chosen(old));
        let enough = pairs.all(|(old, new)| new.closed || new.answers >= old.answers + count);
        Ok(enough.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", silent(before, &flows.reports(), &chosen)));
}

fn silent(
    before: &[FlowReport],
    now: &[FlowReport],
    chosen: impl Fn(&FlowReport) -> bool,
) -> Vec<FlowReport> {
    let pairs = before.iter().zip(now).filter(|(old, _)| chosen(old));
    pairs.filter(|(old, new)| new.answers == old.answers).map(|(_, new)| *new).take(3).collect()
}

/// Checks that the chosen flows, at least `least` of them, are as undisturbed as before.
pub(crate) fn assert_undisturbed(
    flows: &LongFlows,
    before: &[FlowReport],
    least: usize,
    chosen: impl Fn(&FlowReport) -> bool,
) {
    wait_for_answers(flows, before, 5, &chosen);
    let now = flows.settle().unwrap();
    let pairs: Vec<_> = before.iter().zip(&now).filter(|(old, _)| chosen(old)).collect();
    assert!(pairs.len() >= least, "only {} flows to look at", pairs.len());
    for (old, new) in pairs {
        assert!(!new.closed && !new.disturbed_since(old), "before: {old:?}\nnow: {new:?}");
    }
}

pub(crate) fn is_udp(report: &FlowReport) -> bool {
    report.spec.protocol == Protocol::Udp
}

pub(crate) fn is_ipv6(report: &FlowReport) -> bool {
    report.spec.source.is_ipv6()
}

/// Returns a filter that chooses the flows by `uplink`.
pub(crate) fn on(uplink: usize) -> impl Fn(&FlowReport) -> bool {
    move |report| report.uplink() == Some(uplink)
}

/// Waits until every flow that was chosen by its earlier report is answered by `uplink`.
pub(crate) fn wait_for_move(
    flows: &LongFlows,
    before: &[FlowReport],
    chosen: impl Fn(&FlowReport) -> bool,
    uplink: usize,
) {
    let count = before.iter().filter(|report| chosen(report)).count();
    assert!(count > 0, "no flow to move");
    wait::until("the flows on their new uplink", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| chosen(old));
        Ok(pairs.all(|(_, new)| on(uplink)(new)).then_some(()))
    })
    .unwrap();
    let now = flows.reports();
    let moves = before.iter().zip(&now).filter(|(old, _)| chosen(old));
    assert!(moves.into_iter().all(|(old, new)| new.moved == old.moved + 1), "moved once each");
}

/// Sends an echo request (RFC 792, RFC 4443) from the calling thread's namespace, and waits for its
/// answer. The kernel fills in the identifier and the checksum.
pub(crate) fn ping(source: IpAddr, target: IpAddr) {
    let (protocol, request) = match target {
        IpAddr::V4(_) => (socket2::Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (socket2::Protocol::ICMPV6, 128),
    };
    let address = |ip| SockAddr::from(std::net::SocketAddr::new(ip, 0));
    let domain = Domain::for_address(std::net::SocketAddr::new(target, 0));
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).unwrap();
    socket.bind(&address(source)).unwrap();
    socket.connect(&address(target)).unwrap();
    socket.set_read_timeout(Some(LIMIT.min(Duration::from_secs(10)))).unwrap();
    let echo = [&[request, 0, 0, 0, 0, 0, 0, 1][..], b"hello"].concat();
    socket.send(&echo).unwrap();
    let mut answer = [0; 64];
    let size = std::io::Read::read(&mut &socket, &mut answer).unwrap();
    assert_eq!(&answer[6..size], &echo[6..], "{source} to {target}");
}

/// Returns the files of linkbal that a teardown should have removed: all but the journal of events, the
/// history and the last good configuration, which outlive it.
pub(crate) fn left_over(gateway: &Namespace) -> Vec<String> {
    let outlive = ["events.jsonl", "history.jsonl", "last-good.json"];
    let state = gateway.run_dir().join("state");
    let mut left = Vec::new();
    for folder in [gateway.bpf_dir(), gateway.run_dir(), state.clone()] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| *path != state);
        let kept = |path: &Path| folder == state && outlive.iter().any(|name| path.ends_with(name));
        left.extend(paths.filter(|path| !kept(path)).map(|path| path.display().to_string()));
    }
    if gateway.bpf_dir().exists() {
        left.push(gateway.bpf_dir().display().to_string());
    }
    left
}

/// Returns the path of a file that `cargo xtask setup` installs below its cache.
pub(crate) fn installed(file: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let path = cache.unwrap_or_else(home).join("linkbal").join(file);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}
