//! Writes down what the engine is told, in the format of [`crate::replay`].

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use linkbal_common::uplink::UpMask;
use serde::Serialize;

use super::{Indexes, admin::Wishes};
use crate::{
    config::Sources,
    engine::{Event, desired::Indexed},
    replay::{Configuration, Input, Start, VERSION},
};

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// `None` after a failure.
    file: Option<File>,
}

impl Recorder {
    /// Begins a recording in the file at `path`, which is made anew and can be read by its owner only:
    /// it holds the whole configuration.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is something that a write could wait for.
    pub fn create(path: &Path) -> Result<Recorder> {
        let regular = path.metadata().is_ok_and(|found| found.is_file());
        ensure!(regular || !path.exists(), "failed to record to {}: it is no file", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path);
        let file = file.with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Recorder { path: path.to_owned(), file: Some(file) })
    }

    /// Writes what the engine begins with.
    pub(super) fn start(
        &mut self,
        sources: &Sources,
        indexed: &[Indexed],
        up: UpMask,
        wishes: &Wishes,
    ) {
        let indexes = indexed.iter().map(|each| (each.uplink.name.clone(), each.index));
        let start = Start {
            version: VERSION,
            sources: sources.clone(),
            indexes: indexes.collect::<Indexes>(),
            up: up.0,
            wishes: wishes.by_uplink().clone(),
        };
        self.write(&start);
    }

    /// Writes that the engine goes on with another configuration.
    pub(super) fn configuration(
        &mut self,
        at: Duration,
        sources: &Sources,
        indexed: &[Indexed],
        wishes: &Wishes,
    ) {
        let indexes = indexed.iter().map(|each| (each.uplink.name.clone(), each.index));
        let configuration = Configuration {
            sources: sources.clone(),
            indexes: indexes.collect(),
            wishes: wishes.by_uplink().clone(),
        };
        let at_ns = at.as_nanos() as u64;
        self.write(&Input::<Event> { at_ns, event: None, configuration: Some(configuration) });
    }

    /// Writes an input.
    pub(super) fn input(&mut self, at: Duration, event: Option<&Event>) {
        // The nanoseconds of five centuries fit.
        let at_ns = at.as_nanos() as u64;
        self.write(&Input { at_ns, event, configuration: None });
    }

    fn write(&mut self, line: &impl Serialize) {
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_vec(line).map_err(anyhow::Error::new).and_then(|mut bytes| {
            bytes.push(b'\n');
            Ok(file.write_all(&bytes)?)
        });
        if let Err(error) = written {
            tracing::warn!("the recording {} ends: {error:#}", self.path.display());
            self.file = None;
        }
    }
}
