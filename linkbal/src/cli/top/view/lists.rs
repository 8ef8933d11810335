//! The lists below the uplinks: flows, clients and events.

use ratatui::text::Line;

use super::{
    paint::Paint,
    text::{cut, cut_middle, left, right},
};
use crate::{
    api::flows::ByteCounting,
    bytes::bit_rate,
    cli::{
        flow_query::{bytes_hint, short_bytes},
        flows::table,
        top::{
            busy::BusyFlow,
            model::{Model, Part},
        },
    },
    events::{Event, severity::EventSeverity},
    flows::clients::ClientRecord,
};

/// A list, as wide as its area.
pub(super) struct List {
    /// The lists that there are, and what is said of this one.
    title: String,
    header: String,
    rows: Vec<String>,
    selected: Option<usize>,
    has_focus: bool,
    /// Remark above the rows.
    hint: Option<String>,
    /// Words in place of rows.
    empty: &'static str,
}

impl List {
    /// Returns the lines for a height, the selected row among them.
    pub(super) fn lines(self, height: u16, paint: Paint) -> Vec<Line<'static>> {
        let above = if self.hint.is_some() { 3 } else { 2 };
        let room = usize::from(height).saturating_sub(above);
        // A list that keys are not for shows its begin.
        let selected = self.selected.filter(|_| self.has_focus).unwrap_or_default();
        let first = selected.saturating_add(1).saturating_sub(room);
        let mut lines = vec![Line::styled(self.title, paint.title())];
        lines.extend(self.hint.map(|hint| Line::styled(hint, paint.odd())));
        if self.rows.is_empty() {
            lines.push(Line::from(self.empty));
            return lines;
        }
        lines.push(Line::styled(self.header, paint.title()));
        let rows = self.rows.into_iter().enumerate().skip(first).take(room);
        lines.extend(rows.map(|(at, row)| match Some(at) == self.selected && self.has_focus {
            true => Line::styled(format!(">{row}"), paint.selected(true)),
            false => Line::from(format!(" {row}")),
        }));
        lines
    }
}

/// Makes a list for a width.
pub(super) fn list(model: &Model, part: Part, width: u16, paint: Paint) -> List {
    // The mark takes a column.
    let width = usize::from(width).saturating_sub(1);
    let (table, selected, empty) = match part {
        Part::Clients => {
            let rows = model.clients.iter().map(client).collect();
            (ListTable::new(&CLIENTS, rows), model.client_at(), "no client has live flows")
        }
        Part::Events => {
            let rows = model.events.iter().map(|it| event(it, model)).collect();
            (ListTable::new(&EVENTS, rows), model.event_at(), "nothing happened yet")
        }
        Part::Flows | Part::Uplinks => {
            let rows = model.busy.flows.iter().map(flow).collect();
            let empty = if model.busy.summary.is_some() { "no live flow" } else { "" };
            (ListTable::new(&FLOWS, rows), model.flow_at(), empty)
        }
    };
    let (header, rows) = table.lines(width, paint);
    let hint = model.busy.summary.filter(|_| part != Part::Events);
    let hint = hint.map(|summary| bytes_hint(summary.bytes).trim_start_matches("; "));
    let hint = hint.filter(|hint| !hint.is_empty());
    List {
        hint: hint.map(|hint| cut(hint, width.saturating_add(1), paint)),
        title: cut(&title(model, part), width.saturating_add(1), paint),
        header,
        rows,
        selected,
        has_focus: model.focus == part,
        empty,
    }
}

/// Returns the names of the lists, this one in brackets, and what is to be known about it.
fn title(model: &Model, part: Part) -> String {
    let name = |which: Part, name: &str| match which == part {
        true => format!("[{name}]"),
        false => format!(" {name} "),
    };
    let names = [
        name(Part::Flows, "2:flows"),
        name(Part::Clients, "3:clients"),
        name(Part::Events, "4:events"),
    ];
    format!("{}{}", names.concat(), said(model, part))
}

fn said(model: &Model, part: Part) -> String {
    let summary = model.busy.summary;
    let of = match (&model.filter.client, &model.filter.uplink) {
        (Some(client), _) => format!(" of {client}: Esc for all"),
        (None, Some(uplink)) => format!(" of {uplink}: u for all"),
        (None, None) => String::new(),
    };
    match (part, summary) {
        (Part::Flows, Some(summary)) => {
            let order = match summary.bytes {
                ByteCounting::Off => "the latest to send first",
                ByteCounting::On | ByteCounting::Partial => "the busiest first",
            };
            format!("  {} live{of}, {order}", summary.flows)
        }
        (Part::Clients, _) => "  the largest first".to_owned(),
        (Part::Events, _) => "  the newest first".to_owned(),
        _ => of,
    }
}

/// A column of a list.
struct Column {
    title: &'static str,
    min_width: usize,
    max_width: usize,
    fit: Fit,
    /// Width of the screen below which it is left out.
    from: usize,
}

/// The way in which a cell is fitted to the width of its column.
#[derive(Clone, Copy)]
enum Fit {
    /// At the left, cut at its end.
    Left,
    /// At the left, cut in its middle: both ends of an address tell it from others.
    LeftBothEnds,
    /// At the right.
    Right,
}

