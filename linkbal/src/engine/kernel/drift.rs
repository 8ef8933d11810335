//! Repair of what others undo, as long as that helps.
//!
//! A change that leads back to what was in force before, though nothing that it follows from has
//! changed, is a repair: others undid what linkbal had done. Repairs are reported with the process
//! that did it, if the kernel tells. A thing that is undone again and again is throttled: it is
//! repaired at a slow pace from then on, and reported as a conflict until it is left alone.

pub mod pace;
mod probe_pause;
mod repair_record;
pub mod subject;
mod undone;

use std::{collections::BTreeMap, time::Duration};

pub use self::repair_record::Throttled;
pub(in crate::engine) use self::undone::LastState;
use self::{
    probe_pause::ProbePauses,
    repair_record::{Decision, RepairRecord, SLOW},
    subject::Subject,
};
use super::{
    bond,
    desired::Desired,
    network::{Change, NetworkEvent, Snapshot},
    refusal::{Resource, tracker::RefusalTracker},
    resource::{Part, Process, ResourceKind},
};
use crate::engine::{
    command::Command,
    context::{Context, Output},
    report::Report,
};

/// Most things of a kind that a report names.
const NAMED: usize = 3;

/// The repairs, and the processes that made them necessary.
#[derive(Debug, Default)]
pub struct Drift {
    repairs: BTreeMap<Subject, RepairRecord>,
    /// The process that last changed each kind of resource, and the time when that was reported.
    last_changed_by: BTreeMap<ResourceKind, (Process, Duration)>,
    /// Time when each kind of resource was last reported to be changed.
    changed_at: BTreeMap<ResourceKind, Duration>,
    /// Interfaces that were down lately, so that the kernel dropped their routes, with the time.
    recently_down: BTreeMap<u32, Duration>,
    /// Time at which the last observation began: it shows everything that was heard before.
    observed_from: Duration,
    /// Set if changes were asked for since then: the observation does not show what is in force.
    outdated: bool,
    /// Time at which a repair that was held back may be made.
    due: Option<Duration>,
    probe_pauses: ProbePauses,
}

impl Drift {
    /// Returns the throttled things.
    pub fn throttled(&self) -> impl Iterator<Item = (&Subject, &Throttled)> {
        self.repairs.iter().filter_map(|(what, record)| Some((what, record.throttled()?)))
    }

    /// Handles a message of the kernel.
    pub(in crate::engine) fn heard(&mut self, event: &NetworkEvent, context: &mut Context) {
        let now = context.now;
        match (event, &context.snapshot) {
            (NetworkEvent::Overrun, _) => self.changed(ResourceKind::Routes, None, now),
            (NetworkEvent::Link(link), Some(_)) if !link.up || !link.carrier => {
                self.went_down(link.ifindex, now);
            }
            (NetworkEvent::LinkGone { ifindex }, Some(_)) => self.went_down(*ifindex, now),
            (NetworkEvent::AddressGone { ifindex }, Some(snapshot)) => {
                self.went_down(*ifindex, now);
                let name = snapshot.links.get(ifindex).map(|link| &link.name);
                let mut uplinks = context.uplinks.iter();
                if uplinks.any(|uplink| Some(&uplink.config.interface) == name) {
                    // It may be the only one that the uplink had.
                    self.probe_pauses.begin(now, now);
                    self.update_pause(context);
                }
            }
            (NetworkEvent::ResourceChanged { what, by }, Some(_)) => {
                self.changed(*what, by.clone(), now);
                self.update_pause(context);
            }
            _ => {}
        }
    }

    /// Notes the process that changed something.
    fn changed(&mut self, what: ResourceKind, by: Option<Process>, now: Duration) {
        // Sysctls and nft tables are reported for changes of linkbal's own, too.
        if matches!(what, ResourceKind::Rules | ResourceKind::Routes) {
            self.probe_pauses.begin(now, now);
        }
        self.changed_at.insert(what, now);
        self.last_changed_by.extend(by.map(|by| (what, (by, now))));
    }

    /// Notes an interface that is down, or gone.
    fn went_down(&mut self, ifindex: u32, now: Duration) {
        self.recently_down.insert(ifindex, now);
    }

    /// Notes that an observation begins.
    pub(in crate::engine) const fn observation_started(&mut self, now: Duration) {
        self.observed_from = now;
        self.outdated = false;
    }

    /// Notes that changes were asked for.
    pub(in crate::engine) const fn changes_requested(&mut self) {
        self.outdated = true;
    }

