//! The known conflicts, and when to look for others.

use std::{collections::BTreeSet, time::Duration};

use linkbal_common::uplink::Family;

use super::{Conflict, closed, find, lookup::LookedUpRoute, path, survey::Survey};
use crate::engine::{
    command::Command,
    context::{Context, Output},
    kernel::{
        network::{NetworkEvent, PROTOCOL, Route, Snapshot},
        resource::Process,
    },
    report::Report,
};

/// Time to wait after a change of other nft tables: more usually follow.
const SETTLE: Duration = Duration::from_millis(50);

/// Least time between two looks at them: listing large ones takes its time.
const PAUSE: Duration = Duration::from_secs(1);

/// The known conflicts.
#[derive(Debug, Default)]
pub(in crate::engine) struct ConflictTracker {
    found: BTreeSet<Conflict>,
    survey: Option<Survey>,
    /// Time of the next look at the nft tables of others.
    due: Option<Duration>,
    /// Time of the last look.
    looked: Option<Duration>,
    /// The process that changed them last.
    by: Option<Process>,
    /// Packets that went astray at the last look: they count once they do so twice, since routes
    /// may just have been about to change.
    astray: Vec<LookedUpRoute>,
}

impl ConflictTracker {
    /// Creates an empty state; the first look is due.
    pub(in crate::engine) fn new(now: Duration) -> ConflictTracker {
        ConflictTracker { due: Some(now), ..ConflictTracker::default() }
    }

    /// Returns the present conflicts.
    pub(in crate::engine) const fn found(&self) -> &BTreeSet<Conflict> {
        &self.found
    }

    /// Handles a message of the kernel.
    pub(in crate::engine) fn heard(&mut self, event: &NetworkEvent, now: Duration) {
        match event {
            NetworkEvent::OtherTables { by } => self.tables_changed(by.clone(), now),
            NetworkEvent::Overrun => self.tables_changed(None, now),
            _ => {}
        }
    }

    /// Notes that nft tables of others changed.
    fn tables_changed(&mut self, by: Option<Process>, now: Duration) {
        let pause = self.looked.map_or(now, |looked| looked.saturating_add(PAUSE));
        let at = pause.max(now.saturating_add(SETTLE));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        self.by = by;
    }

    /// Notes that ip rules, or routes for a good part of the internet, changed.
    fn look_again(&mut self, now: Duration) {
        // In no hurry: whoever changes routes may be busy with a failover.
        self.due.get_or_insert(now.saturating_add(PAUSE));
    }

    /// Keeps only packets that went astray before, too; returns whether to ask again.
    fn confirm(&mut self, survey: &mut Survey) -> bool {
        survey.paths.retain(LookedUpRoute::astray);
        let before = std::mem::replace(&mut self.astray, survey.paths.clone());
        survey.paths.retain(|path| before.contains(path));
        survey.paths.len() < self.astray.len()
    }

    /// Returns the chains of others that drop what this machine sends, or the answers to it.
    pub(in crate::engine) fn closed(&self, context: &Context) -> Vec<String> {
        let known = self.survey.as_ref().zip(context.snapshot.as_ref());
        known.map_or_else(Vec::new, |(survey, snapshot)| {
            closed::own_traffic(&context.config, snapshot, survey)
        })
    }

    /// Notes the families in which others filter forwarded packets.
    pub(in crate::engine) fn mark_filtered(&self, snapshot: &mut Snapshot) {
        match &self.survey {
            Some(survey) => survey.mark_filtered(snapshot),
            None => snapshot.filtered.clear(),
        }
    }

    /// Notes the process that seems to have created chains that were not there before.
    fn attribute(&mut self, survey: &mut Survey) {
        let by = self.by.take();
        for change in &mut survey.marks {
            let known = self
                .survey
                .as_ref()
                .map(|before| before.marks.iter().find(|known| known.chain == change.chain));
            change.by = match known {
                Some(Some(known)) => known.by.clone(),
                Some(None) => by.clone(),
                // Chains that were there before linkbal started have no known author.
                None => None,
            };
        }
    }

    /// Starts a look at the nft tables of others, if it is due.
    pub(in crate::engine) fn start_survey(&mut self, context: &Context, output: &mut Output) {
        if self.survey_at(context).is_some_and(|due| due <= context.now) {
            self.due = None;
            self.looked = Some(context.now);
            let snapshot = context.snapshot.as_ref();
            let questions = snapshot
                .map(|snapshot| {
                    path::questions(&context.config, &context.uplinks.indexed(), snapshot)
                })
                .unwrap_or_default();
            output.push(Command::Survey(questions));
        }
    }

    /// Returns the time of the next look at the nft tables of others: not before everything else is
    /// known.
    pub(in crate::engine) fn survey_at(&self, context: &Context) -> Option<Duration> {
        self.due.filter(|_| context.snapshot.is_some())
    }

    /// Notes that linkbal's own routes or settings are about to change: where packets went before
    /// that says nothing of others.
    pub(in crate::engine) fn routes_changed(&mut self) {
        self.astray.clear();
    }

    /// Schedules a look if a new snapshot may route packets another way than the last one.
    pub(in crate::engine) fn compare_paths(
        &mut self,
        before: Option<&Snapshot>,
        snapshot: &Snapshot,
        now: Duration,
    ) {
        let same = before.is_some_and(|before| {
            let forwards = |family| before.forwards(family) == snapshot.forwards(family);
            before.rules == snapshot.rules
                && wide(before).eq(wide(snapshot))
                && Family::ALL.into_iter().all(forwards)
        });
        if !same {
            self.look_again(now);
        }
    }

    /// Stores a survey; returns whether others filter other families than before.
    pub(in crate::engine) fn surveyed(
        &mut self,
        mut survey: Survey,
        context: &mut Context,
    ) -> bool {
        if self.confirm(&mut survey) {
            self.look_again(context.now);
        }
        self.attribute(&mut survey);
        self.survey = Some(survey);
        let Some(snapshot) = &mut context.snapshot else { return false };
        let before = snapshot.filtered.clone();
        self.mark_filtered(snapshot);
        snapshot.filtered != before
    }

    /// Reports conflicts that are new, and those that are gone.
    pub(in crate::engine) fn update(&mut self, context: &Context, output: &mut Output) {
        let (Some(snapshot), Some(survey)) = (&context.snapshot, &self.survey) else {
            return;
        };
        let found = find(&context.config, snapshot, survey, &down(context));
        let before = std::mem::replace(&mut self.found, found);
        let new = self.found.difference(&before).map(|conflict| (conflict, true));
        let gone = before.difference(&self.found).map(|conflict| (conflict, false));
        for (conflict, there) in new.chain(gone) {
            output.report(Report::Conflict { conflict: conflict.clone(), there });
        }
    }
}

/// Returns the interfaces, by family, whose uplinks are all down.
fn down(context: &Context) -> BTreeSet<(String, Family)> {
    let each = context.uplinks.iter();
    let each = each.flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
    let each = each.map(|(uplink, family)| {
        let up = context.up.contains(uplink.index, family);
        (up, (uplink.config.interface.clone(), family))
    });
    let (up, mut down): (Vec<_>, Vec<_>) = each.partition(|(up, _)| *up);
    down.retain(|(_, interface)| up.iter().all(|(_, other)| other != interface));
    down.into_iter().map(|(_, interface)| interface).collect()
}

/// Returns routes of others for a good part of the internet.
fn wide(snapshot: &Snapshot) -> impl Iterator<Item = &Route> {
    let others = snapshot.routes.iter().filter(|route| route.protocol != PROTOCOL);
    others.filter(|route| route.destination.prefix_len() < 8)
}
