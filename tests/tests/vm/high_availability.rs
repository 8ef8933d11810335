//! The services of `examples/ha` as systemd runs them: in the right order at boot, and again whatever
//! happens to them. The machine is one gateway of a pair; its partner hears conntrackd, and is a VRRP router
//! where a test needs one.

#[path = "../gateway/pair/conntrackd.rs"]
#[expect(dead_code, reason = "what only the gateway's suite uses")]
mod conntrackd;
#[path = "../gateway/pair/files.rs"]
mod files;

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, StandbyGateway, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use self::conntrackd::Conntrackd;
use crate::fixture::{LIMIT, TICK};
use crate::leases::assert_survive;
use crate::machine::Machine;

/// The drop-ins, and the units that they belong to.
const DROP_INS: [(&str, &str); 3] = [
    ("conntrackd", include_str!("../../../examples/ha/conntrackd.service.conf")),
    ("keepalived", include_str!("../../../examples/ha/keepalived.service.conf")),
    ("nftables", include_str!("../../../examples/ha/nftables.service.conf")),
];
/// The guide itself, which has the files of networkd.
const GUIDE: &str = include_str!("../../../docs/high-availability.md");
/// The services that are enabled by hand, in the words of the guide.
const SERVICES: [&str; 3] = ["linkbal", "conntrackd", "keepalived"];
/// The firewall as Debian installs it, which the guide adds a line to.
const NFTABLES: &str = "/etc/nftables.conf";

/// Times of `keepalived.conf`, and what a slow guest has instead: a question takes it seconds.
const SLOW_VRRP: [(&str, &str); 4] = [
    ("advert_int 0.1\n", "advert_int 1\n"),
    ("interval 1\n", "interval 5\n"),
    ("timeout 3\n", "timeout 30\n"),
    ("rise 30\n", "rise 2\n"),
];

/// One gateway that systemd runs, and what its partner has.
struct Pair {
    machine: Machine,
    sync: Conntrackd,
    partner: StandbyGateway,
}

impl Pair {
    /// Boots a machine with all files where the guide puts them, and follows its steps from there.
    fn set_up() -> Self {
        let uplinks =
            [UplinkSpec::new("fiber", "wan-a", 30), UplinkSpec::new("cable", "wan-b", 70)];
        let lab = Lab::new(&uplinks).unwrap();
        let partner = lab.add_standby().unwrap();
        lab.remove_addresses(&lab.gateway).unwrap();
        partner.add_own_addresses(&lab).unwrap();
        lab.gateway.run("ip", &["route", "flush", "default"]).unwrap();
        let sync = Conntrackd::start(&lab, &partner.gateway, 1);
        let files = files(&lab);
        let pair = Self { machine: Machine::start_with(lab, &files), sync, partner };
        let machine = &pair.machine;
        machine.systemctl_ok(&["daemon-reload"]);
        machine.run("nft", &["-c", "-f", NFTABLES]);
        machine.systemctl_ok(&["enable", "nftables"]);
        machine.systemctl_ok(&["restart", "nftables"]);
        assert!(!pair.lan_passes(), "nobody is the master yet");
        machine.systemctl_ok(&[&["enable"][..], &SERVICES].concat());
        machine.systemctl_ok(&[&["restart"][..], &SERVICES].concat());
        pair.wait_for_master();
        pair
    }

    /// Returns whether the firewall lets packets of the LAN pass, as that of a master does.
    fn lan_passes(&self) -> bool {
        let set = ["list", "set", "inet", "high_availability", "standby"];
        !self.machine.run("nft", &set).contains(LAN_INTERFACE)
    }

    fn is_master(&self) -> bool {
        has_router(&self.machine.lab.gateway)
    }

    fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let result = wait::until(what, LIMIT, || Ok(condition().then_some(())));
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.machine.log()));
    }

    /// Waits until the gateway has the addresses, and forwards by both uplinks.
    fn wait_for_master(&self) {
        self.wait_for("a master", || self.is_master() && self.lan_passes());
        self.machine.wait_until_up();
        self.machine.wait_for_spread();
    }

    fn main_process(&self, service: &str) -> String {
        self.machine.property(service, "MainPID")
    }

    /// Sends a signal to the main process of a service, and waits for another one that is ready.
    fn replace(&self, service: &str, signal: &str) {
        let former = self.main_process(service);
        self.machine.run("kill", &[signal, &former]);
        self.wait_for_another(service, &former);
    }

    fn wait_for_another(&self, service: &str, former: &str) {
        self.wait_for(&format!("another {service}"), || {
            let process = self.main_process(service);
            let is_another = process != "0" && process != former;
            is_another && self.machine.property(service, "ActiveState") == "active"
        });
    }

    /// Waits until the partner knows as many connections as there are flows.
    fn wait_until_synchronised(&self, count: usize) {
        self.wait_for("connections at the partner", || {
            let known = self.sync.ask("-e");
            known.lines().filter(|line| line.contains("dport=80 ")).count() >= count
        });
    }

    /// Stops all services, removes what linkbal has in the kernel, and boots again.
    fn reboot(&mut self) {
        let services = [&["stop"][..], &SERVICES, &["nftables"]].concat();
        self.machine.systemctl_ok(&services);
        self.machine.run("linkbal", &["teardown"]);
        assert!(!self.is_master());
        self.machine.reboot();
    }

    /// Returns a time in the life of a service since boot, in microseconds.
    fn time(&self, service: &str, property: &str) -> u64 {
        self.machine.property(service, property).parse().unwrap()
    }
}

/// Returns all files of `/etc`, with names and addresses of the lab.
fn files(lab: &Lab) -> Vec<(&'static str, String)> {
    let replacements = files::replacements(lab);
    let mut sync = files::replacements(lab);
    for number in 0..2 {
        let address = StandbyGateway::sync_address(number);
        sync.add(address.clone(), address);
    }
    let linkbal = files::linkbal(lab, "/etc/linkbal/hash_seed");
    let slow_probes = [("[probe]\n", "[probe]\ninterval = \"500ms\"\ntimeout = \"3s\"\n")];
    let keepalived = replacements.apply(files::KEEPALIVED, &["eth0", "eth1", "192.168.1.1"]);
    let firewall = fs::read_to_string(NFTABLES).unwrap();
    let mut files = vec![
        ("linkbal/linkbal.toml", for_slow_guest(linkbal, &slow_probes)),
        ("linkbal/hash_seed", "00112233445566778899aabbccddeeff".to_owned()),
        ("keepalived/keepalived.conf", for_slow_guest(keepalived, &SLOW_VRRP)),
        ("keepalived/notify.sh", replacements.apply(files::NOTIFY, &["eth0", "192.168.1.1"])),
        ("conntrackd/conntrackd.conf", sync.apply(files::CONNTRACKD, &["eth3", "192.168.255.1"])),
        ("nftables.d/ha.nft", files::firewall(lab)),
        ("nftables.conf", firewall + "include \"/etc/nftables.d/ha.nft\"\n"),
        // Where a test can read it.
        ("default/keepalived", "DAEMON_ARGS=\"--log-console --log-detail\"\n".to_owned()),
    ];
    let path = |service| match service {
        "conntrackd" => "systemd/system/conntrackd.service.d/linkbal.conf",
        "keepalived" => "systemd/system/keepalived.service.d/linkbal.conf",
        _ => "systemd/system/nftables.service.d/linkbal.conf",
    };
    files.extend(DROP_INS.map(|(service, text)| (path(service), text.to_owned())));
    files
}

/// Returns a file with other times, for a guest that shares its processor.
fn for_slow_guest(mut text: String, times: &[(&str, &str)]) -> String {
    for (shipped, here) in times {
        assert!(text.contains(shipped), "{shipped} is not in:\n{text}");
        text = text.replace(shipped, here);
    }
    text
}

/// Returns whether a gateway has the address that hosts of the LAN use as their router.
fn has_router(gateway: &Namespace) -> bool {
    let shown = gateway.run("ip", &["-o", "address", "show", "dev", LAN_INTERFACE]).unwrap();
    shown.contains(&format!(" {}/", plan::lan_gateway(Family::V4)))
}

