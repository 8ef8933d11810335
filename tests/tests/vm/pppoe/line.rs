//! Both ends of a line by PPPoE: the provider's access concentrator, and the gateway that dials.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use linkbal_lab::dhcp::Server;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::LIMIT;
use crate::lines::PROVIDER;

/// The uplink that is dialled, and the card that it is dialled by.
const UPLINK: usize = 0;
const CARD: &str = "wan-a";
/// The interface of the dialled line, as pppd names it.
pub(crate) const PPP: &str = "dsl0";

/// Removes the addresses of the card and its provider: only PPPoE is used there.
pub(crate) fn clear(lab: &Lab) {
    let nexthop = plan::nexthop(Family::V6, UPLINK);
    let flush = |interface| format!("address flush dev {interface} scope global\n");
    let route = format!("route delete default via {nexthop} dev {CARD}\n");
    lab.gateway.ip_batch(&(route + &flush(CARD))).unwrap();
    lab.uplinks[UPLINK].provider.ip_batch(&flush(PROVIDER)).unwrap();
    lab.route_pool(UPLINK).unwrap();
}

/// The options and the output of a program; dropping them removes them.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::with_prefix("linkbal-ppp-").unwrap())
    }

    /// Writes a file that may also be a script; returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Makes a program write to the log.
    fn record(&self, command: &mut Command) {
        let log = File::create(self.0.path().join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap()
    }
}

/// The provider's access concentrator; dropping it kills it without a word to its clients.
pub(crate) struct Concentrator {
    process: Process,
    _papers: Files,
}

impl Concentrator {
    /// Starts a concentrator whose sessions get the addresses of the pool from number `first` on,
    /// one after the other, and the prefix of the uplink.
    pub(crate) fn start(lab: &Lab, first: u8) -> Self {
        let provider = &lab.uplinks[UPLINK].provider;
        let papers = Files::new();
        let router = plan::nexthop(Family::V6, UPLINK);
        let up = format!("#!/bin/sh\nip address replace {router}/64 dev $1 nodad\n");
        let up = papers.write("up", &up);
        let options = format!("noauth\n+ipv6\nlcp-restart 1\nip-up-script {up}\n");
        let options = papers.write("options", &options);
        let [own, first] = [1, first].map(|host| plan::pool(UPLINK, host).to_string());
        let mut command = provider.command("pppoe-server");
        command.args(["-F", "-I", PROVIDER, "-L", &own, "-R", &first, "-N", "8", "-O", &options]);
        papers.record(&mut command);
        Self { process: provider.spawn(&mut command).unwrap(), _papers: papers }
    }

    /// Ends all sessions as PPPoE has it (RFC 2516, PADT), and accepts no more.
    pub(crate) fn close(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(LIMIT).unwrap();
    }

    /// Ends all sessions as PPP has it (RFC 1661, Terminate-Request), and accepts the next ones.
    pub(crate) fn hang_up(&self, lab: &Lab) {
        for pid in running(&lab.uplinks[UPLINK].provider, "pppd") {
            kill(pid, Signal::SIGTERM).unwrap();
        }
    }
}

/// Returns the processes of a namespace that run a program.
fn running(namespace: &Namespace, program: &str) -> Vec<Pid> {
    let all = namespace.run("ip", &["netns", "pids", namespace.name()]).unwrap();
    let named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program)
    };
    let pids = all.lines().map(|line| line.trim().parse().unwrap());
    pids.filter(named).map(Pid::from_raw).collect()
}

/// The gateway's pppd, which dials again whenever the line is lost; dropping it kills it.
pub(crate) struct Client {
    process: Process,
    papers: Files,
}

impl Client {
    /// Starts pppd with `options` beside the usual ones.
    pub(crate) fn start(lab: &Lab, options: &str) -> Self {
        let papers = Files::new();
        let options = format!(
            "noauth\nnoipdefault\n+ipv6\nifname {PPP}\nplugin rp-pppoe.so\nnic-{CARD}\npppoe-padi-timeout 1\n\
             persist\nmaxfail 0\nholdoff 1\nlcp-restart 1\nlcp-echo-interval 1\n\
             lcp-echo-failure 10\ndebug\n{options}\n"
        );
        let mut command = lab.gateway.command("pppd");
        command.args(["nodetach", "file", &papers.write("options", &options)]);
        papers.record(&mut command);
        Self { process: lab.gateway.spawn(&mut command).unwrap(), papers }
    }

    /// Hangs up for good, and restores what pppd changed.
    pub(crate) fn end(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(LIMIT).unwrap();
    }

    /// Waits until the line has the address `own` of the pool; returns its interface index.
    pub(crate) fn wait_for_line(&self, lab: &Lab, own: u8) -> u64 {
        let own = plan::pool(UPLINK, own).to_string();
        self.wait("a dialled line", || {
            let line = lines(lab).into_iter().find(|line| line["addr_info"][0]["local"] == own)?;
            line["ifindex"].as_u64()
        })
    }

    /// Waits until there is no line.
    pub(crate) fn wait_for_no_line(&self, lab: &Lab) {
        self.wait("the end of the line", || lines(lab).is_empty().then_some(()));
    }

    fn wait<T>(&self, what: &str, probe: impl Fn() -> Option<T>) -> T {
        let result = wait::until(what, LIMIT, || Ok(probe()));
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.papers.log()))
    }
}

/// Returns the gateway's lines that have an IPv4 address: `ip -j address show`.
fn lines(lab: &Lab) -> Vec<Value> {
    let shown = oracle::ip_json(&lab.gateway, &["-4", "address", "show", "type", "ppp"]).unwrap();
    // Of the interfaces of other types, empty objects are left.
    let all = shown.as_array().unwrap().iter();
    all.filter(|line| line["addr_info"].is_array()).cloned().collect()
}

/// Starts the provider's router advertisements, on each line.
pub(crate) fn advertise(lab: &Lab) -> Server {
    let lines = "interface=ppp*\nenable-ra\nra-param=ppp*,high,4,1800\n\
                 dhcp-range=2001:db8:a::,ra-only,64,10m\n";
    Server::start(&lab.uplinks[UPLINK].provider, lines).unwrap()
}

/// Returns the kernel's state of the line: `ip -j -d -s link show`.
pub(crate) fn link(lab: &Lab) -> Value {
    let shown = oracle::ip_json(&lab.gateway, &["-d", "-s", "link", "show", "dev", PPP]).unwrap();
    shown[0].clone()
}
