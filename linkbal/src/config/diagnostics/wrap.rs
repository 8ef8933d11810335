//! Lines of problems, as wide as the reader's terminal. What stands in quotes, in backticks or in
//! braces is to be copied, and stays on one line.

use textwrap::{WordSeparator, WordSplitter, core::Word};

/// Width of lines where nobody says another.
pub(super) const WIDTH: usize = 100;

/// Least width: a narrower window wraps by itself.
pub(super) const MIN_WIDTH: usize = 40;

/// Splits lines at spaces alone, and never within what is to be copied.
pub(super) const SEPARATOR: WordSeparator = WordSeparator::Custom(separate);

/// Keeps words as they are.
pub(super) const SPLITTER: WordSplitter = WordSplitter::NoHyphenation;

fn separate(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let mut rest = line;
    Box::new(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (word, after) = rest.split_at(word_end(rest));
        rest = after;
        Some(Word::from(word))
    }))
}

/// Returns the end of the first word, with the spaces behind it.
fn word_end(line: &str) -> usize {
    let mut closing = None;
    let mut spaces = false;
    for (at, c) in line.char_indices() {
        if spaces && c != ' ' {
            return at;
        }
        match closing {
            Some(end) if c == end => closing = None,
            Some(_) => {}
            None => closing = pair(c).filter(|end| closes(line, at, *end)),
        }
        spaces = closing.is_none() && c == ' ';
    }
    line.len()
}

const fn pair(c: char) -> Option<char> {
    match c {
        '"' => Some('"'),
        '`' => Some('`'),
        '{' => Some('}'),
        _ => None,
    }
}

/// Returns whether what begins at a byte ends before long: else it is a sign like any other.
fn closes(line: &str, at: usize, end: char) -> bool {
    const MAX_QUOTED: usize = 72;
    let rest = line.get(at.saturating_add(1)..).unwrap_or_default();
    rest.find(end).is_some_and(|length| length <= MAX_QUOTED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<&str> {
        separate(line).map(|word| word.word).collect()
    }

    #[test]
    fn what_is_to_be_copied_is_one_word() {
        assert_eq!(
            words("write [\"/usr/local/bin/a b\"] or { a = 1, b = 2 } or `x y`, so"),
            ["write", "[\"/usr/local/bin/a b\"]", "or", "{ a = 1, b = 2 }", "or", "`x y`,", "so"]
        );
        assert_eq!(words("a \" b"), ["a", "\"", "b"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(line in "[a \"`{}ä]{0,40}") {
            let again: String =
                separate(&line).map(|word| format!("{}{}", word.word, word.whitespace)).collect();
            prop_assert_eq!(again, line);
        }
    }
}
