//! The screen: draws a state, and changes nothing.

mod dialog;
mod lists;
pub(super) mod paint;
mod text;
mod uplinks;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use self::paint::Paint;
use super::model::{Link, Model, Part};
use crate::{cli::status, engine::health::State, words::count};

/// Rows of a pane below the uplinks, at least.
const PANE: u16 = 7;

/// Rows below which only the part is shown that keys are for.
const LOW: u16 = 14;

/// Size from which flows, clients and events are shown at the same time.
const WIDE: u16 = 110;
const HIGH: u16 = 16;

/// Most lines of what is not as it should be.
const ALARMS: usize = 3;

/// Draws the state.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, paint: Paint) {
    let area = frame.area();
    let (title, rest) = above(area, 1);
    lines(frame, title, vec![title_line(model, title.width, paint)]);
    let alarms = alarms(model, area.width, paint);
    let (top, rest) = above(rest, height(&alarms).min(rest.height / 4));
    lines(frame, top, alarms);
    let footer = footer(model, area.width, paint);
    let below = height(&footer).min(rest.height / 3).max(1);
    let (rest, bottom) = above(rest, rest.height.saturating_sub(below));
    lines(frame, bottom, footer);
    body(frame, rest, model, paint);
    dialog::draw(frame, area, model, paint);
}

/// Draws what is between title and footer.
fn body(frame: &mut Frame<'_>, area: Rect, model: &Model, paint: Paint) {
    if area.height < LOW && model.focus != Part::Uplinks {
        return pane(frame, area, model, model.focus, paint);
    }
    let uplinks = uplinks::Uplinks::new(model, area.width, paint);
    let room = if area.height < LOW { area.height } else { area.height.saturating_sub(PANE) };
    let (top, rest) = above(area, uplinks.height().min(room));
    uplinks.draw(frame, top);
    if area.height < LOW {
        return;
    }
    if area.width < WIDE || rest.height < HIGH {
        return pane(frame, rest, model, model.pane, paint);
    }
    let (upper, lower) = above(rest, rest.height.saturating_sub(rest.height / 3));
    let (left, right) =
        beside(upper, upper.width.saturating_sub(upper.width / 5).saturating_sub(upper.width / 5));
    pane(frame, left, model, Part::Flows, paint);
    pane(frame, right, model, Part::Clients, paint);
    pane(frame, lower, model, Part::Events, paint);
}

/// Draws one of the lists.
fn pane(frame: &mut Frame<'_>, area: Rect, model: &Model, part: Part, paint: Paint) {
    let list = lists::list(model, part, area.width, paint);
    let drawn = list.lines(area.height, paint);
    lines(frame, area, drawn);
}

/// Splits an area into its first rows and the others.
fn above(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let below = area.height.saturating_sub(rows);
    let y = area.y.saturating_add(rows);
    (Rect { height: rows, ..area }, Rect { y, height: below, ..area })
}

/// Splits an area into its first columns and the others, with a gap between them.
fn beside(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    let x = area.x.saturating_add(columns);
    let width = area.width.saturating_sub(columns);
    (Rect { width: columns.saturating_sub(1), ..area }, Rect { x, width, ..area })
}

fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

fn height<T>(lines: &[T]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

/// Returns the title: what there is, and whether it is of now.
fn title_line(model: &Model, width: u16, paint: Paint) -> Line<'static> {
    let (link, style) = match &model.link {
        Link::Connecting => ("asking ..".to_owned(), paint.odd()),
        Link::Live => ("live".to_owned(), paint.good()),
        Link::Lost { since, .. } => {
            let age = model.now.saturating_sub(*since).as_secs();
            (format!("NO ANSWER for {age} s"), paint.bad())
        }
    };
    let room = usize::from(width).saturating_sub(link.len()).saturating_sub(1);
    let summary = text::left(&summary(model), room, paint);
    Line::from(vec![
        Span::styled(summary, paint.title()),
        Span::raw(" "),
        Span::styled(link, style),
    ])
}

fn summary(model: &Model) -> String {
    let Some(status) = &model.status else { return "linkbal".into() };
    let down = status.uplinks.iter().filter(|uplink| uplink.state == State::Down).count();
    let down = if down > 0 { format!(", {down} down") } else { String::new() };
    // Many networks have no IPv6 at all.
    let in_ipv4 = status.uplinks.iter().filter(|uplink| uplink.state == State::Up);
    let in_ipv4 = in_ipv4.filter_map(|uplink| uplink.ipv4.as_ref());
    let in_ipv4 = in_ipv4.filter(|health| health.state == State::Down && !health.standby).count();
    let in_ipv4 = if in_ipv4 > 0 { format!(", {in_ipv4} down for ipv4") } else { String::new() };
    let flows: u64 = status.uplinks.iter().filter_map(|uplink| uplink.live_flows).sum();
    let uplinks = count(status.uplinks.len(), "uplink");
    let since = model.zone.speak(&status.started);
    format!("linkbal: {uplinks}{down}{in_ipv4}, {flows} flows, pid {} since {since}", status.pid)
}

/// Says what is not as it should be.
fn alarms(model: &Model, width: u16, paint: Paint) -> Vec<Line<'static>> {
    let mut said = Vec::new();
    if let Link::Lost { why, .. } = &model.link {
        said.extend(text::fold(&format!("! {why}"), width.into()));
    }
    if let Some(status) = &model.status {
        let all = status::alarms(status, &model.zone) + &status::problems(status, &model.zone);
        let all = all.lines().filter(|line| !line.starts_with("note: "));
        said.extend(all.map(|line| text::cut(&format!("! {line}"), width.into(), paint)));
    }
    let more = said.len().saturating_sub(ALARMS);
    said.truncate(ALARMS);
    if let Some(last) = said.last_mut().filter(|_| more > 0) {
        let room = usize::from(width).saturating_sub(20);
        *last = format!("{} ({more} more: s)", text::cut(last, room, paint));
    }
    said.into_iter().map(|line| Line::styled(line, paint.bad())).collect()
}

const HINT: &str = "q quit  ? keys  Tab next  Enter open  d drain  x disable  e enable  t drill";

/// Returns the last lines: the answer to the last key, the drill, or what keys there are.
fn footer(model: &Model, width: u16, paint: Paint) -> Vec<Line<'static>> {
    if let Some(remark) = &model.remark {
        let style = if remark.is_bad { paint.bad() } else { paint.title() };
        let mark = if remark.is_bad { "! " } else { "" };
        let folded = text::fold(&format!("{mark}{}", remark.text), width.into());
        return folded.into_iter().map(|line| Line::styled(line, style)).collect();
    }
    if let Some((uplink, last)) = &model.drill {
        let folded = text::fold(&format!("drill of {uplink}: {last}"), width.into());
        return folded.into_iter().map(|line| Line::styled(line, paint.odd())).collect();
    }
    vec![Line::from(text::cut(HINT, width.into(), paint))]
}

#[cfg(test)]
mod tests;
