//! Lines for people, at most as wide as their terminal.

use std::{
    borrow::Cow,
    io::{IsTerminal as _, stdout},
};

use textwrap::{Options, WordSeparator, WordSplitter};

use super::width_of;

/// Least width: a narrower window folds lines by itself.
const MIN_WIDTH: usize = 40;

/// Folds the lines of a text for a terminal; leaves it as it is for programs.
pub(super) fn for_people(text: &str) -> Cow<'_, str> {
    if stdout().is_terminal() { fold(text, width_of(stdout())).into() } else { text.into() }
}

/// Folds lines that are wider than `width` columns at spaces. Lines that begin with a space are of a table,
/// or to be copied, and stay.
fn fold(text: &str, width: usize) -> String {
    let options = at_spaces(width).subsequent_indent("  ");
    let line = |line: &str| match line.starts_with(' ') {
        true => line.to_owned(),
        false => textwrap::fill(line, &options),
    };
    let folded: Vec<String> = text.split('\n').map(line).collect();
    folded.join("\n")
}

/// Folds lines that begin with a label, for a terminal: what follows stays in `column`.
pub(super) fn labelled(text: &str, column: usize) -> Cow<'_, str> {
    if !stdout().is_terminal() {
        return text.into();
    }
    fold_labelled(text, column, width_of(stdout())).into()
}

fn fold_labelled(text: &str, column: usize, width: usize) -> String {
    let indent = " ".repeat(column);
    let options = at_spaces(width).subsequent_indent(&indent);
    let folded: Vec<String> = text.split('\n').map(|line| textwrap::fill(line, &options)).collect();
    folded.join("\n")
}

fn at_spaces<'a>(width: usize) -> Options<'a> {
    Options::new(width.max(MIN_WIDTH))
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_are_folded_and_tables_are_not() {
        let row = format!(" isp-a {}", "column ".repeat(10));
        let text = format!("{row}\nisp-a is down: see to the cable and to the modem\n");
        let expected = format!("{row}\nisp-a is down: see to the cable and to\n  the modem\n");
        assert_eq!(fold(&text, 40), expected);
        assert_eq!(fold(&text, 10), expected, "a window so narrow folds by itself");
    }

    #[test]
    fn what_follows_a_label_stays_in_its_column() {
        let text = "a -> b tcp\n  now        isp-b: a flow that it has; by rule 2\n";
        let expected =
            "a -> b tcp\n  now        isp-b: a flow that it has;\n             by rule 2\n";
        assert_eq!(fold_labelled(text, 13, 40), expected);
        assert_eq!(fold_labelled(text, 13, 80), text);
    }

    proptest! {
        /// Checks that only spaces and ends of lines are changed, and that no line is too wide whose words
        /// are not.
        #[test]
        fn no_word_is_lost(text in "([a-z]{1,30}[ \n]){0,40}", width in 0usize..200) {
            let folded = fold(&text, width);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&folded), words(&text));
            let too_wide = |line: &&str| line.len() > width.max(MIN_WIDTH) && !line.starts_with(' ');
            prop_assert_eq!(folded.lines().find(too_wide), None);
        }
    }
}
