//! The report on each month: for the provider of a line.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    gist, short_duration,
    summary::{cut, lasted, percent},
};
use crate::{
    cli::local_time::{Month, Zone},
    history::record::{Hour, OutageRecord, Record, Uptime},
    words::count,
};

/// Part of a month, in percent, below which the report says how much of it was measured.
const WHOLE: f64 = 99.0;

/// An uplink and a family.
type LineName = (String, String);

/// Months and outages by line. An hour belongs to the month in which it begins: where the time differs
/// from UTC by half an hour, so much may be in another month.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: BTreeMap<LineName, LineReport>,
    /// Time from which on something is wanted, and the latest one that something is recorded for.
    from: String,
    until: String,
}

#[derive(Debug, Default)]
struct LineReport {
    months: BTreeMap<Month, MonthReport>,
    outages: Vec<OutageRecord>,
}

/// A month of a line.
#[derive(Debug, Default)]
struct MonthReport {
    up_s: u64,
    down_s: u64,
    /// Number of outages that began in it, and the longest one.
    outages: usize,
    longest: Option<OutageRecord>,
}

/// A month as a row of a table.
#[derive(Debug, Serialize)]
struct MonthRow<'a> {
    uplink: &'a str,
    family: &'a str,
    /// Number of the month, like 2026-07.
    month: String,
    /// Share of the seconds up in those up or down, in percent.
    uptime_percent: Option<f64>,
    up_s: u64,
    down_s: u64,
    /// Seconds so far, or since the time that is asked for, in which it was neither up nor down, or nobody
    /// watched.
    unknown_s: u64,
    outages: usize,
    longest_s: Option<u64>,
    longest_begin: Option<String>,
}

/// An outage as a row of a table.
#[derive(Debug, Serialize)]
struct OutageRow<'a> {
    uplink: &'a str,
    family: &'a str,
    begin: String,
    end: Option<String>,
    lasted_s: u64,
    interrupted: bool,
    cause: &'a str,
    reason: &'a str,
}

impl Report {
    /// Creates the report of hours and outages.
    pub(super) fn new(records: Vec<Record>, zone: &Zone) -> Report {
        let mut report = Report::default();
        for record in records {
            match record {
                Record::Span(span) => (report.from, report.until) = (span.from, span.to),
                Record::Hour(hour) => report.add_hour(&hour, zone),
                Record::Outage(outage) => report.add_outage(outage, zone),
                Record::Total(_) | Record::Point(_) => {}
            }
        }
        report
    }

    fn add_hour(&mut self, hour: &Hour, zone: &Zone) {
        let Some(month) = zone.month(&hour.time) else { return };
        for (family, uptime) in [("ipv4", hour.ipv4), ("ipv6", hour.ipv6)] {
            let Some(Uptime { up_s, down_s }) = uptime else { continue };
            let line = self.lines.entry((hour.uplink.clone(), family.to_owned())).or_default();
            let month = line.months.entry(month).or_default();
            month.up_s = month.up_s.saturating_add(up_s.into());
            month.down_s = month.down_s.saturating_add(down_s.into());
        }
    }

    fn add_outage(&mut self, outage: OutageRecord, zone: &Zone) {
        let Some(month) = zone.month(&outage.begin) else { return };
        let line = self.lines.entry((outage.uplink.clone(), outage.family.clone())).or_default();
        let month = line.months.entry(month).or_default();
        month.outages = month.outages.saturating_add(1);
        if month.longest.as_ref().is_none_or(|longest| outage.lasted_s > longest.lasted_s) {
            month.longest = Some(outage.clone());
        }
        line.outages.push(outage);
    }

    /// Returns whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the report as text.
    pub(super) fn text(&self, zone: &Zone) -> String {
        let lines = self.lines.iter().map(|((uplink, family), line)| {
            let months = line.months.iter().map(|(month, of)| {
                let seconds = zone.seconds(*month, &self.from, &self.until).unwrap_or_default();
                of.text(*month, seconds, zone)
            });
            let outages = line.outages.iter().map(|outage| {
                let (began, lasted) = (zone.speak(&outage.begin), lasted(outage));
                cut(&format!("    {began:<17} {lasted:>12}  {}", gist(outage)))
            });
            format!(
                "{uplink} {family}\n{}{}",
                months.collect::<String>(),
                outages.collect::<String>()
            )
        });
        lines.collect::<Vec<String>>().join("\n")
    }

