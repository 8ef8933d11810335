//! The decisions, without I/O and without a clock.
//!
//! The engine is driven by values: [`Engine::handle_event`] takes what happened and when,
//! [`Engine::handle_timeout`] what time it is, [`Engine::poll_timeout`] says when it wants to hear
//! that, and [`Engine::next_command`] hands out what is to be done, in order. Times are monotonic,
//! from an epoch of the caller's.
//!
//! A verdict "down" comes out as: the new `UP_MASK`, the flows to end, the conntrack entries to
//! forget, the routes to change, the report; never in another order. While no uplink is usable nothing is forgotten.

pub mod admin;
pub mod bond;
pub mod buckets;
pub mod conflict;
pub mod desired;
pub mod diff;
mod ending;
pub mod ground;
pub mod health;
pub mod load;
pub mod message;
pub mod names;
pub mod network;
pub mod nft_text;
pub mod plan;
pub mod policy;
mod quality;
mod reclaim;
pub mod reconfigure;
pub mod repair;
pub mod traffic;
mod trouble;
pub mod uplinks;
pub mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use ipnet::IpNet;
use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use self::{
    admin::Admin,
    conflict::Conflicts,
    desired::{Desired, Indexed, UplinkAddresses, nexthop},
    ending::Former,
    ground::Ground,
    health::{Health, State, Transition},
    load::Factors,
    names::{Lifetime, Names},
    network::{Link, NetworkEvent, Role, Snapshot},
    repair::{Repairs, Touch, pace::Pace},
    uplinks::position,
};
pub use self::{
    message::{Command, Event, Report},
    uplinks::UplinkState,
};
use crate::config::Config;

/// After a change in the kernel, more usually follow: observe once they are all there.
const SETTLE: Duration = Duration::from_millis(20);

/// The state is compared with the kernel's this often even if nothing was heard.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

/// After a failed observation the next one waits this long.
const RETRY: Duration = Duration::from_secs(1);

const LOOPBACK: &str = "lo";

/// The engine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    uplinks: Vec<UplinkState>,
    /// Those whose flows are yet to end.
    former: Vec<Former>,
    snapshot: Option<Snapshot>,
    up: UpMask,
    observe_at: Option<Duration>,
    observing: bool,
    /// Routes, ip rules and translation are in place for all uplinks.
    installed: bool,
    /// How many [`Command::Apply`] are not answered yet.
    pending_changes: u32,
    ground: Ground,
    /// What the datapath was told to avoid, once it was.
    avoided: Option<UpMask>,
    /// What the weights of uplinks are multiplied by.
    factors: Factors,
    names: Names,
    bypass: BTreeSet<IpNet>,
    addresses: UplinkAddresses,
    /// What the datapath was told of the uplinks' interfaces, once it was.
    uplink_interfaces: Option<BTreeMap<u32, u32>>,
    lan: BTreeMap<String, bool>,
    /// What was last asked of the kernel, and what of that it refused, with why.
    asked: Option<Desired>,
    refused: BTreeMap<String, String>,
    repairs: Repairs,
    conflicts: Conflicts,
    pace: Pace,
    bonds: bond::Watch,
    commands: VecDeque<Command>,
}

