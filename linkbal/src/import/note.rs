//! Notes: what a translation leaves out or changes, and why.

use std::{collections::BTreeSet, fmt};

/// Longest part of a line of the input that is shown, in characters.
const SHOWN: usize = 72;

/// Lines of the input, counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines(BTreeSet<usize>);

impl Lines {
    /// Returns these lines and `others`.
    pub(super) fn and(mut self, others: &Lines) -> Lines {
        self.0.extend(&others.0);
        self
    }

    /// Returns the lines in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<usize> for Lines {
    fn from(line: usize) -> Lines {
        Lines(BTreeSet::from([line]))
    }
}

impl FromIterator<usize> for Lines {
    fn from_iter<T: IntoIterator<Item = usize>>(lines: T) -> Lines {
        Lines(lines.into_iter().collect())
    }
}

/// Formats "line 4" or "lines 4, 7-9".
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for line in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.saturating_add(1) == line => *last = line,
                _ => ranges.push((line, line)),
            }
        }
        let one = |(first, last): &(usize, usize)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let shown = ranges.iter().map(one).collect::<Vec<_>>().join(", ");
        let word = if self.0.len() == 1 { "line" } else { "lines" };
        write!(f, "{word} {shown}")
    }
}

/// Says what becomes of the family of which the input does not speak.
pub(super) const IPV4_ALONE: &str = "the input is about IPv4 alone; linkbal balances IPv6 as well, and translates its sources: write \
     ipv6 = \"off\" in each uplink if it is not to, or see `ipv6` in docs/configuration.md";

/// The meaning of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// Something that the input does not say, to be filled in.
    FillIn,
    /// Something that linkbal cannot say.
    Untranslated,
    /// Something that is said in another way, or means a little less or more.
    Changed,
    /// Something that linkbal does by itself, or that stays as it is beside linkbal.
    Unneeded,
}

impl NoteKind {
    /// All of them, the most important first.
    pub const ALL: [NoteKind; 4] =
        [NoteKind::FillIn, NoteKind::Untranslated, NoteKind::Changed, NoteKind::Unneeded];

    /// Returns the heading of such notes.
    pub fn heading(self) -> &'static str {
        match self {
            NoteKind::FillIn => "To fill in",
            NoteKind::Untranslated => "Not translated",
            NoteKind::Changed => "Changed",
            NoteKind::Unneeded => "Not needed, or kept outside linkbal",
        }
    }
}

/// A note about lines of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The meaning.
    pub kind: NoteKind,
    /// The lines; none if it is about what is missing.
    pub lines: Lines,
    /// The reason, or what to do.
    pub why: String,
}

impl Note {
    /// Formats the note on one line; if it is about a single line of `input`, with that.
    pub fn show(&self, input: &[&str]) -> String {
        if self.lines.is_empty() {
            return self.why.clone();
        }
        let mut lines = self.lines.iter();
        let single = lines.next().filter(|_| lines.next().is_none());
        let line = single.and_then(|line| input.get(line.saturating_sub(1)));
        match line {
            Some(line) => format!("{} ({}): {}", self.lines, quoted(line.trim()), self.why),
            None => format!("{}: {}", self.lines, self.why),
        }
    }
}

/// Returns the beginning of a text, fit for a comment: on one line, without control characters.
pub(super) fn quoted(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(SHOWN).map(clean).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("..");
    }
    shown
}
