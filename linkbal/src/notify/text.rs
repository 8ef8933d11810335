//! The words of a message.

use std::{fmt::Write as _, time::Duration};

use super::{
    digest::{Digest, Entry, EventLine},
    template::TOKEN,
};
use crate::{
    events::severity::EventSeverity,
    words::{count, length},
};

/// Most characters of a title.
const MAX_TITLE: usize = 120;

/// Most outages that a title names.
const IN_TITLE: usize = 3;

/// Longest time between two outages, or two ends, that are one for both families.
const MERGE_WINDOW: Duration = Duration::from_secs(15);

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Subject, in one line.
    pub title: String,
    /// All of it, in lines without an end of the last one.
    pub text: String,
    /// A warning if something does not work as it should.
    pub severity: EventSeverity,
    /// Name of this machine.
    pub gateway: String,
    /// Time of the message.
    pub time: String,
}

impl Message {
    /// Returns the value of a placeholder of a template; `token` is that of the secret.
    pub fn value<'a>(&'a self, name: &str, token: Option<&'a str>) -> Option<&'a str> {
        match name {
            "title" => Some(&self.title),
            "text" => Some(&self.text),
            "severity" => Some(self.severity.name()),
            "gateway" => Some(&self.gateway),
            "time" => Some(&self.time),
            TOKEN => token,
            _ => None,
        }
    }
}

/// Facts beside the news.
pub struct Surroundings<'a> {
    /// Name of this machine.
    pub gateway: &'a str,
    /// Time of the message, from the start of the daemon.
    pub now: Duration,
    /// A function that converts such times to those of the clock.
    pub clock: &'a dyn Fn(Duration) -> String,
    /// Names of the uplinks that work.
    pub up: Vec<&'a str>,
}

/// Returns the message that tells some news.
pub fn message(digest: &Digest, around: &Surroundings<'_>) -> Message {
    let outages = headlines(digest.uplinks().collect());
    let lines: Vec<&EventLine> = digest.lines().collect();
    let mut text = String::new();
    for outage in &outages {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}", outage.line(around));
    }
    for line in &lines {
        let _ = writeln!(text, "{} {}", (around.clock)(line.at), line.text);
    }
    if digest.lost() > 0 {
        let lost = count(usize::try_from(digest.lost()).unwrap_or(usize::MAX), "older message");
        let _ = writeln!(text, "Left out: {lost}. `linkbal events` has what happened.");
    }
    if !outages.is_empty() {
        let up = if around.up.is_empty() { "none".into() } else { around.up.join(", ") };
        let _ = writeln!(text, "Uplinks that work now: {up}");
    }
    let bad = outages.iter().any(|outage| outage.entry.last.ended.is_none())
        || lines.iter().any(|line| line.is_warning);
    // Reasons can have what a server has said.
    let plain = |letter: char| if letter.is_control() && letter != '\n' { ' ' } else { letter };
    Message {
        title: title(&outages, &lines).replace(char::is_control, " "),
        text: text.trim_end().chars().map(plain).collect(),
        severity: if bad { EventSeverity::Warning } else { EventSeverity::Info },
        gateway: around.gateway.to_owned(),
        time: (around.clock)(around.now),
    }
}

/// Returns a message that tries a receiver.
pub fn trial(receiver: &str, around: &Surroundings<'_>) -> Message {
    Message {
        title: format!("test of {receiver}"),
        text: format!("linkbal on {} can send you messages.", around.gateway),
        severity: EventSeverity::Info,
        gateway: around.gateway.to_owned(),
        time: (around.clock)(around.now),
    }
}

fn title(outages: &[Headline<'_>], lines: &[&EventLine]) -> String {
    let title = match (outages, lines) {
        ([only], []) => only.brief(true),
        ([], [only]) => only.text.clone(),
        ([], lines) => count(lines.len(), "event"),
        (outages, lines) => {
            let mut parts: Vec<String> =
                outages.iter().take(IN_TITLE).map(|outage| outage.brief(false)).collect();
            let rest = outages.len().saturating_sub(IN_TITLE).saturating_add(lines.len());
            if rest > 0 {
                parts.push(format!("and {rest} more"));
            }
            parts.join(", ")
        }
    };
    match title.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}..", title.get(..end).unwrap_or_default()),
        None => title,
    }
}

/// The outages of an uplink, of one family or of both.
struct Headline<'a> {
    entry: &'a Entry,
    /// Set if they are those of both families.
    both: bool,
}

/// Returns the outages, those of both families of an uplink together where they are the same.
fn headlines(entries: Vec<&Entry>) -> Vec<Headline<'_>> {
    let mut headlines: Vec<Headline<'_>> = Vec::new();
    for entry in entries {
        match headlines.last_mut().filter(|last| is_same(last.entry, entry)) {
            Some(last) => last.both = true,
            None => headlines.push(Headline { entry, both: false }),
        }
    }
    headlines
}

/// Returns whether the outages of two families have one headline.
fn is_same(one: &Entry, other: &Entry) -> bool {
    let near = |a: Duration, b: Duration| a.abs_diff(b) <= MERGE_WINDOW;
    let ends = match (one.last.ended, other.last.ended) {
        (Some(a), Some(b)) => near(a, b),
        (None, None) => true,
        _ => false,
    };
    one.last.uplink == other.last.uplink
        && ends
        && near(one.last.began, other.last.began)
        && near(one.first, other.first)
        && one.times == other.times
        && one.last.unwatched == other.last.unwatched
}

impl Headline<'_> {
    fn name(&self) -> String {
        let last = &self.entry.last;
        if self.both || last.only {
            return last.uplink.clone();
        }
        let family =
            if last.family == linkbal_common::uplink::Family::Ipv4 { "IPv4" } else { "IPv6" };
        format!("{} ({family})", last.uplink)
    }

    /// Returns what happened in a few words, with the cause if that is wanted.
    fn brief(&self, cause: bool) -> String {
        let (name, Entry { last, times, total, .. }) = (self.name(), self.entry);
        let what = match (last.ended, *times) {
            (None, 1) => format!("{name} is down"),
            (None, times) => format!("{name} is down, for the {} time", ordinal(times)),
            (Some(_), 1) => format!("{name} was down {}", length(*total)),
            (Some(_), times) => {
                format!("{name} was down {times} times, {} in all", length(*total))
            }
        };
        let known = cause && !last.cause.brief.is_empty();
        if known { format!("{what}: {}", last.cause.brief) } else { what }
    }

    fn line(&self, around: &Surroundings<'_>) -> String {
        let Entry { last, times, first, flaps, .. } = self.entry;
        let clock = |at: Duration| (around.clock)(at);
        let when = match (last.ended, *times) {
            (None, 1) => format!("since {}", clock(last.began)),
            (None, _) => format!("first at {}, now since {}", clock(*first), clock(last.began)),
            (Some(ended), 1) => format!("from {} to {}", clock(last.began), clock(ended)),
            (Some(ended), _) => format!("between {} and {}", clock(*first), clock(ended)),
        };
        let mut line = format!("{}, {when}", self.brief(true));
        if last.unwatched {
            line.push_str("; it is not watched any longer");
        }
        if *flaps {
            line.push_str(
                "; since it goes down again and again, the next news come when it is calm",
            );
        }
        if last.ended.is_none() && !last.cause.advice.is_empty() {
            line.push_str("; ");
            line.push_str(&last.cause.advice);
        }
        line
    }
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        let shown = [1, 2, 3, 4, 11, 12, 13, 21, 111].map(ordinal);
        assert_eq!(shown, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th"]);
    }
}
