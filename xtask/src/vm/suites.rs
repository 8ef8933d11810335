//! The programs that a guest runs, and their build.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::selection::Selection;
use crate::{
    architecture::Architecture,
    process::{cargo, line, succeed, target_dir},
};

/// Programs to run in a guest: names and paths, without debug information.
pub(super) type Suites = Vec<(String, PathBuf)>;

/// Builds linkbal and the test programs of the selection.
///
/// # Errors
/// If cargo or strip fails.
pub(super) fn build(architecture: Architecture, selection: &Selection) -> Result<Suites> {
    let tests = ["test", "--package", "linkbal-tests", "--no-run"];
    let (linkbal, mut tests) = match architecture {
        Architecture::Amd64 => {
            // As `cargo xtask test` builds it: other features would mean another build of the eBPF
            // object.
            succeed(&mut cargo(["build", "--package", "linkbal", "--all-targets"]))?;
            (target_dir()?.join("debug/linkbal"), cargo(tests))
        }
        Architecture::Arm64 => {
            succeed(&mut architecture.static_build(["build", "--package", "linkbal"])?)?;
            let folder = architecture.target_dir()?.join(architecture.target());
            (folder.join("debug/linkbal"), architecture.static_build(tests)?)
        }
    };
    for suite in selection.suites() {
        tests.args(["--test", suite]);
    }
    let suites = executables(&mut tests, "test")?;
    ensure!(suites.len() == selection.suites().count(), "cargo built other suites: {suites:?}");
    let linkbal = ("linkbal".to_owned(), linkbal);
    stripped(architecture, [linkbal].into_iter().chain(suites).collect())
}

/// Builds linkbal and a benchmark of the tests.
///
/// Neither needs to be fast: instructions of the kernel are counted.
///
/// # Errors
/// If cargo or strip fails.
pub(super) fn build_bench(name: &str) -> Result<Suites> {
    succeed(&mut cargo(["build", "--package", "linkbal"]))?;
    let mut cargo = cargo(["build", "--package", "linkbal-tests", "--bench", name]);
    let bench = executables(&mut cargo, "bench")?;
    ensure!(bench.len() == 1, "cargo built other benchmarks: {bench:?}");
    let linkbal = ("linkbal".to_owned(), target_dir()?.join("debug/linkbal"));
    stripped(Architecture::Amd64, [linkbal].into_iter().chain(bench).collect())
}

/// Copies the programs without their debug information.
fn stripped(architecture: Architecture, built: Suites) -> Result<Suites> {
    let folder = architecture.target_dir()?.join("vm/programs");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    built
        .into_iter()
        .map(|(name, path)| Ok((name.clone(), strip(architecture, &path, folder.join(name))?)))
        .collect()
}

/// Runs a command of cargo; returns the programs of that kind which it has built.
fn executables(cargo: &mut Command, kind: &str) -> Result<Suites> {
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("failed to start `{}`", line(cargo)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", line(cargo), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(|message| executable(message, kind)).collect())
}

/// Returns the name and the path of the program of that kind that a message of cargo is about.
fn executable(message: &str, kind: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_kind = message["profile"]["test"] == true && message["target"]["kind"][0] == kind;
    let path = message["executable"].as_str().filter(|_| is_kind)?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

/// Copies a program without its debug information, which is most of it; returns the new path.
fn strip(architecture: Architecture, program: &Path, to: PathBuf) -> Result<PathBuf> {
    let strip = format!("{}-strip", architecture.triplet());
    succeed(Command::new(strip).arg("-o").arg(&to).arg(program))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_the_kind_are_taken() {
        let message = r#"{"target":{"kind":["test"],"name":"vm"},"profile":{"test":true},"executable":"/t/vm-1"}"#;
        assert_eq!(executable(message, "test"), Some(("vm".into(), "/t/vm-1".into())));
        assert_eq!(executable(&message.replace(r#"["test"]"#, r#"["bench"]"#), "test"), None);
        assert_eq!(executable(&message.replace(r#""/t/vm-1""#, "null"), "test"), None);
        assert_eq!(executable("not json", "test"), None);
    }
}
