//! Plain text on standard output; on a terminal, progress stays on one line.

use std::io::{self, IsTerminal as _, Write as _};

/// The sequence that erases the line and returns to its start (ECMA-48 EL).
const ERASE: &str = "\r\x1b[2K";

/// The output on which the tour is shown.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal() }
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n{text}");
    }

    /// Prints lines, indented.
    pub(super) fn line(&self, text: &str) {
        for line in text.lines() {
            println!("   {line}");
        }
    }

    /// Shows a state that soon changes; on a terminal, the next one replaces it.
    pub(super) fn progress(&self, text: &str) {
        if self.terminal {
            print!("{ERASE}   {text}");
            // Nothing is lost when the terminal is gone.
            let _ = io::stdout().flush();
        } else {
            self.line(text);
        }
    }

    /// Prints a result in place of the progress.
    pub(super) fn result(&self, text: &str) {
        if self.terminal {
            print!("{ERASE}");
        }
        self.line(text);
    }
}
