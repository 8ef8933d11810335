//! Recordings of the inputs of the engine, in the format of [`crate::replay`].

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, ensure};
use linkbal_common::uplink::UpMask;
use serde::Serialize;

use super::{Indexes, admin::AdminStates};
use crate::{
    config::Sources,
    engine::{Event, flows::Former, indexed::Indexed},
    replay::{Configuration, Input, Start, VERSION},
    sys::host::writer::BackgroundWriter,
};

/// Most lines that wait for the disk.
const QUEUE: usize = 16_384;

/// Longest time that the end of the daemon waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// The thread that writes to the file: a disk may hang. `None` after a failure.
    file: Option<BackgroundWriter>,
}

impl Recorder {
    /// Creates a recording in the file at `path`, which is overwritten, and readable by its owner
    /// only: it holds the whole configuration.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or is something that a write could wait for.
    pub fn create(path: &Path) -> Result<Recorder> {
        let regular = path.metadata().is_ok_and(|found| found.is_file());
        ensure!(regular || !path.exists(), "failed to record to {}: it is no file", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path);
        let file = file.with_context(|| format!("failed to create {}", path.display()))?;
        let outbox = BackgroundWriter::start("record", QUEUE, writer(file, path.to_owned()))?;
        Ok(Recorder { path: path.to_owned(), file: Some(outbox) })
    }

    /// Writes the state with which the engine begins.
    pub(super) fn start(
        &mut self,
        sources: &Sources,
        indexed: &[Indexed],
        up: UpMask,
        former: &[Former],
        admin_states: &AdminStates,
    ) {
        let indexes = indexed.iter().map(|each| (each.config.name.clone(), each.index));
        let start = Start {
            version: VERSION,
            sources: sources.clone(),
            indexes: indexes.collect::<Indexes>(),
            up: up.0,
            former: former.to_vec(),
            admin_states: admin_states.by_uplink().clone(),
        };
        self.write(&start);
    }

    /// Writes that the engine goes on with another configuration.
    pub(super) fn configuration(
        &mut self,
        at: Duration,
        sources: &Sources,
        indexed: &[Indexed],
        admin_states: &AdminStates,
    ) {
        let indexes = indexed.iter().map(|each| (each.config.name.clone(), each.index));
        let configuration = Configuration {
            sources: sources.clone(),
            indexes: indexes.collect(),
            admin_states: admin_states.by_uplink().clone(),
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
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(line).map_err(Error::new).and_then(|mut bytes| {
            bytes.push(b'\n');
            ensure!(file.push(bytes), "its disk is too slow");
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!("the recording {} ends: {error:#}", self.path.display());
            self.file = None;
        }
    }
}

/// Writes lines, up to the first failure.
fn writer(file: File, path: PathBuf) -> impl FnMut(&[u8], u64) {
    let mut file = Some(file);
    move |line, _| {
        let written = file.as_mut().map(|file| file.write_all(line));
        if let Some(Err(error)) = written {
            tracing::warn!("the recording {} ends: {error}", path.display());
            file = None;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.flush(FLUSH_TIMEOUT);
        }
    }
}
