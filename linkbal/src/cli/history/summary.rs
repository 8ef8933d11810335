//! The states of the uplinks of late, in tables of 80 columns.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{gist, short_duration};
use crate::{
    cli::{flow_query::short_bytes, local_time::Zone},
    history::record::{LineRecord, OutageRecord, Point, Record},
};

/// Most outages that are shown.
const OUTAGES: usize = 10;

/// Columns of a line.
const WIDTH: usize = 80;

/// A summary of some spans.
#[derive(Debug, Default)]
pub(super) struct Summary {
    span: String,
    rows: Vec<Row>,
    /// The outages of the last span.
    outages: Vec<OutageRecord>,
}

/// An uplink in one family, in a span.
#[derive(Debug)]
struct Row {
    span: String,
    family: &'static str,
    /// Set in the first row of an uplink and span: traffic is of both families.
    first: bool,
    total: Point,
}

impl Summary {
    /// Begins with the records of a span; the next one covers it.
    pub(super) fn begin(&mut self, span: &str) {
        self.span = span.to_owned();
        self.outages.clear();
    }

    /// Takes in a record.
    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Total(total) => self.add_total(&total),
            Record::Outage(outage) => self.outages.push(outage),
            Record::Span(_) | Record::Point(_) | Record::Hour(_) => {}
        }
    }

    fn add_total(&mut self, total: &Point) {
        let families = [("ipv4", &total.ipv4), ("ipv6", &total.ipv6)];
        let known = families.into_iter().filter(|(_, line)| line.is_some()).map(|(name, _)| name);
        let rows = known.enumerate().map(|(at, family)| Row {
            span: self.span.clone(),
            family,
            first: at == 0,
            total: total.clone(),
        });
        self.rows.extend(rows);
    }

    /// Returns whether nothing is known.
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the tables.
    pub(super) fn render(mut self, zone: &Zone) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        // The spans of an uplink and family stand together, from the shortest on.
        self.rows.sort_by(|one, other| {
            (&one.total.uplink, one.family).cmp(&(&other.total.uplink, other.family))
        });
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let header = [
            "UPLINK", "FAMILY", "LAST", "UPTIME", "LOSS", "LATENCY", "JITTER", "UP", "DOWN",
            "SHARE",
        ];
        table.set_header(header.iter().enumerate().map(|(at, title)| cell(at, (*title).into())));
        for row in &self.rows {
            table.add_row(row.cells().into_iter().enumerate().map(|(at, text)| cell(at, text)));
        }
        let text = table.to_string();
        let rows: String = text.lines().map(|line| line.trim().to_owned() + "\n").collect();
        rows + &self.outage_lines(zone)
    }

    fn outage_lines(&mut self, zone: &Zone) -> String {
        self.outages.sort_by(|one, other| other.begin.cmp(&one.begin));
        if self.outages.is_empty() {
            return "\nno outage\n".into();
        }
        let shown = self.outages.iter().take(OUTAGES).map(|outage| outage_line(outage, zone));
        let shown: String = shown.collect();
        let more = match self.outages.len().saturating_sub(OUTAGES) {
            0 => String::new(),
            more => format!("{more} more: linkbal history --report\n"),
        };
        format!("\nOutages, the newest first:\n{shown}{more}")
    }
}

/// Returns the line of an outage, cut at the last column.
fn outage_line(outage: &OutageRecord, zone: &Zone) -> String {
    let OutageRecord { uplink, family, .. } = outage;
    let (began, lasted) = (zone.speak(&outage.begin), lasted(outage));
    cut(&format!("{began:<18} {uplink} {family}, {lasted}: {}", gist(outage)))
}

/// Says how long an outage lasted.
pub(super) fn lasted(outage: &OutageRecord) -> String {
    let lasted = short_duration(outage.lasted_s);
    match (&outage.end, outage.interrupted) {
        (None, _) => format!("{lasted} so far"),
        (Some(_), true) if outage.lasted_s == 0 => "unknown".into(),
        (Some(_), true) => format!("over {lasted}"),
        (Some(_), false) => lasted,
    }
}

