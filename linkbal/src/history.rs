//! The history of the uplinks: what each of them did in the last hour, day and month, its outages, and
//! how long it was up in the months before.
//!
//! ```text
//!   daemon -- a sample a second --> History --> lines --> file       archive
//!                                      |  ^                |
//!                                      |  +----------------+  at a start
//!                                      v
//!                                 pages of records --> API --> linkbal history, charts
//! ```
//!
//! Pure code, but for `archive`: time is an argument. Memory is fixed: an uplink has 0.5 MiB at most, and
//! there are [`MAX_NAMES`] of them, former ones with half of it: 10 MiB in all. Whatever is not sampled is
//! unknown, neither up nor down: the daemon did not run, or hung, or the clock was not right.

// What the file has, and what clocks say, must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod archive;
pub mod bucket;
pub mod clock;
pub mod line;
pub mod outages;
pub mod pages;
pub mod record;
pub mod ring;
pub mod series;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::{Family, MAX_UPLINKS};

use self::{
    bucket::{Bucket, FamilyMeasures, Mean, Traffic},
    clock::{Clock, ClockReading},
    outages::{Down, Outages},
    series::{DAY, DAYS, Series},
};
use crate::per_family::PerFamily;

/// Most uplinks whose history is kept: as many as can be configured, and some former ones.
pub const MAX_NAMES: usize = MAX_UPLINKS + 8;

/// Longest time between two samples, in seconds, for which the first one holds.
const MAX_GAP: u64 = 10;

/// The state of an uplink at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the uplink.
    pub uplink: String,
    /// Index of the uplink: with another one, its counters are others.
    pub index: u32,
    /// Counters, which only grow; they begin again at 0 with another datapath.
    pub counters: Counters,
    /// State by family; `None` where the uplink does not have it.
    pub families: PerFamily<Option<FamilySample>>,
}

/// Traffic counters of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes from the LAN.
    pub bytes_up: u64,
    /// Bytes to the LAN.
    pub bytes_down: u64,
    /// Flows that began.
    pub flows: u64,
}

/// The state of an uplink in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilySample {
    /// Probes so far.
    pub probes: Probes,
    /// Smoothed jitter.
    pub jitter: Option<Duration>,
    /// The verdict.
    pub verdict: LineState,
    /// Time since which it holds, in seconds since 1970, UTC.
    pub since: u64,
}

/// Counters of probes, which only grow; they begin again at 0 with other targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Probes that were answered in time.
    pub answered: u64,
    /// Probes that were lost.
    pub lost: u64,
    /// Number of latencies, of late answers, too.
    pub latencies: u64,
    /// Sum of the latencies.
    pub latency_sum: Duration,
}

/// The meaning of a sample for a line.
#[derive(Clone, Debug, PartialEq)]
pub enum LineState {
    /// The line works.
    Up,
    /// The line does not work, with the cause.
    Down(Down),
    /// The line answers again, and is not used before its hold time is over.
    Answers,
    /// No meaning: there is no verdict yet, it is disabled, another gateway has it, or a drill blocks it.
    Unmeasured,
}

/// The history of all uplinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    clock: Clock,
    uplinks: BTreeMap<String, UplinkHistory>,
    /// The latest time that something is recorded for.
    newest: Option<u64>,
    /// Lines about outages that are not in the file yet.
    pending: Vec<String>,
    /// Time up to which buckets are in the file.
    saved: u64,
    /// Set if the file has something that is no longer true.
    stale: bool,
}

/// The history of an uplink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UplinkHistory {
    series: Series,
    outages: Outages,
    /// The counters of the last sample; `None` if it is not among those that are sampled.
    last: Option<LastSample>,
    /// The latest time that something is recorded for.
    newest: u64,
}

/// The counters of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LastSample {
    index: u32,
    counters: Counters,
    probes: PerFamily<Probes>,
}

