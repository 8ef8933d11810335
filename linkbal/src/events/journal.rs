//! The last events, and their readers.
//!
//! They are kept in a file as well, from which the next daemon goes on.
//!
//! Readers are never waited for, and nothing is queued for them: a reader remembers its position,
//! and one that is too slow misses the events that were dropped meanwhile, which shows in the
//! sequence numbers.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{Event, archive};
use crate::{engine::Report, sys::host::writer::BackgroundWriter};

/// Number of events that are kept.
const KEPT: usize = 1000;

/// Longest time that the end of the daemon waits for the last events to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// The last events; clones share them.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<VecDeque<Arc<Event>>>,
    /// The sequence number of the last event.
    last: watch::Sender<u64>,
    /// The queue to the file, if there is one.
    file: Option<BackgroundWriter>,
}

/// One reader of the events.
#[derive(Debug)]
pub struct Reader {
    journal: Journal,
    seen: u64,
    last: watch::Receiver<u64>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal::holding(Vec::new(), None)
    }
}

impl Journal {
    /// Creates a journal that goes on where the file at `path` ends.
    pub fn open(path: &Path) -> Journal {
        let events = archive::read(path, KEPT);
        let file = archive::start(path, &events, KEPT);
        Journal::holding(events, file)
    }

    fn holding(events: Vec<Event>, file: Option<BackgroundWriter>) -> Journal {
        let last = events.last().map_or(0, |event| event.sequence);
        let mut kept = VecDeque::with_capacity(KEPT);
        kept.extend(events.into_iter().map(Arc::new));
        let (kept, last) = (Mutex::new(kept), watch::Sender::new(last));
        Journal { shared: Arc::new(Shared { kept, last, file }) }
    }

    /// Waits a moment until the last events are in the file.
    pub fn flush(&self) {
        if let Some(file) = &self.shared.file {
            file.flush(FLUSH_TIMEOUT);
        }
    }

    /// Keeps a report made at `time` as an event, and returns the event.
    pub fn record(&self, report: &Report, time: SystemTime) -> Arc<Event> {
        let sequence = self.shared.last.borrow().saturating_add(1);
        let event = Arc::new(Event::new(sequence, time, report));
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        drop(kept);
        self.shared.last.send_replace(sequence);
        if let Some(file) = &self.shared.file {
            // With a disk that hangs, the file has a gap.
            file.push(event.json().into_bytes());
        }
        event
    }

    /// Returns a reader that begins with the oldest event that is kept.
    pub fn reader(&self) -> Reader {
        Reader { journal: self.clone(), seen: 0, last: self.shared.last.subscribe() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // A panic while it was locked came between two complete states.
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Returns the next event that is kept; `None` after the last one.
    pub fn next_kept(&mut self) -> Option<Arc<Event>> {
        let kept = self.journal.kept();
        let at = kept.partition_point(|event| event.sequence <= self.seen);
        let event = Arc::clone(kept.get(at)?);
        drop(kept);
        self.seen = event.sequence;
        Some(event)
    }

    /// Returns the next event, and waits for it if there is none yet; `None` if there will be none.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            self.last.mark_unchanged();
            if let Some(event) = self.next_kept() {
                return Some(event);
            }
            self.last.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn record(journal: &Journal, count: usize) {
        let report = Report::Lan { interface: "lan0".into(), exists: true };
        (0..count).for_each(|_| drop(journal.record(&report, SystemTime::UNIX_EPOCH)));
    }

    fn sequences(reader: &mut Reader) -> Vec<u64> {
        std::iter::from_fn(|| reader.next_kept()).map(|event| event.sequence).collect()
    }

    #[test]
    fn a_reader_gets_what_is_kept_and_then_what_comes() {
        let journal = Journal::default();
        record(&journal, 2);
        let mut reader = journal.reader();
        assert_eq!(sequences(&mut reader), [1, 2]);
        assert!(reader.next().now_or_never().is_none());
        record(&journal, 2);
        let mut next = || reader.next().now_or_never().flatten().map(|event| event.sequence);
        assert_eq!([next(), next(), next()], [Some(3), Some(4), None]);
    }

    #[test]
    fn another_journal_goes_on_where_the_file_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let journal = Journal::open(&path);
        record(&journal, 3);
        journal.flush();
        drop(journal);
        let journal = Journal::open(&path);
        record(&journal, 1);
        assert_eq!(sequences(&mut journal.reader()), [1, 2, 3, 4]);
    }

    #[test]
    fn a_slow_reader_misses_what_was_let_go_and_holds_nothing_up() {
        let journal = Journal::default();
        let mut reader = journal.reader();
        record(&journal, 10);
        assert_eq!(sequences(&mut reader).last(), Some(&10));
        record(&journal, 3 * KEPT);
        let last = 10 + 3 * KEPT as u64;
        let kept: Vec<u64> = (last - KEPT as u64 + 1..=last).collect();
        assert_eq!(sequences(&mut reader), kept);
    }
}
