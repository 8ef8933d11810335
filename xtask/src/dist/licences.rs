//! The licences of what is linked in, with the texts that want to be passed on with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{compress, crates};
use crate::{architecture::Architecture, process::ask};

/// The file, below `share`.
const FILE: &str = "doc/linkbal/THIRD-PARTY";

/// Beginnings of names of files that have a licence, or what it wants to be named.
const NAMES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

/// Files of Debian for the C library, which is linked in, too.
const C_LIBRARY: [&str; 2] =
    ["/usr/share/doc/libc6-dev/copyright", "/usr/share/common-licenses/LGPL-2.1"];

/// Code of others that is linked in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// Name and version.
    name: String,
    /// Licence, as SPDX has it or as its author calls it.
    licence: String,
    /// The texts in its files.
    texts: Vec<String>,
}

/// Writes the licences of all parts of the program below `share`, compressed.
///
/// # Errors
/// If cargo fails, or a file cannot be read or written.
pub(super) fn write(architecture: Architecture, share: &Path) -> Result<()> {
    let metadata = crates::metadata(architecture)?;
    let packages = crates::used(&metadata)?;
    // Those without a source are ours.
    let others = packages.into_iter().filter(|it| it["source"].is_string());
    let mut parts: Vec<Part> = others.map(of_crate).collect::<Result<_>>()?;
    parts.sort();
    parts.push(of_files("Rust's standard library", "MIT OR Apache-2.0", &rust_files())?);
    let files = C_LIBRARY.map(PathBuf::from);
    parts.push(of_files("GNU C library, of Debian", "LGPL-2.1-or-later", &files)?);
    let file = share.join(FILE);
    let folder = file.parent().unwrap_or(share);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, document(&parts)));
    written.with_context(|| format!("failed to write {}", file.display()))?;
    compress(&file)
}

fn of_crate(package: &Value) -> Result<Part> {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let manifest = Path::new(text("manifest_path"));
    let folder = manifest.parent().context("a crate has no folder")?;
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| has_licence(path));
    files.sort();
    let name = format!("{} {}", text("name"), text("version"));
    of_files(&name, &crates::licence(package), &files)
}

fn has_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    NAMES.iter().any(|begin| name.starts_with(begin))
}

/// Returns the files of the Rust that builds this.
fn rust_files() -> Vec<PathBuf> {
    let root = ask(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let folder = Path::new(root.trim()).join("share/doc/rust/licenses");
    ["MIT.txt", "Apache-2.0.txt"].map(|name| folder.join(name)).into()
}

/// Returns a part with the texts of its files. Some machines have no documentation.
fn of_files(name: &str, licence: &str, files: &[PathBuf]) -> Result<Part> {
    let read = |file: &PathBuf| {
        let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let texts: Vec<String> =
        files.iter().filter(|file| file.is_file()).map(read).collect::<Result<_>>()?;
    Ok(Part { name: name.into(), licence: licence.into(), texts })
}

/// Returns the list of all parts, and each text once, with those that it is of.
fn document(parts: &[Part]) -> String {
    let mut document =
        "linkbal has parts that others wrote. Each is named with its licence; below are the texts \
        in their files.\n\n"
            .to_owned();
    let mut texts: BTreeMap<String, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for Part { name, licence, texts: own } in parts {
        let none = if own.is_empty() { " (without a file that has its text)" } else { "" };
        document += &format!("{name}: {licence}{none}\n");
        for text in own.iter().filter(|text| !text.is_empty()) {
            // Many differ by how their lines are broken alone.
            let key = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(key).or_insert((text, BTreeSet::new())).1.insert(name);
        }
    }
    for (text, names) in texts.values() {
        let names: Vec<&str> = names.iter().copied().collect();
        document += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(100), names.join(", "));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_there_once_with_all_that_have_it() {
        let part = |name: &str, texts: &[&str]| Part {
            name: name.into(),
            licence: "MIT".into(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let parts = [
            part("a 1", &["Copyright A\n\nFree"]),
            part("b 2", &["Copyright A Free", "Notice"]),
            part("c 3", &[]),
        ];
        let document = document(&parts);
        assert!(document.contains("a 1: MIT\nb 2: MIT\nc 3: MIT (without"), "{document}");
        assert_eq!(document.matches("Copyright A").count(), 1, "{document}");
        assert!(document.contains("\na 1, b 2\n\nCopyright A\n\nFree\n"), "{document}");
        assert!(document.contains("\nb 2\n\nNotice\n"), "{document}");
    }

    #[test]
    fn files_with_licences_are_known_by_their_names() {
        for name in ["LICENSE-MIT", "LICENCE", "COPYING", "NOTICES.md", "UNLICENSE"] {
            assert!(has_licence(&Path::new("/crate").join(name)), "{name}");
        }
        assert!(!has_licence(Path::new("/crate/README.md")));
    }

    #[test]
    fn most_crates_bring_their_texts() {
        let metadata = crates::metadata(Architecture::Amd64).expect("metadata");
        let packages = crates::used(&metadata).expect("packages");
        let others: Vec<_> = packages.into_iter().filter(|it| it["source"].is_string()).collect();
        let parts: Vec<_> = others.iter().map(|it| of_crate(it).expect("a part")).collect();
        let with_text = parts.iter().filter(|part| !part.texts.is_empty()).count();
        assert!(with_text * 10 > parts.len() * 9, "{with_text} of {}", parts.len());
        assert!(parts.iter().all(|part| !part.licence.is_empty()), "{parts:#?}");
    }
}
