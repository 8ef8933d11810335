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
pub mod balance;
pub mod command;
mod context;
mod datapath;
mod device_names;
pub mod doctor;
pub mod domains;
pub mod event;
pub mod flows;
pub mod health;
pub mod indexed;
pub mod kernel;
pub mod mistakes;
pub mod obstacles;
pub mod per_family;
pub mod plan;
pub mod policy;
pub mod reconfigure;
pub mod report;
mod shortcuts;
pub mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::{Family, UpMask};

use self::{
    admin::AdminState,
    balance::{avoid, failback::Failback, load::Counts, spillover, weights::Weights},
    context::{Context, Output},
    datapath::Datapath,
    device_names::with_device_names,
    domains::Domains,
    flows::{FlowTermination, Former},
    health::{HealthEvent, Pause, suspicion, verdicts},
    indexed::Indexed,
    kernel::{
        bond,
        conflict::{Conflict, survey::Survey},
        conflicts::Conflicts,
        drift::{Drift, PauseChange},
        handover::Handover,
        lan::interfaces::LanInterfaces,
        lease::Leases,
        network::{Link, NetworkEvent, Snapshot, route_command},
        reconcile::{Reconciler, SETTLE},
        refusals::Refusals,
        resource::ResourceKind,
        standby,
    },
    obstacles::Obstacle,
    shortcuts::Shortcuts,
    uplinks::{UplinkState, Uplinks, Verdict},
};
pub use self::{
    command::Command,
    event::Event,
    report::{Host, ReloadOutcome, Report},
};
use crate::config::Config;

/// The engine: its parts decide upon the context, each with a state of its own, and give their
/// commands to the output. What concerns several of them is here, in its order.
#[derive(Debug)]
pub struct Engine {
    context: Context,
    reconciler: Reconciler,
    drift: Drift,
    refusals: Refusals,
    conflicts: Conflicts,
    handover: Handover,
    leases: Leases,
    lan: LanInterfaces,
    bonds: bond::Watch,
    domains: Domains,
    weights: Weights,
    failback: Failback,
    flows: FlowTermination,
    datapath: Datapath,
    shortcuts: Shortcuts,
    output: Output,
}

impl Engine {
    /// Creates an engine that only knows `up`, the uplinks that a running datapath has as usable,
    /// `former`, those that it has and the configuration has not, and `admin`, the states that the
    /// administrator wants of uplinks, by name: those that are left out are enabled.
    pub fn new(
        config: Config,
        indexed: Vec<Indexed>,
        up: UpMask,
        former: Vec<Former>,
        admin: &BTreeMap<String, AdminState>,
        now: Duration,
    ) -> Engine {
        let up = former.iter().fold(up, |up, former| up.without_uplink(former.index));
        let is_changed = !former.is_empty();
        let uplinks = indexed.into_iter().map(|each| UplinkState::new(each, up, admin, now));
        let mut engine = Engine {
            domains: Domains::of_rules(&config.rules, now),
            context: Context { config, uplinks: uplinks.collect(), snapshot: None, up, now },
            reconciler: Reconciler::new(now),
            drift: Drift::default(),
            refusals: Refusals::default(),
            conflicts: Conflicts::new(now),
            handover: Handover::default(),
            leases: Leases::default(),
            lan: LanInterfaces::default(),
            bonds: bond::Watch::new(now),
            weights: Weights::default(),
            failback: Failback::default(),
            flows: FlowTermination::new(former),
            datapath: Datapath::default(),
            shortcuts: Shortcuts::default(),
            output: Output::default(),
        };
        if is_changed {
            engine.set_usable();
        }
        engine.update_admin();
        engine
    }

    /// Returns the uplinks, for the status.
    pub const fn uplinks(&self) -> &Uplinks {
        &self.context.uplinks
    }

    /// Returns the uplinks that are usable, by family.
    pub const fn up(&self) -> UpMask {
        self.context.up
    }

    /// Returns the uplinks that new flows avoid as long as there are others.
    pub fn avoided(&self) -> UpMask {
        avoid::avoided(&self.context, &self.leases)
    }

    /// Returns the families in which no uplink is usable but drained ones, though without the
    /// administrator there might be one.
    pub fn families_without_choice(&self) -> Vec<Family> {
        avoid::families_without_choice(&self.context)
    }

    /// Returns whether counters of traffic may decide a verdict soon: a usable uplink loses probes.
    pub fn wants_traffic(&self) -> bool {
        suspicion::may_decide(&self.context.uplinks)
    }

    /// Returns whether routes, ip rules and translation are in place for all uplinks.
    pub const fn is_installed(&self) -> bool {
        self.reconciler.is_installed()
    }

