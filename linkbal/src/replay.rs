//! Recordings of a running engine, and their replay.
//!
//! The engine is a function of its inputs and their times. `linkbal run --record FILE` writes all
//! of them, as lines of JSON; an engine that is fed with them makes the same commands again, at the
//! same times.
//!
//! The first line is [`Start`]:
//!
//! ```json
//! {"version":1,"sources":{"name":"linkbal.toml","text":"[lan]\n...","files":{}},
//!  "indexes":{"cable":0,"fiber":1},"up":196611,"admin_states":{"cable":"drained"}}
//! ```
//!
//! Each other line is an input: the time in nanoseconds since the engine's epoch, never less than
//! in the line before; and the [`Event`] as serde writes it, or nothing if only time passed:
//!
//! ```json
//! {"at_ns":20481733,"event":{"ProbeAnswer":{"uplink":0,"family":"ipv4",
//!  "target":{"Echo":"192.0.2.1"},"round":0}}}
//! {"at_ns":220481901}
//! ```
//!
//! or the [`Configuration`] that the engine goes on with from then on.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::{MAX_UPLINKS, UpMask};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Sources},
    engine::{
        Command, Engine, Event,
        admin::AdminState,
        flows::Former,
        indexed::{self, Indexed},
    },
};

/// Version of the format.
pub const VERSION: u32 = 1;

/// The longest time for which a DNS record may be believed (RFC 2181 section 8).
const MAX_TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// The initial state of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Version of the format, [`VERSION`].
    pub version: u32,
    /// The configuration.
    pub sources: Sources,
    /// The index of each uplink, by name.
    pub indexes: BTreeMap<String, u32>,
    /// The usable uplinks, as the datapath had them.
    pub up: u32,
    /// The uplinks that the datapath had, and the configuration has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// The administrative states of uplinks, by name.
    #[serde(alias = "wishes")]
    pub admin_states: BTreeMap<String, AdminState>,
}

/// One input; `E` is an [`Event`] or a reference to one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input<E> {
    /// Nanoseconds since the epoch.
    pub at_ns: u64,
    /// Event that happened; `None` if only time passed.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub event: Option<E>,
    /// The configuration that the engine goes on with, instead of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
}

/// A configuration that follows another one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The configuration.
    pub sources: Sources,
    /// The index of each uplink, by name.
    pub indexes: BTreeMap<String, u32>,
    /// The administrative states of uplinks, by name.
    #[serde(alias = "wishes")]
    pub admin_states: BTreeMap<String, AdminState>,
}

/// A configuration that was read.
#[derive(Clone, Debug)]
struct ReadConfig {
    config: Config,
    indexed: Vec<Indexed>,
}

impl ReadConfig {
    fn new(sources: &Sources, indexes: &BTreeMap<String, u32>) -> Result<ReadConfig, String> {
        let config = sources.parse().map_err(|error| error.to_string())?.config;
        let different: BTreeSet<u32> = indexes.values().copied().collect();
        if different.len() != indexes.len() {
            return Err("two uplinks have the same index".into());
        }
        if let Some(index) = different.iter().find(|index| **index >= MAX_UPLINKS as u32) {
            return Err(format!("no uplink can have the index {index}"));
        }
        let indexed = indexed::assign(&config.uplinks, indexes);
        Ok(ReadConfig { config, indexed })
    }
}

/// A whole recording.
#[derive(Clone, Debug)]
pub struct Recording {
    start: Start,
    inputs: Vec<Input<Event>>,
    /// The first configuration, then those that follow.
    readings: Vec<ReadConfig>,
    uplinks: Vec<Indexed>,
}

/// A line that cannot be part of a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadLine {
    /// Number of the line, from 1.
    pub line: usize,
    /// Description of the problem.
    pub problem: String,
}

