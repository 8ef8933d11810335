//! The list of crates in a program (SBOM), as CycloneDX 1.5 has it.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::VERSION;
use crate::{architecture::Architecture, process::cargo};

/// Writes `linkbal-VERSION-ARCHITECTURE.cdx.json`: the crates that are linked in or build it.
///
/// # Errors
/// If cargo fails.
pub(super) fn write(architecture: Architecture, folder: &Path, epoch: u64) -> Result<()> {
    let mut metadata = cargo(["metadata", "--format-version=1", "--locked"]);
    metadata.args(["--filter-platform", architecture.target()]);
    let output = metadata.output().context("failed to start cargo")?;
    ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
    let metadata = serde_json::from_slice(&output.stdout).context("cargo tells no metadata")?;
    let file = folder.join(format!("linkbal-{VERSION}-{}.cdx.json", architecture.name()));
    let text = serde_json::to_string_pretty(&document(&metadata, epoch)?)? + "\n";
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn document(metadata: &Value, epoch: u64) -> Result<Value> {
    let used = used(metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let packages =
        packages.iter().filter(|it| it["id"].as_str().is_some_and(|id| used.contains(id)));
    let mut components: Vec<Value> =
        packages.filter(|it| it["name"] != "linkbal").map(component).collect();
    components.sort_by_key(|it| it["purl"].to_string());
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "name": "linkbal", "version": VERSION },
            "properties": [{ "name": "source_date_epoch", "value": epoch.to_string() }],
        },
        "components": components,
    }))
}

fn component(package: &Value) -> Value {
    let (name, version) = (&package["name"], &package["version"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut component = json!({
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{}@{}", text(name), text(version)),
    });
    // Older crates write a slash, which SPDX does not know.
    let license = text(&package["license"]).replace(" / ", " OR ").replace('/', " OR ");
    if !license.is_empty() {
        component["licenses"] = json!([{ "expression": license }]);
    }
    component
}

/// Returns the ids of linkbal and of all that it needs, those for tests left out.
fn used(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("no dependencies")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let linkbal = packages.iter().find(|it| it["name"] == "linkbal").context("no linkbal")?;
    let mut waiting: Vec<&str> = linkbal["id"].as_str().into_iter().collect();
    let mut used = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !used.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id);
        let needed = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        waiting.extend(needed.filter(|it| !is_for_tests(it)).filter_map(|it| it["pkg"].as_str()));
    }
    Ok(used)
}

fn is_for_tests(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().all(|kind| kind["kind"] == "dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_tests_need_is_left_out() {
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
        let metadata = json!({
            "packages": [
                package("linkbal", "MIT"), package("used", "MIT/Apache-2.0"),
                package("builder", "MIT"), package("tester", "MIT"), package("other", "MIT"),
            ],
            "resolve": { "nodes": [
                { "id": "linkbal", "deps": [
                    dependency("used", Value::Null), dependency("tester", json!("dev")),
                ] },
                { "id": "used", "deps": [dependency("builder", json!("build"))] },
            ] },
        });
        let document = document(&metadata, 7).expect("a document");
        let components = document["components"].as_array().expect("components");
        let purls: Vec<_> = components.iter().map(|it| it["purl"].as_str()).collect();
        assert_eq!(purls, [Some("pkg:cargo/builder@1.0.0"), Some("pkg:cargo/used@1.0.0")]);
        assert_eq!(components[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
