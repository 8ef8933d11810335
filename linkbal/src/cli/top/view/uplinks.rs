//! The uplinks, each over a line of its own and one for each family; and why the selected one is as it is.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    paint::Paint,
    text::{cut, fold, left, right},
};
use crate::{
    api::status::{FamilyStatus, Uplink},
    bytes::bit_rate,
    cli::{
        status::{draining, percent, reason, state},
        top::{
            model::{Model, Part},
            trend::{Measures, Trends},
        },
    },
    engine::admin::AdminState,
};

/// Widths of cells.
const SHARE: usize = 8;
const RATE: usize = 13;
const STATE: usize = 16;
const MILLIS: usize = 10;

/// Least width of a bar, and of a sparkline.
const BAR: usize = 6;
const SPARK: usize = 4;

/// Least numbers that fill a sparkline, in milliseconds: noise is low.
const LATENCY: f64 = 20.0;
const JITTER: f64 = 5.0;

/// Most lines of reasons.
const REASONS: usize = 4;

/// The lines of the uplinks.
pub(super) struct Uplinks {
    header: Vec<Line<'static>>,
    blocks: Vec<Vec<Line<'static>>>,
    selected: usize,
    reasons: Vec<Line<'static>>,
}

impl Uplinks {
    /// Makes the lines for a width.
    pub(super) fn new(model: &Model, width: u16, paint: Paint) -> Uplinks {
        let uplinks = model.uplinks();
        let selected = model.uplink().map(|uplink| &uplink.name);
        let at = uplinks.iter().position(|uplink| Some(&uplink.name) == selected);
        let table = UplinkTable::new(model, &uplinks, width.into(), paint);
        let block = |uplink: &&Uplink| table.block(uplink, Some(&uplink.name) == selected);
        Uplinks {
            header: table.header(),
            blocks: uplinks.iter().map(block).collect(),
            selected: at.unwrap_or_default(),
            reasons: table.reasons(),
        }
    }

    /// Returns the height of all lines.
    pub(super) fn height(&self) -> u16 {
        let lines = [&self.header, &self.reasons].into_iter().chain(&self.blocks).map(Vec::len);
        u16::try_from(lines.sum::<usize>()).unwrap_or(u16::MAX)
    }

    /// Draws what fits, with the selected uplink.
    pub(super) fn draw(self, frame: &mut Frame<'_>, area: Rect) {
        let room = usize::from(area.height).saturating_sub(self.header.len());
        let heights: Vec<usize> = self.blocks.iter().map(Vec::len).collect();
        let of_selected = heights.get(self.selected).copied().unwrap_or_default();
        let reasons = self.reasons.len().min(room.saturating_sub(of_selected));
        let room = room.saturating_sub(reasons);
        let first = first_line(&heights, self.selected, room);
        let all = self.blocks.into_iter().flatten();
        let mut lines = self.header;
        lines.extend(all.skip(first).take(room));
        lines.extend(self.reasons.into_iter().take(reasons));
        super::lines(frame, area, lines);
    }
}

/// Returns the first line to show, so that the selected block is in the room as far as it fits.
fn first_line(heights: &[usize], selected: usize, room: usize) -> usize {
    let begin: usize = heights.iter().take(selected).sum();
    let end = begin.saturating_add(heights.get(selected).copied().unwrap_or_default());
    end.saturating_sub(room).min(begin)
}

/// The measures of the table.
struct UplinkTable<'a> {
    model: &'a Model,
    width: usize,
    name: usize,
    paint: Paint,
}

impl<'a> UplinkTable<'a> {
    fn new(model: &'a Model, uplinks: &[&Uplink], width: usize, paint: Paint) -> UplinkTable<'a> {
        let longest = uplinks.iter().map(|uplink| uplink.name.chars().count()).max();
        let name = longest.unwrap_or_default().clamp(6, 16).min(width / 4);
        UplinkTable { model, width, name, paint }
    }

    fn header(&self) -> Vec<Line<'static>> {
        let cells = ["FLOWS", "TARGET", "ACTUAL", "DOWN", "UP", "USED"];
        let first = self.head(" ", "UPLINK", &cells.map(str::to_owned), None);
        let spark = self.spark_width();
        let minutes = format!("{} min", Trends::minutes(spark));
        let label = |title: &str, width| match spark {
            0 => right(title, width, self.paint),
            _ => {
                format!("{} {}", right(title, width, self.paint), left(&minutes, spark, self.paint))
            }
        };
        let state = left("STATE", STATE, self.paint);
        let (loss, latency) = (label("LOSS", SHARE), label("LATENCY", MILLIS));
        let second = format!("      {state}{loss}{latency}{}", label("JITTER", MILLIS));
        [first, second].map(|text| Line::styled(text, self.paint.title())).into()
    }

