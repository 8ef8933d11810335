//! The list of crates in a program (SBOM), as CycloneDX 1.5 has it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{VERSION, crates};
use crate::architecture::Architecture;

/// Writes `linkbal-VERSION-ARCHITECTURE.cdx.json`: the crates that are linked in or build it.
///
/// # Errors
/// If cargo fails.
pub(super) fn write(architecture: Architecture, folder: &Path, epoch: u64) -> Result<()> {
    let metadata = crates::metadata(architecture)?;
    let file = folder.join(format!("linkbal-{VERSION}-{}.cdx.json", architecture.name()));
    let text = serde_json::to_string_pretty(&document(&metadata, epoch)?)? + "\n";
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn document(metadata: &Value, epoch: u64) -> Result<Value> {
    let others = crates::used(metadata)?.into_iter().filter(|it| it["name"] != "linkbal");
    let mut components: Vec<Value> = others.map(component).collect();
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
    let license = crates::licence(package);
    if !license.is_empty() {
        component["licenses"] = json!([{ "expression": license }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_linked_in_or_builds_it_is_listed() {
        let document = document(&crates::tests::example(), 7).expect("a document");
        let components = document["components"].as_array().expect("components");
        let purls: Vec<_> = components.iter().filter_map(|it| it["purl"].as_str()).collect();
        let expected = ["builder", "helper", "linkbal-ebpf", "used"];
        assert_eq!(purls, expected.map(|name| format!("pkg:cargo/{name}@1.0.0")));
        assert_eq!(components[3]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
