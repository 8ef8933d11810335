//! Expected and measured values.

use std::fmt;
use std::time::Duration;

/// The rows of the summary, in the order of the tour.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    expected: String,
    measured: String,
    ok: bool,
}

impl Report {
    pub(super) fn add(&mut self, what: &str, expected: &str, measured: &str, ok: bool) {
        self.rows.push(Row {
            what: what.to_owned(),
            expected: expected.to_owned(),
            measured: measured.to_owned(),
            ok,
        });
    }

    /// Adds a number that shall be exactly `expected`.
    pub(super) fn add_count(&mut self, what: &str, expected: usize, measured: usize) {
        self.add(what, &expected.to_string(), &measured.to_string(), expected == measured);
    }

    /// Adds a duration that shall stay within `limit`; `None` is one that never ended.
    pub(super) fn add_time(&mut self, what: &str, limit: Duration, measured: Option<Duration>) {
        let text = measured.map_or_else(|| "never".to_owned(), time);
        let ok = measured.is_some_and(|measured| measured <= limit);
        self.add(what, &format!("within {}", time(limit)), &text, ok);
    }

    /// Returns whether there is at least one row, and no failed one.
    pub(super) fn all_ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut write = |what: &str, expected: &str, measured: &str, ok: &str| {
            writeln!(f, "{what:<44} {expected:<20} {measured:<16} {ok}")
        };
        write("what", "expected", "measured", "")?;
        for Row { what, expected, measured, ok } in &self.rows {
            write(what, expected, measured, if *ok { "ok" } else { "FAILED" })?;
        }
        Ok(())
    }
}

/// Formats a duration with three significant digits: `12.3 ms`, `5.21 s`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = if seconds < 1.0 { (seconds * 1e3, "ms") } else { (seconds, "s") };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let short =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let texts = [1_234, 45_678, 999_900, 1_000_000, 10_000_000, 123_000_000]
            .map(|micros| time(Duration::from_micros(micros)));
        assert_eq!(texts, ["1.23 ms", "45.7 ms", "1000 ms", "1 s", "10 s", "123 s"]);
    }

    #[test]
    fn one_failed_row_spoils_the_report() {
        let mut report = Report::default();
        assert!(!report.all_ok(), "nothing measured proves nothing");
        report.add_count("flows", 3, 3);
        assert!(report.all_ok());
        report.add_time("failover", Duration::from_secs(1), None);
        assert!(!report.all_ok());
        assert!(report.to_string().contains("FAILED"));
    }
}
