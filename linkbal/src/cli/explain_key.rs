//! `linkbal check --explain`.

use std::process::ExitCode;

use anyhow::Result;

use super::{exit::Exit, print, stderr};
use crate::config::explain;

/// Prints what a key of the configuration means.
pub(super) fn print_key(name: &str) -> Result<ExitCode> {
    match explain(name) {
        Ok(text) => print(&text).map(|()| Exit::Done.into()),
        Err(unknown) => {
            stderr::line(format_args!("linkbal: {unknown}"));
            Ok(Exit::Unusable.into())
        }
    }
}