    /// Returns the months as CSV.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(super) fn csv_of_months(&self, zone: &Zone) -> Result<String> {
        csv(self.month_rows(zone))
    }

    /// Returns the outages as CSV.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(super) fn csv_of_outages(&self, zone: &Zone) -> Result<String> {
        csv(self.outages().map(|outage| outage_row(outage, zone)))
    }

    /// Returns months and outages as JSON, one object on each line.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(super) fn json(&self, zone: &Zone) -> Result<String> {
        let months = self.month_rows(zone).map(|month| serde_json::json!({ "month": month }));
        let outages = self.outages().map(|outage| serde_json::json!({ "outage": outage }));
        Ok(months.chain(outages).map(|record| format!("{record}\n")).collect())
    }

    fn outages(&self) -> impl Iterator<Item = &OutageRecord> {
        self.lines.values().flat_map(|line| &line.outages)
    }

    fn month_rows<'a>(&'a self, zone: &'a Zone) -> impl Iterator<Item = MonthRow<'a>> {
        self.lines.iter().flat_map(move |((uplink, family), line)| {
            line.months.iter().map(move |(month, of)| {
                let seconds = zone.seconds(*month, &self.from, &self.until).unwrap_or_default();
                let whole = of.measured_s();
                let uptime = (whole > 0).then(|| of.up_s as f64 / whole as f64 * 100.0);
                MonthRow {
                    uplink,
                    family,
                    month: month.number(),
                    uptime_percent: uptime.map(|percent| (percent * 1000.0).round() / 1000.0),
                    up_s: of.up_s,
                    down_s: of.down_s,
                    unknown_s: seconds.saturating_sub(whole),
                    outages: of.outages,
                    longest_s: of.longest.as_ref().map(|longest| longest.lasted_s),
                    longest_begin: of.longest.as_ref().map(|longest| zone.offset(&longest.begin)),
                }
            })
        })
    }
}

fn outage_row<'a>(of: &'a OutageRecord, zone: &Zone) -> OutageRow<'a> {
    OutageRow {
        uplink: &of.uplink,
        family: &of.family,
        begin: zone.offset(&of.begin),
        end: of.end.as_ref().map(|end| zone.offset(end)),
        lasted_s: of.lasted_s,
        interrupted: of.interrupted,
        cause: &of.cause,
        reason: &of.reason,
    }
}

impl MonthReport {
    const fn measured_s(&self) -> u64 {
        self.up_s.saturating_add(self.down_s)
    }

    /// Says how it was; `seconds` is the length of what is wanted of it.
    fn text(&self, month: Month, seconds: u64, zone: &Zone) -> String {
        let uptime = percent(self.up_s, self.measured_s(), 3);
        let outages = match (&self.longest, self.outages) {
            (None, _) if self.down_s == 0 => "no outage".into(),
            // Its outages began in another month, or are no longer kept.
            (None, _) => format!("down {}", short_duration(self.down_s)),
            (Some(longest), outages) => {
                let (down, began) = (short_duration(self.down_s), zone.speak(&longest.begin));
                let worst = if outages == 1 { "" } else { "worst " };
                format!("{}, {down}, {worst}{began}", count(outages, "outage"))
            }
        };
        let measured = self.measured_s() as f64 / seconds.max(1) as f64 * 100.0;
        let measured = match measured < WHOLE {
            true => format!("{:28}measured for {}\n", "", percent(self.measured_s(), seconds, 1)),
            false => String::new(),
        };
        cut(&format!("  {:<14} {uptime:>9}  {outages}", month.name())) + &measured
    }
}

