//! The difference between two configurations, line by line, for people.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use similar::{ChangeTag, TextDiff};

use super::Sources;

/// Most lines that are shown.
const MAX_LINES: usize = 200;

/// Longest time to look for the smallest difference.
const TIME: Duration = Duration::from_millis(500);

/// Returns the lines of `new` that `old` has not, with `+`, and the other way round, with `-`; each
/// below the section that it is in. Of files that both name, only how many lines differ.
pub fn difference(old: &Sources, new: &Sources) -> Vec<String> {
    let mut lines = text_difference(&old.text, &new.text);
    let paths: BTreeSet<&PathBuf> = old.files.keys().chain(new.files.keys()).collect();
    lines.extend(paths.into_iter().filter_map(|path| file_difference(path, old, new)));
    if lines.len() > MAX_LINES {
        let more = lines.len().saturating_sub(MAX_LINES);
        lines.truncate(MAX_LINES);
        lines.push(format!("... and {more} more lines"));
    }
    lines
}

fn text_difference(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::configure().timeout(TIME).diff_lines(old, new);
    let (mut shown, mut named) = (Vec::new(), "");
    // The sections that the old text and the new one are in.
    let mut sections = ["", ""];
    for change in diff.iter_all_changes() {
        let line = change.value().trim_end();
        let is_header = line.trim_start().starts_with('[');
        let (sign, which) = match change.tag() {
            ChangeTag::Equal => {
                sections = if is_header { [line; 2] } else { sections };
                continue;
            }
            ChangeTag::Delete => ('-', 0),
            ChangeTag::Insert => ('+', 1),
        };
        if is_header {
            sections[which] = line;
        } else if sections[which] != named {
            shown.push(format!("  {}", sections[which]));
        }
        named = sections[which];
        shown.push(format!("{sign} {line}").trim_end().to_owned());
    }
    shown
}

fn file_difference(path: &PathBuf, old: &Sources, new: &Sources) -> Option<String> {
    let shown = path.display();
    match (old.files.get(path), new.files.get(path)) {
        (Some(old), Some(new)) if old != new => {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
            let (old, new) = (lines(old), lines(new));
            let (added, removed) = (new.difference(&old).count(), old.difference(&new).count());
            Some(format!("  {shown}: {added} lines added, {removed} removed"))
        }
        (Some(_), None) => Some(format!("- {shown}, a file that was named")),
        (None, Some(_)) => Some(format!("+ {shown}, a file that is named")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str, files: &[(&str, &str)]) -> Sources {
        let files = files.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        Sources { name: "linkbal.toml".into(), text: text.into(), files }
    }

    #[test]
    fn lines_are_shown_below_their_section() {
        let old = "[lan]\ninterfaces = []\n[uplink.a]\ninterface = \"eth0\"\nweight = 1\n\
                   [uplink.b]\ninterface = \"eth1\"\n";
        let new = "[lan]\ninterfaces = []\n[uplink.a]\ninterface = \"eth0\"\nweight = 2\n\
                   [uplink.c]\ninterface = \"eth2\"\n";
        let shown = difference(&sources(old, &[]), &sources(new, &[]));
        let expected = [
            "  [uplink.a]",
            "- weight = 1",
            "- [uplink.b]",
            "- interface = \"eth1\"",
            "  [uplink.a]",
            "+ weight = 2",
            "+ [uplink.c]",
            "+ interface = \"eth2\"",
        ];
        assert_eq!(shown, expected);
        assert!(difference(&sources(old, &[]), &sources(old, &[])).is_empty());
    }

    #[test]
    fn files_are_counted() {
        let old = sources("", &[("a.txt", "1\n2\n"), ("b.txt", ""), ("same.txt", "x")]);
        let new = sources("", &[("a.txt", "2\n3\n4\n"), ("c.txt", ""), ("same.txt", "x")]);
        let expected = [
            "  a.txt: 2 lines added, 1 removed",
            "- b.txt, a file that was named",
            "+ c.txt, a file that is named",
        ];
        assert_eq!(difference(&old, &new), expected);
    }

    #[test]
    fn a_large_difference_is_cut() {
        let long: String = (0..5000).map(|number| format!("# {number}\n")).collect();
        let shown = difference(&sources("", &[]), &sources(&long, &[]));
        assert_eq!(shown.len(), MAX_LINES + 1);
        assert_eq!(shown[MAX_LINES], "... and 4800 more lines");
    }
}
