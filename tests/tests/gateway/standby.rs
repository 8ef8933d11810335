//! Two gateways, one of which has the addresses: connections outlive the move of these to the
//! other.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, StandbyGateway, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::turn;
use linkbal_lab::wait;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, is_udp, wait_for_answers, with_key};

/// Number of flows of each kind.
const FLOWS: usize = 20;

/// A common firewall that drops new connections from outside. An answer that arrives before its
/// connection is known does not begin another one then.
const FIREWALL: &str = r#"table inet firewall {
    chain input {
        type filter hook input priority filter;
        iifname { "wan-a", "wan-b" } ct state { invalid, new } meta l4proto { tcp, udp } drop
    }
}"#;

/// The conntrackd of one gateway.
struct Conntrackd {
    namespace: Arc<Namespace>,
    _process: Process,
    folder: TempDir,
}

impl Conntrackd {
    fn start(namespace: &Arc<Namespace>, number: usize) -> Self {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (own, other) =
            (StandbyGateway::sync_address(number), StandbyGateway::sync_address(1 - number));
        let config = format!(
            "Sync {{
                Mode FTFW {{ }}
                UDP {{
                    IPv4_address {own}
                    IPv4_Destination_Address {other}
                    Port 3780
                    Interface {interface}
                    Checksum on
                }}
                Options {{ TCPWindowTracking Off }}
            }}
            General {{
                HashSize 8192
                HashLimit 65535
                LockFile {lock}
                UNIX {{ Path {socket} }}
                NetlinkBufferSize 2097152
                NetlinkBufferSizeMaxGrowth 8388608
                Filter From Kernelspace {{
                    Address Ignore {{
                        IPv4_address 127.0.0.1
                        IPv4_address {own}
                        IPv4_address {other}
                        IPv6_address ::1
                    }}
                }}
            }}\n",
            interface = StandbyGateway::sync_interface(),
            lock = path("lock"),
            socket = path("socket"),
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let mut command = namespace.command("conntrackd");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.args(["-C", &path("config")]).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = namespace.spawn(&mut command).unwrap();
        wait::until("conntrackd", LIMIT, || {
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(process.ended()?.is_none(), "conntrackd ended: {log}");
            Ok(folder.path().join("socket").exists().then_some(()))
        })
        .unwrap();
        Self { namespace: Arc::clone(namespace), _process: process, folder }
    }

    fn ask(&self, action: &str) -> String {
        let config = self.folder.path().join("config").display().to_string();
        self.namespace.run("conntrackd", &["-C", &config, action]).unwrap()
    }

    /// Runs the actions of a new master's script, except those for the addresses.
    fn promote(&self) {
        for action in ["-c", "-f", "-R", "-B"] {
            self.ask(action);
        }
    }

    /// Runs the actions of a new backup's script.
    fn demote(&self) {
        for action in ["-t", "-n"] {
            self.ask(action);
        }
    }
}

/// Both gateways, with their daemons.
struct Pair {
    gateway: Gateway,
    second_daemon: Daemon,
    partner: StandbyGateway,
    sync: [Conntrackd; 2],
    _seed: TempDir,
}

impl Pair {
    fn start() -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let partner = lab.add_standby().unwrap();
        let seed = TempDir::with_prefix("linkbal-lab-").unwrap();
        let seed_file = seed.path().join("seed");
        fs::write(&seed_file, "00112233445566778899aabbccddeeff\n").unwrap();
        let tune = |config: &str| {
            let mut config = config.to_owned();
            for (index, uplink) in lab.uplinks.iter().enumerate() {
                let [own, next] = [plan::uplink_address, plan::nexthop]
                    .map(|of| Family::ALL.map(|family| of(family, index).to_string()));
                let keys = format!(
                    "gateway = {{ ipv4 = \"{}\", ipv6 = \"{}\" }}\nvirtual_addresses = {own:?}",
                    next[0], next[1],
                );
                config = with_key(&config, &uplink.spec.name, &keys);
            }
            let _ = writeln!(config, "\n[kernel]\nhash_seed_file = {seed_file:?}");
            config
        };
        let sync = [&lab.gateway, &partner.gateway];
        let config = tune(&crate::fixture::config(&lab));
        let second_daemon = Daemon::start_in(&partner.gateway, &config).unwrap();
        let sync = [Conntrackd::start(sync[0], 0), Conntrackd::start(sync[1], 1)];
        for gateway in [&lab.gateway, &partner.gateway] {
            gateway.run("ip", &["route", "flush", "default"]).unwrap();
            gateway.load_nft(FIREWALL).unwrap();
        }
        let gateway = Gateway::start(lab, |_| config);
        let mut pair = Self { gateway, second_daemon, partner, sync, _seed: seed };
        let standby = |status: &serde_json::Value| {
            let reasons = status["uplinks"].as_array().into_iter().flatten();
            let mut reasons = reasons.flat_map(|uplink| [&uplink["ipv4"], &uplink["ipv6"]]);
            reasons.all(|family| {
                family["reason"].as_str().is_some_and(|reason| reason.starts_with("standby"))
            })
        };
        pair.second_daemon.wait_for("a partner on standby", LIMIT, standby).unwrap();
        pair
    }

    fn namespaces(&self) -> [&Namespace; 2] {
        [&self.gateway.lab.gateway, &self.partner.gateway]
    }

    /// Moves the addresses as keepalived does when mastership is handed over.
    fn switch_over(&mut self, from: usize, to: usize) {
        let [old, new] = [from, to].map(|number| self.namespaces()[number]);
        self.gateway.lab.remove_addresses(old).unwrap();
        // A script may commit first; keepalived by itself brings the addresses first.
        if to == 0 {
            self.sync[to].promote();
        }
        self.gateway.lab.assign_addresses(new).unwrap();
        if to == 1 {
            self.sync[to].promote();
        }
        self.sync[from].demote();
    }

    fn wait_until_up(&mut self, number: usize) {
        let daemon = if number == 0 { &mut self.gateway.daemon } else { &mut self.second_daemon };
        daemon.wait_until_up(LIMIT).unwrap();
    }

    /// Waits until the partner knows at least `count` connections.
    fn wait_until_synchronised(&self, count: usize) {
        wait::until("synchronised connections", LIMIT, || {
            let known = self.sync[1].ask("-e");
            let of_flows = known.lines().filter(|line| line.contains("dport=80 ")).count();
            Ok((of_flows >= count).then_some(()))
        })
        .unwrap();
    }

    fn logs(&self) -> String {
        format!("{}\n--- partner ---\n{}", self.gateway.daemon.log(), self.second_daemon.log())
    }
}

