//! Observations of the kernel, and the changes that are asked of it.

use std::time::Duration;

use super::{
    adoption_schedule::{self, AdoptionSchedule},
    desired::{self, Desired},
    diff,
    drift::{Drift, pace::Pace},
    network::{Change, NetworkEvent, Snapshot},
    refusal::{KernelRefusal, Resource, tracker::RefusalTracker},
};
use crate::engine::{
    command::Command,
    context::{Context, Output},
};

/// Time from a change in the kernel to its observation: more changes usually follow.
pub(in crate::engine) const SETTLE: Duration = Duration::from_millis(20);

/// Most time between two comparisons with the kernel's state, even if no change was reported.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

/// Time from a failed observation to the next one.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The observations, and the changes that are under way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Reconciler {
    observe_at: Option<Duration>,
    observing: bool,
    /// Set while routes, ip rules and translation are in place for all uplinks.
    installed: bool,
    /// Number of [`Command::Apply`] that are not answered yet.
    pending: u32,
    /// The state that was last asked of the kernel.
    requested: Option<Desired>,
    pace: Pace,
    adoptions: AdoptionSchedule,
}

impl Reconciler {
    /// Creates the state at a start: an observation is due.
    pub(in crate::engine) fn new(now: Duration) -> Reconciler {
        Reconciler { observe_at: Some(now), ..Reconciler::default() }
    }

    /// Returns whether routes, ip rules and translation are in place for all uplinks.
    pub(in crate::engine) const fn is_installed(&self) -> bool {
        self.installed
    }

    /// Returns whether changes were asked for that are not made yet.
    pub(in crate::engine) const fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// Returns whether a state was ever asked of the kernel.
    pub(in crate::engine) const fn has_requested(&self) -> bool {
        self.requested.is_some()
    }

    /// Returns the number of observations so far.
    pub(in crate::engine) const fn observations(&self) -> u64 {
        self.pace.count()
    }

    /// Makes an observation due at a time, or before.
    pub(in crate::engine) fn observe_by(&mut self, at: Option<Duration>) {
        self.observe_at = self.observe_at.into_iter().chain(at).min();
    }

    /// Makes an observation due at a time, or later if there were many.
    pub(in crate::engine) fn observe_paced(&mut self, at: Duration) {
        self.observe_by(Some(self.pace.next(at)));
    }

    /// Handles a message of the kernel: what it tells in part is soon to be observed as a whole.
    pub(in crate::engine) fn heard(&mut self, event: &NetworkEvent, now: Duration) {
        match event {
            NetworkEvent::NeighbourFailed { .. }
            | NetworkEvent::OtherTables { .. }
            | NetworkEvent::Datapath { .. }
            | NetworkEvent::Obstacle => {}
            NetworkEvent::Overrun => self.observe_paced(now),
            _ => self.observe_paced(now + SETTLE),
        }
    }

    /// Returns the time at which there is something to do.
    pub(in crate::engine) fn deadline(&self) -> Option<Duration> {
        let observe_at = self.observe_at.filter(|_| !self.observing);
        observe_at.into_iter().chain(self.adoptions.due()).min()
    }

    /// Starts an observation, if it is due.
    pub(in crate::engine) fn start_observation(
        &mut self,
        drift: &mut Drift,
        now: Duration,
        output: &mut Output,
    ) {
        if self.observe_at.is_some_and(|due| due <= now) && !self.observing {
            self.observe_at = None;
            self.observing = true;
            self.pace.made(now);
            drift.observation_started(now);
            output.push(Command::Observe);
        }
    }

    /// Notes that an observation ended.
    pub(in crate::engine) fn observed(&mut self, now: Duration) {
        self.observing = false;
        self.observe_by(Some(now + RECONCILE_INTERVAL));
    }

    /// Notes that an observation failed.
    pub(in crate::engine) fn not_observed(&mut self, now: Duration) {
        self.observing = false;
        self.observe_at = Some(now + RETRY_DELAY);
    }