fn csv<T: Serialize>(rows: impl Iterator<Item = T>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).context("failed to write CSV")?;
    }
    let bytes = writer.into_inner().context("failed to write CSV")?;
    String::from_utf8(bytes).context("failed to write CSV")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coded::Args;

    fn report() -> Report {
        let hour = |day: u32, hour: u32, down_s: u16| {
            let time = format!("2026-07-{day:02}T{hour:02}:00:00Z");
            let ipv4 = Some(Uptime { up_s: 3600 - down_s, down_s });
            Record::Hour(Hour { uplink: "isp-a".into(), time, ipv4, ipv6: None })
        };
        let outage = |begin: &str, lasted_s, interrupted| {
            Record::Outage(OutageRecord {
                uplink: "isp-a".into(),
                family: "ipv4".into(),
                begin: begin.into(),
                end: Some(begin.into()),
                lasted_s,
                interrupted,
                cause: "internet".into(),
                reason: "the gateway answers, \"but\" nothing behind it: restart the modem".into(),
                reason_code: None,
                reason_args: Args::new(),
                reason_more: Vec::new(),
            })
        };
        let span =
            r#"{"span":{"from":"2026-06-01T00:00:00Z","to":"2026-08-01T00:00:00Z","step_s":3600}}"#;
        let mut records: Vec<Record> = vec![serde_json::from_str(span).expect("a span")];
        let hours = (1..=31).flat_map(|day| (0..24).map(move |hour| (day, hour)));
        records.extend(
            hours.map(|(day, of)| hour(day, of, if (day, of) == (2, 12) { 2460 } else { 0 })),
        );
        records.push(outage("2026-07-02T12:01:00Z", 600, false));
        records.push(outage("2026-07-02T12:30:00Z", 1860, true));
        Report::new(records, &Zone::utc())
    }

    #[test]
    fn a_month_is_a_sentence() {
        assert_eq!(
            report().text(&Zone::utc()),
            "isp-a ipv4\n  July 2026       99.908 %  2 outages, 41m, worst 2 July 12:30\n    \
             2 July 12:01               10m  the gateway answers, \"but\" nothing behind it\n    \
             2 July 12:30          over 31m  the gateway answers, \"but\" nothing behind it\n"
        );
    }

    /// Takes the outages out of a report, and changes its month.
    fn change(report: &mut Report, change: impl Fn(&mut MonthReport)) {
        report.lines.values_mut().for_each(|line| {
            let month = line.months.values_mut().next().expect("a month");
            (month.outages, month.longest) = (0, None);
            change(month);
            line.outages.clear();
        });
    }

    #[test]
    fn months_of_which_little_is_known_say_so() {
        let mut report = report();
        report.until = "2026-07-20T00:00:00Z".into();
        change(&mut report, |month| (month.up_s, month.down_s) = (86_400, 0));
        assert_eq!(
            report.text(&Zone::utc()),
            "isp-a ipv4\n  July 2026      100.000 %  no outage\n                            \
             measured for 5.3 %\n"
        );
    }

    #[test]
    fn what_is_not_asked_for_is_not_unknown() {
        let mut report = report();
        report.from = "2026-07-31T00:00:00Z".into();
        change(&mut report, |month| (month.up_s, month.down_s) = (86_000, 0));
        assert_eq!(
            report.text(&Zone::utc()),
            "isp-a ipv4\n  July 2026      100.000 %  no outage\n"
        );
        let months = report.csv_of_months(&Zone::utc()).expect("CSV");
        assert!(months.contains(",86000,0,400,0,"), "{months}");
    }

    #[test]
    fn a_month_that_was_down_by_an_outage_of_another_one_says_so() {
        let mut report = report();
        change(&mut report, |_| {});
        assert_eq!(report.text(&Zone::utc()), "isp-a ipv4\n  July 2026       99.908 %  down 41m\n");
    }

    #[test]
    fn tables_are_csv_with_a_header() {
        let months = report().csv_of_months(&Zone::utc()).expect("CSV");
        assert_eq!(
            months,
            "uplink,family,month,uptime_percent,up_s,down_s,unknown_s,outages,longest_s,longest_begin\n\
             isp-a,ipv4,2026-07,99.908,2675940,2460,0,2,1860,2026-07-02T12:30:00+00:00\n"
        );
        let outages = report().csv_of_outages(&Zone::utc()).expect("CSV");
        let mut reader = csv::Reader::from_reader(outages.as_bytes());
        let rows: Vec<csv::StringRecord> =
            reader.records().collect::<Result<_, _>>().expect("rows");
        assert_eq!(rows.len(), 2);
        assert_eq!(
            &rows[1][7],
            "the gateway answers, \"but\" nothing behind it: restart the modem"
        );
        let json = report().json(&Zone::utc()).expect("JSON");
        assert_eq!(json.lines().count(), 3);
    }
}
