//! Two gateways with keepalived and conntrackd as `examples/ha` sets them up: whatever happens to the
//! master, connections go on at its partner.

use std::time::{Duration, Instant};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Segment};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, HTTPS, LongFlows, Protocol};
use linkbal_lab::{turn, wait};
use nix::sys::signal::Signal;

use crate::fixture::LIMIT;
use crate::pair::{Keepalived, Pair, assert_alive};

/// Number of flows of each kind, and of sticky sessions.
const FLOWS: usize = 20;
/// Number of flows that measure the gap, half of them of each family.
const CLOCKS: usize = 8;
/// The pause between two requests of these.
const TICK: Duration = Duration::from_millis(10);
/// Longest gap that is no failure: generous, for busy machines.
const MAX_GAP: Duration = Duration::from_secs(5);

/// Both gateways with all that runs on them, and flows through the master.
struct Cluster {
    flows: LongFlows,
    clocks: LongFlows,
    sessions: Vec<(FlowSpec, usize)>,
    keepalived: [Option<Keepalived>; 2],
    pair: Pair,
}

impl Cluster {
    /// Starts both, the first one as the master.
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts both, and prepares the master before flows begin.
    fn start_with(prepare: impl FnOnce(&mut Pair)) -> Self {
        let mut pair = Pair::start_without_addresses();
        let first = pair.start_keepalived(0);
        wait_for_master(&pair, 0, &[&first]);
        let second = pair.start_keepalived(1);
        pair.wait_until_up(0);
        prepare(&mut pair);
        let flows = pair.gateway.long_flows(FLOWS);
        let clocks = LongFlows::start(&pair.gateway.lab.lan, &clocks(), TICK).unwrap();
        let sessions = sessions(&pair);
        Self { flows, clocks, sessions, keepalived: [Some(first), Some(second)], pair }
    }

    /// Makes a change after which `to` is the master, and checks that no connection dies or changes its
    /// uplink.
    fn hand_over(&mut self, what: &str, to: usize, change: impl FnOnce(&mut Self)) {
        self.pair.wait_until_synchronised(to, 4 * FLOWS);
        let before = self.flows.settle().unwrap();
        let ticks = self.clocks.settle().unwrap();
        let begun = Instant::now();
        change(self);
        let keepalived: Vec<_> = self.keepalived.iter().flatten().collect();
        wait_for_master(&self.pair, to, &keepalived);
        let taken = begun.elapsed();
        assert_alive(&self.pair, &self.flows, &before, FLOWS, |_| true);
        let gap = gap(&ticks, &self.clocks.settle().unwrap());
        println!("{what}: {gap:?} without packets; the addresses moved after {taken:?}");
        assert!(gap < MAX_GAP, "{what}: {gap:?}\n{}", self.logs());
        self.pair.wait_until_up(to);
        // New flows are shared by both uplinks, and sessions stay where they were.
        self.pair.gateway.assert_uplinks(20, &[0, 1]);
        let (specs, uplinks): (Vec<_>, Vec<_>) = self.sessions.iter().copied().unzip();
        let seen = self.pair.gateway.try_open(&specs);
        let seen: Vec<_> = seen.iter().map(|seen| seen.uplink().unwrap_or(usize::MAX)).collect();
        assert_eq!(seen, uplinks, "{what}: sessions moved\n{}", self.logs());
        assert_alive(&self.pair, &self.flows, &before, FLOWS, |_| true);
    }

