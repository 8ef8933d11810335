//! Texts of a width.

use textwrap::{WordSeparator, WordSplitter, core::display_width};

use super::paint::Paint;

/// Cuts a text to a width; the sign for it takes the last column.
pub(super) fn cut(text: &str, width: usize, paint: Paint) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut short = head(text, width.saturating_sub(1)).to_owned();
    if width > 0 {
        short.push_str(paint.cut());
    }
    short
}

/// Cuts a text to a width in its middle: its end may say more.
pub(super) fn cut_middle(text: &str, width: usize, paint: Paint) -> String {
    if display_width(text) <= width || width < 3 {
        return cut(text, width, paint);
    }
    let tail = width.saturating_sub(1) / 2;
    let front = width.saturating_sub(1).saturating_sub(tail);
    let reversed: String = text.chars().rev().collect();
    let tail: String = head(&reversed, tail).chars().rev().collect();
    format!("{}{}{tail}", head(text, front), paint.cut())
}

/// Returns as much of the beginning of a text as fits a width.
fn head(text: &str, width: usize) -> &str {
    let mut used = 0_usize;
    for (at, char) in text.char_indices() {
        used = used.saturating_add(display_width(char.encode_utf8(&mut [0; 4])));
        if used > width {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// Returns a text of a width, at the left.
pub(super) fn left(text: &str, width: usize, paint: Paint) -> String {
    let text = cut(text, width, paint);
    let space = width.saturating_sub(display_width(&text));
    format!("{text}{}", " ".repeat(space))
}

/// Returns a text of a width, at the right.
pub(super) fn right(text: &str, width: usize, paint: Paint) -> String {
    let text = cut(text, width, paint);
    let space = width.saturating_sub(display_width(&text));
    format!("{}{text}", " ".repeat(space))
}

/// Columns of labels before sentences, as `linkbal explain` has them.
const LABEL: usize = 13;

/// Folds a text to lines of a width, those that go on indented: behind its label, if a line has one.
pub(super) fn fold(text: &str, width: usize) -> Vec<String> {
    let behind = " ".repeat(LABEL);
    let options = |line: &str| {
        let is_labelled = line.starts_with("  ") && width > 3 * LABEL;
        let options = textwrap::Options::new(width.max(8))
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        options.subsequent_indent(if is_labelled { &behind } else { "  " })
    };
    let folded = text.lines().flat_map(|line| textwrap::wrap(line, options(line)));
    folded.map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> Paint {
        Paint::new(|_| None)
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abcdef", 6, plain()), "abcdef");
        assert_eq!(cut("abcdef", 4, plain()), "abc~");
        assert_eq!(cut("abcdef", 0, plain()), "");
        assert_eq!(cut_middle("2001:db8::7]:443", 9, plain()), "2001~:443");
        assert_eq!(right("7", 3, plain()), "  7");
        assert_eq!(left("7", 3, plain()), "7  ");
        assert_eq!(fold("a is down: see to the modem", 14), ["a is down: see", "  to the modem"]);
        let labelled = format!("  now        {}", "isp-a ".repeat(6));
        let behind = format!("{}isp-a", " ".repeat(13));
        assert_eq!(fold(&labelled, 43)[1..], [behind]);
    }

    proptest! {
        #[test]
        fn a_cell_has_its_width(text in "\\PC{0,30}", width in 0usize..40) {
            for cell in [left(&text, width, plain()), right(&text, width, plain())] {
                prop_assert_eq!(display_width(&cell), width);
            }
            prop_assert!(display_width(&cut_middle(&text, width, plain())) <= width);
        }
    }
}
