//! `linkbal flows`.

use std::{
    array,
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    iter,
    net::IpAddr,
    ops::ControlFlow,
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::Args;
use hyper::Method;

use super::{
    clients,
    flow_query::{Bar, Conditions, bytes_hint, read, short_bytes},
    stderr,
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

/// Bytes of about a flow's line in JSON, and more than in a table.
const TYPICAL_LINE: usize = 256;

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
        let mut flows = Vec::with_capacity(lines.len() / TYPICAL_LINE);
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
                flows.push((sign, flow));
            } else {
                flows.push(("", read(line)?));
            }
        }
        let mut text = String::with_capacity(lines.len());
        if self.widths.is_none() && !flows.is_empty() {
            self.bar.end();
            let widths = widths(flows.iter().map(|(_, flow)| flow));
            self.widths = Some(widths);
            let before = if flows[0].0.is_empty() { "" } else { " " };
            write_row(&mut text, before, &Row::header(), &widths);
        }
        let widths = self.widths.unwrap_or_default();
        let mut row = Row::default();
        for (sign, flow) in &flows {
            row.set(flow);
            write_row(&mut text, sign, &row, &widths);
        }
        Ok(text)
    }

    /// Says how much was shown, where people see it.
    fn end(&self) {
        self.bar.end();
        if let Some(summary) = &self.summary {
            stderr::text(format_args!("{}", ending(summary)));
        }
    }
}

/// Number of columns.
pub(super) const COLUMNS: usize = 10;

/// The last column, which nothing follows.
const LAST: usize = COLUMNS - 1;

const HEADER: [&str; COLUMNS] =
    ["PROTO", "CLIENT", "DESTINATION", "UPLINK", "AGE", "IDLE", "UP", "DOWN", "STATE", "REASON"];

/// Columns of numbers; the others are words.
const NUMBERS: std::ops::Range<usize> = 4..8;

/// Least widths, so that later rows fit, too: the first ones may be of few flows.
const LEAST: [usize; COLUMNS] = [5, 19, 19, 6, 4, 4, 6, 6, 11, 6];

/// The cells of a line, in one text: a million lines do not allocate ten million cells.
#[derive(Default)]
struct Row {
    text: String,
    ends: [usize; COLUMNS],
}

impl Row {
    fn header() -> Row {
        let mut row = Row::default();
        row.fill(|column, text| text.push_str(HEADER[column]));
        row
    }

    /// Takes the cells of a flow.
    fn set(&mut self, flow: &FlowRecord<'_>) {
        self.fill(|column, text| write_cell(text, column, flow));
    }

    fn fill(&mut self, mut cell: impl FnMut(usize, &mut String)) {
        self.text.clear();
        for column in 0..COLUMNS {
            cell(column, &mut self.text);
            self.ends[column] = self.text.len();
        }
    }

    fn cells(&self) -> impl Iterator<Item = &str> {
        let begins = iter::once(0).chain(self.ends);
        begins.zip(self.ends).map(|(begin, end)| &self.text[begin..end])
    }
}

/// Returns the cells of a flow, in the order of the columns of `linkbal flows`.
pub(super) fn cells(flow: &FlowRecord<'_>) -> [String; COLUMNS] {
    array::from_fn(|column| {
        let mut cell = String::new();
        write_cell(&mut cell, column, flow);
        cell
    })
}

fn write_cell(text: &mut String, column: usize, flow: &FlowRecord<'_>) {
    match column {
        0 => text.push_str(&flow.protocol),
        1 if flow.client.is_unspecified() => text.push_str("gateway"),
        1 => write_end(text, flow.client, flow.client_port),
        2 => write_end(text, flow.destination, flow.destination_port),
        3 => text.push_str(&flow.uplink),
        4 => write_short_time(text, flow.age_s),
        5 => write_short_time(text, flow.idle_s),
        6 => write_bytes(text, flow.bytes_up),
        7 => write_bytes(text, flow.bytes_down),
        8 => text.push_str(state(flow)),
        _ => write_reason(text, flow),
    }
}

/// Returns the state.
fn state<'a>(flow: &'a FlowRecord<'_>) -> &'a str {
    match &*flow.from {
        // Answers to local traffic are not looked at.
        "gateway" => "-",
        _ => &flow.state,
    }
}