    /// Returns the line of an uplink, with as many cells as there is room for.
    fn head(&self, mark: &str, name: &str, cells: &[String; 6], used: Option<f64>) -> String {
        let widths = [SHARE, SHARE, SHARE, RATE, RATE, SHARE];
        let mut line = format!("{mark} {}", left(name, self.name, self.paint));
        for (cell, width) in cells.iter().zip(widths) {
            let next = right(cell, width, self.paint);
            if line.chars().count().saturating_add(width) <= self.width {
                line.push_str(&next);
            }
        }
        let room = self.width.saturating_sub(line.chars().count()).saturating_sub(1);
        if let Some(used) = used.filter(|_| room >= BAR) {
            line = format!("{line} {}", self.paint.bar(used, room.min(24)));
        }
        left(&line, self.width, self.paint)
    }

    /// Returns the lines of an uplink.
    fn block(&self, uplink: &Uplink, is_selected: bool) -> Vec<Line<'static>> {
        let mark = if is_selected { ">" } else { " " };
        let used = uplink.load.capacity.as_ref().map(|capacity| capacity.used);
        let unknown = || "-".to_owned();
        let said = match (used, uplink.load.full) {
            (_, true) => "FULL".to_owned(),
            (Some(used), false) => percent(used),
            (None, false) => unknown(),
        };
        let cells = [
            uplink.live_flows.map_or_else(unknown, |flows| flows.to_string()),
            percent(uplink.target_share),
            uplink.actual_share.map_or_else(unknown, percent),
            bit_rate(uplink.load.down),
            bit_rate(uplink.load.up),
            said,
        ];
        let mut head = Line::from(self.head(mark, &uplink.name, &cells, used));
        if is_selected {
            head = head.style(self.paint.selected(self.model.focus == Part::Uplinks));
        }
        let each = uplink.families();
        let rows = each.map(|(family, health)| self.family(uplink, family.name(), health));
        [head].into_iter().chain(rows).collect()
    }

    fn family(
        &self,
        uplink: &Uplink,
        family: &'static str,
        health: &FamilyStatus,
    ) -> Line<'static> {
        let state = state(uplink, health);
        let (sign, style) = self.paint.state(state);
        let degraded = if health.degraded { " degraded" } else { "" };
        let words = left(&format!("{family} {state}{degraded}"), STATE, self.paint);
        let millis = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
        };
        let spark = |pick: fn(&Measures) -> Option<f64>, full: f64| {
            self.spark(&uplink.name, family, pick, full)
        };
        let text = [
            right(&percent(health.loss), SHARE, self.paint),
            spark(|it| it.loss, 1.0),
            right(&millis(health.latency_ms), MILLIS, self.paint),
            spark(|it| it.latency, LATENCY),
            right(&millis(health.jitter_ms), MILLIS, self.paint),
            spark(|it| it.jitter, JITTER),
        ];
        let state = Span::styled(format!("    {sign} {words}"), style);
        Line::from(vec![state, Span::raw(text.concat())])
    }

    /// Draws the last minutes of a line, if there is room: the highest value fills a column, if it is high
    /// at all.
    fn spark(
        &self,
        uplink: &str,
        family: &'static str,
        pick: fn(&Measures) -> Option<f64>,
        full: f64,
    ) -> String {
        let width = self.spark_width();
        if width == 0 {
            return String::new();
        }
        let values = self.model.trends.columns(uplink, family, width, pick);
        let full = values.iter().flatten().copied().fold(full, f64::max);
        format!(" {}", self.paint.spark(&values, full))
    }

    /// Returns the width of a sparkline; 0 without room.
    fn spark_width(&self) -> usize {
        let rest = self.width.saturating_sub(6 + STATE + SHARE + 2 * MILLIS + 3);
        if rest / 3 < SPARK { 0 } else { rest / 3 }
    }

    /// Says why the selected uplink is in its state.
    fn reasons(&self) -> Vec<Line<'static>> {
        let Some(uplink) = self.model.uplink() else {
            let what = if self.model.status.is_some() { "no uplink" } else { "" };
            return vec![Line::from(what)];
        };
        let zone = &self.model.zone;
        let each = uplink.families();
        let each = each.map(|(family, health)| reason(&uplink.name, family.name(), health, zone));
        let drained = (uplink.admin == AdminState::Drained).then(|| draining(uplink));
        let text: String = each.chain(drained).collect();
        let mut lines = fold(&text, self.width);
        if lines.len() > REASONS {
            lines.truncate(REASONS);
            let last = lines.pop().unwrap_or_default();
            let room = self.width.saturating_sub(9);
            lines.push(format!("{} (Enter)", cut(&last, room, self.paint)));
        }
        lines.into_iter().map(Line::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_selected_block_is_in_sight(
            heights in prop::collection::vec(1usize..4, 1..20), selected in 0usize..20, room in 4usize..30,
        ) {
            let selected = selected.min(heights.len() - 1);
            let first = first_line(&heights, selected, room);
            let begin: usize = heights[..selected].iter().sum();
            prop_assert!(first <= begin && begin + heights[selected] <= first + room);
        }
    }
}
