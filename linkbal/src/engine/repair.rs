//! Repairs of what others undo, as long as that helps.
//!
//! A change that leads back to what was in force before, though nothing that it follows from has
//! changed, is a repair: others undid what linkbal had done. Repairs are reported with the process
//! that did it, if the kernel tells. A thing that is undone again and again is contested: it is
//! repaired at a slow pace from then on, and reported as a conflict until it is left alone.

pub mod pace;
mod undone;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(super) use self::undone::Before;
use super::{
    Command, Engine, Report, bond,
    desired::Desired,
    network::{Change, PROTOCOL, Snapshot},
};

/// Most repairs of a thing within `WINDOW`: after that it is contested.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// Time between two repairs of a contested thing.
const SLOW: Duration = Duration::from_secs(10);

/// Time for which a contested thing must be left alone until it is no longer contested.
const CALM: Duration = Duration::from_secs(60);

/// Most things of a kind that a report names.
const NAMED: usize = 3;

/// A kind of thing that others may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Touch {
    /// ip rules.
    Rules,
    /// Routes.
    Routes,
    /// The nft table.
    Nft,
    /// Sysctls.
    Sysctls,
    /// Bonds and their members.
    Bonds,
    /// The eBPF programs, and everything that is pinned.
    Datapath,
}

/// A process that did something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Name, if the process still runs or the kernel tells.
    pub name: Option<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (process {})", self.pid),
            None => write!(f, "process {}, which has ended", self.pid),
        }
    }
}

/// A part of the datapath that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Part {
    /// The pin of a map or a program.
    Pin(String),
    /// A program at an interface, or the pin that holds it there.
    Attachment {
        /// Index of the interface.
        ifindex: u32,
        /// Name of the interface.
        interface: String,
    },
    /// The programs for local traffic.
    OwnTraffic,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Pin(name) => write!(f, "pin {name}"),
            Part::Attachment { interface, .. } => write!(f, "eBPF program of {interface}"),
            Part::OwnTraffic => f.write_str("eBPF programs for this machine's own traffic"),
        }
    }
}

/// A thing that is undone again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// Time since which it is contested.
    pub since: Duration,
    /// Number of repairs since then.
    pub repairs: u32,
    /// The process that undid it last, if known.
    pub by: Option<Process>,
}

/// The repairs, and the processes that made them necessary.
#[derive(Debug, Default)]
pub struct Repairs {
    things: BTreeMap<String, Thing>,
    /// The process that touched each kind of thing, and the time when that was heard.
    culprits: BTreeMap<Touch, (Process, Duration)>,
    /// Time when each kind of thing was last heard to be touched.
    heard: BTreeMap<Touch, Duration>,
    /// Interfaces that were down lately, so that the kernel dropped their routes, with the time.
    fallen: BTreeMap<u32, Duration>,
    /// Time at which the last observation began: it shows everything that was heard before.
    observed_from: Duration,
    /// Set if changes were asked for since then: the observation does not show what is in force.
    outdated: bool,
    /// Time at which a repair that was held back may be made.
    due: Option<Duration>,
}

#[derive(Debug, Default)]
struct Thing {
    times: VecDeque<Duration>,
    contested: Option<Contested>,
    next: Duration,
}

/// A decision on the repair of a thing.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A repair at once, with a report.
    Repair,
    /// A repair at the slow pace, without a report.
    Again,
    /// No repair yet.
    Wait,
    /// No repair yet, with a report that the thing is contested.
    Dispute,
}

impl Repairs {
    /// Returns the contested things, by name.
    pub fn contested(&self) -> impl Iterator<Item = (&str, &Contested)> {
        self.things.iter().filter_map(|(what, thing)| Some((&**what, thing.contested.as_ref()?)))
    }

    /// Notes the process that touched something.
    pub(super) fn touched(&mut self, what: Touch, by: Option<Process>, now: Duration) {
        self.heard.insert(what, now);
        self.culprits.extend(by.map(|by| (what, (by, now))));
    }

    /// Notes an interface that is down, or gone.
    pub(super) fn fallen(&mut self, ifindex: u32, now: Duration) {
        self.fallen.insert(ifindex, now);
    }

    /// Notes that an observation begins.
    pub(super) const fn observing(&mut self, now: Duration) {
        self.observed_from = now;
        self.outdated = false;
    }

    /// Notes that changes were asked for.
    pub(super) const fn asked(&mut self) {
        self.outdated = true;
    }

    /// Returns whether the observation shows everything that was asked for before it ended.
    pub(super) const fn is_current(&self) -> bool {
        !self.outdated
    }