impl Engine {
    /// An engine that knows nothing yet but the uplinks that a running datapath has as usable, and
    /// what the administrator wants of uplinks, by name: those that are left out are enabled.
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
            ground: Ground::default(),
            avoided: None,
            factors: Factors::default(),
            bypass: BTreeSet::new(),
            addresses: UplinkAddresses::new(),
            uplink_interfaces: None,
            lan: BTreeMap::new(),
            asked: None,
            refused: BTreeMap::new(),
            repairs: Repairs::default(),
            conflicts: Conflicts::new(now),
            pace: Pace::default(),
            bonds: bond::Watch::new(now),
            commands: VecDeque::new(),
        };
        engine.follow_admin(now);
        engine
    }

    /// The uplinks, for the status.
    pub fn uplinks(&self) -> &[UplinkState] {
        &self.uplinks
    }

    /// The uplinks that are usable, by family.
    pub const fn up(&self) -> UpMask {
        self.up
    }

    /// Whether routes, ip rules and translation are in place for all uplinks.
    pub const fn is_installed(&self) -> bool {
        self.installed
    }

    /// The LAN interfaces and whether they exist, for the status.
    pub const fn lan(&self) -> &BTreeMap<String, bool> {
        &self.lan
    }

    /// The last observation, for the status.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// What is repaired, and what is contested, for the status.
    pub const fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// How often the kernel was observed, for the status.
    pub const fn observations(&self) -> u64 {
        self.pace.count()
    }

    /// The domains of rules, for the status.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Takes in what happened.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        self.take_in(event, now);
        self.follow_quality(now);
    }

    fn take_in(&mut self, event: Event, now: Duration) {
        match event {
            Event::Network(event) => self.network_event(event, now),
            Event::Observed(snapshot) => self.observed(snapshot, now),
            Event::Applied => {
                self.pending_changes = self.pending_changes.saturating_sub(1);
                self.installed |= self.pending_changes == 0;
                self.check_readiness(now);
                self.end_moved();
            }
            Event::NotApplied(failures) => self.not_applied(failures),
            Event::NotObserved => {
                self.observing = false;
                self.observe_at = Some(now + RETRY);
            }
            Event::Surveyed(survey) => self.surveyed(survey),
            Event::Damaged(parts) => self.damaged(parts, now),
            Event::ProbeAnswer { uplink, family, target, round } => {
                self.probe_ended(uplink, family, |health| health.answer(&target, round, now), now);
            }
            Event::ProbeFailed { uplink, family, target, round, reason } => {
                let fail = |health: &mut Health| health.fail(&target, round, reason, now);
                self.probe_ended(uplink, family, fail, now);
            }
            Event::ProbeSkipped { uplink, family, target, round } => {
                self.probe_ended(uplink, family, |health| health.skip(&target, round, now), now);
            }
            Event::Admin { uplink, admin } => self.set_admin(uplink, admin, now),
            Event::Counted(counts) => self.counted(&counts, now),
            Event::Traffic { counters } => self.traffic(&counters, now),
            Event::Resolved { name, addresses } => self.resolved(name, &addresses, now),
            Event::NotResolved { name, reason } => self.not_resolved(name, reason, now),
        }
    }

    /// Does what is due.
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
        self.follow_quality(now);
        if self.observe_at.is_some_and(|due| due <= now) && !self.observing {
            self.observe_at = None;
            self.observing = true;
            self.pace.made(now);
            self.repairs.observing(now);
            self.commands.push_back(Command::Observe);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let healths = self.uplinks.iter().flat_map(|uplink| &uplink.health);
        let observe_at = self.observe_at.filter(|_| !self.observing);
        let names = self.names.deadline().filter(|_| self.can_resolve());
        let suspicions = self.uplinks.iter().filter_map(UplinkState::suspicion_at);
        let each = healths.filter_map(Health::deadline).chain(suspicions);
        let each = each.chain(self.survey_at());
        each.chain(observe_at).chain(names).chain(self.reclaim_at()).min()
    }

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn every_health(&self) -> Vec<(usize, Family)> {
        let uplinks = 0..self.uplinks.len();
        uplinks.flat_map(|at| Family::ALL.map(|family| (at, family))).collect()
    }

    fn network_event(&mut self, event: NetworkEvent, now: Duration) {
        let observe_at = match event {
            NetworkEvent::NeighbourFailed { ifindex, address } => {
                return self.neighbour_failed(ifindex, address, now);
            }
            NetworkEvent::OtherTables { by } => return self.conflicts.tables_changed(by, now),
            NetworkEvent::Datapath { .. } => return,
            NetworkEvent::Overrun => {
                self.conflicts.tables_changed(None, now);
                self.repairs.touched(Touch::Routes, None, now);
                now
            }
            _ => now + SETTLE,
        };
        let observe_at = self.pace.next(observe_at);
        self.observe_at = Some(self.observe_at.map_or(observe_at, |due| due.min(observe_at)));
        // The carrier need not wait for the full observation.
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        match event {
            NetworkEvent::Link(link) => {
                if !link.up || !link.carrier {
                    self.repairs.fallen(link.ifindex, now);
                }
                forget_name(snapshot, &link);
                snapshot.links.insert(link.ifindex, link);
            }
            NetworkEvent::AddressGone { ifindex } => return self.repairs.fallen(ifindex, now),
            NetworkEvent::LinkGone { ifindex } => {
                self.repairs.fallen(ifindex, now);
                snapshot.links.remove(&ifindex);
            }
            NetworkEvent::Touched { what, by } => return self.repairs.touched(what, by, now),
            _ => return,
        }
        self.check_readiness(now);
    }

    fn observed(&mut self, mut snapshot: Snapshot, now: Duration) {
        self.observing = false;
        let soon = now + RECONCILE_INTERVAL;
        self.observe_at = Some(self.observe_at.map_or(soon, |due| due.min(soon)));
        self.follow_ground(&mut snapshot, now);
        self.attach(&snapshot);
        let bypass = desired::bypass(&snapshot);
        if bypass != self.bypass {
            self.bypass.clone_from(&bypass);
            self.commands.push_back(Command::SetBypass(bypass));
        }
        let addresses = desired::uplink_addresses(&self.indexed(), &snapshot);
        if addresses != self.addresses {
            self.addresses.clone_from(&addresses);
            self.commands.push_back(Command::SetUplinkAddresses(addresses));
        }
        self.tell_uplink_interfaces(&snapshot);
        self.tell_avoided();
        let bonds = self.bonds.follow(bond::status(&self.config.bonds, &snapshot));
        self.commands.extend(bonds.into_iter().map(Command::Report));
        let before = self.snapshot.replace(snapshot).filter(|_| self.repairs.is_current());
        self.follow_conflicts();
        self.reconcile(before.as_ref(), now);
        self.settle_repairs(now);
        let held = self.repairs.due().map(|due| due.max(now));
        self.observe_at = self.observe_at.into_iter().chain(held).min();
        self.check_readiness(now);
        self.end_moved();
    }

    /// The datapath runs on every LAN interface that exists, and on a new one of the same name.
    fn attach(&mut self, snapshot: &Snapshot) {
        for name in &self.config.lan_interfaces {
            let exists = snapshot.link(name).is_some();
            // That it exists at the start is no news.
            if self.lan.insert(name.clone(), exists).unwrap_or(true) != exists {
                let interface = name.clone();
                self.commands.push_back(Command::Report(Report::Lan { interface, exists }));
            }
        }
        let lan = self.config.lan_interfaces.iter();
        let lan = lan.map(|name| (Role::Lan, name.as_str()));
        let links = lan
            .chain(self.outside())
            .filter_map(|(role, name)| Some((role, snapshot.link(name)?.clone())));
        self.commands.push_back(Command::Attach(links.collect()));
    }

    /// The interfaces where this machine's own DNS replies come in, if anything depends on them.
    fn outside(&self) -> Vec<(Role, &str)> {
        if !self.config.local_balance || self.names.states().is_empty() {
            return Vec::new();
        }
        let uplinks = self.config.uplinks.iter().map(|uplink| uplink.interface.as_str());
        let names: BTreeSet<&str> = uplinks.chain([LOOPBACK]).collect();
        let lan = &self.config.lan_interfaces;
        let outside = names.into_iter().filter(|name| !lan.iter().any(|other| other == name));
        outside.map(|name| (Role::Outside, name)).collect()
    }

    fn tell_uplink_interfaces(&mut self, snapshot: &Snapshot) {
        let interfaces = Some(desired::uplink_interfaces(&self.indexed(), snapshot));
        if interfaces != self.uplink_interfaces {
            self.uplink_interfaces.clone_from(&interfaces);
            self.commands.extend(interfaces.map(Command::SetUplinkInterfaces));
        }
    }

    /// At the start this waits until everything is in place: a flow that an uplink got before its
    /// addresses are translated would be tracked without that for as long as it lives.
    fn check_readiness(&mut self, now: Duration) {
        if !self.installed {
            return;
        }
        let Some(snapshot) = self.snapshot.take() else { return };
        let mut transitions = Vec::new();
        for (at, family) in self.every_health() {
            let uplink = &mut self.uplinks[at];
            let nexthop = nexthop(&snapshot, &uplink.indexed.uplink, family);
            let ready = nexthop.as_ref().map(|_| ()).map_err(String::as_str);
            uplink.present[position(family)] |= ready.is_ok();
            let interface = &uplink.indexed.uplink.interface;
            let patience = self.bonds.patience(&self.config.bonds, interface, now);
            if ready.is_err() && patience.is_some() && uplink.state() == State::Init {
                self.observe_at = self.observe_at.into_iter().chain(patience).min();
                continue;
            }
            let transition = uplink.health[position(family)].set_ready(ready, now);
            transitions.extend(transition.map(|transition| (at, family, transition)));
        }
        self.snapshot = Some(snapshot);
        self.follow_verdicts(transitions, now);
        self.start_rounds(now);
    }

    fn probe_ended(
        &mut self,
        uplink: u32,
        family: Family,
        tell: impl FnOnce(&mut Health) -> Option<Transition>,
        now: Duration,
    ) {
        let Some(at) = self.uplinks.iter().position(|known| known.indexed.index == uplink) else {
            return;
        };
        let transition = tell(&mut self.uplinks[at].health[position(family)]);
        let transitions = transition.map(|transition| (at, family, transition));
        self.follow_verdicts(transitions.into_iter().collect(), now);
    }

    fn start_rounds(&mut self, now: Duration) {
        let Some(snapshot) = &self.snapshot else { return };
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        for uplink in &mut self.uplinks {
            let Some(link) = snapshot.link(&uplink.indexed.uplink.interface) else { continue };
            for (family, health) in Family::ALL.into_iter().zip(&mut uplink.health) {
                let Some(start) = health.start_round(now) else { continue };
                let nexthop = nexthop(snapshot, &uplink.indexed.uplink, family).ok();
                self.commands.push_back(Command::SendProbes {
                    uplink: uplink.indexed.index,
                    family,
                    ifindex: link.ifindex,
                    fwmark: mask.encode(uplink.indexed.index),
                    gateway: nexthop.and_then(|nexthop| nexthop.gateway),
                    round: start.round,
                    targets: start.targets,
                    timeout: start.timeout,
                });
            }
        }
    }

    /// Whether a lookup has a way out that is in place.
    const fn can_resolve(&self) -> bool {
        self.installed && self.up.0 != 0
    }

    fn start_lookups(&mut self, now: Duration) {
        if self.can_resolve() {
            let name = self.names.start(now);
            self.commands.extend(name.map(|name| Command::Resolve { name }));
        }
    }

    fn resolved(&mut self, name: String, addresses: &[Lifetime], now: Duration) {
        let Some(known) = self.names.resolved(&name, addresses, now) else { return };
        if known.recovered {
            let report = Report::Name { name: name.clone(), failure: None };
            self.commands.push_back(Command::Report(report));
        }
        if !known.addresses.is_empty() {
            self.commands.push_back(Command::Learn { name, addresses: known.addresses });
        }
    }

    fn not_resolved(&mut self, name: String, reason: String, now: Duration) {
        if !self.can_resolve() {
            self.names.not_sent(&name, now);
        } else if self.names.not_resolved(&name, reason.clone(), now) {
            let report = Report::Name { name, failure: Some(reason) };
            self.commands.push_back(Command::Report(report));
        }
    }

    /// Turns changes of health into commands.
    fn follow_verdicts(&mut self, mut changes: Vec<(usize, Family, Transition)>, now: Duration) {
        changes.extend(self.follow_other_families(now));
        if changes.is_empty() {
            return;
        }
        for (at, family, transition) in &changes {
            let uplink = &mut self.uplinks[*at];
            let usable = transition.to == State::Up;
            self.up = self.up.with(uplink.indexed.index, *family, usable);
            let stale = &mut uplink.stale[position(*family)];
            *stale = !usable && (*stale || transition.from == State::Up);
        }
        self.commands.push_back(Command::SetUpMask(self.up));
        self.forget_stale();
        self.reconcile(None, now);
        for (at, family, transition) in changes {
            let uplink = &self.uplinks[at];
            // That an IPv4 line has no IPv6 is no news.
            let Some(health) = uplink.family(family) else { continue };
            self.commands.push_back(Command::Report(Report::Uplink {
                uplink: uplink.indexed.uplink.name.clone(),
                family,
                transition,
                reason: health.reason().into(),
                evidence: health.seen(),
            }));
        }
        // The last uplink that is not full may be among them.
        if self.avoided.is_some() {
            self.tell_avoided();
        }
    }

    fn follow_other_families(&mut self, now: Duration) -> Vec<(usize, Family, Transition)> {
        let mut changes = Vec::new();
        for (at, uplink) in self.uplinks.iter_mut().enumerate() {
            for (family, other) in [(0, 1), (1, 0)] {
                let leader = uplink.present[other].then(|| uplink.health[other].state());
                let transition = uplink.health[family].follow(leader, now);
                changes.extend(transition.map(|change| (at, Family::ALL[family], change)));
            }
        }
        changes
    }

    fn indexed(&self) -> Vec<Indexed> {
        self.uplinks.iter().map(|uplink| uplink.indexed.clone()).collect()
    }

    /// Asks for the changes from the observed to the desired state; `before` is the state before
    /// that, if a new one was observed.
    fn reconcile(&mut self, before: Option<&Snapshot>, now: Duration) {
        let indexed = self.indexed();
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        let desired = desired::desired(&self.config, &indexed, snapshot, self.up);
        // The observation only says that nobody else touched the table.
        snapshot.nft_current &= self.asked.as_ref().is_none_or(|asked| asked.nft == desired.nft);
        let changes = diff::diff(&desired, snapshot);
        let asked = self.asked.as_ref();
        let refused = &self.refused;
        let known = repair::Before { asked, snapshot: before, refused, routes_touched: false };
        let repairs = bond::repairs(&changes, &known, snapshot);
        self.commands.extend(repairs.map(Command::Report));
        let changes = self.permitted(changes, &desired, before, now);
        self.asked = Some(desired);
        if before.is_some() {
            self.forget_refused(&changes);
        }
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        if changes.is_empty() {
            return;
        }
        diff::assume(snapshot, &changes);
        self.pending_changes += 1;
        self.repairs.asked();
        self.commands.push_back(Command::Apply(changes));
    }
}

/// An interface that was renamed is no longer found under its old name, nor a recreated one under
/// its old index.
fn forget_name(snapshot: &mut Snapshot, link: &Link) {
    snapshot.links.retain(|_, known| known.name != link.name);
}

#[cfg(test)]
mod tests;