/// Returns a line with its end, cut at the last column.
pub(super) fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return format!("{line}\n");
    }
    let kept: String = line.chars().take(WIDTH.saturating_sub(2)).collect();
    format!("{}..\n", kept.trim_end())
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let total = &self.total;
        let line = if self.family == "ipv4" { &total.ipv4 } else { &total.ipv6 };
        let traffic = match self.first {
            true => [short_bytes(total.bytes_up), short_bytes(total.bytes_down), share(total)],
            false => Default::default(),
        };
        let mut cells = vec![total.uplink.clone(), self.family.to_owned(), self.span.clone()];
        cells.extend(line.as_ref().map(line_cells).unwrap_or_default());
        cells.extend(traffic);
        cells
    }
}

fn share(total: &Point) -> String {
    total.share.map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0))
}

fn line_cells(line: &LineRecord) -> [String; 4] {
    let millis =
        |millis: Option<f64>| millis.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
    [
        percent(line.up_s.into(), u64::from(line.up_s).saturating_add(line.down_s.into()), 2),
        percent(line.lost.into(), line.probes.into(), 1),
        millis(line.latency_ms),
        millis(line.jitter_ms),
    ]
}

/// Formats a part in percent; 100 % is said only of the whole, and 0 % of nothing.
pub(super) fn percent(part: u64, whole: u64, decimals: usize) -> String {
    if whole == 0 {
        return "-".into();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    let smallest = 0.1f64.powi(i32::try_from(decimals).unwrap_or_default());
    let shown = match part {
        0 => 0.0,
        _ if part >= whole => 100.0,
        _ => percent.clamp(smallest, 100.0 - smallest),
    };
    format!("{shown:.decimals$} %")
}

/// Returns a cell of a column: numbers are at the right.
fn cell(column: usize, text: String) -> Cell {
    let alignment = if column > 2 { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        serde_json::from_str(json).expect("a record")
    }

    #[test]
    fn whole_numbers_are_said_of_the_whole_alone() {
        let shown = [(0, 7), (1, 100_000), (99_999, 100_000), (7, 7), (0, 0)];
        assert_eq!(
            shown.map(|(part, whole)| percent(part, whole, 2)),
            ["0.00 %", "0.01 %", "99.99 %", "100.00 %", "-"]
        );
    }

    #[test]
    fn a_summary_fits_a_terminal() {
        let mut summary = Summary::default();
        for span in ["hour", "month"] {
            summary.begin(span);
            let line = r#"{"up_s":3500,"down_s":100,"probes":54000,"lost":1500,"latency_ms":8.14,"latency_min_ms":7.0,"latency_max_ms":90.0,"jitter_ms":0.31}"#;
            summary.add(record(&format!(
                r#"{{"total":{{"uplink":"isp-a","time":"2026-07-01T00:00:00Z","seconds":3600,"bytes_up":123456789,"bytes_down":12345678901,"flows":7,"share":0.625,"ipv4":{line},"ipv6":{line}}}}}"#
            )));
            summary.add(record(
                r#"{"outage":{"uplink":"isp-a","family":"ipv4","begin":"2026-07-02T12:03:00Z","end":"2026-07-02T12:31:00Z","lasted_s":1680,"interrupted":false,"cause":"internet","reason":"the gateway answers, but nothing behind it: restart the modem"}}"#,
            ));
        }
        let text = summary.render(&Zone::utc());
        assert_eq!(
            text,
            "UPLINK  FAMILY  LAST    UPTIME   LOSS  LATENCY  JITTER      UP   DOWN  SHARE\n\
             isp-a   ipv4    hour   97.22 %  2.8 %   8.1 ms  0.3 ms  117.7M  11.5G   62 %\n\
             isp-a   ipv4    month  97.22 %  2.8 %   8.1 ms  0.3 ms  117.7M  11.5G   62 %\n\
             isp-a   ipv6    hour   97.22 %  2.8 %   8.1 ms  0.3 ms\n\
             isp-a   ipv6    month  97.22 %  2.8 %   8.1 ms  0.3 ms\n\
             \n\
             Outages, the newest first:\n\
             2 July 12:03       isp-a ipv4, 28m: the gateway answers, but nothing behind it\n"
        );
    }
}
