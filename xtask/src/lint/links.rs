//! The rule that documents name and link only what exists: files, headings, and paths in code.

use std::collections::BTreeSet;

use super::Violation;

/// Endings of words in code that can only be files or folders of this repository.
const ENDINGS: [&str; 3] = [".rs", ".md", ".service"];

/// The paths of the repository's files and folders, relative to its root.
pub(super) struct Tree {
    paths: BTreeSet<String>,
}

impl Tree {
    /// Collects the files and the folders that they are in.
    pub(super) fn of(files: &[String]) -> Self {
        let mut paths = BTreeSet::new();
        for file in files {
            let folders = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
            paths.extend(folders);
            paths.insert(file.clone());
        }
        Self { paths }
    }

    fn has(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }
}

/// Finds links of a Markdown document whose file or heading does not exist, and paths in its code
/// that do not.
///
/// `read` returns the text of another document.
pub(super) fn check_document(
    file: &str,
    text: &str,
    tree: &Tree,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut block = false;
    for (number, line) in text.lines().enumerate() {
        let mut report =
            |what| violations.push(Violation { file: file.into(), line: number + 1, what });
        if line.trim_start().starts_with("```") {
            block = !block;
            continue;
        }
        for path in paths(line, block).filter(|path| is_of(path, tree) && !tree.has(path)) {
            report(format!("`{path}` does not exist"));
        }
        for target in link_targets(line).filter(|_| !block) {
            report_link(file, text, target, tree, &read).into_iter().for_each(&mut report);
        }
    }
    violations
}

/// Finds paths in the comments of a Rust source that do not exist.
pub(super) fn check_comments(file: &str, text: &str, tree: &Tree) -> Vec<Violation> {
    let comments = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
    let missing = comments.flat_map(|(number, line)| {
        let missing = paths(line, false).filter(|path| is_of(path, tree) && !tree.has(path));
        missing.map(move |path| (number, path))
    });
    let violation = |(number, path)| Violation {
        file: file.into(),
        line: number + 1,
        what: format!("`{path}` does not exist"),
    };
    missing.map(violation).collect()
}

/// Returns what is wrong with the target of a link, if anything is.
fn report_link(
    file: &str,
    text: &str,
    target: &str,
    tree: &Tree,
    read: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { file.to_owned() } else { resolve(file, path) };
    if !tree.has(&path) {
        return Some(format!("`{path}` does not exist"));
    }
    let other = if path == file { Some(text.to_owned()) } else { read(&path) };
    let known = anchor.is_empty() || other.is_some_and(|text| anchors(&text).contains(anchor));
    (!known).then(|| format!("`{path}` has no heading #{anchor}"))
}

/// Returns the path, from the root, of what `file` calls `path`.
fn resolve(file: &str, path: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the words with a slash in a line's code: between backticks, or all of a code block's.
fn paths(line: &str, block: bool) -> impl Iterator<Item = &str> {
    let (skipped, step) = if block { (0, 1) } else { (1, 2) };
    let code = line.split('`').skip(skipped).step_by(step).flat_map(str::split_whitespace);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    code.filter(move |word| word.contains('/') && word.chars().all(plain))
}

/// Returns whether a path is one of this repository, and not of the system, a kernel term such as
/// `connect4/6`, or what a build leaves.
fn is_of(path: &str, tree: &Tree) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    !first.is_empty() && (tree.has(first) || ENDINGS.iter().any(|ending| path.ends_with(ending)))
}

/// Returns the targets of `[text](target)` in a line that are no addresses of the web.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains("://"))
}

/// Returns the anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut block = false;
    let headings = text.lines().filter(|line| {
        block ^= line.starts_with("```");
        !block && line.starts_with('#')
    });
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::of(&["README.md", "linkbal/src/lib.rs", "docs/a.md"].map(str::to_owned))
    }

    fn missing(file: &str, text: &str) -> Vec<String> {
        let read = |path: &str| (path == "docs/a.md").then(|| "# One `two`, three".to_owned());
        let found = check_document(file, text, &tree(), read);
        found.into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn existing_paths_and_links_are_fine() {
        let text = "`linkbal/src/` and [this](docs/a.md#one-two-three)\n[that](#start) [c](docs)\n\
                    # Start\n";
        assert!(missing("README.md", text).is_empty());
        assert!(missing("docs/a.md", "[up](../README.md) [here](a.md)").is_empty());
    }

    #[test]
    fn words_that_are_no_paths_are_fine() {
        let text = "`/sys/fs/bpf/x` `a / b` `connect4/6` `<x>/y` `target/x/` [a](https://b.c/d)\n\
                    ```\n[a](b)\n```\n";
        assert!(missing("README.md", text).is_empty());
    }

    #[test]
    fn missing_paths_and_headings_are_reported_with_their_line() {
        let text = "\n`linkbal/old` `cat gone/x.rs`\n[text](gone.md)\n[text](docs/a.md#four) [b](#c)\n\
                    ```\ncat docs/b.md\n```\n";
        assert_eq!(
            missing("README.md", text),
            [
                "README.md:2: `linkbal/old` does not exist",
                "README.md:2: `gone/x.rs` does not exist",
                "README.md:3: `gone.md` does not exist",
                "README.md:4: `docs/a.md` has no heading #four",
                "README.md:4: `README.md` has no heading #c",
                "README.md:6: `docs/b.md` does not exist",
            ]
        );
    }

    #[test]
    fn comments_name_existing_paths() {
        let text = "//! See `linkbal/src/lib.rs`.\n// And `linkbal/src/gone.rs`.\nlet a = `x/y`;\n";
        let lines = check_comments("a.rs", text, &tree());
        assert_eq!(lines.iter().map(|violation| violation.line).collect::<Vec<_>>(), [2]);
    }
}
