//! `linkbal flows`.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    ops::ControlFlow,
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::Args;
use hyper::Method;

use super::{
    clients,
    flow_query::{Bar, Conditions, bytes_hint, read, short_bytes},
};
use crate::{
    api::{
        client,
        flows::{Ending, Progress, Summary},
    },
    flows::{
        changes::{Change, Kind},
        query::FlowQuery,
        record::FlowRecord,
        sort::Order,
    },
};

pub(super) const EXAMPLES: &str = "\
Examples:
  linkbal flows --client 192.168.1.20            the flows of one host
  linkbal flows --uplink isp-a --port 443        the HTTPS connections of an uplink
  linkbal flows --sort bytes --limit 10          the ten largest flows
  linkbal flows --destination 2001:db8::/32 --follow
                                                 what begins and ends there from now on
  linkbal flows --top 10                         the ten clients with the most bytes or flows";

#[derive(Clone, Debug, Args)]
pub(super) struct FlowsArgs {
    #[command(flatten)]
    conditions: Conditions,
    /// Order of the flows; of the first 1000, if --limit says nothing else
    #[arg(long, value_enum)]
    sort: Option<Order>,
    /// Turn the order round
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Show so many flows at most
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Show so many clients instead, those with the most bytes or flows, as `linkbal clients` does
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["sort", "limit", "follow"])]
    top: Option<usize>,
    /// Show what begins (+) and ends (-) from now on, until Ctrl-C
    #[arg(long, short, conflicts_with_all = ["sort", "limit"])]
    follow: bool,
    /// Print one JSON object on each line for programs
    #[arg(long)]
    json: bool,
}

/// Asks the daemon behind a socket for flows, and prints them as they come.
pub(super) async fn run(socket: &Path, args: &FlowsArgs) -> Result<()> {
    if let Some(top) = args.top {
        let question = clients::Question { conditions: &args.conditions, top, resolve: false };
        return clients::print(socket, &question, args.json).await;
    }
    let query = FlowQuery {
        sort: args.sort,
        reverse: args.reverse,
        limit: args.limit,
        follow: args.follow,
        progress: !args.json && !args.follow,
        ..args.conditions.query()
    };
    let mut screen = Screen::new(args.json, args.sort.is_some());
    let path = query.path("/v1/flows");
    client::stream_parts(socket, Method::GET, &path, |lines| screen.show(lines)).await?;
    screen.end();
    Ok(())
}

/// The output of the flows of an answer.
struct Screen {
    json: bool,
    out: io::BufWriter<io::StdoutLock<'static>>,
    bar: Bar,
    widths: Option<[usize; COLUMNS]>,
    summary: Option<Summary>,
}

/// Bytes that are written at a time.
const BUFFER: usize = 64 << 10;

impl Screen {
    fn new(json: bool, sorted: bool) -> Screen {
        let stdout = io::stdout();
        // Rows that come at once would be mixed up with it.
        let bar = Bar::new(!json && (sorted || !stdout.is_terminal()));
        let out = io::BufWriter::with_capacity(BUFFER, stdout.lock());
        Screen { json, out, bar, widths: None, summary: None }
    }

    /// Prints some lines of an answer, and returns whether to go on: not if the reader is gone.
    fn show(&mut self, lines: &str) -> Result<ControlFlow<()>> {
        let text = if self.json { lines.to_owned() } else { self.rows(lines)? };
        let printed = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // Nobody would see how much of what there is.
                self.summary = None;
                Ok(ControlFlow::Break(()))
            }
            printed => printed.context("failed to print").map(ControlFlow::Continue),
        }
    }

    /// Formats the flows in some lines. The first ones decide on the widths of columns.
    fn rows(&mut self, lines: &str) -> Result<String> {
        let mut rows = Vec::new();
        for line in lines.lines() {
            if line.starts_with("{\"progress\"") {
                let Progress { progress } = read(line)?;
                self.bar.show(progress);
            } else if line.starts_with("{\"summary\"") {
                let Ending { summary } = read(line)?;
                self.summary = Some(summary);
            } else if line.starts_with("{\"change\"") {
                let Change { change, flow } = read(line)?;
                let sign = if change == Kind::New { "+" } else { "-" };
                rows.push((sign, row(&flow)));
            } else {
                rows.push(("", row(&read(line)?)));
            }
        }
        let mut text = String::new();
        if self.widths.is_none() && !rows.is_empty() {
            self.bar.end();
            let signed = rows.iter().any(|(sign, _)| !sign.is_empty());
            let widths = widths(rows.iter().map(|(_, row)| row));
            self.widths = Some(widths);
            let before = if signed { " " } else { "" };
            write_row(&mut text, before, &HEADER.map(str::to_owned), &widths);
        }
        let widths = self.widths.unwrap_or_default();
        rows.iter().for_each(|(sign, row)| write_row(&mut text, sign, row, &widths));
        Ok(text)
    }

    /// Says how much was shown, where people see it.
    fn end(&self) {
        self.bar.end();
        if let Some(summary) = &self.summary {
            eprint!("{}", ending(summary));
        }
    }
}

/// Number of columns.
pub(super) const COLUMNS: usize = 10;

