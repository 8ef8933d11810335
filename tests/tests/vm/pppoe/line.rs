//! Both ends of a line by PPPoE: the provider's access concentrator, and the gateway that dials.

use std::fs::{self, File};
use std::net::Ipv4Addr;

use linkbal_tests::dhcp::Server;
use linkbal_tests::namespace::{Namespace, Process};
use linkbal_tests::topology::Lab;
use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::{oracle, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::LIMIT;
use crate::lines::{PROVIDER, ip};

/// The uplink that is dialled, and the card that it is dialled by.
const UPLINK: usize = 0;
const CARD: &str = "wan-a";
/// The interface that comes of it.
pub(crate) const PPP: &str = "ppp0";

/// Takes the addresses of the card and its provider away: there, only PPPoE is spoken.
pub(crate) fn clear(lab: &Lab) {
    let nexthop = plan::nexthop(Family::V6, UPLINK);
    let flush = |interface| format!("address flush dev {interface} scope global\n");
    let route = format!("route delete default via {nexthop} dev {CARD}\n");
    ip(&lab.gateway, &(route + &flush(CARD)));
    ip(&lab.uplinks[UPLINK].provider, &flush(PROVIDER));
    lab.route_pool(UPLINK).unwrap();
}

/// What the daemons of this file are told and say; dropping it removes it.
struct Papers(TempDir);

impl Papers {
    fn new() -> Self {
        Self(TempDir::with_prefix("linkbal-ppp-").unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn log(&self) -> File {
        File::create(self.0.path().join("log")).unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }
}

/// The provider's access concentrator; dropping it kills it, and its sessions stay as they are.
pub(crate) struct Concentrator {
    process: Process,
    papers: Papers,
}

impl Concentrator {
    /// Starts one whose calls get the addresses of the pool from number `first` on.
    pub(crate) fn start(lab: &Lab, first: u8) -> Self {
        let provider = &lab.uplinks[UPLINK].provider;
        let papers = Papers::new();
        let options =
            papers.write("options", "noauth\n+ipv6\nlcp-echo-interval 0\nlcp-restart 1\n");
        let addresses = [plan::pool(UPLINK, 1), plan::pool(UPLINK, first)].map(|a| a.to_string());
        let mut command = provider.command("pppoe-server");
        command.args(["-F", "-I", PROVIDER, "-L", &addresses[0], "-R", &addresses[1], "-N", "8"]);
        command.args(["-O", &options]).stdout(papers.log()).stderr(papers.log());
        Self { process: provider.spawn(&mut command).unwrap(), papers }
    }

    /// Ends all sessions as PPPoE has it (RFC 2516, PADT), and takes no calls any more.
    pub(crate) fn close(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(LIMIT).unwrap();
    }

    /// Ends all sessions as PPP has it (RFC 1661, Terminate-Request), and takes the next calls.
    pub(crate) fn hang_up(&self, lab: &Lab) {
        for pid in running(&lab.uplinks[UPLINK].provider, "pppd") {
            kill(pid, Signal::SIGTERM).unwrap();
        }
    }
}

/// The processes of a namespace that run a program.
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
    papers: Papers,
}

impl Client {
    /// Starts pppd with `options` of its own.
    pub(crate) fn start(lab: &Lab, options: &str) -> Self {
        let papers = Papers::new();
        let all = format!(
            "noauth\nplugin rp-pppoe.so\nnic-{CARD}\npppoe-padi-timeout 1\nlcp-restart 1\n\
             noipdefault\n+ipv6\nlcp-echo-interval 1\nlcp-echo-failure 5\n\
             persist\nmaxfail 0\nholdoff 1\n{options}\n"
        );
        let mut command = lab.gateway.command("pppd");
        command.args(["nodetach", "debug", "file", &papers.write("options", &all)]);
        command.stdout(papers.log()).stderr(papers.log());
        Self { process: lab.gateway.spawn(&mut command).unwrap(), papers }
    }

    /// Hangs up for good, and puts back what it changed.
    pub(crate) fn end(mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
        self.process.wait(LIMIT).unwrap();
    }

    /// Waits until the line has another index than `former` and the address `own`; answers its
    /// index. Gives the provider's end what routers advertise.
    pub(crate) fn wait_for_line(&self, lab: &Lab, former: Option<u64>, own: u8) -> u64 {
        let own = plan::pool(UPLINK, own);
        let index = self.wait("a dialled line", || {
            let found = ends(&lab.gateway).into_iter().find(|end| end.address == own);
            found.map(|end| end.index).filter(|index| Some(*index) != former)
        });
        let provider = &lab.uplinks[UPLINK].provider;
        let far = self.wait("the provider's end of the line", || {
            ends(provider).into_iter().find(|end| end.peer == own)
        });
        let router = plan::nexthop(Family::V6, UPLINK);
        // Where an earlier line still has it, both lead to the same customer.
        ip(provider, &format!("address replace {router}/64 dev {} nodad", far.name));
        index
    }

    pub(crate) fn said(&self) -> String {
        self.papers.said()
    }
    /// Waits until there is no line.
    pub(crate) fn wait_for_the_end_of_the_line(&self, lab: &Lab) {
        self.wait("the end of the line", || ends(&lab.gateway).is_empty().then_some(()));
    }

    fn wait<T>(&self, what: &str, probe: impl Fn() -> Option<T>) -> T {
        let result = wait::until(what, LIMIT, || Ok(probe()));
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.papers.said()))
    }
}

/// The provider's router advertisements, on each line.
pub(crate) fn advertise(lab: &Lab) -> Server {
    let lines = "interface=ppp*\nenable-ra\nra-param=ppp*,high,4,1800\n\
                 dhcp-range=2001:db8:a::,ra-only,64,10m\n";
    Server::start(&lab.uplinks[UPLINK].provider, lines).unwrap()
}

/// One end of a line.
struct End {
    name: String,
    index: u64,
    address: Ipv4Addr,
    peer: Ipv4Addr,
}

/// The lines that end in a namespace and have their addresses.
fn ends(namespace: &Namespace) -> Vec<End> {
    let shown = oracle::ip_json(namespace, &["-4", "address", "show", "type", "ppp"]).unwrap();
    let all = shown.as_array().into_iter().flatten();
    all.filter_map(|interface| {
        let address =
            |key| -> Option<Ipv4Addr> { interface["addr_info"][0][key].as_str()?.parse().ok() };
        Some(End {
            name: interface["ifname"].as_str()?.to_owned(),
            index: interface["ifindex"].as_u64()?,
            address: address("local")?,
            peer: address("address")?,
        })
    })
    .collect()
}

/// What the kernel says of the line: `ip -j -d -s link show`.
pub(crate) fn link(lab: &Lab) -> Value {
    let shown = oracle::ip_json(&lab.gateway, &["-d", "-s", "link", "show", "dev", PPP]).unwrap();
    shown[0].clone()
}
