//! `linkbal drill`.

use std::{ops::ControlFlow, path::Path, time::Duration};

use anyhow::{Result, ensure};
use hyper::Method;

use super::print_line;
use crate::api::{
    client,
    drill::{DrillOutcome, DrillRequest, DrillUpdate},
};

/// Reads a time like `30s`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "not a time like 30s or 2m".to_owned())
}

/// Orders a drill from the daemon behind a socket and prints what happens, until the uplink is up
/// again. The drill ends when this does, for whatever reason.
///
/// # Errors
///
/// If the drill is refused or breaks off, or the outage was not found out.
pub(super) async fn run(socket: &Path, request: &DrillRequest, json: bool) -> Result<()> {
    let mut outcome = None;
    let each = |line: &str| {
        let update: DrillUpdate = client::read(line)?;
        let text = if json { line.to_owned() } else { readable(&request.uplink, &update) };
        let flow = print_line(&text)?;
        if let DrillUpdate::Done(done) = update {
            outcome = Some(done);
            return Ok(ControlFlow::Break(()));
        }
        Ok(flow)
    };
    client::stream(socket, Method::POST, &request.path(), each).await?;
    let Some(outcome) = outcome else { return Ok(()) };
    let missed: Vec<_> = outcome
        .found_down_ms
        .iter()
        .filter(|(_, at)| at.is_none())
        .map(|(name, _)| &**name)
        .collect();
    ensure!(missed.is_empty(), "the outage was not found out for {}", missed.join(" and "));
    Ok(())
}

/// Says what happened in a drill.
pub(super) fn readable(uplink: &str, update: &DrillUpdate) -> String {
    match update {
        DrillUpdate::Began { time_ms, families } => format!(
            "nothing passes {uplink} ({}) for {}; Ctrl-C ends it",
            families.join(", "),
            humantime::format_duration(Duration::from_millis(*time_ms))
        ),
        DrillUpdate::Changed { at_ms, family, from, to, reason } => {
            format!("{}  {uplink} {family}: {from} -> {to}: {reason}", seconds(*at_ms))
        }
        DrillUpdate::Over { at_ms } => {
            format!(
                "{}  over: {uplink} works again, and is used once its probes say so (its `hold`, or \
                 longer after flaps); Ctrl-C leaves it to that",
                seconds(*at_ms)
            )
        }
        DrillUpdate::Done(outcome) => summary(uplink, outcome),
    }
}

fn summary(uplink: &str, outcome: &DrillOutcome) -> String {
    let found = outcome.found_down_ms.iter().map(|(family, at)| match at {
        Some(at) => format!("{family} after {} ms", at),
        None => format!("{family} not at all"),
    });
    let families: Vec<&str> = outcome.found_down_ms.iter().map(|(family, _)| &**family).collect();
    let families = families.join(" and ");
    let back = match outcome.up_again_ms {
        Some(at) => format!("{uplink} was up again for {families} after {}", seconds(at).trim()),
        None => format!("{uplink} is not up again for {families} yet; see `linkbal status`"),
    };
    let DrillOutcome {
        packets_dropped, flows_moved, connections_reset, connections_silent, ..
    } = outcome;
    format!(
        "\nfound out: {}\nflows moved to other uplinks: {flows_moved}\nTCP connections reset, so \
         that clients connect again: {connections_reset}, of them {connections_silent} silent\n\
         packets lost: {packets_dropped}\n{back}",
        found.collect::<Vec<_>>().join(", "),
    )
}

/// Formats milliseconds as seconds, for a column.
fn seconds(ms: u64) -> String {
    format!("{:7.3} s", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_users_felt() {
        let outcome = DrillOutcome {
            found_down_ms: vec![("ipv4".into(), Some(412)), ("ipv6".into(), None)],
            up_again_ms: Some(33_900),
            packets_dropped: 120,
            flows_moved: 40,
            connections_reset: 25,
            connections_silent: 1,
        };
        assert_eq!(
            summary("isp-a", &outcome),
            "\nfound out: ipv4 after 412 ms, ipv6 not at all\nflows moved to other uplinks: 40\n\
             TCP connections reset, so that clients connect again: 25, of them 1 silent\n\
             packets lost: 120\nisp-a was up again for ipv4 and ipv6 after 33.900 s"
        );
    }

    #[test]
    fn times_are_written_as_in_the_configuration() {
        assert_eq!(time("2m 5s"), Ok(Duration::from_secs(125)));
        assert_eq!(time("30"), Err("not a time like 30s or 2m".to_owned()));
    }
}
