//! `linkbal import`: the configuration of another tool, translated.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{new_file, stderr};
use crate::{
    import::{self, NoteKind, Tool, Translation},
    removal::script,
    words::count,
};

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Tool that the file belongs to
    #[arg(value_enum)]
    kind: Tool,
    /// The file
    file: PathBuf,
    /// OpenWrt's /etc/config/network, for the devices and gateways of mwan3's interfaces
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// File to write, which must not exist [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Translates the file; tells what is not as it was on standard error.
///
/// # Errors
///
/// If a file cannot be read, or is something else, or if the output exists or cannot be written.
pub(super) fn import(arguments: &ImportArgs) -> Result<()> {
    let ImportArgs { kind, file, network, output } = arguments;
    let text = read(file)?;
    let network = network.as_deref().map(read).transpose()?;
    let name =
        file.file_name().map_or_else(|| file.to_string_lossy(), |name| name.to_string_lossy());
    let translated = import::translate(*kind, &text, &name, network.as_deref())
        .with_context(|| format!("failed to import {}", file.display()))?;
    match output {
        Some(path) => new_file::write(path, &translated.text)?,
        None => super::print(&translated.text)?,
    }
    stderr::text(format_args!("{}", summary(&translated, &text)));
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let size = fs::metadata(path).with_context(|| format!("failed to read {shown}"))?.len();
    anyhow::ensure!(size <= MAX_SIZE, "failed to read {shown}: it has more than 1 MiB");
    let bytes = fs::read(path).with_context(|| format!("failed to read {shown}"))?;
    // Comments in other encodings are no reason to refuse it.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Formats the notes for people.
fn summary(translated: &Translation, input: &str) -> String {
    let Translation { notes, uplinks, rules, .. } = translated;
    let input: Vec<&str> = input.lines().collect();
    let [uplinks, rules] = [count(*uplinks, "uplink"), count(*rules, "rule")];
    let mut text = format!("{uplinks}, {rules}; `linkbal check` is next\n");
    for kind in NoteKind::ALL {
        let of_kind: Vec<_> = notes.iter().filter(|note| note.kind == kind).collect();
        if !of_kind.is_empty() {
            text.push_str(&format!("{}:\n", kind.heading()));
        }
        for note in of_kind {
            text.push_str(&format!("  {}\n", note.show(&input)));
        }
    }
    text.push_str(
        "\nTo change over, as root on the gateway; `linkbal init` lists there what is really left:\n\n",
    );
    text.push_str(&script(&translated.removal, ""));
    text
}