    /// Returns the LAN interfaces and whether they exist, for the status.
    pub const fn lan(&self) -> &BTreeMap<String, bool> {
        self.lan.exists()
    }

    /// Returns the last observation, for the status.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.context.snapshot.as_ref()
    }

    /// Returns the repairs, and what is throttled, for the status.
    pub const fn drift(&self) -> &Drift {
        &self.drift
    }

    /// Returns the conflicts, for the status.
    pub const fn conflicts(&self) -> &BTreeSet<Conflict> {
        self.conflicts.found()
    }

    /// Says what of an uplink is gone and may come back in a moment, for the status.
    pub fn gap(&self, uplink: &UplinkState, family: Family) -> Option<String> {
        self.leases.gap(uplink, family, self.context.now)
    }

    /// Returns the command that brings back the default route that an uplink had, if that is gone.
    pub fn lost_route(&self, uplink: &UplinkState, family: Family) -> Option<String> {
        let route = self.leases.former_route(uplink, family)?;
        Some(route_command(route, &uplink.config.interface))
    }

    /// Returns the firewall chains of others that drop what this machine sends, or the answers to it,
    /// for the status.
    pub fn closed(&self) -> Vec<String> {
        self.conflicts.closed(&self.context)
    }

    /// Returns what the kernel refuses, with the reason and advice.
    pub fn refused(&self) -> BTreeMap<String, String> {
        let named = |(what, problem): (String, String)| (self.named(&what), self.named(&problem));
        self.refusals.explained().into_iter().map(named).collect()
    }

    /// Puts the names of devices in place of their indexes in a text about routes.
    pub fn named(&self, text: &str) -> String {
        let snapshot = self.context.snapshot.as_ref();
        snapshot.map_or_else(|| text.to_owned(), |snapshot| snapshot.with_device_names(text))
    }

    /// Returns the probes that this machine cannot send, with the reason.
    pub const fn unsent_probes(&self) -> &BTreeMap<String, String> {
        self.refusals.unsent_probes()
    }

    /// Returns why the flows of an uplink take no shortcuts, for the status; `None` if they do.
    pub fn obstacle_of_uplink(&self, uplink: &UplinkState) -> Option<Obstacle> {
        self.shortcuts.of_uplink(&self.context, &uplink.config)
    }

    /// Returns why packets of a LAN interface take no shortcuts, for the status; `None` if they do.
    pub fn obstacle_of_lan(&self, interface: &str) -> Option<Obstacle> {
        let snapshot = self.context.snapshot.as_ref()?;
        self.shortcuts.of_lan(&self.context.config, snapshot, interface)
    }

    /// Returns the number of observations of the kernel, for the status.
    pub const fn observations(&self) -> u64 {
        self.reconciler.observations()
    }

    /// Returns the domains of rules, for the status.
    pub const fn domains(&self) -> &Domains {
        &self.domains
    }

    /// Handles an event.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        self.context.now = now;
        self.handle(event);
        self.update_quality();
    }

    /// Handles everything that is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.context.now = now;
        let verdicts = self.context.uplinks.handle_all(&HealthEvent::Tick, now);
        self.apply_verdicts(verdicts);
        suspicion::suspect(&mut self.context.uplinks, now);
        verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
        verdicts::ask_gateways(&mut self.context, &self.datapath, &mut self.output);
        if self.can_resolve() {
            self.domains.start_lookups(now, &mut self.output);
        }
        self.conflicts.start_survey(&self.context, &mut self.output);
        self.reconciler.adopt(&self.context, &mut self.output);
        self.update_quality();
        self.reconciler.start_observation(&mut self.drift, now, &mut self.output);
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let each = [
            verdicts::deadline(&self.context),
            self.reconciler.deadline(),
            self.conflicts.survey_at(&self.context),
            self.domains.deadline().filter(|_| self.can_resolve()),
            self.failback.deadline(),
        ];
        each.into_iter().flatten().min()
    }

    /// Returns the next command.
    pub fn next_command(&mut self) -> Option<Command> {
        let command = self.output.pop()?;
        match (command, &self.context.snapshot) {
            (Command::Report(report), Some(snapshot)) => {
                Some(Command::Report(with_device_names(report, snapshot)))
            }
            (command, _) => Some(command),
        }
    }

    /// Goes on with another configuration, which [`reconfigure::refusal`] has nothing against.
    /// `admin` is the state that the administrator wants of uplinks that were not configured
    /// before.
    pub fn reconfigure(
        &mut self,
        config: Config,
        indexed: Vec<Indexed>,
        admin: &BTreeMap<String, AdminState>,
        now: Duration,
    ) {
        self.context.now = now;
        self.context.config = config;
        for gone in reconfigure::replace_uplinks(&mut self.context, indexed, admin) {
            self.leases.forget(&gone);
            self.failback.forget(gone.index);
            self.flows.add(&gone);
        }
        self.domains.replace(domains::names(&self.context.config.rules), now);
        self.lan.reconfigure(&self.context.config);
        let is_up = |uplink: &UplinkState, family| uplink.health[family].state().is_up();
        let up = self.context.uplinks.mask(is_up);
        self.flows.give_back(&mut self.context.uplinks);
        if up == self.context.up {
            self.flows.end_stale(&mut self.context, &self.datapath, &mut self.output);
        } else {
            self.context.up = up;
            self.set_usable();
        }
        self.shortcuts.reconfigure();
        self.update_datapath();
        self.weights.reconfigure(&self.context, &mut self.output);
        let Engine { context, reconciler, drift, refusals, output, .. } = self;
        reconciler.reconfigure(context, drift, refusals, output);
        self.update_admin();
        self.check_readiness();
        self.update_quality();
    }
}

