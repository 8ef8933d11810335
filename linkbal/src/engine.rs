//! The decisions of the gateway, without I/O and without a clock.
//!
//! The engine is driven by values: [`Engine::handle_event`] takes an event and its time,
//! [`Engine::handle_timeout`] the current time, [`Engine::poll_timeout`] returns when that is due
//! next, and [`Engine::next_command`] hands out commands, in order. Times are monotonic, from an
//! epoch of the caller's.
//!
//! A verdict "down" comes out as these commands, always in this order: the new `UP_MASK`, the flows
//! to end, the conntrack entries to forget, the routes to change, the report. While no uplink is
//! usable, nothing is forgotten.

pub mod admin;
pub mod adopt;
pub mod bond;
pub mod buckets;
pub mod conflict;
pub mod desired;
pub mod diff;
mod ending;
pub mod ground;
pub mod health;
pub mod lan;
pub mod load;
mod lookups;
pub mod message;
pub mod names;
pub mod network;
pub mod nft_text;
mod observe;
pub mod plan;
pub mod policy;
mod quality;
mod reclaim;
pub mod reconfigure;
pub mod refusal;
pub mod repair;
mod standby;
pub mod traffic;
mod trouble;
pub mod uplinks;
mod verdicts;
pub mod window;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};

use self::{
    admin::Admin,
    conflict::Conflicts,
    desired::{Desired, Indexed, UplinkAddresses},
    ending::Former,
    ground::Ground,
    health::Health,
    load::Factors,
    names::Names,
    network::Snapshot,
    repair::{Repairs, pace::Pace},
    uplinks::position,
};
pub use self::{
    message::{Command, Event, Fate, Host, Report},
    uplinks::UplinkState,
};
use crate::config::Config;

/// Time from a failed observation to the next one.
const RETRY: Duration = Duration::from_secs(1);

/// The engine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    uplinks: Vec<UplinkState>,
    /// Former uplinks whose flows have yet to end.
    former: Vec<Former>,
    snapshot: Option<Snapshot>,
    up: UpMask,
    observe_at: Option<Duration>,
    observing: bool,
    /// Set while routes, ip rules and translation are in place for all uplinks.
    installed: bool,
    /// Number of [`Command::Apply`] that are not answered yet.
    pending_changes: u32,
    adoptions: adopt::Schedule,
    ground: Ground,
    /// The uplinks that the datapath was told to use; `None` before the first time.
    promised: Option<UpMask>,
    /// The uplinks that the datapath was told to avoid; `None` before the first time.
    avoided: Option<UpMask>,
    /// Factors that the weights of uplinks are multiplied by.
    factors: Factors,
    names: Names,
    bypass: BTreeMap<IpNet, u32>,
    addresses: UplinkAddresses,
    /// The uplinks by interface, as the datapath was told; `None` before the first time.
    uplink_interfaces: Option<BTreeMap<u32, u32>>,
    lan: BTreeMap<String, bool>,
    /// The state that was last asked of the kernel; `refused` is the part that the kernel refuses,
    /// with the reason.
    asked: Option<Desired>,
    refused: BTreeMap<String, String>,
    /// Probes that this machine cannot send, with the reason, as reported.
    unasked: BTreeMap<String, String>,
    repairs: Repairs,
    conflicts: Conflicts,
    pace: Pace,
    bonds: bond::Watch,
    commands: VecDeque<Command>,
}

impl Engine {
    /// Creates an engine that only knows `up`, the uplinks that a running datapath has as usable,
    /// and `wishes`, what the administrator wants of uplinks, by name: those that are left out are
    /// enabled.
    pub fn new(
        config: Config,
        indexed: Vec<Indexed>,
        up: UpMask,
        wishes: &BTreeMap<String, Admin>,
        now: Duration,
    ) -> Engine {
        let uplinks = indexed.into_iter().map(|each| UplinkState::new(each, up, wishes, now));
        let domains = config.rules.iter().flat_map(|rule| rule.matches.domain.iter().cloned());
        let names = Names::new(domains, now);
        let mut engine = Engine {
            config,
            names,
            uplinks: uplinks.collect(),
            former: Vec::new(),
            snapshot: None,
            up,
            observe_at: Some(now),
            observing: false,
            installed: false,
            pending_changes: 0,
            adoptions: adopt::Schedule::default(),
            ground: Ground::default(),
            promised: None,
            avoided: None,
            factors: Factors::default(),
            bypass: BTreeMap::new(),
            addresses: UplinkAddresses::new(),
            uplink_interfaces: None,
            lan: BTreeMap::new(),
            asked: None,
            refused: BTreeMap::new(),
            unasked: BTreeMap::new(),
            repairs: Repairs::default(),
            conflicts: Conflicts::new(now),
            pace: Pace::default(),
            bonds: bond::Watch::new(now),
            commands: VecDeque::new(),
        };
        engine.follow_admin(now);
        engine
    }