    /// Waits until a gateway has given up the addresses, and is the backup of its partner.
    fn wait_for_backup(&mut self, number: usize) {
        wait::until("a backup", LIMIT, || {
            let last = self.keepalived[number].as_ref().and_then(|keepalived| {
                let log = keepalived.log();
                log.lines().rev().find(|line| line.contains("Entering ")).map(str::to_owned)
            });
            Ok(last.is_some_and(|line| line.contains("BACKUP")).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        self.pair.wait_until_on_standby(number);
    }

    fn logs(&self) -> String {
        let keepalived = self.keepalived.iter().flatten().map(Keepalived::log);
        format!("{}\n{}", keepalived.collect::<Vec<_>>().join("\n---\n"), self.pair.logs())
    }

    /// Stops all that a gateway does, the links aside.
    fn freeze(&mut self, number: usize) {
        self.pair.gateway.lab.set_forwarding_of(number, false).unwrap();
        self.signal_all(number, Signal::SIGSTOP);
    }

    fn thaw(&mut self, number: usize) {
        self.signal_all(number, Signal::SIGCONT);
        self.pair.gateway.lab.set_forwarding_of(number, true).unwrap();
    }

    fn signal_all(&mut self, number: usize, signal: Signal) {
        self.keepalived[number].as_ref().unwrap().signal_all(signal);
        self.pair.sync[number].signal(signal);
        self.pair.daemon(number).signal(signal).unwrap();
    }

    /// Pulls the cable of a gateway out of a segment, or plugs it in again.
    fn set_cable(&self, number: usize, segment: Segment, plugged: bool) {
        let Pair { gateway, partner, .. } = &self.pair;
        gateway.lab.set_cable_of(partner, number, segment, plugged).unwrap();
    }
}

fn clocks() -> Vec<FlowSpec> {
    let clock = |n| {
        let family = Family::ALL[n % 2];
        FlowSpec::new(family, Protocol::Udp, 80 + n, 80 + n, HTTP)
    };
    (0..CLOCKS).map(clock).collect()
}

/// Begins sticky sessions; returns a flow of each, and its uplink.
fn sessions(pair: &Pair) -> Vec<(FlowSpec, usize)> {
    let flow = |n| FlowSpec::new(Family::ALL[n % 2], Protocol::Tcp, n, 3 * n, HTTPS);
    let flows: Vec<_> = (0..FLOWS).map(flow).collect();
    let seen = pair.gateway.try_open(&flows);
    let uplinks = seen.iter().map(|seen| seen.uplink().unwrap());
    flows.iter().copied().zip(uplinks).collect()
}

/// Returns the time for which the clock that lost most got no answers.
fn gap(before: &[FlowReport], now: &[FlowReport]) -> Duration {
    let lost = before.iter().zip(now).map(|(old, new)| new.losses - old.losses);
    TICK * u32::try_from(lost.max().unwrap()).unwrap()
}

/// Waits until gateway `number` alone has the LAN's address.
fn wait_for_master(pair: &Pair, number: usize, keepalived: &[&Keepalived]) {
    let has_it = |number: usize| {
        let namespace = pair.namespaces()[number];
        let addresses = namespace.run("ip", &["-o", "address", "show", "dev", LAN_INTERFACE]);
        let address = format!(" {}/", plan::lan_gateway(Family::V6));
        addresses.map(|addresses| addresses.contains(&address))
    };
    wait::until("a master", LIMIT, || Ok((has_it(number)?).then_some(()))).unwrap_or_else(
        |error| {
            let logs: Vec<_> = keepalived.iter().map(|each| each.log()).collect();
            panic!("{error:#}\n{}\n{}", logs.join("\n---\n"), pair.logs())
        },
    );
}

#[test]
fn connections_survive_a_planned_handover_and_the_way_back() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("keepalived is stopped", 1, |cluster| {
        cluster.keepalived[0].as_mut().unwrap().stop();
    });
    cluster.keepalived[0] = Some(cluster.pair.start_keepalived(0));
    cluster.hand_over("keepalived is stopped, back again", 0, |cluster| {
        cluster.keepalived[1].as_mut().unwrap().stop();
    });
}

/// Every cable of a gateway.
const ALL: [Segment; 4] = [Segment::Lan, Segment::Uplink(0), Segment::Uplink(1), Segment::Sync];

#[test]
fn connections_survive_a_power_loss_of_the_master() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("power loss", 1, |cluster| {
        ALL.iter().for_each(|segment| cluster.set_cable(0, *segment, false));
    });
    ALL.iter().rev().for_each(|segment| cluster.set_cable(0, *segment, true));
    cluster.wait_for_backup(0);
    cluster.hand_over("power loss, back again", 0, |cluster| {
        ALL.iter().for_each(|segment| cluster.set_cable(1, *segment, false));
    });
}

#[test]
fn connections_survive_the_death_of_the_daemon() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("linkbal is killed", 1, |cluster| {
        cluster.pair.daemon(0).stop(Signal::SIGKILL).unwrap();
    });
    cluster.pair.restart_daemon(0);
    cluster.hand_over("linkbal is killed, back again", 0, |cluster| {
        cluster.pair.daemon(1).stop(Signal::SIGKILL).unwrap();
    });
}

