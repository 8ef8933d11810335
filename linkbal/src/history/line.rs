//! The lines of the file of history: a JSON object each, in any order, and each as often as may be. The
//! last one about the same thing counts, so that a line that is lost or comes twice harms no other.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    History, UplinkHistory,
    bucket::{Bucket, FamilyMeasures, Tally, Traffic},
    outages::Outage,
    series::{DAY, HOUR, RESOLUTIONS},
};
use crate::per_family::PerFamily;

/// Longest name of an uplink that is read.
const MAX_NAME: usize = 128;

/// A line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum FileLine<'a> {
    Bucket(BucketLine<'a>),
    Day(DayLine<'a>),
    Outage(OutageLine<'a>),
}

/// The measures of an uplink in a step.
#[derive(Debug, Deserialize, Serialize)]
struct BucketLine<'a> {
    uplink: Cow<'a, str>,
    step_s: u64,
    at: u64,
    traffic: Traffic,
    #[serde(default, skip_serializing_if = "is_unknown")]
    ipv4: FamilyMeasures,
    #[serde(default, skip_serializing_if = "is_unknown")]
    ipv6: FamilyMeasures,
}

/// The hours of a day that are known: the hour, seconds up and down in IPv4, and in IPv6.
#[derive(Debug, Deserialize, Serialize)]
struct DayLine<'a> {
    uplink: Cow<'a, str>,
    at: u64,
    hours: Vec<(u8, u16, u16, u16, u16)>,
}

#[derive(Debug, Deserialize, Serialize)]
struct OutageLine<'a> {
    uplink: Cow<'a, str>,
    outage: Cow<'a, Outage>,
}

fn is_unknown(line: &FamilyMeasures) -> bool {
    *line == FamilyMeasures::default()
}

fn json(line: &FileLine<'_>) -> String {
    serde_json::to_string(line).expect("texts and numbers are JSON") + "\n"
}

/// Returns the line of an outage.
pub(super) fn outage(uplink: &str, outage: &Outage) -> String {
    json(&FileLine::Outage(OutageLine { uplink: uplink.into(), outage: Cow::Borrowed(outage) }))
}

fn bucket(uplink: &str, step_s: u64, at: u64, bucket: &Bucket) -> String {
    let PerFamily { ipv4, ipv6 } = bucket.families;
    let traffic = bucket.traffic;
    json(&FileLine::Bucket(BucketLine { uplink: uplink.into(), step_s, at, traffic, ipv4, ipv6 }))
}

fn day(uplink: &str, at: u64, hours: Vec<(u8, u16, u16, u16, u16)>) -> String {
    json(&FileLine::Day(DayLine { uplink: uplink.into(), at, hours }))
}

impl UplinkHistory {
    /// Returns all lines of it, in parts: the longest-lived first.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let outages = self.outages.iter().map(|each| outage(name, each)).collect();
        let [fine, minutes, hours] = RESOLUTIONS.map(|(step, _)| self.bucket_lines(name, step, 0));
        vec![self.day_lines(name), outages, hours, minutes, fine]
    }

    fn bucket_lines(&self, name: &str, step: u64, since: u64) -> String {
        let buckets = self.series.buckets(step, since);
        buckets.map(|(at, each)| bucket(name, step, at, each)).collect()
    }

    fn day_lines(&self, name: &str) -> String {
        let mut text = String::new();
        let mut hours = Vec::new();
        let mut present = 0;
        for (at, tally) in self.series.tallies(0) {
            let begin = at.saturating_sub(at % DAY);
            if begin != present && !hours.is_empty() {
                text.push_str(&day(name, present, std::mem::take(&mut hours)));
            }
            present = begin;
            let hour = u8::try_from(at.saturating_sub(begin) / HOUR).unwrap_or_default();
            let PerFamily { ipv4, ipv6 } = tally.families;
            hours.push((hour, ipv4.0, ipv4.1, ipv6.0, ipv6.1));
        }
        if hours.is_empty() { text } else { text + &day(name, present, hours) }
    }
}