impl Column {
    const fn new(title: &'static str, [min_width, max_width]: [usize; 2], fit: Fit) -> Column {
        Column { title, min_width, max_width, fit, from: 0 }
    }

    /// Leaves it out below a width of the screen.
    const fn from(self, from: usize) -> Column {
        Column { from, ..self }
    }
}

const FLOWS: [Column; 10] = [
    Column::new("PROTO", [5, 6], Fit::Left).from(60),
    Column::new("CLIENT", [9, 47], Fit::LeftBothEnds),
    Column::new("DESTINATION", [11, 47], Fit::LeftBothEnds),
    Column::new("UPLINK", [6, 12], Fit::Left),
    Column::new("RATE", [6, 7], Fit::Right),
    Column::new("AGE", [4, 4], Fit::Right).from(70),
    Column::new("UP", [6, 7], Fit::Right).from(78),
    Column::new("DOWN", [6, 7], Fit::Right).from(70),
    Column::new("STATE", [11, 11], Fit::Left).from(100),
    Column::new("REASON", [6, 30], Fit::Left).from(110),
];

const CLIENTS: [Column; 6] = [
    Column::new("CLIENT", [9, 39], Fit::LeftBothEnds),
    Column::new("NAME", [4, 20], Fit::Left).from(45),
    Column::new("FLOWS", [5, 7], Fit::Right),
    Column::new("UP", [6, 7], Fit::Right).from(50),
    Column::new("DOWN", [6, 7], Fit::Right),
    Column::new("UPLINKS", [7, 30], Fit::Left),
];

const EVENTS: [Column; 3] = [
    Column::new("TIME", [15, 15], Fit::Left),
    Column::new("", [1, 1], Fit::Left),
    Column::new("WHAT", [10, 1000], Fit::Left),
];

/// Rows of cells, in columns.
struct ListTable<'a> {
    columns: &'a [Column],
    rows: Vec<Vec<String>>,
}

impl<'a> ListTable<'a> {
    fn new(columns: &'a [Column], rows: Vec<Vec<String>>) -> ListTable<'a> {
        ListTable { columns, rows }
    }

    /// Returns the header and the rows. The widest column gives way as long as there is no room for all.
    fn lines(self, width: usize, paint: Paint) -> (String, Vec<String>) {
        let mut widths = self.widths(width);
        let taken = |widths: &[usize]| {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.map(|width| width.saturating_add(1)).sum::<usize>().saturating_sub(1)
        };
        while taken(&widths) > width {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > 3) else { break };
            *widest = widest.saturating_sub(1);
        }
        let line = |cells: &[String]| {
            let cells =
                cells.iter().zip(self.columns).zip(&widths).filter(|(_, width)| **width > 0);
            let cells = cells.map(|((cell, column), width)| match column.fit {
                Fit::Right => right(cell, *width, paint),
                Fit::LeftBothEnds => left(&cut_middle(cell, *width, paint), *width, paint),
                Fit::Left => left(cell, *width, paint),
            });
            cells.collect::<Vec<_>>().join(" ")
        };
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_owned()).collect();
        (format!(" {}", line(&titles)), self.rows.iter().map(|row| line(row)).collect())
    }

    /// Returns what the columns need; 0 of those that are left out.
    fn widths(&self, screen: usize) -> Vec<usize> {
        let need = |(at, column): (usize, &Column)| {
            let Column { min_width, max_width, from, .. } = column;
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let longest = cells.map(|cell| textwrap::core::display_width(cell)).max();
            match screen.saturating_add(1) < *from {
                true => 0,
                false => longest.unwrap_or_default().clamp(*min_width, *max_width),
            }
        };
        self.columns.iter().enumerate().map(need).collect()
    }
}

fn flow(busy: &BusyFlow) -> Vec<String> {
    let [proto, client, destination, uplink, age, _, up, down, state, reason] =
        table::cells(&busy.flow);
    let rate = busy.rate.map_or_else(|| "-".to_owned(), short_rate);
    vec![proto, client, destination, uplink, rate, age, up, down, state, reason]
}

/// Formats bits per second in few characters.
fn short_rate(bits: u64) -> String {
    let text = bit_rate(bits);
    text.trim_end_matches("bit/s").replace(' ', "")
}

fn client(client: &ClientRecord<'_>) -> Vec<String> {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), short_bytes);
    let address = match client.client {
        address if address.is_unspecified() => "gateway".into(),
        address => address.to_string(),
    };
    vec![
        address,
        client.name.clone().unwrap_or_else(|| "-".into()),
        client.flows.to_string(),
        bytes(client.bytes_up),
        bytes(client.bytes_down),
        client.uplinks.join(", "),
    ]
}

fn event(event: &Event, model: &Model) -> Vec<String> {
    let mark = if event.severity == EventSeverity::Warning { "!" } else { " " };
    vec![model.zone.brief(&event.time), mark.to_owned(), event.headline()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        assert_eq!([0, 999, 64_000, 2_500_000].map(short_rate), ["0", "999", "64.0k", "2.5M"]);
    }
}