/// Checks that none of the chosen flows died, moved or failed.
fn assert_alive(
    pair: &Pair,
    flows: &LongFlows,
    before: &[FlowReport],
    chosen: impl Fn(&FlowReport) -> bool,
) {
    let answered = wait::until("answers on each flow", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| chosen(old));
        let enough = pairs.all(|(old, new)| new.closed || new.answers >= old.answers + 5);
        Ok(enough.then_some(()))
    });
    let now = flows.settle().unwrap();
    let pairs: Vec<_> = before.iter().zip(&now).filter(|(old, _)| chosen(old)).collect();
    let harmed = pairs.iter().filter(|(old, new)| {
        new.answers < old.answers + 5
            || new.closed
            || new.moved != old.moved
            || new.errors != old.errors
    });
    let harmed: Vec<_> = harmed
        .map(|(old, new)| (new.spec, old.uplink(), new.uplink(), new.closed, new.errors))
        .collect();
    assert!(
        harmed.is_empty() && answered.is_ok() && pairs.len() >= FLOWS,
        "{} of {} flows: {harmed:?}\n{}",
        harmed.len(),
        pairs.len(),
        pair.logs()
    );
}

#[test]
fn connections_survive_a_switchover_and_the_way_back() {
    let _turn = turn::alone();
    let mut pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        let before = flows.settle().unwrap();
        if from == 0 && to == 1 {
            pair.wait_until_synchronised(4 * FLOWS);
        }
        pair.switch_over(from, to);
        assert_alive(&pair, &flows, &before, |_| true);
        pair.wait_until_up(to);
        // New flows are shared by both uplinks, and all answered.
        pair.gateway.assert_uplinks(20, &[0, 1]);
        assert_alive(&pair, &flows, &before, |_| true);
    }
}

#[test]
fn connections_survive_a_power_loss_of_the_active_gateway() {
    let _turn = turn::alone();
    let mut pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    let before = flows.settle().unwrap();
    pair.wait_until_synchronised(4 * FLOWS);
    let lab = &pair.gateway.lab;
    let uplinks = lab.uplinks.iter().map(|uplink| uplink.spec.interface.as_str());
    for interface in [LAN_INTERFACE, StandbyGateway::sync_interface()].into_iter().chain(uplinks) {
        lab.gateway.run("ip", &["link", "set", interface, "down"]).unwrap();
    }
    pair.sync[1].promote();
    lab.assign_addresses(&pair.partner.gateway).unwrap();
    assert_alive(&pair, &flows, &before, |_| true);
    pair.wait_until_up(1);
    pair.gateway.assert_uplinks(20, &[0, 1]);
    assert_alive(&pair, &flows, &before, |_| true);
}

#[test]
fn udp_flows_that_were_never_synchronised_keep_their_uplink_by_the_seed() {
    let _turn = turn::alone();
    let pair = Pair::start();
    let flows = pair.gateway.long_flows(FLOWS);
    let before = flows.settle().unwrap();
    let [old, new] = pair.namespaces();
    pair.gateway.lab.remove_addresses(old).unwrap();
    // Nothing is committed.
    pair.gateway.lab.assign_addresses(new).unwrap();
    wait_for_answers(&flows, &before, 5, is_udp);
    let now = flows.settle().unwrap();
    // Their port may be another one: a new connection takes what is free.
    let moved =
        before.iter().zip(&now).filter(|(old, new)| is_udp(old) && old.uplink() != new.uplink());
    let moved: Vec<_> = moved.map(|(old, new)| (old.spec, old.uplink(), new.uplink())).collect();
    assert!(moved.is_empty(), "{} flows: {moved:?}\n{}", moved.len(), pair.logs());
}
