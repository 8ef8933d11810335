//! Answers to questions about history, page by page, so that no long one is in memory as a whole.

use std::collections::BTreeMap;

use super::{
    History, UplinkHistory,
    bucket::Bucket,
    outages::Outage,
    record::{Hour, OutageRecord, Point, Record, Span, time},
    series::{HOUR, step_for},
};

/// Most points or hours on a page.
const PAGE: usize = 60;

/// A question about history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuestion {
    /// Name of the uplink; `None` for all.
    pub uplink: Option<String>,
    /// Begin, in seconds since 1970, UTC; `None` for the last hour, or with `hours` for all that is known.
    pub since: Option<u64>,
    /// Set if not points are wanted, but how long uplinks were up in each hour.
    pub hours: bool,
}

/// A reader of an answer.
#[derive(Clone, Debug)]
pub struct Pages {
    question: HistoryQuestion,
    place: Place,
}

/// The place of a reader.
#[derive(Clone, Debug)]
enum Place {
    Begin,
    /// Before an uplink.
    Uplink(Scope, String),
    /// Before the points, or hours, of an uplink that end after a time.
    Steps(Scope, String, u64),
    End,
}

/// The span of an answer.
#[derive(Clone, Copy, Debug)]
struct Scope {
    from: u64,
    to: u64,
    step: u64,
}

impl Pages {
    /// Creates a reader.
    pub const fn new(question: HistoryQuestion) -> Pages {
        Pages { question, place: Place::Begin }
    }

    /// Returns the next records; `None` after the last ones.
    pub fn next(&mut self, history: &History) -> Option<Vec<Record>> {
        match std::mem::replace(&mut self.place, Place::End) {
            Place::Begin => self.begin(history),
            Place::Uplink(scope, name) => self.total(history, scope, name),
            Place::Steps(scope, name, from) => self.steps(history, scope, name, from),
            Place::End => None,
        }
    }

    fn begin(&mut self, history: &History) -> Option<Vec<Record>> {
        let to = history.newest()?;
        let hours = self.question.hours;
        let default = if hours { 0 } else { to.saturating_sub(HOUR) };
        let since = self.question.since.unwrap_or(default);
        let step = if hours { HOUR } else { step_for(to.saturating_sub(since)) };
        let from = since.saturating_sub(since.checked_rem(step).unwrap_or_default());
        let scope = Scope { from, to, step };
        self.go_to(history, scope, None);
        Some(vec![Record::Span(Span { from: time(from), to: time(to), step_s: step })])
    }

    /// Goes to the first uplink after a name that is asked for.
    fn go_to(&mut self, history: &History, scope: Scope, after: Option<&String>) {
        let wanted = |name: &&String| {
            after.is_none_or(|after| *name > after)
                && self.question.uplink.as_ref().is_none_or(|wanted| *name == wanted)
        };
        let next = history.names().find(wanted);
        self.place = next.map_or(Place::End, |name| Place::Uplink(scope, name.clone()));
    }

    fn total(&mut self, history: &History, scope: Scope, name: String) -> Option<Vec<Record>> {
        let Scope { from, step, .. } = scope;
        let total = history.uplink(&name).filter(|_| !self.question.hours).map(|uplink| {
            let mut total = Bucket::default();
            uplink.series.buckets(step, from).for_each(|(_, bucket)| total.add(bucket));
            let all = history.flows(step, from, u64::MAX).values().sum();
            Record::Total(Point::new(&name, from, &total, all))
        });
        self.place = Place::Steps(scope, name, from);
        Some(total.into_iter().collect())
    }

    fn steps(
        &mut self,
        history: &History,
        scope: Scope,
        name: String,
        from: u64,
    ) -> Option<Vec<Record>> {
        let Some(uplink) = history.uplink(&name) else {
            self.go_to(history, scope, Some(&name));
            return Some(Vec::new());
        };
        let page = match self.question.hours {
            true => uplink.hours(&name, from),
            false => uplink.points(history, &name, scope.step, from),
        };
        let Some((last, records)) = page else {
            self.go_to(history, scope, Some(&name));
            return Some(uplink.outages_since(&name, scope));
        };
        self.place = Place::Steps(scope, name, last.saturating_add(scope.step));
        Some(records)
    }
}

/// The begin of the last step on a page, and its records.
type Page = (u64, Vec<Record>);

impl UplinkHistory {
    fn points(&self, history: &History, name: &str, step: u64, from: u64) -> Option<Page> {
        let page: Vec<(u64, &Bucket)> = self.series.buckets(step, from).take(PAGE).collect();
        let (last, _) = page.last()?;
        let flows = history.flows(step, from, *last);
        let point = |(at, bucket): &(u64, &Bucket)| {
            let all = flows.get(at).copied().unwrap_or_default();
            Record::Point(Point::new(name, *at, bucket, all))
        };
        Some((*last, page.iter().map(point).collect()))
    }

    fn hours(&self, name: &str, from: u64) -> Option<Page> {
        let page: Vec<_> = self.series.tallies(from).take(PAGE).collect();
        let (last, _) = page.last()?;
        let hour = |(at, tally): &(u64, &_)| Record::Hour(Hour::new(name, *at, tally));
        Some((*last, page.iter().map(hour).collect()))
    }

    fn outages_since(&self, name: &str, scope: Scope) -> Vec<Record> {
        let recent = |outage: &&Outage| outage.end.is_none_or(|end| end >= scope.from);
        let outages = self.outages.iter().filter(recent);
        outages.map(|each| Record::Outage(OutageRecord::new(name, each, scope.to))).collect()
    }
}

impl History {
    /// Returns the flows that began on all uplinks, by step, up to that which begins at `last`.
    fn flows(&self, step: u64, since: u64, last: u64) -> BTreeMap<u64, u64> {
        let mut flows = BTreeMap::new();
        let buckets = self.uplinks.values().flat_map(|uplink| uplink.series.buckets(step, since));
        for (at, bucket) in buckets.filter(|(at, _)| *at <= last) {
            let all: &mut u64 = flows.entry(at).or_default();
            *all = all.saturating_add(bucket.traffic.flows.into());
        }
        flows
    }
}
