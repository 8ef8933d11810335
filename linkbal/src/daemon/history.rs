//! Samples of all uplinks for their history, once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkbal_common::{counter::UplinkCounters, uplink::MAX_UPLINKS};

use super::Daemon;
use crate::{
    engine::{
        health::{Health, KnownOutage, State, reason::Reason},
        uplinks::UplinkState,
    },
    history::{Counters, FamilySample, LineState, Probes, Sample, archive::Archive, outages::Down},
    per_family::PerFamily,
    sys::host::{instance::Instance, memory},
};

/// Seconds between two additions to the file: what a crash costs at most.
const SAVE_INTERVAL_S: u64 = 60;

/// The history, and when it was saved.
#[derive(Debug)]
pub(super) struct Recording {
    archive: Archive,
    /// The minute of the clock in which everything was saved last.
    saved: u64,
}

impl Recording {
    /// Goes on where the file of history ends.
    pub(super) fn open(instance: &Instance) -> Recording {
        let archive = Archive::open(&instance.state_dir.join("history.jsonl"));
        Recording { archive, saved: 0 }
    }

    /// Returns the history and its file.
    pub(super) const fn archive(&self) -> &Archive {
        &self.archive
    }
}

impl Daemon {
    /// Records the state of all uplinks, with their traffic counters.
    pub(super) fn record_history(&mut self, counters: &[UplinkCounters; MAX_UPLINKS]) {
        let (now, wall) = (self.now(), SystemTime::now());
        let moment = Moment { now, wall };
        let uplinks = self.engine.uplinks().iter();
        let samples: Vec<Sample> = uplinks.map(|uplink| moment.sample(uplink, counters)).collect();
        let archive = &self.history.archive;
        archive.shared().lock().record(seconds(wall), now, &samples);
        // When a minute begins, so that the one before is complete in the file.
        let minute = seconds(wall) / SAVE_INTERVAL_S;
        let begins = minute != self.history.saved;
        archive.save(begins);
        self.history.saved = minute;
        if begins {
            // Answers to many readers at once leave megabytes free in the middle of what lives.
            memory::give_back();
        }
    }
}

/// The moment of a sample.
struct Moment {
    now: Duration,
    wall: SystemTime,
}

impl Moment {
    fn sample(&self, uplink: &UplinkState, counters: &[UplinkCounters; MAX_UPLINKS]) -> Sample {
        let counted = &counters[uplink.index as usize];
        let family = |family| uplink.family(family).map(|health| self.family(health));
        Sample {
            uplink: uplink.config.name.clone(),
            index: uplink.index,
            counters: Counters {
                bytes_up: counted.bytes,
                bytes_down: counted.answer_bytes,
                flows: counted.flows_new,
            },
            families: PerFamily::from_fn(family),
        }
    }

    fn family(&self, health: &Health) -> FamilySample {
        let window = health.window();
        let latencies = window.latencies();
        let since = health.outage().map_or(health.since(), |outage| outage.since);
        let since = health.answers_since().unwrap_or(since);
        let age = self.now.saturating_sub(since);
        FamilySample {
            probes: Probes {
                answered: window.settled().saturating_sub(window.lost_in_all()),
                lost: window.lost_in_all(),
                latencies: latencies.number(),
                latency_sum: latencies.sum(),
            },
            jitter: window.jitter(),
            verdict: verdict(health),
            since: self.wall.checked_sub(age).map_or(0, seconds),
        }
    }
}

fn verdict(health: &Health) -> LineState {
    match (health.state(), health.outage()) {
        // What is blocked on purpose says nothing of the line.
        _ if health.is_drilled() => LineState::Unmeasured,
        (State::Up, _) => LineState::Up,
        _ if health.answers_since().is_some() => LineState::Answers,
        (_, Some(outage)) => LineState::Down(down(&outage)),
        _ => LineState::Unmeasured,
    }
}

/// Returns the cause of an outage, with its name.
fn down(outage: &KnownOutage<'_>) -> Down {
    match outage.cause {
        _ if !outage.ready => Down { cause: "not-ready", reason: outage.reason.clone() },
        Some(cause) => Down { cause: cause.name(), reason: Reason::Cause(cause).into() },
        None => Down { cause: "no-answer", reason: outage.reason.clone() },
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