/// The order of the parts.
impl Engine {
    fn handle(&mut self, event: Event) {
        let now = self.context.now;
        match event {
            Event::Network(event) => self.network_event(event),
            Event::Observed(snapshot) => self.observed(snapshot),
            Event::NotObserved => self.reconciler.not_observed(now),
            Event::Applied => self.applied(),
            Event::NotApplied(failures) => {
                self.reconciler.not_applied(&failures);
                if self.refusals.add(failures, &mut self.output) {
                    self.reconciler.observe_paced(now + SETTLE);
                }
            }
            Event::Surveyed(survey) => self.surveyed(survey),
            Event::Obstacles(obstacles) => {
                self.shortcuts.store(obstacles);
                self.shortcuts.update(&self.context, &mut self.output);
            }
            Event::NotAttached(reasons) => {
                self.refusals.update_unattached(reasons, &mut self.output);
            }
            Event::Damaged(parts) => self.drift.datapath_damaged(parts, now, &mut self.output),
            Event::ProbeAnswer { uplink, family, target, round } => {
                self.health_event(uplink, family, &HealthEvent::ProbeAnswered(&target, round));
            }
            Event::ProbeFailed { uplink, family, target, round, reason, kind } => {
                let event = HealthEvent::ProbeFailed(&target, round, &reason, kind);
                self.health_event(uplink, family, &event);
            }
            Event::GatewayAsked { uplink, family, answers } => {
                let context = &mut self.context;
                verdicts::gateway_asked(context, uplink, family, answers, &mut self.output);
            }
            Event::ProbeUnsent { uplink, family, target, round, reason } => {
                let event = HealthEvent::ProbeUnsent(&target, round, &reason);
                self.health_event(uplink, family, &event);
            }
            Event::ProbeSkipped { uplink, family, target, round } => {
                self.health_event(uplink, family, &HealthEvent::ProbeSkipped(&target, round));
            }
            Event::Admin { uplink, admin } => self.set_admin(uplink, admin),
            Event::Admit { uplink } => {
                for family in Family::ALL {
                    self.health_event(uplink, family, &HealthEvent::Admitted);
                }
            }
            Event::Drill { uplink, on } => {
                for family in Family::ALL {
                    self.health_event(uplink, family, &HealthEvent::Blocked(on));
                }
            }
            Event::Counted(counts) => self.counted(&counts),
            Event::Traffic { counters, networks } => {
                suspicion::count(&counters, &networks, &mut self.context.uplinks, now);
                suspicion::suspect(&mut self.context.uplinks, now);
                verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
            }
            Event::Resolved { name, addresses } => {
                self.domains.resolved(name, &addresses, now, &mut self.output);
            }
            // Without a way out, a failure says nothing of the name.
            Event::NotResolved { name, .. } if !self.can_resolve() => {
                self.domains.store_unsent(&name, now);
            }
            Event::NotResolved { name, reason } => {
                self.domains.not_resolved(name, reason, now, &mut self.output);
            }
        }
    }