#[test]
fn connections_survive_a_cut_lan_cable_of_the_master() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("LAN cable", 1, |cluster| cluster.set_cable(0, Segment::Lan, false));
    cluster.set_cable(0, Segment::Lan, true);
    cluster.wait_for_backup(0);
    cluster.hand_over("LAN cable, back again", 0, |cluster| {
        cluster.set_cable(1, Segment::Lan, false);
    });
}

#[test]
fn connections_survive_a_cut_uplink_cable_of_the_master() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("uplink cable", 1, |cluster| {
        cluster.set_cable(0, Segment::Uplink(0), false);
    });
    cluster.set_cable(0, Segment::Uplink(0), true);
    cluster.hand_over("uplink cable, back again", 0, |cluster| {
        cluster.set_cable(1, Segment::Uplink(1), false);
    });
}

/// Checks that a master without the addresses of its uplinks, which keepalived would set up again only at
/// its next handover, is no gateway on standby.
#[test]
fn connections_survive_uplinks_that_lose_their_addresses() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("addresses", 1, |cluster| {
        let lab = &cluster.pair.gateway.lab;
        for uplink in &lab.uplinks {
            let device = uplink.spec.interface.as_str();
            let flush = ["address", "flush", "dev", device, "scope", "global"];
            lab.gateway.run("ip", &flush).unwrap();
        }
    });
}

#[test]
fn a_firewall_that_is_loaded_anew_knows_who_is_the_master() {
    let _turn = turn::alone();
    let cluster = Cluster::start();
    for (number, is_master) in [(0, true), (1, false)] {
        let passes = || Ok((cluster.pair.lets_lan_pass(number) == is_master).then_some(()));
        wait::until("the firewall", LIMIT, passes).unwrap();
        cluster.pair.reload_firewall(number);
        assert!(cluster.pair.lets_lan_pass(number), "the set is empty at first");
        let namespace = cluster.pair.namespaces()[number];
        cluster.keepalived[number].as_ref().unwrap().refresh(namespace);
        assert_eq!(cluster.pair.lets_lan_pass(number), is_master);
    }
}

#[test]
fn a_new_master_whose_conntrackd_hangs_lets_packets_pass() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.pair.sync[1].signal(Signal::SIGSTOP);
    cluster.keepalived[0].as_mut().unwrap().stop();
    let passes = || Ok(cluster.pair.lets_lan_pass(1).then_some(()));
    wait::until("the LAN passes", LIMIT, passes)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    cluster.pair.sync[1].signal(Signal::SIGCONT);
    cluster.pair.wait_until_up(1);
    cluster.pair.gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn connections_survive_a_master_that_freezes_and_thaws() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start();
    cluster.hand_over("freeze", 1, |cluster| cluster.freeze(0));
    let before = cluster.flows.settle().unwrap();
    // It has the addresses still, and thinks that it is the master.
    cluster.thaw(0);
    cluster.wait_for_backup(0);
    assert_alive(&cluster.pair, &cluster.flows, &before, FLOWS, |_| true);
}

/// Flows that began while an uplink was drained are where the hash would not put them: a packet that
/// comes before its connection is committed must not begin another one.
#[test]
fn connections_that_the_hash_would_put_elsewhere_survive_handovers() {
    let _turn = turn::alone();
    let mut cluster = Cluster::start_with(|pair| {
        pair.daemon(0).run(&["drain", "fiber"]).unwrap();
        pair.gateway.wait_for_uplinks(&[1]);
    });
    cluster.pair.daemon(0).run(&["enable", "fiber"]).unwrap();
    cluster.pair.gateway.wait_for_uplinks(&[0, 1]);
    // Sessions are not carried over: these fall by the seed.
    cluster.sessions.clear();
    for (from, to) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
        cluster.hand_over("drained before", to, |cluster| {
            cluster.keepalived[from].as_mut().unwrap().stop();
        });
        cluster.keepalived[from] = Some(cluster.pair.start_keepalived(from));
    }
}