    /// Notes that the changes of one command are made.
    pub(in crate::engine) fn applied(&mut self, now: Duration) {
        self.pending = self.pending.saturating_sub(1);
        if self.pending == 0 {
            self.installed = true;
            self.adoptions.in_place(now);
        }
    }

    /// Requests a look at connections without a mark, if it is due.
    pub(in crate::engine) fn adopt(&mut self, context: &Context, output: &mut Output) {
        if self.adoptions.is_due(context.now) {
            adoption_schedule::request(context, output);
        }
    }

    /// Asks for the changes from the observed to the desired state; `before` is the observation
    /// before that, if a new one was made.
    pub(in crate::engine) fn reconcile(
        &mut self,
        context: &mut Context,
        drift: &mut Drift,
        refusals: &mut RefusalTracker,
        before: Option<&Snapshot>,
        output: &mut Output,
    ) {
        let uplinks = context.uplinks.indexed();
        let Some(snapshot) = context.snapshot.as_mut() else { return };
        let desired = desired::desired(&context.config, &uplinks, snapshot, context.up);
        // The observation only says that nobody else touched the table.
        snapshot.nft_current &= self.requested.as_ref().is_none_or(|last| last.nft == desired.nft);
        let other = |last: &Desired| last.flowtable != desired.flowtable;
        snapshot.flowtable_stale |= self.requested.as_ref().is_some_and(other);
        let changes = diff::diff(&desired, snapshot);
        let different = tables(&changes);
        let last = drift.last(self.requested.as_ref(), before, refusals);
        let changes = drift.permitted(changes, &desired, &last, snapshot, context.now, output);
        self.observe_by(drift.due().map(|due| due.max(context.now)));
        let former = self.requested.take();
        self.requested = Some(requested(desired, former, different, tables(&changes)));
        if before.is_some() {
            refusals.forget(&changes, output);
        }
        if changes.is_empty() {
            return;
        }
        diff::assume(snapshot, &changes);
        if changes.iter().any(|change| matches!(change, Change::ReplaceNft(_))) {
            self.adoptions.writing();
            // Before anything leads packets elsewhere: connections that have an uplink keep it.
            adoption_schedule::request(context, output);
        }
        self.pending += 1;
        drift.changes_requested();
        output.push(Command::Apply(changes));
    }

    /// Notes that the kernel refused changes: the text of a table that it refused is not in force.
    pub(in crate::engine) fn not_applied(&mut self, refused: &[KernelRefusal]) {
        let is = |resource| refused.iter().any(|refusal| refusal.resource == resource);
        let Some(requested) = &mut self.requested else { return };
        if is(Resource::NftTable) {
            requested.nft.clear();
        }
        if is(Resource::Flowtable) {
            requested.flowtable = Some(String::new());
        }
    }

    /// Reconciles with another configuration: no uplink comes up before what it needs is in place.
    pub(in crate::engine) fn reconfigure(
        &mut self,
        context: &mut Context,
        drift: &mut Drift,
        refusals: &mut RefusalTracker,
        output: &mut Output,
    ) {
        let before = self.pending;
        self.reconcile(context, drift, refusals, None, output);
        self.installed &= self.pending == before;
        // The state of new interfaces in the kernel is not known yet.
        self.observe_at = Some(context.now);
    }
}

/// Returns whether the nft table is among changes, and whether that of the flowtable is.
fn tables(changes: &[Change]) -> [bool; 2] {
    let any = |is: fn(&Change) -> bool| changes.iter().any(is);
    [
        any(|change| matches!(change, Change::ReplaceNft(_))),
        any(|change| matches!(change, Change::SetFlowtable(_))),
    ]
}

/// Returns the state that is asked of the kernel. An observation only says that nobody else touched a
/// table: one that is `different` from the desired one, and not `changed` now, keeps its former text.
fn requested(
    desired: Desired,
    former: Option<Desired>,
    different: [bool; 2],
    changed: [bool; 2],
) -> Desired {
    let Some(former) = former else { return desired };
    let mut requested = desired;
    if different[0] && !changed[0] {
        requested.nft = former.nft;
    }
    if different[1] && !changed[1] {
        requested.flowtable = former.flowtable;
    }
    requested
}
