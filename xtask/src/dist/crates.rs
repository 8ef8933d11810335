//! The crates in packages, as cargo knows them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{architecture::Architecture, process::cargo};

/// The daemon, and the programs for the kernel that are in it: these are built apart.
const ROOTS: [&str; 2] = ["linkbal", "linkbal-ebpf"];

/// Asks cargo for all crates that a build for an architecture may need.
///
/// # Errors
/// If cargo fails.
pub(super) fn metadata(architecture: Architecture) -> Result<Value> {
    let mut metadata = cargo(["metadata", "--format-version=1", "--locked"]);
    metadata.args(["--filter-platform", architecture.target()]);
    let output = metadata.output().context("failed to start cargo")?;
    ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("cargo tells no metadata")
}

/// Returns the packages of linkbal and of all that it needs, those for tests left out.
///
/// # Errors
/// If the metadata lacks a part.
pub(super) fn used(metadata: &Value) -> Result<Vec<&Value>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("no dependencies")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let root = |name: &&str| {
        let root = packages.iter().find(|it| it["name"] == **name);
        root.and_then(|it| it["id"].as_str()).with_context(|| format!("no {name}"))
    };
    let mut waiting: Vec<&str> = ROOTS.iter().map(root).collect::<Result<_>>()?;
    let mut used = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !used.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id);
        let needed = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        waiting.extend(needed.filter(|it| !is_for_tests(it)).filter_map(|it| it["pkg"].as_str()));
    }
    let is_used = |it: &&Value| it["id"].as_str().is_some_and(|id| used.contains(id));
    Ok(packages.iter().filter(is_used).collect())
}

fn is_for_tests(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().all(|kind| kind["kind"] == "dev"))
}

/// Returns the licence of a package as SPDX has it; may be empty.
pub(super) fn licence(package: &Value) -> String {
    // Older crates write a slash, which SPDX does not know.
    let text = package["license"].as_str().unwrap_or_default();
    text.replace(" / ", " OR ").replace('/', " OR ")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Returns what cargo says of a few crates.
    pub(in crate::dist) fn example() -> Value {
        let package = |name: &str, license: &str| {
            json!({
                "id": name, "name": name, "version": "1.0.0", "license": license,
            })
        };
        let dependency = |name: &str, kind: Value| {
            json!({
                "pkg": name, "dep_kinds": [{ "kind": kind }],
            })
        };
        json!({
            "packages": [
                package("linkbal", "MIT"), package("linkbal-ebpf", "MIT"), package("used", "MIT/Apache-2.0"),
                package("builder", "MIT"), package("helper", "MIT"), package("tester", "MIT"),
                package("other", "MIT"),
            ],
            "resolve": { "nodes": [
                { "id": "linkbal", "deps": [
                    dependency("used", Value::Null), dependency("tester", json!("dev")),
                ] },
                { "id": "linkbal-ebpf", "deps": [dependency("helper", Value::Null)] },
                { "id": "used", "deps": [dependency("builder", json!("build"))] },
            ] },
        })
    }

    #[test]
    fn what_only_tests_need_is_left_out() {
        let metadata = example();
        let used = used(&metadata).expect("packages");
        let names: Vec<_> = used.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(names, ["linkbal", "linkbal-ebpf", "used", "builder", "helper"]);
    }
}