impl History {
    /// Returns the lines about outages that changed since the last call; empty if none did.
    pub fn take_outage_lines(&mut self) -> String {
        std::mem::take(&mut self.pending).concat()
    }

    /// Returns the lines about everything that changed since the last call.
    pub fn take_lines(&mut self) -> String {
        let mut text = self.take_outage_lines();
        let Some(newest) = self.newest else { return text };
        self.expire(newest);
        for (name, uplink) in self.uplinks.iter().filter(|(_, uplink)| uplink.newest >= self.saved)
        {
            for (step, _) in RESOLUTIONS {
                text.push_str(&uplink.bucket_lines(name, step, self.saved));
            }
        }
        self.saved = newest;
        text
    }

    /// Returns the lines of a whole file.
    #[cfg(any(test, feature = "model"))]
    pub fn lines(&self) -> String {
        self.uplinks.iter().map(|(name, uplink)| uplink.lines(name).concat()).collect()
    }

    /// Returns whether the file has something that is no longer true, and forgets it.
    pub const fn take_stale(&mut self) -> bool {
        std::mem::replace(&mut self.stale, false)
    }

    /// Reads a file. Returns with it how many lines could not be read: they are left out.
    pub fn read(bytes: &[u8]) -> (History, usize) {
        let mut history = History::default();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let unread = lines.filter(|line| history.read_line(line).is_none()).count();
        history.resume();
        (history, unread)
    }

    fn read_line(&mut self, line: &[u8]) -> Option<()> {
        match serde_json::from_slice(line).ok()? {
            FileLine::Bucket(BucketLine { uplink, step_s, at, traffic, ipv4, ipv6 }) => {
                let bucket = Bucket { traffic, families: PerFamily { ipv4, ipv6 } };
                let known_until = at.checked_add(u64::from(traffic.seconds))?;
                let uplink = self.named(&uplink)?;
                if !uplink.series.set(step_s, at, bucket) {
                    return None;
                }
                uplink.newest = uplink.newest.max(known_until);
            }
            FileLine::Day(DayLine { uplink, at, hours }) => {
                let fits = |(hour, up, down, up6, down6): &(u8, u16, u16, u16, u16)| {
                    let seconds = [up.saturating_add(*down), up6.saturating_add(*down6)];
                    *hour < 24 && seconds.iter().all(|seconds| u64::from(*seconds) <= HOUR)
                };
                at.checked_add(DAY).filter(|_| at.is_multiple_of(DAY) && hours.iter().all(fits))?;
                let uplink = self.named(&uplink)?;
                for (hour, up, down, up6, down6) in hours {
                    let families = PerFamily { ipv4: (up, down), ipv6: (up6, down6) };
                    let at = at.saturating_add(u64::from(hour).saturating_mul(HOUR));
                    uplink.series.set_tally(at, Tally { families });
                }
            }
            FileLine::Outage(OutageLine { uplink, outage }) => {
                let uplink = self.named(&uplink)?;
                uplink.newest = uplink.newest.max(outage.end.unwrap_or(outage.begin));
                uplink.outages.set(outage.into_owned());
            }
        }
        Some(())
    }

    fn named(&mut self, name: &str) -> Option<&mut UplinkHistory> {
        if name.len() > MAX_NAME {
            return None;
        }
        self.make_room(name, &[]);
        Some(self.uplinks.entry(name.to_owned()).or_default())
    }

    /// Ends the outages of the former daemon with the last that it has recorded.
    fn resume(&mut self) {
        for (name, uplink) in &mut self.uplinks {
            uplink.interrupt(name, uplink.newest, &mut self.pending);
        }
        self.newest = self.uplinks.values().map(|uplink| uplink.newest).max();
        self.saved = self.newest.unwrap_or_default();
    }
}