impl History {
    /// Returns the latest time that something is recorded for, in seconds since 1970, UTC.
    pub const fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Returns the names of the uplinks, former ones included.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.uplinks.keys()
    }

    /// Returns the history of an uplink.
    pub fn uplink(&self, name: &str) -> Option<&UplinkHistory> {
        self.uplinks.get(name)
    }

    /// Records samples of all uplinks that are configured. `wall` is what the clock says, in seconds
    /// since 1970, and `now` a monotonic time.
    pub fn record(&mut self, wall: u64, now: Duration, samples: &[Sample]) {
        let (before, set_back) = match self.clock.read(wall, now, self.newest) {
            ClockReading::Doubted => return,
            // Two samples within a second: the next one has it all.
            ClockReading::Believed { before: Some(before), .. } if before == wall => return,
            ClockReading::Believed { before, set_back } => (before, set_back),
        };
        if set_back {
            self.set_back(wall);
        }
        let gap = before.is_none_or(|before| wall.saturating_sub(before) > MAX_GAP);
        let from = if gap { wall } else { before.unwrap_or(wall) };
        if gap {
            self.interrupt_all();
        }
        for sample in samples {
            self.make_room(&sample.uplink, samples);
            let uplink = self.uplinks.entry(sample.uplink.clone()).or_default();
            uplink.measure(from, wall, sample);
            uplink.judge(from, wall, sample, &mut self.pending);
            uplink.newest = wall;
        }
        self.leave_out_others(wall, samples);
        self.newest = Some(wall);
    }

    /// Removes what is dated later than a time: the clock was wrong.
    fn set_back(&mut self, wall: u64) {
        for uplink in self.uplinks.values_mut() {
            uplink.series.truncate(wall);
            uplink.outages.truncate(wall);
            uplink.newest = uplink.newest.min(wall);
        }
        self.saved = self.saved.min(wall);
        self.stale = true;
    }

    /// Ends all outages where they were last seen: what follows was not watched, or is a step of the clock.
    fn interrupt_all(&mut self) {
        for (name, uplink) in &mut self.uplinks {
            uplink.interrupt(name, uplink.newest, &mut self.pending);
        }
    }

    /// Removes the uplink that was not heard of for the longest time, if there is no room for another.
    fn make_room(&mut self, name: &str, samples: &[Sample]) {
        if self.uplinks.contains_key(name) || self.uplinks.len() < MAX_NAMES {
            return;
        }
        let used: BTreeSet<&str> = samples.iter().map(|sample| &*sample.uplink).collect();
        let former = self.uplinks.iter().filter(|(name, _)| !used.contains(name.as_str()));
        let oldest = former.min_by_key(|(_, uplink)| uplink.newest);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.uplinks.remove(&name);
        }
    }

    /// Ends the outages of uplinks that are no longer configured.
    fn leave_out_others(&mut self, wall: u64, samples: &[Sample]) {
        let used: BTreeSet<&str> = samples.iter().map(|sample| &*sample.uplink).collect();
        let pending = &mut self.pending;
        let others = self.uplinks.iter_mut().filter(|(name, _)| !used.contains(name.as_str()));
        for (name, uplink) in others {
            if uplink.last.take().is_some() {
                uplink.interrupt(name, wall, pending);
            }
        }
    }

    /// Forgets what is too old, and former uplinks of which nothing is left.
    fn expire(&mut self, now: u64) {
        self.uplinks.retain(|_, uplink| uplink.expire(now) || uplink.last.is_some());
    }
}

impl UplinkHistory {
    /// Returns the buckets and tallies.
    pub const fn series(&self) -> &Series {
        &self.series
    }

    /// Returns the outages.
    pub const fn outages(&self) -> &Outages {
        &self.outages
    }

