//! What others have set up in the kernel that clashes with linkbal, or might be thought to.
//!
//! Nothing here is ever changed: it is named, with who seems to be behind it, what it means, and
//! what to do.

mod marks;
mod products;
mod rules;
mod snat;
pub mod survey;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use self::survey::Survey;
use super::{
    Command, Engine, Report,
    network::{PROTOCOL, Snapshot},
    repair::Process,
};
use crate::config::Config;

/// After a change of other nft tables, more usually follow.
const SETTLE: Duration = Duration::from_millis(50);

/// Least time between two looks at them: to list large ones takes its time.
const PAUSE: Duration = Duration::from_secs(1);

/// Most conflicts of one kind that are named: the rest would say nothing new.
const MOST: usize = 8;

/// Something of others that linkbal meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Conflict {
    /// What was found.
    pub what: String,
    /// Who seems to have set it up.
    pub who: String,
    /// What it means.
    pub meaning: String,
    /// What to do; empty if nothing need be done.
    pub advice: String,
    /// Whether both work side by side.
    pub compatible: bool,
}

/// One sentence.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.who, self.meaning)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

/// Everything that clashes, in a stable order.
pub fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> BTreeSet<Conflict> {
    let products = products::find(config, snapshot, survey);
    let rules = rules::find(config, snapshot);
    let routes = routes(config, snapshot);
    let marks = marks::find(config, survey);
    let snat = snat::find(config, snapshot, survey);
    let each = [products, rules, routes, marks, snat];
    each.into_iter().flat_map(|found| found.into_iter().take(MOST)).collect()
}

/// Routes of others in linkbal's tables.
fn routes(config: &Config, snapshot: &Snapshot) -> Vec<Conflict> {
    let foreign = snapshot
        .routes
        .iter()
        .filter(|route| rules::is_our_table(config, route.table) && route.protocol != PROTOCOL);
    let each = foreign.map(|route| Conflict {
        what: format!("route {route}"),
        who: rules::installer(route.protocol),
        meaning: format!(
            "it is in table {}, which is linkbal's, and decides before linkbal's default route",
            route.table
        ),
        advice: "put it into another table, or set kernel.table_base to numbers that nobody uses"
            .into(),
        compatible: false,
    });
    each.collect()
}

/// What is known of conflicts.
#[derive(Debug, Default)]
pub struct Conflicts {
    found: BTreeSet<Conflict>,
    survey: Option<Survey>,
    /// When the nft tables of others are to be looked at, and when they were.
    due: Option<Duration>,
    looked: Option<Duration>,
    /// Who changed them last.
    by: Option<Process>,
}

impl Conflicts {
    /// None yet; the first look is due.
    pub(super) fn new(now: Duration) -> Conflicts {
        Conflicts { due: Some(now), ..Conflicts::default() }
    }

    /// Those that are there now.
    pub const fn found(&self) -> &BTreeSet<Conflict> {
        &self.found
    }

    /// nft tables of others changed.
    pub(super) fn tables_changed(&mut self, by: Option<Process>, now: Duration) {
        let pause = self.looked.map_or(now, |looked| looked + PAUSE);
        self.due.get_or_insert(pause.max(now + SETTLE));
        self.by = by;
    }

    /// Notes who seems to have made chains that were not there before.
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
                // What was there before linkbal began has no author.
                None => None,
            };
        }
    }
}

impl Engine {
    /// What others have set up that clashes, for the status.
    pub const fn conflicts(&self) -> &BTreeSet<Conflict> {
        self.conflicts.found()
    }

    /// Looks at the nft tables of others, if that is due.
    pub(super) fn start_survey(&mut self, now: Duration) {
        if self.survey_at().is_some_and(|due| due <= now) {
            self.conflicts.due = None;
            self.conflicts.looked = Some(now);
            self.commands.push_back(Command::Survey);
        }
    }

    /// When to look at the nft tables of others: not before everything else is known.
    pub(super) fn survey_at(&self) -> Option<Duration> {
        self.conflicts.due.filter(|_| self.snapshot.is_some())
    }

    pub(super) fn surveyed(&mut self, mut survey: Survey) {
        self.conflicts.attribute(&mut survey);
        self.conflicts.survey = Some(survey);
        self.follow_conflicts();
    }

    /// Tells of conflicts that are new, and of those that are gone.
    pub(super) fn follow_conflicts(&mut self) {
        let (Some(snapshot), Some(survey)) = (&self.snapshot, &self.conflicts.survey) else {
            return;
        };
        let found = find(&self.config, snapshot, survey);
        let before = std::mem::replace(&mut self.conflicts.found, found);
        let found = &self.conflicts.found;
        let new = found.difference(&before).map(|conflict| (conflict, true));
        let gone = before.difference(found).map(|conflict| (conflict, false));
        let reports = new.chain(gone).map(|(conflict, there)| {
            Command::Report(Report::Conflict { conflict: conflict.clone(), there })
        });
        self.commands.extend(reports);
    }
}

#[cfg(test)]
mod tests;
