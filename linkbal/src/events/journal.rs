//! The last events, and their readers.
//!
//! Readers are never waited for, and nothing is queued for them: a reader remembers its position,
//! and one that is too slow misses the events that were dropped meanwhile, which shows in the
//! sequence numbers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

use super::Event;
use crate::engine::Report;

/// Number of events that are kept.
const KEPT: usize = 1000;

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
        let kept = Mutex::new(VecDeque::with_capacity(KEPT));
        Journal { shared: Arc::new(Shared { kept, last: watch::Sender::new(0) }) }
    }
}

impl Journal {
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
