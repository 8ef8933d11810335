//! Shell scripts, as far as they set up a network: commands with their variables filled in.
//!
//! Nothing is run. A variable whose value only a run would tell stands as [`UNKNOWN`]. A loop over words
//! gives its commands once for each word.

mod branch;
mod expand;
mod reader;
mod tokens;

use std::collections::BTreeSet;

use self::reader::Reader;

/// Character that stands for a value that is only known when the script runs.
pub(super) const UNKNOWN: char = '\u{1}';

/// Most commands that loops make of one.
const MAX_TURNS: usize = 64;

/// Longest value of a variable, in bytes.
const MAX_VALUE: usize = 1024;

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// The file that its output goes to.
    pub(super) into: Option<String>,
    pub(super) line: usize,
    /// All lines of it, where a backslash continues it.
    pub(super) last_line: usize,
    /// Set within `if`, `case` and loops on conditions.
    pub(super) conditional: bool,
    /// Set within a function that stops things.
    pub(super) undoing: bool,
    /// Set if it is a part of the language, or sets a variable.
    pub(super) control: bool,
}

/// A variable.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    pub(super) line: usize,
}

/// A script.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) commands: Vec<Command>,
    /// All that were ever set, in order.
    pub(super) variables: Vec<Variable>,
    /// Lines that say something.
    pub(super) significant: Vec<usize>,
    /// Names of its functions.
    pub(super) functions: BTreeSet<String>,
    /// Lines of which loops make more commands than are read.
    pub(super) beyond: Vec<usize>,
}

/// Reads a script.
pub(super) fn read(text: &str) -> Script {
    let mut reader = Reader::default();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, content)) = lines.next() {
        let mut joined = content.to_owned();
        let mut last_line = line;
        while joined.ends_with('\\') && !is_comment(&joined) {
            joined.pop();
            let Some((next, content)) = lines.next() else { break };
            joined.push_str(content);
            last_line = next;
        }
        let before = reader.script.commands.len();
        let Some(end) = reader.line(&joined, line, last_line) else { continue };
        // The text that follows belongs to the commands of the line.
        for (number, content) in lines.by_ref() {
            last_line = number;
            if content.trim() == end {
                break;
            }
        }
        reader.script.significant.extend(line..=last_line);
        reader.script.commands.iter_mut().skip(before).for_each(|one| one.last_line = last_line);
    }
    reader.script
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
