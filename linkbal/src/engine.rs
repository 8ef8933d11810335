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
pub mod plan;
pub mod policy;
pub mod reconfigure;
pub mod report;
mod shortcuts;
pub mod uplinks;
mod view;

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::uplink::{Family, UpMask};

use self::{
    admin::AdminState,
    balance::{avoid, failback::Failback, load::Counts, spillover, weights::Weights},
    context::{Context, Output},
    datapath::Datapath,
    device_names::with_device_names,
    domains::Domains,
    flows::{FlowTermination, Former},
    health::{HealthEvent, suspicion, verdicts},
    indexed::Indexed,
    kernel::{
        bond,
        conflict::{survey::Survey, tracker::ConflictTracker},
        drift::Drift,
        handover::Handover,
        lan::interfaces::LanInterfaces,
        lease::Leases,
        network::{NetworkEvent, Snapshot},
        reconcile::{Reconciler, SETTLE},
        refusal::tracker::RefusalTracker,
        standby,
    },
    shortcuts::Shortcuts,
    uplinks::{UplinkState, VerdictChange},
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
    refusals: RefusalTracker,
    conflicts: ConflictTracker,
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
            refusals: RefusalTracker::default(),
            conflicts: ConflictTracker::new(now),
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
            Event::DatapathPartsMissing(parts) => {
                self.drift.datapath_damaged(parts, now, &mut self.output);
            }
            Event::GatewayAsked { uplink, family, answers } => {
                let context = &mut self.context;
                verdicts::gateway_asked(context, uplink, family, answers, &mut self.output);
            }
            Event::ProbeAnswer { .. }
            | Event::ProbeFailed { .. }
            | Event::ProbeUnsent { .. }
            | Event::ProbeSkipped { .. } => {
                if let Some((uplink, family, event)) = event.of_probe() {
                    self.health_event(uplink, family, &event);
                }
            }
            Event::Admin { uplink, admin } => self.set_admin(uplink, admin),
            Event::EnableNow { uplink } => self.both_families(uplink, &HealthEvent::Admitted),
            Event::Drill { uplink, on } => self.both_families(uplink, &HealthEvent::Blocked(on)),
            Event::LoadCounted(counts) => self.counted(&counts),
            Event::DatapathTraffic { counters, networks } => {
                suspicion::count(&counters, &networks, &mut self.context.uplinks, now);
                suspicion::suspect(&mut self.context.uplinks, now);
                verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
            }
            Event::Resolved { name, addresses } => {
                self.domains.resolved(name, &addresses, now, &mut self.output);
            }
            Event::NotResolved { name, reason } => {
                let has_way = self.can_resolve();
                self.domains.not_resolved(name, reason, has_way, now, &mut self.output);
            }
        }
    }

    /// Handles a message of the kernel. What may decide a verdict does not wait for the observation that
    /// it leads to.
    fn network_event(&mut self, event: NetworkEvent) {
        let now = self.context.now;
        self.reconciler.heard(&event, now);
        self.conflicts.heard(&event, now);
        self.drift.heard(&event, &mut self.context);
        match (event, &mut self.context.snapshot) {
            (NetworkEvent::NeighbourFailed { ifindex, address }, _) => {
                let verdicts = verdicts::neighbour_failed(&mut self.context, ifindex, address);
                self.apply_verdicts(verdicts);
                verdicts::start_rounds(&mut self.context, &self.datapath, &mut self.output);
            }
            (NetworkEvent::Link(link), Some(snapshot)) => {
                let changed = Some(link.ifindex);
                snapshot.set_link(link);
                let kept = self.handover.update(&mut self.context.uplinks, snapshot, changed, now);
                self.reconciler.observe_by(kept);
                self.check_readiness();
            }
            (NetworkEvent::LinkGone { ifindex }, Some(snapshot)) => {
                snapshot.links.remove(&ifindex);
                self.check_readiness();
            }
            _ => {}
        }
    }

    /// Handles an observation: what follows from it is compared with the kernel, and then judged.
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

    /// Handles the end of changes, for which some decisions had to wait.
    fn applied(&mut self) {
        self.reconciler.applied(self.context.now);
        self.end_repair();
        self.reconciler.adopt(&self.context, &mut self.output);
        self.check_readiness();
        self.end_moved();
    }

    /// Asks for the changes from the observed to the desired state.
    fn reconcile(&mut self, before: Option<&Snapshot>) {
        let Engine { context, reconciler, drift, refusals, output, .. } = self;
        reconciler.reconcile(context, drift, refusals, before, output);
        if reconciler.is_pending() {
            self.conflicts.routes_changed();
        }
        self.drift.update_pause(&mut self.context);
    }

    /// Lets probes count again, once nothing is left to repair.
    fn end_repair(&mut self) {
        if !self.reconciler.is_pending() {
            self.drift.repaired(&mut self.context);
        }
    }

    fn surveyed(&mut self, survey: Survey) {
        if self.conflicts.surveyed(survey, &mut self.context) {
            self.reconcile(None);
        }
        self.conflicts.update(&self.context, &mut self.output);
    }

    /// Tells the datapath what is new in the network.
    fn update_datapath(&mut self) {
        let started = self.reconciler.has_requested();
        self.lan.update(&self.context, started, &mut self.output);
        self.shortcuts.update(&self.context, &mut self.output);
        self.datapath.update_network(&self.context, &self.domains, &mut self.output);
        if self.context.snapshot.is_some() {
            self.update_avoided();
        }
    }

    /// Handles an event of one uplink and family.
    fn health_event(&mut self, uplink: u32, family: Family, event: &HealthEvent<'_>) {
        let verdicts = verdicts::handle(&mut self.context, uplink, family, event);
        self.apply_verdicts(verdicts);
    }

    /// Handles an event of both families of an uplink, one after the other.
    fn both_families(&mut self, uplink: u32, event: &HealthEvent<'_>) {
        for family in Family::ALL {
            self.health_event(uplink, family, event);
        }
    }

    /// Checks which uplinks are ready, and starts to probe them.
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
    fn apply_verdicts(&mut self, mut verdicts: Vec<VerdictChange>) {
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
        self.datapath.update_known_avoided(self.avoided(), &mut self.output);
    }

    /// Tells the datapath which uplinks are usable, and ends the flows of those that no longer are.
    fn set_usable(&mut self) {
        self.datapath.set_usable(standby::usable(&self.context), &mut self.output);
        self.flows.end_stale(&mut self.context, &self.datapath, &mut self.output);
    }

    /// Stores the state that the administrator wants of an uplink.
    fn set_admin(&mut self, index: u32, admin: AdminState) {
        let Some(report) = self.context.uplinks.set_admin(index, admin) else { return };
        self.output.report(report);
        self.update_avoided();
        self.update_admin();
        // An uplink that was enabled is probed at once.
        self.check_readiness();
    }

    /// Takes down uplinks that are disabled, and lets those that no longer are prove themselves.
    fn update_admin(&mut self) {
        let verdicts = verdicts::update_admin(&mut self.context);
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
        let avoided = self.avoided();
        self.datapath.update_known_avoided(avoided, &mut self.output);
        self.failback.update(&self.context, &self.datapath, avoided, &mut self.output);
        self.refusals.update_unsent_probes(&self.context, &mut self.output);
    }

    fn update_avoided(&mut self) {
        self.datapath.update_avoided(self.avoided(), &mut self.output);
    }

    /// Ends flows that are to begin anew: they must find the new routes in place.
    fn end_moved(&mut self) {
        if !self.reconciler.is_pending() {
            self.leases.end_moved(&self.context, &self.datapath, &mut self.output);
        }
    }

    /// Returns whether lookups have a way out that is in place.
    const fn can_resolve(&self) -> bool {
        self.reconciler.is_installed() && self.context.up.0 != 0
    }
}

#[cfg(test)]
mod tests;