    /// Lets probes count again: nothing is left to repair.
    pub(in crate::engine) fn repaired(&mut self, context: &mut Context) {
        self.probe_pauses.end(self.observed_from);
        self.update_pause(context);
    }

    /// Pauses probes while something that linkbal set up is undone, or an address of an uplink is gone and
    /// not yet seen to be: no target could answer.
    pub(in crate::engine) fn update_pause(&mut self, context: &mut Context) {
        if let Some(change) = self.probe_pauses.change() {
            // It is no verdict.
            context.uplinks.handle_all(&change.event(), context.now);
        }
    }

    /// Returns whether the observation shows everything that was asked for before it ended.
    pub(in crate::engine) const fn is_current(&self) -> bool {
        !self.outdated
    }

    /// Returns the time at which a repair that was held back may be made.
    pub(in crate::engine) const fn due(&self) -> Option<Duration> {
        self.due
    }

    fn last_changed_by(&self, of: ResourceKind) -> Option<Process> {
        self.last_changed_by.get(&of).map(|(by, _)| by.clone())
    }

    fn is_throttled(&self, what: &Subject) -> bool {
        self.repairs.get(what).is_some_and(|record| record.throttled().is_some())
    }

    /// Returns whether a throttled thing has to wait, and notes until when.
    fn waits(&mut self, what: &Subject, now: Duration) -> bool {
        let next = self.repairs.get(what).and_then(RepairRecord::next);
        let next = next.filter(|next| now < *next);
        self.due = self.due.into_iter().chain(next).min();
        next.is_some()
    }

    fn judge(&mut self, what: &Subject, by: Option<&Process>, now: Duration) -> Decision {
        let record = self.repairs.entry(what.clone()).or_default();
        let verdict = record.judge(by, now);
        if matches!(verdict, Decision::Wait | Decision::Throttle) {
            self.due = self.due.into_iter().chain(record.next()).min();
        }
        verdict
    }

    /// Forgets what is long past; returns the things that are no longer throttled.
    fn settle(&mut self, now: Duration) -> Vec<Subject> {
        let past = self.repairs.extract_if(.., |_, record| !record.is_recent(now));
        let throttled = past.filter(|(_, record)| record.throttled().is_some());
        throttled.map(|(what, _)| what).collect()
    }
}

/// Things to report as repaired, by kind.
type Repaired = BTreeMap<ResourceKind, Vec<Subject>>;

