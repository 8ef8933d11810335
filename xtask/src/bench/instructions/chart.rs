//! The figures of a run as a chart.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    prelude::{
        BLACK, Color as _, DrawingArea, DrawingBackend, IntoDrawingArea as _, RGBColor, Rectangle,
        SVGBackend, Text, TextStyle, WHITE,
    },
    style::{
        FontFamily, FontStyle, IntoTextStyle as _,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    contenders::LINKBAL,
    figures::{Figure, GENERATOR, ratio},
    plan::DIRECTIONS,
};

/// Widths in pixels: of the names, of a direction's bars with the figures behind them, and of what is
/// between two directions.
const NAMES: i32 = 200;
const BARS: i32 = 240;
const GAP: i32 = 70;
/// Heights in pixels: of the titles, of a row, and of a bar in it.
const TITLES: i32 = 40;
const ROW: i32 = 22;
const BAR: i32 = 14;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const OTHERS: RGBColor = RGBColor(0xa8, 0xb0, 0xb8);

/// Draws the ratios to masquerading of one number of flows: a row for each contender, bars for each
/// direction.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn draw(path: &Path, kernel: &str, all: &[Figure], flows: u64) -> Result<()> {
    let names = names(all, flows);
    let rows = i32::try_from(names.len())?;
    let directions = i32::try_from(DIRECTIONS.len())?;
    let size = (NAMES + directions * (BARS + GAP), TITLES + rows * ROW + ROW);
    let size = (size.0.unsigned_abs(), size.1.unsigned_abs());
    let area = SVGBackend::new(path, size).into_drawing_area();
    chart(&area, kernel, all, flows, &names)
        .map_err(|error| anyhow!("failed to draw {}: {error}", path.display()))
}

/// Returns the names of the contenders with ratios, in the order of the run.
fn names(all: &[Figure], flows: u64) -> Vec<&str> {
    let mut names: Vec<_> = all
        .iter()
        .filter(|figure| figure.flows == flows && figure.contender != GENERATOR)
        .map(|figure| figure.contender.as_str())
        .collect();
    names.dedup();
    names
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    kernel: &str,
    all: &[Figure],
    flows: u64,
    names: &[&str],
) -> Result<(), String>
where
    B::ErrorType: 'static,
{
    let failed = |error: plotters::drawing::DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let of = |name: &str, direction: &str| {
        let figure = all.iter().find(|figure| {
            (figure.contender.as_str(), figure.direction.as_str()) == (name, direction)
                && figure.flows == flows
        })?;
        ratio(figure, all)
    };
    let ratios = names.iter().flat_map(|name| DIRECTIONS.map(|direction| of(name, direction)));
    let longest = ratios.flatten().fold(1.0, f64::max);
    area.fill(&WHITE).map_err(failed)?;
    let text = |what: String, at: (i32, i32), size: u32, anchor: HPos| {
        let style: TextStyle<'_> =
            (FontFamily::SansSerif, size, FontStyle::Normal).into_text_style(area);
        Text::new(what, at, style.color(&BLACK).pos(Pos::new(anchor, VPos::Center)))
    };
    for (column, direction) in (0..).zip(DIRECTIONS) {
        let left = NAMES + column * (BARS + GAP);
        let title = text(direction.to_owned(), (left, TITLES / 2), 16, HPos::Left);
        area.draw(&title).map_err(failed)?;
        for (row, name) in (0..).zip(names) {
            let middle = TITLES + row * ROW + ROW / 2;
            if column == 0 {
                let name = text((*name).to_owned(), (NAMES - 8, middle), 13, HPos::Right);
                area.draw(&name).map_err(failed)?;
            }
            let Some(ratio) = of(name, direction) else { continue };
            let right = left + (ratio / longest * f64::from(BARS)).round() as i32;
            let color = if name.starts_with(LINKBAL) { OURS } else { OTHERS };
            let corners = [(left, middle - BAR / 2), (right, middle + BAR / 2)];
            area.draw(&Rectangle::new(corners, color.filled())).map_err(failed)?;
            let figure = text(format!("{ratio:.2}x"), (right + 6, middle), 12, HPos::Left);
            area.draw(&figure).map_err(failed)?;
        }
    }
    let rows = i32::try_from(names.len()).unwrap_or(i32::MAX);
    let note = format!("instructions a packet, masquerading = 1, {flows} flows, {kernel}");
    let below = TITLES + rows * ROW + ROW / 2;
    area.draw(&text(note, (NAMES, below), 12, HPos::Left)).map_err(failed)?;
    area.present().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn each_contender_has_a_bar_for_each_direction() {
        let figure = |contender: &str, direction: &str, instructions| Figure {
            contender: contender.to_owned(),
            direction: direction.to_owned(),
            flows: 500,
            instructions,
            spread: 0.0,
        };
        let all = [
            figure("generator", "up", 300.0),
            figure("masquerade", "up", 6000.0),
            figure("masquerade", "new", 10_000.0),
            figure("linkbal", "up", 3000.0),
            figure("linkbal", "new", 12_500.0),
        ];
        let path = env::temp_dir().join(format!("linkbal-chart-{}.svg", process::id()));
        let drawn = draw(&path, "6.1", &all, 500).and_then(|()| Ok(fs::read_to_string(&path)?));
        let _ = fs::remove_file(&path);
        let svg = drawn.expect("a chart");
        for text in ["masquerade", "linkbal", "0.50x", "1.25x", "1.00x", "6.1"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
        assert!(!svg.contains("generator"), "it is no gateway");
        // The background and four bars.
        assert_eq!(svg.matches("<rect").count(), 5);
    }
}