    fn network_event(&mut self, event: NetworkEvent) {
        let now = self.context.now;
        match event {
            NetworkEvent::NeighbourFailed { ifindex, address } => {
                let verdicts = verdicts::neighbour_failed(&mut self.context, ifindex, address);
                self.apply_verdicts(verdicts);
                verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
                return;
            }
            NetworkEvent::OtherTables { by } => return self.conflicts.tables_changed(by, now),
            NetworkEvent::Datapath { .. } | NetworkEvent::Obstacle => return,
            NetworkEvent::Overrun => {
                self.conflicts.tables_changed(None, now);
                self.drift.changed(ResourceKind::Routes, None, now);
                self.reconciler.observe_paced(now);
            }
            _ => self.reconciler.observe_paced(now + SETTLE),
        }
        // The carrier need not wait for the full observation.
        let Some(snapshot) = self.context.snapshot.as_mut() else { return };
        match event {
            NetworkEvent::Link(link) => {
                if !link.up || !link.carrier {
                    self.drift.went_down(link.ifindex, now);
                }
                forget_name(snapshot, &link);
                let changed = Some(link.ifindex);
                snapshot.links.insert(link.ifindex, link);
                let kept = self.handover.update(&mut self.context.uplinks, snapshot, changed, now);
                self.reconciler.observe_by(kept);
                self.check_readiness();
            }
            NetworkEvent::LinkGone { ifindex } => {
                self.drift.went_down(ifindex, now);
                snapshot.links.remove(&ifindex);
                self.check_readiness();
            }
            NetworkEvent::AddressGone { ifindex } => {
                self.drift.went_down(ifindex, now);
                let name = snapshot.links.get(&ifindex).map(|link| &link.name);
                let mut uplinks = self.context.uplinks.iter();
                if uplinks.any(|uplink| Some(&uplink.config.interface) == name) {
                    self.drift.address_gone(now);
                    self.update_pause();
                }
            }
            NetworkEvent::ResourceChanged { what, by } => {
                self.drift.changed(what, by, now);
                self.update_pause();
            }
            _ => {}
        }
    }

    fn observed(&mut self, mut snapshot: Snapshot) {
        let now = self.context.now;
        self.reconciler.observed(now);
        let kept = self.handover.update(&mut self.context.uplinks, &mut snapshot, None, now);
        self.reconciler.observe_by(kept);
        standby::update(&mut self.context, &snapshot, &mut self.output);
        let held = self.leases.update(&mut self.context, &mut snapshot, &mut self.output);
        self.reconciler.observe_by(held);
        self.conflicts.mark_filtered(&mut snapshot);
        self.conflicts.compare_paths(self.context.snapshot.as_ref(), &snapshot, now);
        let bonds = self.bonds.update(bond::status(&self.context.config.bonds, &snapshot));
        let before = self.context.snapshot.replace(snapshot);
        self.update_datapath();
        bonds.into_iter().for_each(|report| self.output.report(report));
        self.conflicts.update(&self.context, &mut self.output);
        let before = before.filter(|_| self.drift.is_current());
        self.reconcile(before.as_ref());
        if let Some(snapshot) = &self.context.snapshot {
            self.refusals.update_unobserved(snapshot, &mut self.output);
        }
        self.drift.observation_compared(now, &mut self.output);
        self.end_repair();
        self.check_readiness();
        self.end_moved();
    }

    fn applied(&mut self) {
        self.reconciler.applied(self.context.now);
        self.end_repair();
        self.reconciler.adopt(&self.context, &mut self.output);
        self.check_readiness();
        self.end_moved();
    }

    fn reconcile(&mut self, before: Option<&Snapshot>) {
        let Engine { context, reconciler, drift, refusals, output, .. } = self;
        reconciler.reconcile(context, drift, refusals, before, output);
        if reconciler.is_pending() {
            self.conflicts.routes_changed();
        }
        self.update_pause();
    }

    /// Lets probes count again, once nothing is left to repair.
    fn end_repair(&mut self) {
        if !self.reconciler.is_pending() {
            self.drift.repaired();
            self.update_pause();
        }
    }

    /// Pauses probes while something that linkbal set up is undone, or an address of an uplink is gone and
    /// not yet seen to be: no target could answer.
    fn update_pause(&mut self) {
        let event = match self.drift.pause_change() {
            Some(PauseChange::Begins(until)) => HealthEvent::Paused(Pause::Drift, until),
            Some(PauseChange::Ends) => HealthEvent::Resumed(Pause::Drift),
            None => return,
        };
        // None of the two is a verdict.
        self.context.uplinks.handle_all(&event, self.context.now);
    }

    fn surveyed(&mut self, survey: Survey) {
        if self.conflicts.surveyed(survey, &mut self.context) {
            self.reconcile(None);
        }
        self.conflicts.update(&self.context, &mut self.output);
    }