    /// Returns the time at which a repair that was held back may be made.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    fn culprit(&self, of: Touch) -> Option<Process> {
        self.culprits.get(&of).map(|(by, _)| by.clone())
    }

    fn is_contested(&self, what: &str) -> bool {
        self.things.get(what).is_some_and(|thing| thing.contested.is_some())
    }

    /// Returns whether a contested thing has to wait, and notes until when.
    fn waits(&mut self, what: &str, now: Duration) -> bool {
        let contested = self.things.get(what).filter(|thing| thing.contested.is_some());
        let next = contested.map(|thing| thing.next).filter(|next| now < *next);
        self.due = self.due.into_iter().chain(next).min();
        next.is_some()
    }

    fn judge(&mut self, what: &str, by: Option<&Process>, now: Duration) -> Verdict {
        let thing = self.things.entry(what.to_owned()).or_default();
        let verdict = thing.judge(by, now);
        if matches!(verdict, Verdict::Wait | Verdict::Dispute) {
            self.due = self.due.into_iter().chain([thing.next]).min();
        }
        verdict
    }

    /// Forgets what is long past; returns the things that are no longer contested.
    fn settle(&mut self, now: Duration) -> Vec<String> {
        let mut calm = Vec::new();
        self.things.retain(|what, thing| {
            let quiet = if thing.contested.is_some() { CALM } else { WINDOW };
            let alive = thing.times.back().is_some_and(|last| now < *last + quiet);
            if !alive && thing.contested.is_some() {
                calm.push(what.clone());
            }
            alive
        });
        calm
    }
}

impl Thing {
    fn judge(&mut self, by: Option<&Process>, now: Duration) -> Verdict {
        if let Some(contested) = &mut self.contested {
            contested.by = by.cloned().or(contested.by.take());
            if now < self.next {
                return Verdict::Wait;
            }
            contested.repairs += 1;
            self.next = now + SLOW;
            self.times = [now].into();
            return Verdict::Again;
        }
        self.times.retain(|time| now < *time + WINDOW);
        if self.times.len() < MOST {
            self.times.push_back(now);
            return Verdict::Repair;
        }
        self.contested = Some(Contested { since: now, repairs: 0, by: by.cloned() });
        self.next = now + SLOW;
        Verdict::Dispute
    }
}

/// Returns the kind of thing that a change is about.
pub(super) const fn touch(change: &Change) -> Touch {
    match change {
        Change::Bond(_) => Touch::Bonds,
        Change::SetSysctl(..) => Touch::Sysctls,
        Change::ReplaceRoute(_) | Change::DeleteRoute(_) => Touch::Routes,
        Change::AddRule(_) | Change::DeleteRule(_) => Touch::Rules,
        Change::ReplaceNft(_) => Touch::Nft,
    }
}

/// Returns a name for what a change puts in force.
pub fn name(change: &Change) -> String {
    match change {
        Change::Bond(change) => format!("interface {change}"),
        Change::SetSysctl(path, value) => format!("sysctl {} = {value}", path.replace('/', ".")),
        Change::ReplaceRoute(route) => format!("route {route}"),
        Change::AddRule(rule) => format!("ip rule {rule}"),
        Change::ReplaceNft(_) => "nft table inet linkbal".into(),
        Change::DeleteRule(rule) => format!("surplus ip rule {rule} with protocol {PROTOCOL}"),
        Change::DeleteRoute(route) => format!("surplus route {route} with protocol {PROTOCOL}"),
    }
}

impl Engine {
    /// Returns the changes that may be made now, and reports those that are repairs.
    pub(super) fn permitted(
        &mut self,
        changes: Vec<Change>,
        desired: &Desired,
        before: Option<&Snapshot>,
        now: Duration,
    ) -> Vec<Change> {
        let Some(snapshot) = &self.snapshot else { return changes };
        self.repairs.due = None;
        let before = Before {
            asked: self.asked.as_ref(),
            snapshot: before,
            refused: &self.refused,
            routes_touched: self.repairs.heard.contains_key(&Touch::Routes),
        };
        let fallen = &self.repairs.fallen;
        let repair = |change: &Change| before.is_repair(change, desired, snapshot, fallen);
        let undone = bond::undone(&changes, &before, snapshot);
        let (of_bonds, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| touch(change) == Touch::Bonds);
        let judged: Vec<_> = changes.into_iter().map(|change| (repair(&change), change)).collect();
        let mut told: BTreeMap<Touch, Vec<String>> = BTreeMap::new();
        let mut permitted = Vec::new();
        if self.permits_bonds(&of_bonds, undone, now, &mut told) {
            permitted = of_bonds;
        }
        for (is_repair, change) in judged {
            let (what, kind) = (name(&change), touch(&change));
            let goes = if is_repair {
                self.judge(kind, what, now, &mut told)
            } else {
                !self.repairs.waits(&what, now)
            };
            permitted.extend(goes.then_some(change));
        }
        self.tell(told);
        permitted
    }

