//! The rule that no file tells where a private checkout or home is.

use std::path::Path;

use super::Violation;

/// Roots of private directories, without their leading slash, since this file is checked, too.
const PRIVATE: [&str; 3] = ["home/", "root/", "Users/"];

/// Finds absolute paths into a home directory or into the checkout at `root`.
pub(super) fn check(file: &str, text: &str, root: &Path) -> Vec<Violation> {
    let checkout = root.to_string_lossy();
    let tells = |line: &str| {
        PRIVATE.iter().any(|dir| has_absolute(line, dir))
            || checkout.strip_prefix('/').is_some_and(|dir| has_absolute(line, &format!("{dir}/")))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| tells(line));
    lines
        .map(|(number, _)| Violation {
            file: file.into(),
            line: number + 1,
            what: "path of a private machine".into(),
        })
        .collect()
}

/// Returns whether `/DIR` is in the line, and not the end of a longer path.
fn has_absolute(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(at, _)| {
        let mut before = line[..at].chars().rev();
        let inside = |c: char| c.is_ascii_alphanumeric() || "_-.~}*/".contains(c);
        before.next() == Some('/') && !before.next().is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let found = check("file", text, Path::new("/builds/linkbal"));
        found.into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn private_paths_are_reported() {
        for dir in PRIVATE {
            assert_eq!(lines(&format!("fine\nin \"/{dir}me\"")), [2]);
        }
        assert_eq!(lines("see /builds/linkbal/README.md"), [1]);
    }

    #[test]
    fn other_paths_are_fine() {
        let fine =
            "tests/home/x https://a.b/root/c ~/root/d /builds/linkbal2/x /homes /etc/linkbal";
        assert!(lines(fine).is_empty());
    }
}