/// A VRRP router that is worse than a gateway that is well, and better than one without linkbal.
struct Rival {
    process: Process,
    _folder: TempDir,
}

impl Rival {
    fn start(gateway: &Arc<Namespace>) -> Self {
        let folder = TempDir::with_prefix("linkbal-rival-").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let router = plan::lan_gateway(Family::V4);
        let config = format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance gateway {{\n state BACKUP\n priority 75\n \
             interface {LAN_INTERFACE}\n virtual_router_id 51\n advert_int 1\n \
             virtual_ipaddress {{\n  {router}/24 dev {LAN_INTERFACE}\n }}\n}}\n"
        );
        fs::write(path("config"), config).unwrap();
        let mut command = gateway.command("keepalived");
        command.args(["--dont-fork", "--use-file", &path("config"), "--pid", &path("pid")]);
        command.args(["--vrrp_pid", &path("vrrp.pid")]).stdin(Stdio::null());
        Self { process: gateway.spawn(&mut command).unwrap(), _folder: folder }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // Killed at once, its child would be left behind.
        if self.process.signal(Signal::SIGTERM).is_ok() {
            let _ = self.process.wait(LIMIT);
        }
    }
}

#[test]
fn services_of_a_pair_start_in_their_order_and_come_back_when_they_are_killed() {
    let mut pair = Pair::set_up();
    pair.reboot();
    pair.wait_for_master();
    assert_order(&pair);
    let flows = pair.machine.long_flows();
    let before = flows.reports();
    assert_replaces_keepalived(&pair);
    assert_replaces_conntrackd(&pair, before.len());
    assert_survive(&flows, &before, 40, |_| true);
}

#[test]
fn a_gateway_of_a_pair_is_the_master_while_it_is_well_whatever_is_started_again() {
    let pair = Pair::set_up();
    assert_gives_way_without_linkbal(&pair);
    assert_waits_for_the_cable(&pair);
    // Rules that are loaded anew know who is the master.
    pair.machine.systemctl_ok(&["reload", "nftables"]);
    pair.wait_for_master();
    assert_networkd_keeps_the_addresses(&pair);
}

/// Checks that nothing of the LAN passed before the daemon ran, and that keepalived began last.
fn assert_order(pair: &Pair) {
    for service in SERVICES.iter().chain(&["nftables"]) {
        assert_eq!(pair.machine.property(service, "ActiveState"), "active", "{service}");
        assert_eq!(pair.machine.property(service, "UnitFileState"), "enabled", "{service}");
    }
    let begin = |service| pair.time(service, "ExecMainStartTimestampMonotonic");
    let ready = |service| pair.time(service, "ActiveEnterTimestampMonotonic");
    assert!(ready("nftables") <= begin("linkbal"));
    assert!(ready("linkbal") <= begin("keepalived"));
    assert!(ready("conntrackd") <= begin("keepalived"));
}

/// Checks that keepalived is started again, and is the master again.
fn assert_replaces_keepalived(pair: &Pair) {
    pair.replace("keepalived", "-KILL");
    pair.wait_for_master();
    // With all its processes, nobody takes the addresses away.
    let former = pair.main_process("keepalived");
    pair.machine.systemctl_ok(&["kill", "--signal=KILL", "keepalived"]);
    pair.wait_for_another("keepalived", &former);
    pair.wait_for_master();
}

/// Checks that conntrackd is started again, that the partner gets what it missed, and that the master stays
/// the master; `count` connections live.
fn assert_replaces_conntrackd(pair: &Pair, count: usize) {
    let master = pair.main_process("keepalived");
    pair.replace("conntrackd", "-KILL");
    let later = later_flows(pair);
    pair.wait_until_synchronised(count + later.reports().len());
    // By the watchdog.
    pair.replace("conntrackd", "-STOP");
    let shown = pair.machine.run("conntrackd", &["-s"]);
    assert!(shown.starts_with("cache internal:"), "{shown}");
    pair.wait_until_synchronised(count);
    assert_eq!(pair.main_process("keepalived"), master, "{}", pair.machine.log());
    assert!(pair.is_master(), "{}", pair.machine.log());
}

