//! Tests of the lab itself, with a router set up by hand in place of linkbal.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is a failed test")]

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::{self, Namespace};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::{
    Capture, FlowResult, FlowSpec, LongFlows, PORTS, Protocol, Servers, open_flows,
};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

const MASQUERADE: &str = "
table inet by_hand {
    chain postrouting {
        type nat hook postrouting priority 100
        oifname \"wan-*\" masquerade
    }
}
";

/// A lab whose gateway routes traffic to `PORTS[i]` through uplink i.
struct Routed {
    _servers: Servers,
    lab: Lab,
}

impl Routed {
    fn new() -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let gateway = &lab.gateway;
        gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
        gateway.set_sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
        gateway.load_nft(MASQUERADE).unwrap();
        for (index, uplink) in lab.uplinks.iter().enumerate() {
            let filter = format!("net.ipv4.conf.{}.rp_filter", uplink.spec.interface);
            gateway.set_sysctl(&filter, "2").unwrap();
            let (table, port) = (table(index), PORTS[index].to_string());
            for family in Family::ALL.map(Family::flag) {
                let selector = ["iif", LAN_INTERFACE, "dport", &port, "lookup", &table];
                gateway.run("ip", &[&[family, "rule", "add"], &selector[..]].concat()).unwrap();
            }
        }
        let servers = Servers::start(&lab.net).unwrap();
        let routed = Self { _servers: servers, lab };
        (0..2).for_each(|index| routed.route(index, index));
        routed
    }

    /// Routes traffic to `PORTS[index]` through `uplink`.
    fn route(&self, index: usize, uplink: usize) {
        let interface = &self.lab.uplinks[uplink].spec.interface;
        for family in Family::ALL {
            let nexthop = plan::nexthop(family, uplink).to_string();
            let route = ["route", "replace", "default", "via", &nexthop, "dev", interface];
            let table = table(index);
            let args = [&[family.flag()], &route[..], &["table", &table]].concat();
            self.lab.gateway.run("ip", &args).unwrap();
        }
    }

    /// Opens a few flows of each kind to `PORTS[index]`.
    fn open(&self, index: usize) -> Vec<FlowResult> {
        open_flows(&self.lab.lan, &FlowSpec::mixed(PORTS[index], 5)).unwrap()
    }

    fn long_flows(&self, index: usize) -> LongFlows {
        LongFlows::start(&self.lab.lan, &FlowSpec::mixed(PORTS[index], 3), TICK).unwrap()
    }
}

fn table(index: usize) -> String {
    (100 + index).to_string()
}

fn all_on(seen: &[FlowResult], uplink: Option<usize>) -> bool {
    seen.iter().all(|seen| seen.uplink() == uplink)
}

/// Waits for at least `count` more answers on each flow.
fn wait_for_answers(flows: &LongFlows, count: u64) {
    let before = flows.reports();
    wait::until("more answers", LIMIT, || {
        let pairs = before.iter().zip(flows.reports());
        let mut enough = pairs.map(|(old, new)| new.answers >= old.answers + count);
        Ok(enough.all(|enough| enough).then_some(()))
    })
    .unwrap();
}

fn assert_undisturbed(flows: &LongFlows, uplink: usize) {
    for report in flows.settle().unwrap() {
        assert_eq!(report.uplink(), Some(uplink), "{report:?}");
        let trouble = (report.moved, report.losses, report.errors, report.closed);
        assert_eq!(trouble, (0, 0, 0, false), "{report:?}");
    }
}

fn handle(namespace: &Namespace) -> PathBuf {
    Path::new("/run/netns").join(namespace.name())
}

#[test]
fn each_provider_reaches_all_servers() {
    let routed = Routed::new();
    for (uplink, port) in PORTS.into_iter().take(2).enumerate() {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let flows = FlowSpec::spread(family, protocol, port, 200);
                let servers: HashSet<_> = flows.iter().map(|flow| flow.server).collect();
                assert_eq!(servers.len(), usize::from(plan::SERVERS));
                let seen = open_flows(&routed.lab.lan, &flows).unwrap();
                for (flow, seen) in flows.iter().zip(seen) {
                    let peer = seen.peer.map(|peer| peer.ip());
                    assert_eq!(peer, Some(plan::uplink_address(family, uplink)), "{flow:?}");
                }
            }
        }
    }
}

