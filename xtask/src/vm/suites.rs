//! The programs that a guest runs, and their build.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::selection::Selection;
use crate::process::{cargo, line, succeed, target_dir};

/// Programs to run in a guest: names and paths, without debug information.
pub(super) type Suites = Vec<(String, PathBuf)>;

/// Builds linkbal and the test programs of the selection.
///
/// # Errors
/// If cargo or strip fails.
pub(super) fn build(selection: &Selection) -> Result<Suites> {
    // As `cargo xtask test` builds it: other features would mean another build of the eBPF object.
    succeed(&mut cargo(["build", "--package", "linkbal", "--all-targets"]))?;
    let mut built = vec![("linkbal".to_owned(), target_dir()?.join("debug/linkbal"))];
    built.extend(build_tests(selection)?);
    let folder = target_dir()?.join("vm/programs");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    built
        .into_iter()
        .map(|(name, path)| Ok((name.clone(), strip(&path, folder.join(name))?)))
        .collect()
}

fn build_tests(selection: &Selection) -> Result<Suites> {
    let mut cargo = cargo(["test", "--package", "linkbal-tests", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    for suite in selection.suites() {
        cargo.args(["--test", suite]);
    }
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("failed to start `{}`", line(&cargo)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", line(&cargo), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let suites: Suites = messages.lines().filter_map(executable).collect();
    ensure!(suites.len() == selection.suites().count(), "cargo built other suites: {suites:?}");
    Ok(suites)
}

/// Returns the name and the path of the test program that a message of cargo is about.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"] == true && message["target"]["kind"][0] == "test";
    let path = message["executable"].as_str().filter(|_| is_test)?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

/// Copies a program without its debug information, which is most of it; returns the new path.
fn strip(program: &Path, to: PathBuf) -> Result<PathBuf> {
    succeed(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_taken() {
        let message = r#"{"target":{"kind":["test"],"name":"vm"},"profile":{"test":true},"executable":"/t/vm-1"}"#;
        assert_eq!(executable(message), Some(("vm".into(), "/t/vm-1".into())));
        assert_eq!(executable(&message.replace(r#"["test"]"#, r#"["bench"]"#)), None);
        assert_eq!(executable(&message.replace(r#""/t/vm-1""#, "null")), None);
        assert_eq!(executable("not json"), None);
    }
}
