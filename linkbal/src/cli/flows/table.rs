//! The table of flows: columns, and rows that cost little, since there may be a million.

use std::{array, fmt, fmt::Write as _, iter, net::IpAddr};

use crate::{cli::flow_query::short_bytes, flows::record::FlowRecord};

/// Number of columns.
pub(in crate::cli) const COLUMNS: usize = 10;

/// The last column, which nothing follows.
const LAST: usize = COLUMNS - 1;

const HEADER: [&str; COLUMNS] =
    ["PROTO", "CLIENT", "DESTINATION", "UPLINK", "AGE", "IDLE", "UP", "DOWN", "STATE", "REASON"];

/// Columns of numbers; the others are words.
const NUMBERS: std::ops::Range<usize> = 4..8;

/// Least widths, so that later rows fit, too: the first ones may be of few flows.
const MIN_WIDTHS: [usize; COLUMNS] = [5, 19, 19, 6, 4, 4, 6, 6, 11, 6];

/// The cells of a line, in one text: a million lines do not allocate ten million cells.
#[derive(Default)]
pub(super) struct Row {
    text: String,
    ends: [usize; COLUMNS],
}

impl Row {
    pub(super) fn header() -> Row {
        let mut row = Row::default();
        row.fill(|column, text| text.push_str(HEADER[column]));
        row
    }

    /// Takes the cells of a flow.
    pub(super) fn set(&mut self, flow: &FlowRecord<'_>) {
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
pub(in crate::cli) fn cells(flow: &FlowRecord<'_>) -> [String; COLUMNS] {
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

pub(super) fn widths<'a>(flows: impl Iterator<Item = &'a FlowRecord<'a>>) -> [usize; COLUMNS] {
    let mut row = Row::default();
    flows.fold(MIN_WIDTHS, |mut widths, flow| {
        row.set(flow);
        let pairs = widths.iter_mut().zip(row.cells());
        pairs.for_each(|(width, cell)| *width = (*width).max(width_of(cell)));
        widths
    })
}

pub(super) fn write_row(text: &mut String, sign: &str, row: &Row, widths: &[usize; COLUMNS]) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::flow_query::read;

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
}
