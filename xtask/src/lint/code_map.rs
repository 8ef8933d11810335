//! The rule that ARCHITECTURE.md names only what exists.

use super::Violation;

/// Endings of names that can only be files of this repository.
const ENDINGS: [&str; 5] = [".rs", ".md", ".toml", ".service", "/"];

/// Finds paths in backticks, and link targets, that do not exist.
pub(super) fn check(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2).filter(|word| is_repo_path(word, &exists));
        for path in quoted.chain(link_targets(line)) {
            if !exists(path) {
                let what = format!("`{path}` does not exist");
                violations.push(Violation { file: file.into(), line: number + 1, what });
            }
        }
    }
    violations
}

/// Returns whether a word in backticks is a file here, and not one of the system or a kernel term
/// such as `connect4/6`.
fn is_repo_path(word: &str, exists: impl Fn(&str) -> bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let Some((first, _)) = word.split_once('/') else { return false };
    !first.is_empty()
        && word.chars().all(plain)
        && (exists(first) || ENDINGS.iter().any(|ending| word.ends_with(ending)))
}

/// Returns the targets of `[text](target)` that are files.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let exists = |path: &str| ["linkbal", "linkbal/src", "README.md"].contains(&path);
        let found = check("ARCHITECTURE.md", text, exists);
        found.into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn what_exists_is_fine() {
        assert!(missing("`linkbal/src` and [this](README.md#start)").is_empty());
    }

    #[test]
    fn what_is_not_a_path_is_fine() {
        assert!(
            missing("`/sys/fs/bpf/x` `a / b` `connect4/6` `<x>/y` [a](https://b.c/d)").is_empty()
        );
    }

    #[test]
    fn what_is_gone_is_named_with_its_line() {
        assert_eq!(
            missing("\n`linkbal/old` `gone/x.rs`\n[text](gone.md)"),
            [
                "ARCHITECTURE.md:2: `linkbal/old` does not exist",
                "ARCHITECTURE.md:2: `gone/x.rs` does not exist",
                "ARCHITECTURE.md:3: `gone.md` does not exist",
            ]
        );
    }
}