    /// Returns whether changes of bonds may be made. They follow from each other, so all of them
    /// are made, or none. The first one that was `undone`, or is contested, decides.
    fn permits_bonds(
        &mut self,
        changes: &[Change],
        undone: Vec<String>,
        now: Duration,
        told: &mut BTreeMap<Touch, Vec<String>>,
    ) -> bool {
        let contested = || changes.iter().map(name).find(|what| self.repairs.is_contested(what));
        let Some(first) = undone.first().cloned().or_else(contested) else { return true };
        let goes = self.judge(Touch::Bonds, first, now, told);
        told.entry(Touch::Bonds).and_modify(|what| *what = undone);
        goes
    }

    fn judge(
        &mut self,
        kind: Touch,
        what: String,
        now: Duration,
        told: &mut BTreeMap<Touch, Vec<String>>,
    ) -> bool {
        let by = self.repairs.culprit(kind);
        let verdict = self.repairs.judge(&what, by.as_ref(), now);
        match verdict {
            Verdict::Repair => told.entry(kind).or_default().push(what),
            Verdict::Dispute => {
                let report = Report::Contested { what, by, pace: Some(SLOW) };
                self.commands.push_back(Command::Report(report));
            }
            Verdict::Again | Verdict::Wait => {}
        }
        matches!(verdict, Verdict::Repair | Verdict::Again)
    }

    fn tell(&mut self, told: BTreeMap<Touch, Vec<String>>) {
        for (kind, mut what) in told {
            let by = self.repairs.culprit(kind);
            let more = what.len().saturating_sub(NAMED);
            what.truncate(NAMED);
            self.commands.push_back(Command::Report(Report::Repair { kind, what, more, by }));
        }
    }

    /// Ends a comparison: forgets touches from before the observation, and reports the things that
    /// are left alone again.
    pub(super) fn settle_repairs(&mut self, now: Duration) {
        let from = self.repairs.observed_from;
        self.repairs.culprits.retain(|_, (_, heard)| *heard >= from);
        self.repairs.fallen.retain(|_, heard| *heard >= from);
        self.repairs.heard.retain(|_, heard| *heard >= from);
        for what in self.repairs.settle(now) {
            let report = Report::Contested { what, by: None, pace: None };
            self.commands.push_back(Command::Report(report));
        }
    }

    /// Asks for missing parts of the datapath to be restored.
    pub(super) fn damaged(&mut self, parts: Vec<Part>, now: Duration) {
        let mut told = BTreeMap::new();
        let mut restored = Vec::new();
        for part in parts {
            if self.judge(Touch::Datapath, part.to_string(), now, &mut told) {
                restored.push(part);
            }
        }
        if !restored.is_empty() {
            self.commands.push_back(Command::Restore(restored));
        }
        self.tell(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_undone_again_and_again_is_repaired_slowly_until_it_is_left_alone() {
        let mut repairs = Repairs::default();
        for _ in 0..MOST {
            assert_eq!(repairs.judge("rule", None, s(1)), Verdict::Repair);
        }
        let by = Process { pid: 7, name: None };
        assert_eq!(repairs.judge("rule", Some(&by), s(2)), Verdict::Dispute);
        assert_eq!(repairs.judge("rule", None, s(3)), Verdict::Wait);
        assert!(repairs.waits("rule", s(3)) && !repairs.waits("route", s(3)));
        assert_eq!(repairs.due(), Some(s(12)));
        assert_eq!(repairs.judge("rule", None, s(12)), Verdict::Again);
        assert_eq!(repairs.judge("rule", None, s(13)), Verdict::Wait);
        let contested: Vec<_> = repairs.contested().collect();
        assert_eq!(contested, [("rule", &Contested { since: s(2), repairs: 1, by: Some(by) })]);
        assert_eq!(repairs.settle(s(71)), [""; 0]);
        assert_eq!(repairs.settle(s(73)), ["rule"]);
        assert_eq!(repairs.judge("rule", None, s(74)), Verdict::Repair);
    }

    #[test]
    fn what_is_undone_now_and_then_is_repaired_at_once_for_ever() {
        let mut repairs = Repairs::default();
        for round in 0..1000 {
            assert_eq!(repairs.judge("rule", None, s(2 * round)), Verdict::Repair);
        }
        repairs.settle(s(5000));
        assert!(repairs.things.is_empty(), "what is past takes no memory");
    }
}
