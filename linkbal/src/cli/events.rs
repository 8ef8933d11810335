//! `linkbal events`.

use std::{ops::ControlFlow, path::Path, time::SystemTime};

use anyhow::Result;
use hyper::Method;

use super::print_line;
use crate::{
    api::{
        client::{self, Message},
        events::{EventsQuery, GAP},
    },
    events::{Event, journal::Gap},
};

/// The events to print, and how.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Go on with what happens next, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Leave out what is older: a time span like 1h, or a date like 2026-11-28 or
    /// "2026-11-28 06:30", UTC
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Leave out what is not of this uplink
    #[arg(long, value_name = "NAME")]
    uplink: Option<String>,
    /// Print one JSON object on each line for programs
    #[arg(long)]
    json: bool,
}

/// Reads a time span back from now, or a date.
pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(SystemTime::now().checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let seconds = if text.contains(':') { "" } else { "T00:00:00" };
    let minutes = if text.matches(':').count() == 1 { ":00" } else { "" };
    let whole = format!("{}{seconds}{minutes}Z", text.trim_end_matches('Z'));
    humantime::parse_rfc3339_weak(&whole)
        .map_err(|_| "not a time like 1h, 2026-11-28 or \"2026-11-28 06:30\"".to_owned())
}

/// Prints the events that the daemon behind a socket keeps, and if wanted later ones until the
/// daemon or the reader is gone.
pub(super) async fn print(socket: &Path, wanted: EventsArgs) -> Result<()> {
    let EventsArgs { follow, since, uplink, json } = wanted;
    let path = EventsQuery::new(since, uplink.clone()).path();
    let mut printed = false;
    let mut print = |line: &str| {
        printed = true;
        let line = if json { line.to_owned() } else { readable(line)? };
        print_line(&line)
    };
    if follow {
        let each = |message: Message| match &*message.name {
            GAP => missing(&message.data),
            _ => print(&message.data),
        };
        return client::follow(socket, &path, each).await;
    }
    client::stream(socket, Method::GET, &path, print).await?;
    if !printed && (since.is_some() || uplink.is_some()) {
        eprintln!("linkbal: {}", none_found(since, uplink.as_deref()));
    }
    Ok(())
}

/// Says that events are missing.
fn missing(data: &str) -> Result<ControlFlow<()>> {
    let Gap { after, next } = client::read(data)?;
    let next = next.unwrap_or_else(|| "the next".into());
    eprintln!("linkbal: events between {after} and {next} are missing: they were read too slowly");
    Ok(ControlFlow::Continue(()))
}

/// Returns what there is none of.
fn none_found(since: Option<SystemTime>, uplink: Option<&str>) -> String {
    let of = uplink.map_or(String::new(), |uplink| {
        format!(" of an uplink {uplink:?} (`linkbal status` has the names)")
    });
    let after = since.map_or(String::new(), |since| {
        format!(" since {}", humantime::format_rfc3339_seconds(since))
    });
    format!("no event{of}{after}")
}

fn readable(line: &str) -> Result<String> {
    client::read::<Event>(line).map(|event| event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_or_a_date() {
        let shown = |text| since(text).map(|time| humantime::format_rfc3339(time).to_string());
        let day = Ok("2026-11-28T00:00:00Z".to_owned());
        assert_eq!([shown("2026-11-28"), shown("2026-11-28 00:00")], [day.clone(), day.clone()]);
        assert_eq!(
            [shown("2026-11-28T00:00:00Z"), shown("2026-11-28 00:00:00")],
            [day.clone(), day]
        );
        let hour = since("1h").expect("a span").elapsed().expect("it is over");
        assert!((3600..3660).contains(&hour.as_secs()), "{hour:?}");
        for wrong in ["", "yesterday", "2026", "1", "11:30"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
        assert!(since("999999years").is_ok_and(|time| time <= SystemTime::now()));
    }
}