    /// Adds the seconds from `from` to `wall`; what the counters say of them counts in the last one.
    fn measure(&mut self, from: u64, wall: u64, sample: &Sample) {
        let last = self.last.filter(|last| last.index == sample.index && from < wall);
        let mut second = Bucket::default();
        second.traffic.seconds = 1;
        for (family, line) in second.families.iter_mut() {
            match sample.families[family].as_ref().map(|sample| &sample.verdict) {
                Some(LineState::Up) => line.up_s = 1,
                Some(LineState::Down(_)) => line.down_s = 1,
                Some(LineState::Answers | LineState::Unmeasured) | None => {}
            }
        }
        let end = wall.saturating_sub(1);
        (from..end).for_each(|at| self.series.add(at, &second));
        if from < wall {
            if let Some(last) = last {
                last.count(sample, &mut second);
            }
            self.series.add(end, &second);
        }
        self.last = Some(LastSample::of(sample));
    }

    /// Begins and ends outages.
    fn judge(&mut self, from: u64, wall: u64, sample: &Sample, pending: &mut Vec<String>) {
        for family in Family::ALL {
            let state = sample.families[family].as_ref();
            // What was not sampled does not belong to an outage.
            let since = state.map_or(wall, |state| state.since.clamp(from, wall));
            let news = match state.map(|state| &state.verdict) {
                Some(LineState::Up) => self.outages.end(family, since, false),
                Some(LineState::Down(down)) => self.outages.went_down(family, since, down),
                Some(LineState::Answers) => {
                    self.outages.answers(family, since);
                    None
                }
                Some(LineState::Unmeasured) | None => self.outages.end(family, since, true),
            };
            pending.extend(news.map(|outage| line::outage(&sample.uplink, outage)));
        }
    }

    /// Ends the outages that may go on, but are not watched.
    fn interrupt(&mut self, name: &str, at: u64, pending: &mut Vec<String>) {
        for family in Family::ALL {
            while let Some(ended) = self.outages.end(family, at, true) {
                pending.push(line::outage(name, ended));
            }
        }
    }

    /// Removes what is too old at a time; returns whether anything is left.
    fn expire(&mut self, now: u64) -> bool {
        self.outages.expire(now.saturating_sub(DAYS.saturating_mul(DAY)));
        self.series.expire(now) || !self.outages.is_empty()
    }
}

impl LastSample {
    fn of(sample: &Sample) -> LastSample {
        let probes = |family| sample.families[family].as_ref().map(|sample| sample.probes);
        LastSample {
            index: sample.index,
            counters: sample.counters,
            probes: PerFamily::from_fn(|family| probes(family).unwrap_or_default()),
        }
    }

    /// Adds what was counted since this sample.
    fn count(&self, sample: &Sample, bucket: &mut Bucket) {
        let (before, after) = (&self.counters, &sample.counters);
        bucket.traffic = Traffic {
            bytes_up: grown(before.bytes_up, after.bytes_up),
            bytes_down: grown(before.bytes_down, after.bytes_down),
            flows: small(grown(before.flows, after.flows)),
            seconds: bucket.traffic.seconds,
        };
        for (family, line) in bucket.families.iter_mut() {
            // Probes that are blocked on purpose say nothing of the line.
            let measured = |sample: &&FamilySample| sample.verdict != LineState::Unmeasured;
            if let Some(sample) = sample.families[family].as_ref().filter(measured) {
                sample.count(&self.probes[family], line);
            }
        }
    }
}

impl FamilySample {
    fn count(&self, before: &Probes, line: &mut FamilyMeasures) {
        let after = &self.probes;
        line.answered = small(grown(before.answered, after.answered));
        line.lost = small(grown(before.lost, after.lost));
        let latencies = small(grown(before.latencies, after.latencies));
        let sum = match after.latency_sum.checked_sub(before.latency_sum) {
            Some(sum) if before.latencies <= after.latencies => sum,
            _ => after.latency_sum,
        };
        line.note_latency(sum, latencies);
        if let Some(jitter) = self.jitter.filter(|_| latencies > 0) {
            let sum_us = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
            line.jitter = Mean { sum_us, number: 1 };
        }
    }
}

/// Returns the growth of a counter, which begins again at 0 now and then.
const fn grown(before: u64, after: u64) -> u64 {
    match after.checked_sub(before) {
        Some(growth) => growth,
        None => after,
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