#[test]
fn the_gateway_has_the_routes_of_dhcp_and_forwards_nothing() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    for family in Family::ALL {
        let args = [family.flag(), "route", "show", "default"];
        let routes = oracle::ip_json(&lab.gateway, &args).unwrap();
        for (index, interface) in ["wan-a", "wan-b"].into_iter().enumerate() {
            let route = &routes[index];
            assert_eq!(route["dev"], interface);
            assert_eq!(route["protocol"], "dhcp");
            assert_eq!(route["metric"], 100 * (index + 1));
            assert_eq!(route["gateway"], plan::nexthop(family, index).to_string());
        }
    }
    let _servers = Servers::start(&lab.net).unwrap();
    let seen = open_flows(&lab.lan, &FlowSpec::mixed(PORTS[0], 2)).unwrap();
    assert!(all_on(&seen, None), "{seen:?}");
    let own = FlowSpec {
        protocol: Protocol::Tcp,
        source: plan::uplink_address(Family::V4, 0),
        server: (plan::server(Family::V4, 0), PORTS[0]).into(),
    };
    let seen = open_flows(&lab.gateway, &[own]).unwrap();
    assert!(all_on(&seen, Some(0)), "the gateway itself is online: {seen:?}");
}

#[test]
fn a_cut_cable_takes_the_carrier_of_that_uplink_only() {
    let routed = Routed::new();
    let (lab, healthy) = (&routed.lab, routed.long_flows(1));
    lab.cut_cable(0).unwrap();
    wait::until("a lost carrier", LIMIT, || {
        Ok((!oracle::has_carrier(&lab.gateway, "wan-a")?).then_some(()))
    })
    .unwrap();
    assert!(oracle::has_carrier(&lab.gateway, "wan-b").unwrap());
    assert!(all_on(&routed.open(0), None));
    assert!(all_on(&routed.open(1), Some(1)));
    lab.plug_cable(0).unwrap();
    wait::until("a working cable", LIMIT, || Ok(all_on(&routed.open(0), Some(0)).then_some(())))
        .unwrap();
    wait_for_answers(&healthy, 5);
    assert_undisturbed(&healthy, 1);
}

#[test]
fn a_black_hole_swallows_all_and_keeps_the_carrier() {
    let routed = Routed::new();
    let (lab, healthy, doomed) = (&routed.lab, routed.long_flows(1), routed.long_flows(0));
    lab.blackhole(0).unwrap();
    assert!(all_on(&routed.open(0), None));
    assert!(oracle::has_carrier(&lab.gateway, "wan-a").unwrap());
    wait::until("losses on each flow", LIMIT, || {
        Ok(doomed.reports().iter().all(|report| report.losses > 0).then_some(()))
    })
    .unwrap();
    lab.restore(0).unwrap();
    wait::until("an end", LIMIT, || Ok(all_on(&routed.open(0), Some(0)).then_some(()))).unwrap();
    wait_for_answers(&doomed, 5);
    wait_for_answers(&healthy, 5);
    assert_undisturbed(&healthy, 1);
}

#[test]
fn the_packet_clock_sees_flows_arrive_at_their_new_provider() {
    let routed = Routed::new();
    let flows = routed.long_flows(0);
    let ids: Vec<_> = flows.reports().iter().map(|report| report.id).collect();
    let capture = Capture::start(&routed.lab.uplinks[1].provider).unwrap();
    wait_for_answers(&flows, 5);
    assert_eq!(capture.first_of(&ids), None);
    let before = SystemTime::now();
    routed.route(0, 1);
    let first = wait::until("a moved flow", LIMIT, || Ok(capture.first_of(&ids))).unwrap();
    let now = SystemTime::now();
    assert!(before < first && first < now, "{before:?} < {first:?} < {now:?}");
    wait::until("all datagram flows moved", LIMIT, || {
        let mut reports = flows.reports().into_iter();
        let moved = reports.all(|report| match report.spec.protocol {
            Protocol::Udp => report.moved == 1 && report.uplink() == Some(1),
            Protocol::Tcp => report.moved == 0 && report.uplink() == Some(0),
        });
        Ok(moved.then_some(()))
    })
    .unwrap();
}