    fn update_datapath(&mut self) {
        let started = self.reconciler.has_requested();
        self.lan.update(&self.context, started, &mut self.output);
        self.shortcuts.update(&self.context, &mut self.output);
        self.datapath.update_network(&self.context, &self.domains, &mut self.output);
        if self.context.snapshot.is_some() {
            self.update_avoided();
        }
    }

    fn health_event(&mut self, uplink: u32, family: Family, event: &HealthEvent<'_>) {
        let verdicts = verdicts::handle(&mut self.context, uplink, family, event);
        self.apply_verdicts(verdicts);
    }

    fn check_readiness(&mut self) {
        let verdicts =
            verdicts::check_readiness(&mut self.context, &mut self.reconciler, &self.bonds);
        self.apply_verdicts(verdicts);
        if !self.reconciler.is_installed() || self.context.snapshot.is_none() {
            return;
        }
        self.datapath.update_usable(standby::usable(&self.context), &mut self.output);
        verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
    }

    /// Turns verdicts into commands: what the datapath uses comes first, the reports last.
    fn apply_verdicts(&mut self, mut verdicts: Vec<Verdict>) {
        verdicts.extend(verdicts::other_families(&mut self.context));
        if verdicts.is_empty() {
            return;
        }
        verdicts::store(&mut self.context, &verdicts);
        self.set_usable();
        self.reconcile(None);
        verdicts::report(&self.context, &verdicts, &mut self.output);
        verdicts::ask_gateways(&mut self.context, &self.datapath, &mut self.output);
        // The last uplink that is not full may be among them.
        self.update_known_avoided();
    }

    /// Tells the datapath which uplinks are usable, and ends the flows of those that no longer are.
    fn set_usable(&mut self) {
        self.datapath.set_usable(standby::usable(&self.context), &mut self.output);
        self.flows.end_stale(&mut self.context, &self.datapath, &mut self.output);
    }

    /// Stores the state that the administrator wants of an uplink.
    fn set_admin(&mut self, index: u32, admin: AdminState) {
        let Some(uplink) = self.context.uplinks.by_index_mut(index) else { return };
        let from = std::mem::replace(&mut uplink.admin, admin);
        if from == admin {
            return;
        }
        let uplink = uplink.config.name.clone();
        self.output.report(Report::Admin { uplink, from, to: admin });
        self.update_avoided();
        self.update_admin();
        // An uplink that was enabled is probed at once.
        self.check_readiness();
    }

    /// Takes down uplinks that are disabled, and lets those that no longer are prove themselves.
    fn update_admin(&mut self) {
        let indexes: Vec<_> =
            self.context.uplinks.iter().map(|uplink| (uplink.index, uplink.admin)).collect();
        let mut verdicts = Vec::new();
        for (index, admin) in indexes {
            let event = HealthEvent::Disabled(admin == AdminState::Disabled);
            for family in Family::ALL {
                verdicts.extend(verdicts::handle(&mut self.context, index, family, &event));
            }
        }
        self.apply_verdicts(verdicts);
    }

    fn counted(&mut self, counts: &Counts) {
        let reports = spillover::count(counts, &mut self.context.uplinks, self.context.now);
        self.update_avoided();
        reports.into_iter().for_each(|report| self.output.report(report));
        self.weights.update(&self.context, &mut self.output);
    }

    /// Follows the uplinks' quality: reports, lets new flows avoid degraded ones, moves flows back.
    fn update_quality(&mut self) {
        avoid::report_degraded(&mut self.context, &mut self.output);
        self.update_known_avoided();
        let avoided = self.avoided();
        self.failback.update(&self.context, &self.datapath, avoided, &mut self.output);
        self.refusals.update_unsent_probes(&self.context, &mut self.output);
    }

    fn update_avoided(&mut self) {
        let avoided = self.avoided();
        self.datapath.update_avoided(avoided, &mut self.output);
    }

    /// Updates what to avoid, unless the datapath is yet to be told for the first time, with
    /// everything else.
    fn update_known_avoided(&mut self) {
        if self.datapath.knows_avoided() {
            self.update_avoided();
        }
    }

    fn end_moved(&mut self) {
        // Flows that begin anew are to find the new routes in place.
        if !self.reconciler.is_pending() {
            self.leases.end_moved(&self.context, &self.datapath, &mut self.output);
        }
    }

    /// Returns whether lookups have a way out that is in place.
    const fn can_resolve(&self) -> bool {
        self.reconciler.is_installed() && self.context.up.0 != 0
    }
}

/// Forgets the known interface with the name of `link`: if it was recreated, it has another index.
fn forget_name(snapshot: &mut Snapshot, link: &Link) {
    snapshot.links.retain(|_, known| known.name != link.name);
}

#[cfg(test)]
mod tests;
