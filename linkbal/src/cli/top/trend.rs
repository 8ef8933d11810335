//! The last minutes of each uplink, as its history has them, for sparklines.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::history::record::{LineRecord, Point};

/// Seconds of a step: that of a history of an hour at most.
const STEP: u64 = 10;

/// Steps that are kept: half an hour.
const KEPT: u64 = 180;

/// Steps that a sparkline covers at least: five minutes.
const SHOWN: usize = 30;

/// The measures of a line in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measures {
    /// Share of probes that were lost, from 0 to 1.
    pub(super) loss: Option<f64>,
    /// Mean latency in milliseconds.
    pub(super) latency: Option<f64>,
    /// Mean jitter in milliseconds.
    pub(super) jitter: Option<f64>,
}

/// An uplink's name, and `ipv4` or `ipv6`.
type FamilyKey = (String, &'static str);

/// The steps of all lines, by their number since 1970.
#[derive(Clone, Debug, Default)]
pub(super) struct Trends {
    lines: BTreeMap<FamilyKey, BTreeMap<u64, Measures>>,
    last: u64,
}

impl Trends {
    /// Adds points of a history; a later one of the same step prevails.
    pub(super) fn add(&mut self, points: &[Point]) {
        for point in points {
            let Some(step) = step(&point.time) else { continue };
            self.last = self.last.max(step);
            for (family, line) in [("ipv4", &point.ipv4), ("ipv6", &point.ipv6)] {
                let Some(line) = line else { continue };
                let steps = self.lines.entry((point.uplink.clone(), family)).or_default();
                steps.insert(step, measures(line));
            }
        }
        self.forget();
    }

    /// Forgets what is too old.
    fn forget(&mut self) {
        let oldest = self.last.saturating_sub(KEPT);
        for steps in self.lines.values_mut() {
            *steps = steps.split_off(&oldest);
        }
        self.lines.retain(|_, steps| !steps.is_empty());
    }

    /// Returns the time since which history is wanted: of the last step, which goes on, or as much as is
    /// kept before `now`.
    pub(super) fn since(&self, now: SystemTime) -> SystemTime {
        let span = Duration::from_secs(KEPT.saturating_mul(STEP));
        let oldest = now.checked_sub(span).unwrap_or(UNIX_EPOCH);
        let last = Duration::from_secs(self.last.saturating_mul(STEP));
        let last = UNIX_EPOCH.checked_add(last).unwrap_or(UNIX_EPOCH);
        // A clock that was put back leaves steps in the future.
        if last > now { oldest } else { last.max(oldest) }
    }

    /// Returns the minutes that so many columns cover.
    pub(super) fn minutes(columns: usize) -> usize {
        let steps = columns.saturating_mul(per_column(columns));
        steps.saturating_mul(10) / 60
    }

    /// Returns what `pick` takes of the last minutes of a line, for so many columns: of each the highest,
    /// `None` where nothing is known.
    pub(super) fn columns(
        &self,
        uplink: &str,
        family: &'static str,
        columns: usize,
        pick: impl Fn(&Measures) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let steps = self.lines.get(&(uplink.to_owned(), family));
        let each = u64::try_from(per_column(columns)).unwrap_or(1);
        // Columns begin at multiples of their width, so that they stay what they are as they go left.
        let last = self.last.checked_div(each).unwrap_or_default();
        let columns = u64::try_from(columns).unwrap_or_default();
        let first = last.saturating_add(1).saturating_sub(columns);
        let column = |at: u64| {
            let begin = at.saturating_mul(each);
            let within = steps?.range(begin..begin.saturating_add(each));
            within.filter_map(|(_, measures)| pick(measures)).reduce(f64::max)
        };
        (first..first.saturating_add(columns)).map(column).collect()
    }
}

/// Returns the steps of a column, if there are so many columns.
fn per_column(columns: usize) -> usize {
    SHOWN.div_ceil(columns.max(1)).max(1)
}

/// Returns the number of a step that begins at a time of RFC 3339.
fn step(time: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    time.duration_since(UNIX_EPOCH).ok()?.as_secs().checked_div(STEP)
}

fn measures(line: &LineRecord) -> Measures {
    let loss = (line.probes > 0).then(|| f64::from(line.lost) / f64::from(line.probes));
    Measures { loss, latency: line.latency_ms, jitter: line.jitter_ms }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(uplink: &str, second: u64, lost: u32) -> Point {
        let time = UNIX_EPOCH + Duration::from_secs(second);
        let line = LineRecord {
            up_s: 10,
            down_s: 0,
            probes: 100,
            lost,
            latency_ms: Some(8.0),
            latency_min_ms: None,
            latency_max_ms: None,
            jitter_ms: None,
        };
        Point {
            uplink: uplink.into(),
            time: humantime::format_rfc3339_seconds(time).to_string(),
            seconds: 10,
            bytes_up: 0,
            bytes_down: 0,
            flows: 0,
            share: None,
            ipv4: Some(line),
            ipv6: None,
        }
    }

    #[test]
    fn a_column_has_the_worst_of_its_steps_and_the_last_step_goes_on() {
        let mut trends = Trends::default();
        trends.add(&[point("a", 580, 100), point("a", 590, 10), point("a", 600, 0)]);
        let loss = |trends: &Trends, columns| trends.columns("a", "ipv4", columns, |it| it.loss);
        assert_eq!(loss(&trends, 30)[27..], [Some(1.0), Some(0.1), Some(0.0)]);
        // Three steps each: 57 to 59, and 60 alone so far.
        assert_eq!(loss(&trends, 10)[7..], [None, Some(1.0), Some(0.0)]);
        trends.add(&[point("a", 600, 50)]);
        assert_eq!(loss(&trends, 10)[9], Some(0.5));
        assert_eq!(trends.columns("b", "ipv4", 2, |it| it.loss), [None, None]);
        assert_eq!(trends.columns("a", "ipv4", 1, |it| it.jitter), [None]);
        assert_eq!([0, 9, 30, 60].map(Trends::minutes), [0, 6, 5, 10]);
    }

    #[test]
    fn only_what_is_new_is_asked_for() {
        let mut trends = Trends::default();
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(trends.since(now), UNIX_EPOCH + Duration::from_secs(8200));
        trends.add(&[point("a", 9990, 0)]);
        assert_eq!(trends.since(now), UNIX_EPOCH + Duration::from_secs(9990));
        let before = UNIX_EPOCH + Duration::from_secs(5000);
        assert_eq!(trends.since(before), UNIX_EPOCH + Duration::from_secs(3200));
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_columns_are_as_many_as_asked(
            seconds in prop::collection::vec(0u64..100_000_000, 0..400), columns in 0usize..200,
        ) {
            let mut trends = Trends::default();
            seconds.iter().for_each(|second| trends.add(&[point("a", *second, 1)]));
            let kept: usize = trends.lines.values().map(BTreeMap::len).sum();
            prop_assert!(kept <= 181);
            prop_assert_eq!(trends.columns("a", "ipv4", columns, |it| it.loss).len(), columns);
        }
    }
}