#[test]
fn the_kernel_state_shows_every_change() {
    let namespace = Namespace::new("state").unwrap();
    let state = || oracle::kernel_state(&namespace).unwrap();
    let clean = state();
    assert_eq!(state(), clean);
    let changes: [(&[&str], &[&str]); 3] = [
        (&["-6", "rule", "add", "fwmark", "1"], &["-6", "rule", "del", "fwmark", "1"]),
        (
            &["route", "add", "unreachable", "192.0.2.0/24", "table", "7"],
            &["route", "del", "unreachable", "192.0.2.0/24", "table", "7"],
        ),
        (
            &["address", "add", "192.0.2.1", "dev", "lo"],
            &["address", "del", "192.0.2.1/32", "dev", "lo"],
        ),
    ];
    for (change, back) in changes {
        namespace.run("ip", change).unwrap();
        assert_ne!(state(), clean, "{change:?}");
        namespace.run("ip", back).unwrap();
        assert_eq!(state(), clean, "{back:?}");
    }
    let key = "net.ipv4.conf.lo.rp_filter";
    let value = oracle::sysctl(&namespace, key).unwrap();
    namespace.set_sysctl(key, if value == "2" { "1" } else { "2" }).unwrap();
    assert_ne!(state(), clean);
    namespace.run("nft", &["add", "table", "inet", "extra"]).unwrap();
    assert!(state().contains("table inet extra"));
    assert!(oracle::nft_json(&namespace).unwrap().to_string().contains("extra"));
}

#[test]
fn nothing_survives_a_panic() {
    let mut handles = Vec::new();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        handles.extend(lab.namespaces().map(handle));
        assert!(handles.iter().all(|handle| handle.exists()));
        panic::resume_unwind(Box::new("a failed test"));
    }));
    assert!(result.is_err());
    assert_eq!(handles.len(), 5);
    assert!(handles.iter().all(|handle| !handle.exists()));
}

#[test]
fn a_process_ends_with_its_owner() {
    let namespace = Namespace::new("process").unwrap();
    let sleeper = namespace.spawn(namespace.command("sleep").arg("1000")).unwrap();
    let process = PathBuf::from(format!("/proc/{}", sleeper.id()));
    let inside = {
        let _entered = namespace.enter().unwrap();
        Path::new("/proc/thread-self/ns/net").read_link().unwrap()
    };
    wait::until("it runs inside", LIMIT, || {
        Ok((process.join("ns/net").read_link()? == inside).then_some(()))
    })
    .unwrap();
    drop(sleeper);
    assert!(!process.exists());
}

/// Answers each request for the status by a socket, as long as this program runs.
fn serve_status(socket: &Path) {
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/status HTTP/1.0\r\n"));
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"uplinks\": []}").unwrap();
        }
    });
}

#[test]
fn a_daemon_is_watched_stopped_and_torn_down() {
    let lab = Lab::new(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [program, log] = ["linkbal", "calls"].map(|name| folder.path().join(name));
    let text = format!(
        "#!/bin/sh\necho \"$1 $(readlink /proc/self/ns/net)\" >> {}\ncase $1 in\n\
         run) cat $3; exec sleep 1000;;\nesac\n",
        log.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    serve_status(&lab.gateway.socket());
    let mut daemon = Daemon::start_program(&program, &lab, &lab.config()).unwrap();
    daemon.wait_for("a status", LIMIT, |status| status["uplinks"].is_array()).unwrap();
    wait::until("a log", LIMIT, || Ok((daemon.log() == lab.config()).then_some(()))).unwrap();
    let status = daemon.stop(Signal::SIGTERM).unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    let error = daemon.wait_for("a status", LIMIT, |_| true).unwrap_err();
    assert!(error.to_string().contains("[probe]"), "the log explains: {error}");
    drop(daemon);
    let inside = {
        let _entered = lab.gateway.enter().unwrap();
        Path::new("/proc/thread-self/ns/net").read_link().unwrap()
    };
    let calls = fs::read_to_string(log).unwrap();
    let inside = inside.display();
    // The first status may be asked before the daemon has come that far.
    assert!(calls.lines().any(|line| line == format!("run {inside}")), "{calls}");
    assert!(calls.ends_with(&format!("teardown {inside}\n")), "{calls}");
}

#[test]
fn a_guard_brings_the_thread_back() {
    let own = || Path::new("/proc/thread-self/ns/net").read_link().unwrap();
    let before = own();
    let namespace = Namespace::new("guard").unwrap();
    let entered = namespace.enter().unwrap();
    assert_ne!(own(), before);
    drop(entered);
    assert_eq!(own(), before);
}

#[test]
fn only_namespaces_of_dead_labs_are_purged() {
    namespace::require_root();
    let mut child = Command::new("true").spawn().unwrap();
    let dead = format!("lb{}-0-dead", child.id());
    child.wait().unwrap();
    let living = Namespace::new("living").unwrap();
    let add = Command::new("ip").args(["netns", "add", &dead]).status().unwrap();
    assert!(add.success());
    namespace::purge_stale().unwrap();
    assert!(!Path::new("/run/netns").join(dead).exists());
    assert!(handle(&living).exists());
}
