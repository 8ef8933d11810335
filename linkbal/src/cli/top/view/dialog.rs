//! Windows before all else: the keys, a text, or a question.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Text},
    widgets::{Block, Clear, Paragraph},
};

use super::{
    paint::Paint,
    text::{cut, fold, left},
};
use crate::cli::top::model::{
    Dialog, Model,
    keys::{HELP, Key},
};

/// Largest width.
const WIDTH: u16 = 100;

/// Draws the dialog, if there is one.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, paint: Paint) {
    let Some(dialog) = &model.dialog else { return };
    let width = area.width.saturating_sub(2).min(WIDTH);
    let inner = usize::from(width.saturating_sub(4));
    let (title, lines, scroll, below) = match dialog {
        Dialog::Keys => ("keys", keys(inner, paint), 0, "any key goes back"),
        Dialog::Text { title, text, scroll } => {
            (title.as_str(), fold(text, inner), *scroll, "Esc back, arrows scroll")
        }
        Dialog::Ask(prompt) => {
            (prompt.title.as_str(), fold(&prompt.text, inner), 0, "y: do it   n, Esc: leave it")
        }
    };
    let most = area.height.saturating_sub(2);
    let height = super::height(&lines).saturating_add(3).min(most);
    let at = Rect {
        x: area.x.saturating_add(area.width.saturating_sub(width) / 2),
        y: area.y.saturating_add(area.height.saturating_sub(height) / 2),
        width,
        height,
    };
    let last = super::height(&lines).saturating_sub(height.saturating_sub(3));
    draw_box(frame, at, (title, below), &lines, scroll.min(last), paint);
}

fn draw_box(
    frame: &mut Frame<'_>,
    at: Rect,
    (title, below): (&str, &str),
    lines: &[String],
    scroll: u16,
    paint: Paint,
) {
    frame.render_widget(Clear, at);
    let title = format!(" {} ", cut(title, usize::from(at.width).saturating_sub(6), paint));
    let block =
        Block::bordered().border_set(paint.border()).title(title).title_style(paint.title());
    let inner = block.inner(at);
    frame.render_widget(block, at);
    let (text, bottom) = super::above(inner, inner.height.saturating_sub(1));
    let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(Text::from(lines)).scroll((scroll, 0)), text);
    super::lines(frame, bottom, vec![Line::styled(format!(" {below}"), paint.title())]);
}

/// Returns the keys with what they do.
fn keys(width: usize, paint: Paint) -> Vec<String> {
    let widest = HELP.iter().map(|Key(keys, _)| keys.len()).max().unwrap_or_default();
    let each = HELP.iter().flat_map(|Key(keys, meaning)| {
        let room = width.saturating_sub(widest).saturating_sub(2);
        let lines = fold(meaning, room);
        let first = std::iter::once(*keys).chain(std::iter::repeat(""));
        let rows = lines.into_iter().zip(first);
        rows.map(|(line, keys)| format!("{}  {line}", left(keys, widest, paint)))
            .collect::<Vec<_>>()
    });
    each.collect()
}
