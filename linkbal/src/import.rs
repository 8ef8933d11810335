//! Translation of configurations of other tools: text in, text out.
//!
//! ```text
//! mwan3 (uci) ------+
//! vyos, edgeos -----+-> Draft -> policy (tiers, weights, `use`) -> write (TOML, tried by `config`)
//! script (shell) ---+     notes: lines without a translation, each with its reason
//! ```
//!
//! Each dialect makes a `Draft`, whose values remember the lines that they come from. What a
//! dialect does not understand is a note, never an error; an error is only a text that is no such
//! configuration at all.

// Input from outside must not stop the program.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod edgeos;
mod excluded;
mod leave;
mod model;
mod mwan3;
mod names;
mod note;
mod policy;
mod script;
mod shell;
mod tool;
mod tree;
mod uci;
mod values;
mod vyos;
mod write;

pub use note::{Lines, Note, NoteKind};
pub use tool::Tool;

use thiserror::Error;

use crate::removal::Step;

/// A translated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The configuration, with comments.
    pub text: String,
    /// All that is not as it was, in the order of the input's lines.
    pub notes: Vec<Note>,
    /// Number of uplinks.
    pub uplinks: usize,
    /// Number of rules.
    pub rules: usize,
    /// The steps that take away what it translates, as far as its text says.
    pub removal: Vec<Step>,
}

/// A text that cannot be translated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("it is no configuration of {expected}: {reason}")]
pub struct ImportRefusal {
    /// The tool whose configuration was expected.
    pub expected: &'static str,
    /// The missing part, and the appearance of the text.
    pub reason: String,
}

/// Translates `text`, the contents of a file that is called `name` in comments. `network` is the text
/// of OpenWrt's /etc/config/network, which says the devices of mwan3's interfaces.
///
/// # Errors
/// If the text is no configuration of that kind.
pub fn translate(
    kind: Tool,
    text: &str,
    name: &str,
    network: Option<&str>,
) -> Result<Translation, ImportRefusal> {
    // Editors of some systems put a mark of Unicode in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let network = network.map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
    let read = match kind {
        Tool::Mwan3 => mwan3::read(text, network),
        Tool::Vyos => vyos::read(text),
        Tool::Edgeos => edgeos::read(text),
        Tool::Script => script::read(text),
    };
    let mut draft = read.map_err(|missing| ImportRefusal {
        expected: kind.tool(),
        reason: kind.explain(text, &missing),
    })?;
    names::settle(&mut draft);
    policy::settle(&mut draft);
    let removal = leave::steps(kind, name, std::mem::take(&mut draft.removal));
    Ok(Translation { removal, ..write::write(draft, kind, name, text) })
}

#[cfg(test)]
mod tests;
