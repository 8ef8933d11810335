//! `linkbal replay`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::replay::{Recording, text};

/// Returns the decisions of the recording in a file, as text; with `all`, every command in full.
pub(super) fn replay(path: &Path, all: bool) -> Result<String> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {shown}"))?;
    let recording = Recording::parse(&text).with_context(|| format!("failed to replay {shown}"))?;
    Ok(if all { text::everything(&recording) } else { text::decisions(&recording) })
}