/// Starts flows between other ends than those of [`Machine::long_flows`].
fn later_flows(pair: &Pair) -> LongFlows {
    let flow = |n: usize| FlowSpec::new(Family::ALL[n % 2], Protocol::Udp, 50 + n, 50 + n, HTTP);
    let flows: Vec<_> = (0..10).map(flow).collect();
    LongFlows::start(&pair.machine.lab.lan, &flows, TICK).unwrap()
}

/// Checks that conntrackd starts once its address is there, however long that takes.
fn assert_waits_for_the_cable(pair: &Pair) {
    let cable = StandbyGateway::sync_interface();
    let address = format!("{}/24", StandbyGateway::sync_address(0));
    pair.machine.run("ip", &["address", "del", &address, "dev", cable]);
    assert!(!pair.machine.systemctl(&["restart", "conntrackd"]).status.success());
    // systemd's own limit is five attempts.
    pair.wait_for("more attempts", || pair.time("conntrackd", "NRestarts") > 6);
    pair.machine.run("ip", &["address", "add", &address, "dev", cable]);
    pair.wait_for("conntrackd", || pair.machine.property("conntrackd", "ActiveState") == "active");
}

/// Checks that a gateway without a daemon is the master as long as there is no better one, and again once
/// the daemon runs.
fn assert_gives_way_without_linkbal(pair: &Pair) {
    let logged = |text: &str| pair.machine.logged(text);
    let [worse, better] =
        ["from 100 to 50", "from 50 to 100"].map(|change| format!("effective priority {change}"));
    let (worsened, improved) = (logged(&worse), logged(&better));
    pair.machine.systemctl_ok(&["stop", "linkbal"]);
    pair.wait_for("a lower priority", || logged(&worse) > worsened);
    assert!(pair.is_master(), "{}", pair.machine.log());
    pair.machine.wait_for_spread();
    let rival = Rival::start(&pair.partner.gateway);
    pair.wait_for("another master", || !pair.is_master() && has_router(&pair.partner.gateway));
    pair.wait_for("a closed firewall", || !pair.lan_passes());
    pair.machine.systemctl_ok(&["start", "linkbal"]);
    pair.wait_for("a way back", || pair.is_master() && !has_router(&pair.partner.gateway));
    assert!(logged(&better) > improved, "{}", pair.machine.log());
    drop(rival);
    pair.wait_for_master();
}

/// Checks that networkd with the files of the guide leaves alone what keepalived has set, also when it starts
/// again.
fn assert_networkd_keeps_the_addresses(pair: &Pair) {
    for (name, content) in networks(&pair.machine.lab) {
        pair.machine.add_network(name, &content);
    }
    let partner = plan::own_lan_address(Family::V4, 1).to_string();
    let by_partner = ["route", "show", "default", "via", &partner];
    let keepalived = pair.main_process("keepalived");
    for verb in ["start", "restart"] {
        pair.machine.run("ip", &["route", "flush", "default", "via", &partner]);
        pair.machine.systemctl_ok(&[verb, "systemd-networkd"]);
        pair.wait_for("networkd", || pair.machine.run("ip", &by_partner).contains("metric 1000"));
        assert!(pair.is_master(), "{verb}: {}", pair.machine.log());
        pair.wait_for_master();
    }
    assert_eq!(pair.main_process("keepalived"), keepalived);
}

/// Returns the files of networkd in the guide: names and contents for the lab.
fn networks(lab: &Lab) -> Vec<(&'static str, String)> {
    let mut replacements = files::replacements(lab);
    for number in 0..2 {
        let own = plan::own_lan_address(Family::V4, number).to_string();
        replacements.add(format!("192.168.1.{}", 2 + number), own);
    }
    let (_, block) = GUIDE.split_once("```ini\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let files = block.split("# /etc/systemd/network/").skip(1);
    files
        .map(|file| {
            let (name, content) = file.split_once('\n').unwrap();
            (name, replacements.apply(content, &[]))
        })
        .collect()
}
