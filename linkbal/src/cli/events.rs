//! `linkbal events`.

use std::path::Path;

use anyhow::{Context as _, Result};
use hyper::Method;

use super::print_line;
use crate::{api::client, events::Event};

/// Prints the events that the daemon behind a socket keeps, and with `follow` later ones until the
/// daemon or the reader is gone.
pub(super) async fn print(socket: &Path, follow: bool, json: bool) -> Result<()> {
    let path = if follow { "/events?follow" } else { "/events" };
    let print = |line: &str| {
        let line = if json { line.to_owned() } else { readable(line)? };
        print_line(&line)
    };
    client::stream(socket, Method::GET, path, print).await
}

fn readable(line: &str) -> Result<String> {
    let event: Event = serde_json::from_str(line).context("failed to read an event")?;
    Ok(event.to_string())
}