/// Writes the reason for the uplink, with the rule and the uplink before, if there was one.
fn write_reason(text: &mut String, flow: &FlowRecord<'_>) {
    if let Some(rule) = flow.rule {
        put(text, format_args!("rule {rule}: "));
    }
    text.push_str(if flow.reason == "inbound" { "from outside" } else { &flow.reason });
    if let Some(uplink) = &flow.moved_from {
        put(text, format_args!(", moved from {uplink}"));
    }
}

fn write_end(text: &mut String, address: IpAddr, port: Option<u16>) {
    match (address, port) {
        (IpAddr::V4(address), _) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "." });
                write_number(text, octet);
            }
        }
        (IpAddr::V6(address), Some(_)) => put(text, format_args!("[{address}]")),
        (IpAddr::V6(address), None) => put(text, format_args!("{address}")),
    }
    if let Some(port) = port {
        text.push(':');
        write_number(text, port);
    }
}

/// Writes a number; several million of them take too long with the machinery for all formats.
fn write_number(text: &mut String, number: impl itoa::Integer) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn write_bytes(text: &mut String, bytes: Option<u64>) {
    match bytes {
        Some(bytes) => text.push_str(&short_bytes(bytes)),
        None => text.push('-'),
    }
}

/// Writes seconds in few characters.
fn write_short_time(text: &mut String, seconds: u32) {
    let (number, unit) = match seconds {
        0..60 => (seconds, 's'),
        60..3600 => (seconds / 60, 'm'),
        3600..86_400 => (seconds / 3600, 'h'),
        _ => (seconds / 86_400, 'd'),
    };
    write_number(text, number);
    text.push(unit);
}

/// Returns the columns that a cell takes.
fn width_of(cell: &str) -> usize {
    if cell.is_ascii() { cell.len() } else { cell.chars().count() }
}

fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = text.write_fmt(arguments);
}

fn widths<'a>(flows: impl Iterator<Item = &'a FlowRecord<'a>>) -> [usize; COLUMNS] {
    let mut row = Row::default();
    flows.fold(LEAST, |mut widths, flow| {
        row.set(flow);
        let pairs = widths.iter_mut().zip(row.cells());
        pairs.for_each(|(width, cell)| *width = (*width).max(width_of(cell)));
        widths
    })
}

fn write_row(text: &mut String, sign: &str, row: &Row, widths: &[usize; COLUMNS]) {
    text.push_str(sign);
    for (at, (cell, width)) in row.cells().zip(widths).enumerate() {
        text.push_str(if at == 0 && sign.is_empty() { "" } else { "  " });
        let padding = width.saturating_sub(width_of(cell));
        if NUMBERS.contains(&at) {
            write_spaces(text, padding);
            text.push_str(cell);
        } else {
            text.push_str(cell);
            write_spaces(text, if at == LAST { 0 } else { padding });
        }
    }
    text.push('\n');
}

fn write_spaces(text: &mut String, mut count: usize) {
    // Many at a time: one by one they take as long as the words between them.
    const SPACES: &str = "                                ";
    while count > 0 {
        let part = count.min(SPACES.len());
        text.push_str(&SPACES[..part]);
        count = count.saturating_sub(part);
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
    use proptest::prelude::*;

    use super::*;
    use crate::api::flows::ByteCounting;

    #[test]
    fn times_are_short() {
        let short_time = |seconds| {
            let mut text = String::new();
            write_short_time(&mut text, seconds);
            text
        };
        assert_eq!([0, 59, 60, 7199, 200_000].map(short_time), ["0s", "59s", "1m", "1h", "2d"]);
    }

    proptest! {
        #[test]
        fn ends_are_written_as_everywhere_else(address: IpAddr, port: Option<u16>) {
            let mut text = String::new();
            write_end(&mut text, address, port);
            let expected = match port {
                Some(port) => std::net::SocketAddr::new(address, port).to_string(),
                None => address.to_string(),
            };
            prop_assert_eq!(text, expected);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_first_rows() {
        let flow: FlowRecord<'_> = read(
            r#"{"protocol":"tcp","client":"2001:db8::9","client_port":40000,"destination":"2001:db8:1::1",
            "destination_port":443,"uplink":"isp-a","from":"lan","state":"established","age_s":75,
            "idle_s":2,"reason":"session","rule":2,"moved_from":"isp-b","bytes_up":null,"bytes_down":2048}"#,
        )
        .expect("a flow");
        let mut row = Row::default();
        row.set(&flow);
        let widths = widths([&flow].into_iter());
        let mut text = String::new();
        write_row(&mut text, "", &Row::header(), &widths);
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
