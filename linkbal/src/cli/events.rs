//! `linkbal events`.

use std::{ops::ControlFlow, path::Path, time::SystemTime};

use anyhow::{Error, Result};
use hyper::Method;

use super::{exit::misuse, fold, local_time::Zone, print_line, stderr};
use crate::{
    api::{
        client::{self, Message, NotRunning},
        events::{EventsQuery, GAP},
        status::Status,
    },
    config::names_help,
    events::{self, Event, journal::Gap},
    sys::host::instance::Instance,
};

/// The events to print, and how.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Follow new events, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Leave out older events: a time span like 1h, or a local time like 05:00, yesterday,
    /// 2026-11-28 or "2026-11-28 06:30", also with an offset like +01:00 or Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Show the events of this uplink alone
    #[arg(long, value_name = "NAME")]
    uplink: Option<String>,
    /// Print one JSON object per line, for programs
    #[arg(long)]
    json: bool,
}

/// Reads a time span back from now, or a time as the clock here shows it.
pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    Zone::system().past(text, SystemTime::now()).ok_or_else(|| {
        "not a time like 1h, 05:00, yesterday, 2026-11-28 or \"2026-11-28 06:30\"".to_owned()
    })
}

/// Prints the events that the daemon behind a socket keeps, and if wanted later ones until the
/// daemon or the reader is gone. Without a daemon, prints those of the file that it left.
pub(super) async fn print(socket: &Path, wanted: EventsArgs) -> Result<()> {
    let EventsArgs { follow, since, uplink, json } = wanted;
    let query = EventsQuery::new(since, uplink.clone());
    let zone = Zone::system();
    let mut printed = false;
    let mut print = |line: &str| {
        printed = true;
        let line = if json { line.to_owned() } else { readable(line, &zone)? };
        print_line(&line)
    };
    if follow {
        // Former uplinks have events, too, and may come back.
        if !has_events(socket, uplink.as_deref()).await? {
            check_uplink(socket, uplink.as_deref(), "event").await?;
        }
        let each = |message: Message| match &*message.name {
            GAP => missing(&message.data),
            _ => print(&message.data),
        };
        return client::follow(socket, &query.path(), each).await;
    }
    match client::stream(socket, Method::GET, &query.path(), &mut print).await {
        Err(error) if error.is::<NotRunning>() => return print_kept(error, &query, print),
        asked => asked?,
    }
    if !printed && (since.is_some() || uplink.is_some()) {
        check_uplink(socket, uplink.as_deref(), "event").await?;
        stderr::line(format_args!("linkbal: {}", none_found(since, uplink.as_deref(), &zone)));
    }
    Ok(())
}

/// Prints the events of the file that a former daemon left; returns the error if there are none.
fn print_kept(
    not_running: Error,
    query: &EventsQuery,
    mut print: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let Ok(instance) = Instance::unprepared() else { return Err(not_running) };
    let kept = events::kept(&instance.state_dir.join(events::FILE));
    if kept.is_empty() {
        return Err(not_running);
    }
    stderr::line(format_args!("linkbal: {not_running}; these are the events that it kept"));
    for event in kept.iter().filter(|event| query.holds(event)) {
        if print(&event.json())?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Returns whether an uplink, whatever its name, has events that are kept.
async fn has_events(socket: &Path, uplink: Option<&str>) -> Result<bool> {
    let query = EventsQuery::new(None, uplink.map(str::to_owned));
    let mut found = false;
    let note = |_: &str| {
        found = true;
        Ok(ControlFlow::Break(()))
    };
    client::stream(socket, Method::GET, &query.path(), note).await?;
    Ok(found)
}

/// Refuses the name of an uplink that the daemon does not have, and of which nothing like `record` is
/// kept.
pub(super) async fn check_uplink(socket: &Path, uplink: Option<&str>, record: &str) -> Result<()> {
    let Some(uplink) = uplink else { return Ok(()) };
    let text = client::request(socket, Method::GET, "/v1/status", client::TIMEOUT).await?;
    let status: Status = client::read(&text)?;
    let names: Vec<&str> = status.uplinks.iter().map(|uplink| &*uplink.name).collect();
    if names.contains(&uplink) {
        return Ok(());
    }
    let help = names_help(uplink, "the uplinks", &names);
    Err(misuse(format!("there is no uplink {uplink:?}, and no {record} of one: {help}")))
}

/// Says that events are missing.
fn missing(data: &str) -> Result<ControlFlow<()>> {
    let Gap { after, next } = client::read(data)?;
    let next = next.unwrap_or_else(|| "the next".into());
    stderr::line(format_args!(
        "linkbal: events between {after} and {next} are missing: they were read too slowly"
    ));
    Ok(ControlFlow::Continue(()))
}

/// Returns what there is none of.
fn none_found(since: Option<SystemTime>, uplink: Option<&str>, zone: &Zone) -> String {
    let of = uplink.map_or(String::new(), |uplink| format!(" of uplink {uplink}"));
    let after = since.map_or(String::new(), |since| {
        let time = humantime::format_rfc3339_seconds(since).to_string();
        format!(" since {}", zone.show(&time))
    });
    format!("no event{of}{after}")
}

fn readable(line: &str, zone: &Zone) -> Result<String> {
    let event: Event = client::read(line)?;
    let line = event.line(&zone.show(&event.time));
    // Its mark stands before what is folded.
    let (mark, rest) = line.split_at_checked(2).unwrap_or_default();
    Ok(format!("{mark}{}", fold::for_people(rest)))
}
