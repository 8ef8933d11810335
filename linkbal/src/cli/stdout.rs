//! Lines for people and programs on standard output, and the width of lines.

use std::{io::Write as _, ops::ControlFlow, os::fd::AsFd};

use anyhow::{Context as _, Result};

/// Columns of lines for people where the output is no terminal.
const COLUMNS: usize = 100;

/// Returns the width of lines for people on standard error.
pub(super) fn terminal_width() -> usize {
    width_of(std::io::stderr())
}

pub(super) fn width_of(output: impl AsFd) -> usize {
    let size = terminal_size::terminal_size_of(output);
    size.map_or(COLUMNS, |(width, _)| usize::from(width.0))
}

/// Prints a line, and returns whether to go on: not if the reader is gone.
pub(super) fn print_line(line: &str) -> Result<ControlFlow<()>> {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error).context("failed to print"),
    }
}

/// Prints a text; a reader that has gone away (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("failed to print"),
    }
}
