//! Shell scripts, as far as they set up a network: commands with their variables filled in.
//!
//! Nothing is run. A variable whose value only a run would tell stands as [`UNKNOWN`]. A loop over words
//! gives its commands once for each word.

mod branch;
mod carried;
mod expand;
mod guard;
mod known;
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

/// Most lines of a text within quotes.
const MAX_QUOTED: usize = 256;

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// The lines of the text that follows it.
    pub(super) text: Vec<String>,
    /// The file that its output goes to.
    pub(super) into: Option<String>,
    pub(super) line: usize,
    /// All lines of it, where a backslash continues it.
    pub(super) last_line: usize,
    /// Set within `if`, `case` and loops on conditions.
    pub(super) conditional: bool,
    /// Set if it is done on some runs only: within `if` and loops on conditions, and behind `&&` and `||`,
    /// unless the test only guards it.
    pub(super) doubtful: bool,
    /// The function of the script in which it stands.
    pub(super) function: Option<String>,
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
    let mut reader = Reader::new(carried::variables(text));
    let mut lines = (1..).zip(text.lines());
    while let Some((line, content)) = lines.next() {
        let (mut joined, mut last_line) = (content.to_owned(), line);
        while joined.ends_with('\\') && !is_comment(&joined) {
            joined.pop();
            let Some((next, content)) = lines.next() else { break };
            joined.push_str(content);
            last_line = next;
        }
        if let Some((whole, rest, last)) = closed(&joined, lines.clone()) {
            (joined, lines, last_line) = (whole, rest, last);
        }
        let before = reader.script.commands.len();
        let Some(end) = reader.line(&joined, line, last_line) else { continue };
        // The text that follows belongs to the commands of the line.
        let mut following = Vec::new();
        for (number, content) in lines.by_ref() {
            last_line = number;
            if content.trim() == end {
                break;
            }
            following.push(content.trim().to_owned());
        }
        let following: Vec<String> = following.iter().map(|text| reader.filled(text)).collect();
        reader.script.significant.extend(line..=last_line);
        for command in reader.script.commands.iter_mut().skip(before) {
            command.last_line = last_line;
            command.text.clone_from(&following);
        }
    }
    reader.finish()
}

/// Returns a line with those behind it up to the end of its quotes, the lines left, and the number of the
/// last one; `None` if no quotes are open at its end, or if they have no end.
fn closed<'a, I>(line: &str, mut lines: I) -> Option<(String, I, usize)>
where
    I: Iterator<Item = (usize, &'a str)> + Clone,
{
    if !tokens::is_open(line) {
        return None;
    }
    let mut whole = line.to_owned();
    for _ in 0..MAX_QUOTED {
        let (number, content) = lines.next()?;
        whole.push('\n');
        whole.push_str(content);
        // Only a line with quotes ends some, or with a parenthesis an array.
        if content.contains(['"', '\'', ')']) && !tokens::is_open(&whole) {
            return Some((whole, lines, number));
        }
    }
    None
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