const HEADER: [&str; COLUMNS] =
    ["PROTO", "CLIENT", "DESTINATION", "UPLINK", "AGE", "IDLE", "UP", "DOWN", "STATE", "REASON"];

/// Columns of numbers; the others are words.
const NUMBERS: std::ops::Range<usize> = 4..8;

/// Least widths, so that later rows fit, too: the first ones may be of few flows.
const LEAST: [usize; COLUMNS] = [5, 19, 19, 6, 4, 4, 6, 6, 11, 6];

/// Returns the cells of a flow, in the order of the columns of `linkbal flows`.
pub(super) fn row(flow: &FlowRecord<'_>) -> [String; COLUMNS] {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), short_bytes);
    let client = if flow.client.is_unspecified() {
        "gateway".into()
    } else {
        end(flow.client, flow.client_port)
    };
    [
        flow.protocol.to_string(),
        client,
        end(flow.destination, flow.destination_port),
        flow.uplink.to_string(),
        short_time(flow.age_s),
        short_time(flow.idle_s),
        bytes(flow.bytes_up),
        bytes(flow.bytes_down),
        state(flow),
        reason(flow),
    ]
}

/// Formats the state.
fn state(flow: &FlowRecord<'_>) -> String {
    match &*flow.from {
        // Answers to local traffic are not looked at.
        "gateway" => "-".into(),
        _ => flow.state.to_string(),
    }
}

/// Formats the reason for the uplink, with the rule and the uplink before, if there was one.
fn reason(flow: &FlowRecord<'_>) -> String {
    let rule = flow.rule.map(|rule| format!("rule {rule}: ")).unwrap_or_default();
    let reason = if flow.reason == "inbound" { "from outside" } else { &flow.reason };
    let moved = flow.moved_from.as_ref().map(|uplink| format!(", moved from {uplink}"));
    format!("{rule}{reason}{}", moved.unwrap_or_default())
}

fn end(address: std::net::IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

fn widths<'a>(rows: impl Iterator<Item = &'a [String; COLUMNS]>) -> [usize; COLUMNS] {
    rows.fold(LEAST, |mut widths, row| {
        let pairs = widths.iter_mut().zip(row);
        pairs.for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        widths
    })
}

fn write_row(text: &mut String, sign: &str, row: &[String; COLUMNS], widths: &[usize; COLUMNS]) {
    text.push_str(sign);
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if at == 0 && sign.is_empty() { "" } else { "  " };
        // Writing to a text cannot fail.
        let _ = if NUMBERS.contains(&at) {
            write!(text, "{gap}{cell:>width$}")
        } else {
            write!(text, "{gap}{cell:<width$}")
        };
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

/// Formats seconds in few characters.
fn short_time(seconds: u32) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Says how much was shown, and what bytes stand for.
pub(super) fn ending(summary: &Summary) -> String {
    let Summary { flows, shown, bytes } = summary;
    let flows = match (flows, shown) {
        (0, _) => "no live flows".into(),
        (1, 1) => "1 live flow".into(),
        (flows, shown) if flows == shown => format!("{flows} live flows"),
        (flows, shown) => format!("{shown} of {flows} live flows (--limit shows more)"),
    };
    format!("{flows}{}\n", bytes_hint(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::flows::ByteCounting;

    #[test]
    fn times_are_short() {
        assert_eq!([0, 59, 60, 7199, 200_000].map(short_time), ["0s", "59s", "1m", "1h", "2d"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_first_rows() {
        let flow: FlowRecord<'_> = read(
            r#"{"protocol":"tcp","client":"2001:db8::9","client_port":40000,"destination":"2001:db8:1::1",
            "destination_port":443,"uplink":"isp-a","from":"lan","state":"established","age_s":75,
            "idle_s":2,"reason":"session","rule":2,"moved_from":"isp-b","bytes_up":null,"bytes_down":2048}"#,
        )
        .expect("a flow");
        let row = row(&flow);
        let widths = widths([&row].into_iter());
        let mut text = String::new();
        write_row(&mut text, "", &HEADER.map(str::to_owned), &widths);
        write_row(&mut text, "", &row, &widths);
        assert_eq!(
            text,
            "PROTO  CLIENT               DESTINATION          UPLINK   AGE  IDLE      UP    DOWN  STATE        REASON\n\
             tcp    [2001:db8::9]:40000  [2001:db8:1::1]:443  isp-a     1m    2s       -    2.0K  established  \
             rule 2: session, moved from isp-b\n"
        );
    }

    #[test]
    fn the_end_says_what_was_left_out_and_how_to_count_bytes() {
        let summary = |flows, shown, bytes| ending(&Summary { flows, shown, bytes });
        assert_eq!(summary(1, 1, ByteCounting::On), "1 live flow\n");
        assert_eq!(summary(5, 2, ByteCounting::On), "2 of 5 live flows (--limit shows more)\n");
        assert!(summary(0, 0, ByteCounting::Off).contains("nf_conntrack_acct=1"));
        assert!(summary(9, 9, ByteCounting::Partial).starts_with("9 live flows; UP and DOWN lack"));
    }
}