    /// Returns the uplinks, for the status.
    pub fn uplinks(&self) -> &[UplinkState] {
        &self.uplinks
    }

    /// Returns the uplinks that are usable, by family.
    pub const fn up(&self) -> UpMask {
        self.up
    }

    /// Returns whether routes, ip rules and translation are in place for all uplinks.
    pub const fn is_installed(&self) -> bool {
        self.installed
    }

    /// Returns the LAN interfaces and whether they exist, for the status.
    pub const fn lan(&self) -> &BTreeMap<String, bool> {
        &self.lan
    }

    /// Returns the last observation, for the status.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Returns the repairs, and what is contested, for the status.
    pub const fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// Returns the number of observations of the kernel, for the status.
    pub const fn observations(&self) -> u64 {
        self.pace.count()
    }

    /// Returns the domains of rules, for the status.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Handles an event.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        self.take_in(event, now);
        self.follow_quality(now);
        self.tell_unasked(now);
    }

    fn take_in(&mut self, event: Event, now: Duration) {
        match event {
            Event::Network(event) => self.network_event(event, now),
            Event::Observed(snapshot) => self.observed(snapshot, now),
            Event::Applied => {
                self.pending_changes = self.pending_changes.saturating_sub(1);
                if self.pending_changes == 0 {
                    self.installed = true;
                    self.adoptions.in_place(now);
                }
                self.adopt(now);
                self.check_readiness(now);
                self.end_moved();
            }
            Event::NotApplied(failures) => self.not_applied(failures),
            Event::NotObserved => {
                self.observing = false;
                self.observe_at = Some(now + RETRY);
            }
            Event::Surveyed(survey) => self.surveyed(survey, now),
            Event::Damaged(parts) => self.damaged(parts, now),
            Event::ProbeAnswer { uplink, family, target, round } => {
                self.probe_ended(uplink, family, |health| health.answer(&target, round, now), now);
            }
            Event::ProbeFailed { uplink, family, target, round, reason } => {
                let fail = |health: &mut Health| health.fail(&target, round, reason, now);
                self.probe_ended(uplink, family, fail, now);
            }
            Event::ProbeUnsent { uplink, family, target, round, reason } => {
                let unsent = |health: &mut Health| health.unsent(&target, round, reason, now);
                self.probe_ended(uplink, family, unsent, now);
            }
            Event::ProbeSkipped { uplink, family, target, round } => {
                self.probe_ended(uplink, family, |health| health.skip(&target, round, now), now);
            }
            Event::Admin { uplink, admin } => self.set_admin(uplink, admin, now),
            Event::Counted(counts) => self.counted(&counts, now),
            Event::Traffic { counters, networks } => self.traffic(&counters, &networks, now),
            Event::Resolved { name, addresses } => self.resolved(name, &addresses, now),
            Event::NotResolved { name, reason } => self.not_resolved(name, reason, now),
        }
    }

    /// Handles everything that is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        let mut transitions = Vec::new();
        for (at, family) in self.every_health() {
            let health = &mut self.uplinks[at].health[position(family)];
            transitions.extend(health.expire(now).map(|transition| (at, family, transition)));
        }
        self.follow_verdicts(transitions, now);
        self.suspect(now);
        self.start_rounds(now);
        self.start_lookups(now);
        self.start_survey(now);
        self.adopt(now);
        self.follow_quality(now);
        self.tell_unasked(now);
        if self.observe_at.is_some_and(|due| due <= now) && !self.observing {
            self.observe_at = None;
            self.observing = true;
            self.pace.made(now);
            self.repairs.observing(now);
            self.commands.push_back(Command::Observe);
        }
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let healths = self.uplinks.iter().flat_map(|uplink| &uplink.health);
        let observe_at = self.observe_at.filter(|_| !self.observing);
        let names = self.names.deadline().filter(|_| self.can_resolve());
        let suspicions = self.uplinks.iter().filter_map(UplinkState::suspicion_at);
        let each = healths.filter_map(Health::deadline).chain(suspicions);
        let each = each.chain(self.survey_at()).chain(self.adoptions.due());
        each.chain(observe_at).chain(names).chain(self.reclaim_at()).min()
    }

    /// Returns the next command.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn every_health(&self) -> Vec<(usize, Family)> {
        let uplinks = 0..self.uplinks.len();
        uplinks.flat_map(|at| Family::ALL.map(|family| (at, family))).collect()
    }

    fn indexed(&self) -> Vec<Indexed> {
        self.uplinks.iter().map(|uplink| uplink.indexed.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
