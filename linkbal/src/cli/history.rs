//! `linkbal history`.

mod report;
mod summary;

use std::{
    ops::ControlFlow,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use clap::{Args, ValueEnum};
use hyper::Method;

use super::{events, flow_query::read, local_time::Zone, print, print_line, stderr};
use crate::{
    api::{client, history::HistoryQuery},
    history::record::{OutageRecord, Record},
};

/// The part of the history to print, and its form.
#[derive(Clone, Debug, Args)]
pub(super) struct HistoryArgs {
    /// Show this uplink alone
    #[arg(long, value_name = "NAME")]
    uplink: Option<String>,
    /// Leave out what is older: a time span like 3h, or a local time like 05:00, yesterday,
    /// 2026-11-28 or "2026-11-28 06:30", also with an offset like +01:00 or Z
    #[arg(long, value_name = "TIME", value_parser = events::since)]
    since: Option<SystemTime>,
    /// Report the uptime of each uplink by month, in local time, and its outages: for the provider
    #[arg(long)]
    report: bool,
    /// Print a table of that report as CSV, for spreadsheets
    #[arg(long, value_enum, value_name = "TABLE", num_args = 0..=1,
        default_missing_value = "months", conflicts_with = "json")]
    csv: Option<CsvTable>,
    /// Print one JSON object per line, for programs: points of the last hour, or since a time, and
    /// outages
    #[arg(long)]
    json: bool,
}

/// A table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CsvTable {
    /// The months of each uplink and family
    Months,
    /// The outages
    Outages,
}

/// Spans of the summary, by name.
const SPANS: [(&str, u64); 3] = [("hour", 3600), ("day", 86_400), ("month", 31 * 86_400)];

/// Asks the daemon behind a socket for its history, and prints it.
pub(super) async fn run(socket: &Path, args: &HistoryArgs) -> Result<()> {
    if args.report || args.csv.is_some() {
        return print_report(socket, args).await;
    }
    if args.json {
        let query = HistoryQuery::new(args.uplink.clone(), args.since, false);
        return client::stream(socket, Method::GET, &query.path(), print_line).await;
    }
    let zone = Zone::system();
    let mut summary = summary::Summary::default();
    for (name, since) in spans(args.since) {
        summary.begin(&name);
        let records = ask(socket, args, Some(since), false).await?;
        records.into_iter().for_each(|record| summary.add(record));
    }
    warn_if_nothing(socket, summary.is_empty(), args).await?;
    print(&summary.render(&zone))
}

/// Returns the begins of the spans to sum up, with their names.
fn spans(since: Option<SystemTime>) -> Vec<(String, SystemTime)> {
    let now = SystemTime::now();
    if let Some(since) = since {
        let age = now.duration_since(since).unwrap_or_default().as_secs();
        return vec![(short_duration(age), since)];
    }
    let back = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
    SPANS.iter().map(|(name, seconds)| ((*name).to_owned(), back(*seconds))).collect()
}

async fn print_report(socket: &Path, args: &HistoryArgs) -> Result<()> {
    let zone = Zone::system();
    let report = report::Report::new(ask(socket, args, args.since, true).await?, &zone);
    warn_if_nothing(socket, report.is_empty(), args).await?;
    print(&match (args.csv, args.json) {
        (Some(CsvTable::Months), _) => report.csv_of_months(&zone)?,
        (Some(CsvTable::Outages), _) => report.csv_of_outages(&zone)?,
        (None, true) => report.json(&zone)?,
        (None, false) => report.text(&zone),
    })
}

/// Returns the records of an answer, without points.
async fn ask(
    socket: &Path,
    args: &HistoryArgs,
    since: Option<SystemTime>,
    hours: bool,
) -> Result<Vec<Record>> {
    let query = HistoryQuery::new(args.uplink.clone(), since, hours);
    let mut records = Vec::new();
    let each = |line: &str| {
        if !line.starts_with("{\"point\"") {
            records.push(read(line)?);
        }
        Ok(ControlFlow::Continue(()))
    };
    client::stream(socket, Method::GET, &query.path(), each).await?;
    Ok(records)
}

async fn warn_if_nothing(socket: &Path, nothing: bool, args: &HistoryArgs) -> Result<()> {
    if nothing {
        events::check_uplink(socket, args.uplink.as_deref(), "history").await?;
        stderr::line(format_args!("linkbal: nothing is recorded yet"));
    }
    Ok(())
}

/// Formats a duration in its two largest units: 41m 12s.
fn short_duration(seconds: u64) -> String {
    let unit = |number: u64, name: &str| format!("{number}{name}");
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => unit(seconds, "s"),
        (0, 0, _) => two(unit(minutes, "m"), seconds % 60, "s"),
        (0, _, _) => two(unit(hours, "h"), minutes % 60, "m"),
        _ => two(unit(days, "d"), hours % 24, "h"),
    }
}

fn two(first: String, second: u64, name: &str) -> String {
    if second == 0 { first } else { format!("{first} {second}{name}") }
}

/// Returns the gist of the words for the cause of an outage: what it is, without what to do and without
/// numbers.
fn gist(outage: &OutageRecord) -> &str {
    let first = outage.reason.split(';').next().unwrap_or_default();
    match (first.split_once(": "), &*outage.cause) {
        (Some((_, silent)), "no-answer") => silent.split(" (").next().unwrap_or(silent),
        (Some((gist, _)), _) => gist,
        (None, _) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coded::Args;

    #[test]
    fn durations_have_two_units_at_most() {
        let shown = [0, 59, 60, 2472, 7200, 7260, 86_400, 180_000].map(short_duration);
        assert_eq!(shown, ["0s", "59s", "1m", "41m 12s", "2h", "2h 1m", "1d", "2d 2h"]);
    }

    #[test]
    fn the_gist_is_without_advice() {
        let outage = |cause: &str, reason: &str| OutageRecord {
            uplink: "a".into(),
            family: "ipv4".into(),
            begin: String::new(),
            end: None,
            lasted_s: 0,
            interrupted: false,
            cause: cause.into(),
            reason: reason.into(),
            reason_code: None,
            reason_args: Args::new(),
            reason_more: Vec::new(),
        };
        let probes = "3 rounds of probes failed: none of 2 targets answered (1 needed); x: refused";
        assert_eq!(gist(&outage("no-answer", probes)), "none of 2 targets answered");
        assert_eq!(gist(&outage("not-ready", "no carrier on wan-a")), "no carrier on wan-a");
        assert_eq!(gist(&outage("dns", "only DNS fails: name others")), "only DNS fails");
    }
}
