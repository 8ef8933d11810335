//! `linkbal flows`.

pub(super) mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    ops::ControlFlow,
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::Args;
use hyper::Method;

use self::table::{COLUMNS, Row, widths, write_row};
use super::{
    clients,
    flow_query::{Bar, Conditions, bytes_hint, read},
    stderr,
};
use crate::{
    api::{
        client,
        flows::{FlowEnding, FlowProgress, FlowSummary},
    },
    flows::{
        changes::{FlowChange, FlowChangeKind},
        query::FlowQuery,
        sort::FlowOrder,
    },
};

#[derive(Clone, Debug, Args)]
pub(super) struct FlowsArgs {
    #[command(flatten)]
    conditions: Conditions,
    /// Sort the flows; shows the first 1000 unless --limit says otherwise
    #[arg(long, value_enum)]
    sort: Option<FlowOrder>,
    /// Reverse the order
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Show at most this many flows
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Show this many clients instead, those with the most bytes or flows, as `linkbal clients`
    /// does
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["sort", "limit", "follow"])]
    top: Option<usize>,
    /// Show flows that begin (+) and end (-) from now on, until Ctrl-C
    #[arg(long, short, conflicts_with_all = ["sort", "limit"])]
    follow: bool,
    /// Print one JSON object per line, for programs
    #[arg(long)]
    json: bool,
}

/// Asks the daemon behind a socket for flows, and prints them as they come.
pub(super) async fn run(socket: &Path, args: &FlowsArgs) -> Result<()> {
    if let Some(top) = args.top {
        let question =
            clients::ClientQuestion { conditions: &args.conditions, top, resolve: false };
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
    summary: Option<FlowSummary>,
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
                let FlowProgress { progress } = read(line)?;
                self.bar.show(progress);
            } else if line.starts_with("{\"summary\"") {
                let FlowEnding { summary } = read(line)?;
                self.summary = Some(summary);
            } else if line.starts_with("{\"change\"") {
                let FlowChange { change, flow } = read(line)?;
                let sign = if change == FlowChangeKind::New { "+" } else { "-" };
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

/// Says how much was shown, and what bytes stand for.
pub(super) fn ending(summary: &FlowSummary) -> String {
    let FlowSummary { flows, shown, bytes } = summary;
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
    fn the_end_says_what_was_left_out_and_how_to_count_bytes() {
        let summary = |flows, shown, bytes| ending(&FlowSummary { flows, shown, bytes });
        assert_eq!(summary(1, 1, ByteCounting::On), "1 live flow\n");
        assert_eq!(summary(5, 2, ByteCounting::On), "2 of 5 live flows (--limit shows more)\n");
        assert!(summary(0, 0, ByteCounting::Off).contains("nf_conntrack_acct=1"));
        assert!(summary(9, 9, ByteCounting::Partial).starts_with("9 live flows; UP and DOWN lack"));
    }
}
