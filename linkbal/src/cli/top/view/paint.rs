//! Colours and signs, as a terminal can show them. No colour says what a word or a sign does not say.

use ratatui::{
    style::{Color, Modifier, Style},
    symbols::{bar, border},
};

use crate::{cli::status::Shown, engine::health::State};

/// Abilities of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::top) struct Paint {
    has_colours: bool,
    is_ascii: bool,
}

/// Levels of a sparkline in ASCII, and in Unicode.
const ASCII: [&str; 8] = ["_", ".", "-", "~", "=", "+", "*", "#"];
const BLOCKS: [&str; 8] = [
    bar::ONE_EIGHTH,
    bar::ONE_QUARTER,
    bar::THREE_EIGHTHS,
    bar::HALF,
    bar::FIVE_EIGHTHS,
    bar::THREE_QUARTERS,
    bar::SEVEN_EIGHTHS,
    bar::FULL,
];

/// A border in ASCII.
const BORDER: border::Set<'_> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

impl Paint {
    /// Chooses by variables of the environment: `NO_COLOR` (<https://no-color.org>), `TERM`, and the
    /// locale.
    pub(in crate::cli::top) fn new(variable: impl Fn(&str) -> Option<String>) -> Paint {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let terminal = set("TERM").unwrap_or_else(|| "dumb".into());
        let is_plain = terminal == "dumb" || terminal.starts_with("vt") || terminal.ends_with("-m");
        let is_plain = is_plain || terminal.ends_with("-mono");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let is_utf8 = locale.to_lowercase().replace('-', "").contains("utf8");
        Paint {
            has_colours: !is_plain && set("NO_COLOR").is_none(),
            // The console of Linux lacks most blocks.
            is_ascii: is_plain || terminal == "linux" || !is_utf8,
        }
    }

    fn coloured(self, colour: Color, plain: Modifier) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new().add_modifier(plain) }
    }

    /// Returns the style of what works.
    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green, Modifier::empty())
    }

    /// Returns the style of what someone should see to.
    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD)
    }

    /// Returns the style of what is not as usual.
    pub(super) fn odd(self) -> Style {
        self.coloured(Color::Yellow, Modifier::BOLD)
    }

    /// Returns the style of titles.
    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Returns the style of the selected row, of whose part the keys are for, or not.
    pub(super) fn selected(self, has_focus: bool) -> Style {
        let modifier = if has_focus { Modifier::REVERSED } else { Modifier::BOLD };
        Style::new().add_modifier(modifier)
    }

    /// Returns the sign and the style of a state.
    pub(super) fn state(self, state: Shown) -> (&'static str, Style) {
        match state {
            Shown::Is(State::Up) => ("+", self.good()),
            Shown::Is(State::Down) => ("!", self.bad()),
            Shown::Draining => ("~", self.odd()),
            Shown::Is(State::AdminDown) => ("x", self.odd()),
            Shown::Is(State::Init) => ("?", self.odd()),
        }
    }

    /// Returns the border of a box.
    pub(super) const fn border(self) -> border::Set<'static> {
        if self.is_ascii { BORDER } else { border::PLAIN }
    }

    /// Returns the sign for what was cut off.
    pub(super) const fn cut(self) -> &'static str {
        if self.is_ascii { "~" } else { "…" }
    }

    /// Draws values from 0 to `full` as bars of a character each; all above nothing can be seen.
    pub(super) fn spark(self, values: &[Option<f64>], full: f64) -> String {
        let levels = if self.is_ascii { ASCII } else { BLOCKS };
        let last = levels.len().saturating_sub(1);
        let bar = |value: f64| {
            let part = (value / full).clamp(0.0, 1.0);
            // It saturates, and NaN is 0.
            let level = (part * last as f64).ceil() as usize;
            levels.get(level.min(last)).copied().unwrap_or(" ")
        };
        values.iter().map(|value| value.map_or(" ", bar)).collect()
    }

    /// Draws a share as a bar of a width.
    pub(super) fn bar(self, share: f64, width: usize) -> String {
        let inner = width.saturating_sub(2);
        // It saturates, and NaN is 0.
        let filled = ((share.clamp(0.0, 1.0) * inner as f64).round() as usize).min(inner);
        format!("[{}{}]", "=".repeat(filled), " ".repeat(inner.saturating_sub(filled)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paint(variables: &[(&str, &str)]) -> Paint {
        Paint::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_terminal_is_not_asked_for_more_than_it_can_show() {
        let full = paint(&[("TERM", "xterm-256color"), ("LANG", "pt_BR.UTF-8")]);
        assert_eq!(full, Paint { has_colours: true, is_ascii: false });
        let no_colour = paint(&[("TERM", "xterm"), ("LANG", "C.utf8"), ("NO_COLOR", "1")]);
        assert_eq!(no_colour, Paint { has_colours: false, is_ascii: false });
        let plain = Paint { has_colours: false, is_ascii: true };
        for terminal in ["dumb", "vt100", "vt220", "xterm-mono", "linux-m", ""] {
            assert_eq!(paint(&[("TERM", terminal), ("LANG", "C.UTF-8")]), plain, "{terminal}");
        }
        let console = paint(&[("TERM", "linux"), ("LANG", "C.UTF-8"), ("NO_COLOR", "")]);
        assert_eq!(console, Paint { has_colours: true, is_ascii: true });
        let overruled = paint(&[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")]);
        assert!(overruled.is_ascii);
    }

    #[test]
    fn what_is_more_than_nothing_can_be_seen() {
        let ascii = Paint { has_colours: false, is_ascii: true };
        let values = [Some(0.0), Some(0.001), Some(0.5), Some(1.0), Some(7.0), None];
        assert_eq!(ascii.spark(&values, 1.0), "_.=## ");
        let blocks = Paint { has_colours: false, is_ascii: false };
        assert_eq!(blocks.spark(&values, 1.0), "▁▂▅██ ");
        assert_eq!(ascii.spark(&[Some(f64::NAN)], 0.0), "_");
        let bars = [0.0, 0.5, 1.2].map(|share| ascii.bar(share, 6));
        assert_eq!(bars, ["[    ]", "[==  ]", "[====]"]);
        assert_eq!(ascii.bar(0.5, 1), "[]");
    }

    #[test]
    fn each_state_has_a_sign() {
        let plain = paint(&[]);
        let states = [State::Up, State::Down, State::AdminDown, State::Init].map(Shown::Is);
        assert_eq!(states.map(|it| plain.state(it).0), ["+", "!", "x", "?"]);
        assert_eq!(plain.state(Shown::Draining).0, "~");
    }
}