impl Recording {
    /// Reads a recording. A last line that was cut off is left out.
    ///
    /// # Errors
    ///
    /// The first line that is no part of a recording.
    pub fn parse(text: &str) -> Result<Recording, BadLine> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = (1..).zip(complete.lines());
        let bad = |line| move |problem| BadLine { line, problem };
        let (_, first) = lines.next().ok_or_else(|| bad(1)("the recording is empty".into()))?;
        let (start, reading) = parse_start(first).map_err(bad(1))?;
        let mut readings = vec![reading];
        let mut inputs: Vec<Input<Event>> = Vec::new();
        for (number, line) in lines {
            let before = inputs.last().map_or(0, |input| input.at_ns);
            let input = parse_input(line, before).map_err(bad(number))?;
            if let Some(Configuration { sources, indexes, .. }) = &input.configuration {
                readings.push(ReadConfig::new(sources, indexes).map_err(bad(number))?);
            }
            inputs.push(input);
        }
        let mut uplinks: Vec<Indexed> = Vec::new();
        for indexed in readings.iter().rev().flat_map(|reading| &reading.indexed) {
            if uplinks.iter().all(|known| known.index != indexed.index) {
                uplinks.push(indexed.clone());
            }
        }
        Ok(Recording { start, inputs, readings, uplinks })
    }

    /// Returns the uplinks of all configurations, by the last name of each index.
    pub fn uplinks(&self) -> &[Indexed] {
        &self.uplinks
    }

    /// Feeds an engine with the recording, and hands on its commands, each with the time of the
    /// input that it answers.
    pub fn play(&self, mut hand_on: impl FnMut(Duration, &Command)) {
        let mut drain = |engine: &mut Engine, now| {
            while let Some(command) = engine.next_command() {
                hand_on(now, &command);
            }
        };
        let (up, admin_states) = (UpMask(self.start.up), &self.start.admin_states);
        let mut readings = self.readings.iter().cloned();
        let Some(ReadConfig { config, indexed }) = readings.next() else { return };
        let former = self.start.former.clone();
        let mut engine = Engine::new(config, indexed, up, former, admin_states, Duration::ZERO);
        drain(&mut engine, Duration::ZERO);
        for input in &self.inputs {
            let now = Duration::from_nanos(input.at_ns);
            match (&input.event, &input.configuration) {
                (Some(event), _) => engine.handle_event(event.clone(), now),
                (None, Some(Configuration { admin_states, .. })) => {
                    let Some(ReadConfig { config, indexed }) = readings.next() else { return };
                    engine.reconfigure(config, indexed, admin_states, now);
                }
                (None, None) => engine.handle_timeout(now),
            }
            drain(&mut engine, now);
        }
    }
}

fn parse_start(line: &str) -> Result<(Start, ReadConfig), String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(line)
        .map_err(|error| format!("this is no recording of linkbal: {error}"))?;
    if version != VERSION {
        return Err(format!("the format has version {version}, this linkbal reads {VERSION}"));
    }
    let start: Start = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let reading = ReadConfig::new(&start.sources, &start.indexes)?;
    Ok((start, reading))
}

fn parse_input(line: &str, before: u64) -> Result<Input<Event>, String> {
    let input: Input<Event> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if input.at_ns < before {
        return Err(format!(
            "its time {} is before that of the line before, {before}",
            input.at_ns
        ));
    }
    if let Some(Event::Resolved { addresses, .. }) = &input.event
        && addresses.iter().any(|(_, ttl)| *ttl > MAX_TTL)
    {
        return Err("a TTL is longer than DNS can say".into());
    }
    Ok(input)
}

/// Formats a time of the engine in seconds, exactly.
pub fn seconds(at: Duration) -> String {
    format!("{}.{:09}", at.as_secs(), at.subsec_nanos())
}

/// Formats a command with its time, in one line and in full: equal lines are equal decisions.
pub fn exact(at: Duration, command: &Command) -> String {
    format!("{} {command:?}", seconds(at))
}

#[cfg(test)]
mod tests;