impl Drift {
    /// Returns the state to compare with: what was last asked of the kernel, and the observation
    /// of that time.
    pub(in crate::engine) fn last<'a>(
        &self,
        requested: Option<&'a Desired>,
        snapshot: Option<&'a Snapshot>,
        refusals: &'a RefusalTracker,
    ) -> LastState<'a> {
        let routes_changed = self.changed_at.contains_key(&ResourceKind::Routes);
        LastState { requested, snapshot, refusals, routes_changed }
    }

    /// Returns the changes that may be made now, and reports those that are repairs.
    pub(in crate::engine) fn permitted(
        &mut self,
        changes: Vec<Change>,
        desired: &Desired,
        last: &LastState<'_>,
        snapshot: &Snapshot,
        now: Duration,
        output: &mut Output,
    ) -> Vec<Change> {
        self.due = None;
        let undone = bond::undone(&changes, last, snapshot);
        let (of_bonds, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| matches!(change, Change::Bond(_)));
        let recently_down = &self.recently_down;
        let is_repair = |change: &Change| last.is_repair(change, desired, snapshot, recently_down);
        let judged: Vec<_> =
            changes.into_iter().map(|change| (is_repair(&change), change)).collect();
        let mut repaired = Repaired::new();
        let mut permitted = Vec::new();
        if self.permits_bonds(&of_bonds, undone, now, &mut repaired, output) {
            permitted = of_bonds;
        }
        for (is_repair, change) in judged {
            let what = Subject::from(Resource::from(&change));
            let goes = if is_repair {
                self.permits_repair(what, now, &mut repaired, output)
            } else {
                !self.waits(&what, now)
            };
            permitted.extend(goes.then_some(change));
        }
        self.report(repaired, output);
        permitted
    }

    /// Returns whether changes of bonds may be made. They follow from each other, so all of them
    /// are made, or none. The first one that was `undone`, or is throttled, decides.
    fn permits_bonds(
        &mut self,
        changes: &[Change],
        undone: Vec<Subject>,
        now: Duration,
        repaired: &mut Repaired,
        output: &mut Output,
    ) -> bool {
        let mut each = changes.iter().map(|change| Subject::from(Resource::from(change)));
        let throttled = || each.find(|what| self.is_throttled(what));
        let Some(first) = undone.first().cloned().or_else(throttled) else { return true };
        let goes = self.permits_repair(first, now, repaired, output);
        repaired.entry(ResourceKind::Bonds).and_modify(|what| *what = undone);
        goes
    }

    fn permits_repair(
        &mut self,
        what: Subject,
        now: Duration,
        repaired: &mut Repaired,
        output: &mut Output,
    ) -> bool {
        let kind = what.kind();
        let by = self.last_changed_by(kind);
        let verdict = self.judge(&what, by.as_ref(), now);
        match verdict {
            Decision::Repair => repaired.entry(kind).or_default().push(what),
            Decision::Throttle => {
                let what = what.to_string();
                output.report(Report::Throttled { what, by, pace: Some(SLOW) });
            }
            Decision::Again | Decision::Wait => {}
        }
        let goes = matches!(verdict, Decision::Repair | Decision::Again);
        if goes && kind != ResourceKind::Datapath {
            self.probe_pauses.begin(self.observed_from, now);
        }
        goes
    }

    fn report(&self, repaired: Repaired, output: &mut Output) {
        for (kind, mut what) in repaired {
            let by = self.last_changed_by(kind);
            let more = what.len().saturating_sub(NAMED);
            what.truncate(NAMED);
            let what = what.iter().map(Subject::to_string).collect();
            output.report(Report::Repair { kind, what, more, by });
        }
    }

    /// Ends a comparison: forgets changes from before the observation, and reports the things that
    /// are left alone again.
    pub(in crate::engine) fn observation_compared(&mut self, now: Duration, output: &mut Output) {
        let from = self.observed_from;
        self.last_changed_by.retain(|_, (_, at)| *at >= from);
        self.recently_down.retain(|_, at| *at >= from);
        self.changed_at.retain(|_, at| *at >= from);
        for what in self.settle(now) {
            let what = what.to_string();
            output.report(Report::Throttled { what, by: None, pace: None });
        }
    }

    /// Asks for missing parts of the datapath to be restored.
    pub(in crate::engine) fn datapath_damaged(
        &mut self,
        parts: Vec<Part>,
        now: Duration,
        output: &mut Output,
    ) {
        let mut repaired = Repaired::new();
        let mut restored = Vec::new();
        for part in parts {
            if self.permits_repair(part.clone().into(), now, &mut repaired, output) {
                restored.push(part);
            }
        }
        if !restored.is_empty() {
            output.push(Command::Restore(restored));
        }
        self.report(repaired, output);
    }
}

#[cfg(test)]
mod tests {
    use super::{repair_record::MAX_REPAIRS, *};

    const TABLE: Subject = Subject::Resource(Resource::NftTable);
    const OTHER: Subject = Subject::Datapath(Part::Local);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_undone_again_and_again_is_repaired_slowly_until_it_is_left_alone() {
        let mut drift = Drift::default();
        for _ in 0..MAX_REPAIRS {
            assert_eq!(drift.judge(&TABLE, None, s(1)), Decision::Repair);
        }
        let by = Process { pid: 7, name: None };
        assert_eq!(drift.judge(&TABLE, Some(&by), s(2)), Decision::Throttle);
        assert_eq!(drift.judge(&TABLE, None, s(3)), Decision::Wait);
        assert!(drift.waits(&TABLE, s(3)) && !drift.waits(&OTHER, s(3)));
        assert_eq!(drift.due(), Some(s(12)));
        assert_eq!(drift.judge(&TABLE, None, s(12)), Decision::Again);
        assert_eq!(drift.judge(&TABLE, None, s(13)), Decision::Wait);
        let throttled: Vec<_> = drift.throttled().collect();
        assert_eq!(throttled, [(&TABLE, &Throttled { since: s(2), repairs: 1, by: Some(by) })]);
        assert_eq!(drift.settle(s(71)), []);
        assert_eq!(drift.settle(s(73)), [TABLE]);
        assert_eq!(drift.judge(&TABLE, None, s(74)), Decision::Repair);
    }

    #[test]
    fn what_is_undone_now_and_then_is_repaired_at_once_for_ever() {
        let mut drift = Drift::default();
        for round in 0..1000 {
            assert_eq!(drift.judge(&TABLE, None, s(2 * round)), Decision::Repair);
        }
        drift.settle(s(5000));
        assert!(drift.repairs.is_empty(), "what is past takes no memory");
    }
}
