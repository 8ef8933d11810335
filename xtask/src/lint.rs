//! `cargo xtask lint`: checks of format, code, documentation and the repository's own rules.

mod circles;
mod docs;
mod invariants;
mod links;
mod names;
mod paths;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use links::Tree;

use crate::{
    process::{ask, cargo, succeed, workspace},
    setup::{Need, cache_dir, setup},
};

/// A line that breaks one of the repository's own rules.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    /// Line number, from 1.
    line: usize,
    /// The text that is wrong, and the reason.
    what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Runs every check; the quick ones come first.
///
/// # Errors
/// At the first check that finds something.
pub(crate) fn lint() -> Result<()> {
    succeed(&mut cargo(["fmt", "--all", "--check"]))?;
    check_own_rules()?;
    setup(Need::Lint)?;
    succeed(&mut deny()?)?;
    succeed(&mut clippy())?;
    succeed(&mut clippy_guests())?;
    succeed(&mut clippy_ebpf())?;
    succeed(cargo(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Returns the command that checks licences and sources of all crates, as `deny.toml` has them. Known
/// vulnerabilities are another list each day, and no property of a commit.
fn deny() -> Result<Command> {
    let own = cache_dir()?.join("bin/cargo-deny");
    let mut deny = Command::new(if own.is_file() { own } else { "cargo-deny".into() });
    deny.current_dir(workspace()).args(["--log-level", "error", "--locked", "check"]);
    deny.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]);
    Ok(deny)
}

fn clippy() -> Command {
    let all_but_ebpf = ["clippy", "--workspace", "--exclude", "linkbal-ebpf", "--all-targets"];
    let mut clippy = cargo(all_but_ebpf);
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

/// Returns the command that checks the suite for guests, which cargo leaves out unless it is named.
fn clippy_guests() -> Command {
    let guests = ["clippy", "--package", "linkbal-tests", "--test", "vm", "--", "-D", "warnings"];
    cargo(guests)
}

/// Returns the command that checks the eBPF programs. clippy needs a compiler with clippy, which
/// the one for the BPF target is not: the crate is checked as if for this machine, where it only
/// lacks unwinding.
fn clippy_ebpf() -> Command {
    let mut clippy = cargo(["clippy", "--package", "linkbal-ebpf", "--", "-D", "warnings"]);
    clippy.env("CARGO_PROFILE_DEV_PANIC", "abort");
    clippy
}

fn check_own_rules() -> Result<()> {
    let root = workspace();
    let files = tracked_files(root)?;
    let tree = Tree::of(&files);
    let mut sources = Vec::new();
    let mut violations = Vec::new();
    for file in &files {
        let bytes = fs::read(root.join(file)).with_context(|| format!("failed to read {file}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        violations.extend(invariants::check(file, &text));
        violations.extend(docs::check(file, &text));
        violations.extend(paths::check(file, &text, root));
        if file.ends_with(".md") {
            let read = |path: &str| fs::read_to_string(root.join(path)).ok();
            violations.extend(links::check_document(file, &text, &tree, read));
        } else if file.ends_with(".rs") {
            violations.extend(links::check_comments(file, &text, &tree));
            sources.push((file.as_str(), text));
        }
    }
    violations.extend(circles::check(&sources));
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("the repository's own rules are broken in {count} places"),
    }
}

/// Returns the paths of all files that git knows and that are still there, relative to the root.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    // In a CI, the checkout may belong to another user.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]);
    git.arg("--exclude-standard").current_dir(root);
    let listed = ask(&mut git).context("failed to list the repository's files with git")?;
    let files = listed.split_terminator('\0').map(str::to_owned);
    Ok(files.filter(|file| root.join(file).is_file()).collect())
}
