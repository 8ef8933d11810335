//! Standard error, which may be full or gone: what was asked for is done all the same, and
//! `eprintln!` would panic.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes a line.
pub(super) fn line(text: fmt::Arguments<'_>) {
    // Nobody could be told.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a text of whole lines.
pub(super) fn text(text: fmt::Arguments<'_>) {
    // Nobody could be told.
    let _ = write!(io::stderr(), "{text}");
}
