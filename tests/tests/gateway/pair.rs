//! Two gateways, of which one has the addresses, with the programs and files of `examples/ha`.

mod conntrackd;
mod files;
mod keepalived;

use std::fs;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::{self, LAN_INTERFACE, Lab, StandbyGateway, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use self::conntrackd::Conntrackd;
pub(crate) use self::keepalived::Keepalived;
use crate::fixture::{Gateway, LIMIT};

/// Both gateways, with their daemons.
pub(crate) struct Pair {
    pub(crate) gateway: Gateway,
    second_daemon: Daemon,
    pub(crate) partner: StandbyGateway,
    pub(crate) sync: [Conntrackd; 2],
    config: String,
    _seed: TempDir,
}

impl Pair {
    /// Starts both, the addresses at the first one.
    pub(crate) fn start() -> Self {
        let mut pair = Self::start_daemons(|_, _| {});
        pair.gateway.daemon.wait_until_up(LIMIT).unwrap();
        pair.wait_until_on_standby(1);
        pair
    }

    /// Starts both on standby, with LAN addresses of their own.
    pub(crate) fn start_without_addresses() -> Self {
        let mut pair = Self::start_daemons(|lab, partner| {
            lab.remove_addresses(&lab.gateway).unwrap();
            partner.add_own_addresses(lab).unwrap();
        });
        (0..2).for_each(|number| pair.wait_until_on_standby(number));
        pair
    }

    fn start_daemons(prepare: impl FnOnce(&Lab, &StandbyGateway)) -> Self {
        // The names of the shipped configuration.
        let uplinks =
            [UplinkSpec::new("fiber", "wan-a", 30), UplinkSpec::new("cable", "wan-b", 70)];
        let lab = Lab::new(&uplinks).unwrap();
        let partner = lab.add_standby().unwrap();
        prepare(&lab, &partner);
        let seed = TempDir::with_prefix("linkbal-lab-").unwrap();
        fs::write(seed.path().join("seed"), "00112233445566778899aabbccddeeff\n").unwrap();
        let config = configuration(&lab, &seed);
        let sync = [&lab.gateway, &partner.gateway];
        for gateway in sync {
            gateway.run("ip", &["route", "flush", "default"]).unwrap();
            load_firewall(&lab, gateway);
        }
        let sync = [0, 1].map(|number| Conntrackd::start(&lab, sync[number], number));
        let second_daemon = Daemon::start_in(&partner.gateway, &config).unwrap();
        let gateway = Gateway::start_degraded(lab, |_| config.clone());
        Self { gateway, second_daemon, partner, sync, config, _seed: seed }
    }

    pub(crate) fn namespaces(&self) -> [&Namespace; 2] {
        [&self.gateway.lab.gateway, &self.partner.gateway]
    }

    pub(crate) fn daemon(&mut self, number: usize) -> &mut Daemon {
        if number == 0 { &mut self.gateway.daemon } else { &mut self.second_daemon }
    }

    /// Starts the daemon of a gateway again, which has ended.
    pub(crate) fn restart_daemon(&mut self, number: usize) {
        let namespaces = [&self.gateway.lab.gateway, &self.partner.gateway];
        let mut next = Daemon::start_in(namespaces[number], &self.config).unwrap();
        next.wait_for("an answer", LIMIT, |status| status["installed"] == true).unwrap();
        // The former one is dropped while its successor runs, so it cannot tear anything down.
        *self.daemon(number) = next;
    }

    /// Loads the firewall of a gateway once more.
    pub(crate) fn reload_firewall(&self, number: usize) {
        load_firewall(&self.gateway.lab, self.namespaces()[number]);
    }

    /// Returns whether the firewall of a gateway lets packets of the LAN pass, as that of the master does.
    pub(crate) fn lets_lan_pass(&self, number: usize) -> bool {
        let set = ["list", "set", "inet", "high_availability", "standby"];
        !self.namespaces()[number].run("nft", &set).unwrap().contains(LAN_INTERFACE)
    }

    /// Starts keepalived on a gateway.
    pub(crate) fn start_keepalived(&self, number: usize) -> Keepalived {
        let namespaces = [&self.gateway.lab.gateway, &self.partner.gateway];
        Keepalived::start(&self.gateway.lab, namespaces[number], &self.sync[number])
    }

    pub(crate) fn wait_until_up(&mut self, number: usize) {
        self.daemon(number).wait_until_up(LIMIT).unwrap();
    }

    pub(crate) fn wait_until_on_standby(&mut self, number: usize) {
        let standby = |status: &Value| {
            let uplinks = status["uplinks"].as_array().into_iter().flatten();
            let mut families = uplinks.flat_map(|uplink| [&uplink["ipv4"], &uplink["ipv6"]]);
            families.all(|family| family["standby"] == true)
        };
        self.daemon(number).wait_for("a gateway on standby", LIMIT, standby).unwrap();
    }

    /// Waits until gateway `number` knows at least `count` connections of its partner.
    pub(crate) fn wait_until_synchronised(&self, number: usize, count: usize) {
        wait::until("synchronised connections", LIMIT, || {
            let known = self.sync[number].ask("-e");
            let of_flows = known.lines().filter(|line| line.contains("dport=80 ")).count();
            Ok((of_flows >= count).then_some(()))
        })
        .unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", self.sync[number].log(), self.sync[1 - number].log())
        });
    }

    pub(crate) fn logs(&self) -> String {
        format!("{}\n--- partner ---\n{}", self.gateway.daemon.log(), self.second_daemon.log())
    }
}

/// Loads the shipped part of the firewall, for the lab.
fn load_firewall(lab: &Lab, gateway: &Namespace) {
    gateway.load_nft(&files::firewall(lab)).unwrap();
}

/// Returns the shipped configuration, for the lab.
fn configuration(lab: &Lab, seed: &TempDir) -> String {
    let seed = seed.path().join("seed").display().to_string();
    topology::accelerate() + &files::linkbal(lab, &seed)
}

/// Checks that none of the chosen flows, at least `least`, died, moved or failed.
pub(crate) fn assert_alive(
    pair: &Pair,
    flows: &LongFlows,
    before: &[FlowReport],
    least: usize,
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
        harmed.is_empty() && answered.is_ok() && pairs.len() >= least,
        "{} of {} flows: {harmed:?}\n{}",
        harmed.len(),
        pairs.len(),
        pair.logs()
    );
}
