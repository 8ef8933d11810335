//! The last events, and their readers.
//!
//! They are kept in a file as well, from which the next daemon goes on.
//!
//! Readers are never waited for, and nothing is queued for them: a reader remembers its position,
//! and one that is too slow misses the events that were dropped meanwhile, and is told of the gap.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use super::{
    Event, archive,
    position::{Position, resume},
};
use crate::{engine::Report, sys::host::writer::BackgroundWriter};

/// Number of events that are kept.
pub(super) const KEPT: usize = 1000;

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
    /// The run of the daemon: digits that no other run has.
    run: String,
}

/// One reader of the events.
#[derive(Debug)]
pub struct Reader {
    journal: Journal,
    /// Last event that it has, as far as it has any.
    position: Position,
    /// Sequence number behind which it goes on.
    behind: u64,
    /// Set if the next number must be the one behind.
    follows: bool,
    /// Set if events may be missing here, whatever comes next.
    gap: bool,
    last: watch::Receiver<u64>,
}

/// The next thing for a reader.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalEntry {
    /// An event.
    Event(Arc<Event>),
    /// A gap: events are missing, or may be.
    Gap(Gap),
}

/// A gap in the events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Gap {
    /// The id of the last event before it.
    pub after: String,
    /// The id of the first event after it; null if that is yet to come.
    pub next: Option<String>,
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
        Journal { shared: Arc::new(Shared { kept, last, file, run: run() }) }
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
        let run = self.shared.run.clone();
        let event = Arc::new(Event { run, ..Event::new(sequence, time, report) });
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
        let (position, last) = (Position::default(), self.shared.last.subscribe());
        let journal = self.clone();
        Reader { journal, position, behind: 0, follows: false, gap: false, last }
    }

    /// Returns a reader that goes on behind the event that `after` names.
    pub fn reader_after(&self, after: Position) -> Reader {
        let kept = self.kept();
        let known = kept.iter().map(|event| (event.sequence, event.run.as_str()));
        let resumed = resume(known, &after);
        drop(kept);
        let (behind, gap) = (resumed.behind, resumed.gap);
        Reader { position: after, behind, follows: true, gap, ..self.reader() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // A panic while it was locked came between two complete states.
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the digits of a run.
fn run() -> String {
    // Without random numbers, which Linux always has, the time tells runs apart.
    let number = getrandom::u32().unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.subsec_nanos()
    });
    format!("{number:08x}")
}

impl Reader {
    /// Returns the position behind the last event that it has returned.
    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// Returns the next event that is kept; `None` after the last one. Gaps are passed over.
    pub fn next_kept(&mut self) -> Option<Arc<Event>> {
        let event = self.peek()?;
        self.pass(&event);
        Some(event)
    }

    /// Returns the next event, or a gap before it, and waits if there is neither; `None` if there will be
    /// none.
    pub async fn next(&mut self) -> Option<JournalEntry> {
        loop {
            self.last.mark_unchanged();
            if let Some(news) = self.ready() {
                return Some(news);
            }
            self.last.changed().await.ok()?;
        }
    }

    /// Returns the next event or gap, if there is one already.
    fn ready(&mut self) -> Option<JournalEntry> {
        let next = self.peek();
        let jumps = |event: &Event| self.follows && event.sequence > self.behind.saturating_add(1);
        if self.gap || next.as_deref().is_some_and(jumps) {
            (self.gap, self.follows) = (false, false);
            let next = next.map(|event| Position::of(&event).to_string());
            return Some(JournalEntry::Gap(Gap { after: self.position.to_string(), next }));
        }
        let event = next?;
        self.pass(&event);
        Some(JournalEntry::Event(event))
    }

    fn peek(&self) -> Option<Arc<Event>> {
        let kept = self.journal.kept();
        let at = kept.partition_point(|event| event.sequence <= self.behind);
        kept.get(at).cloned()
    }

    fn pass(&mut self, event: &Event) {
        self.position = Position::of(event);
        (self.behind, self.follows) = (event.sequence, true);
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
        assert_eq!(news(&mut reader), ["3", "4"]);
    }

    /// Returns what there is for a reader: sequences, and gaps with the sequences around them.
    fn news(reader: &mut Reader) -> Vec<String> {
        let number = |id: &str| id.split('-').next().unwrap_or_default().to_owned();
        let ready = std::iter::from_fn(|| reader.next().now_or_never().flatten());
        let shown = |news| match news {
            JournalEntry::Event(event) => event.sequence.to_string(),
            JournalEntry::Gap(Gap { after, next }) => {
                format!("{}..{}", number(&after), next.as_deref().map(number).unwrap_or_default())
            }
        };
        ready.map(shown).collect()
    }

    #[test]
    fn a_reader_that_comes_back_goes_on_where_it_was() {
        let journal = Journal::default();
        record(&journal, 5);
        let mut reader = journal.reader();
        (0..3).for_each(|_| drop(reader.next_kept()));
        let position = reader.position().clone();
        assert_eq!(position.to_string(), format!("3-{}", journal.shared.run));
        assert_eq!(news(&mut journal.reader_after(position.clone())), ["4", "5"]);
        let other = Position { sequence: 3, run: "0".into() };
        assert_eq!(news(&mut journal.reader_after(other)), ["3..1", "1", "2", "3", "4", "5"]);
        record(&journal, KEPT);
        let later = news(&mut journal.reader_after(position));
        assert_eq!(later[..2], ["3..6", "6"]);
        assert_eq!(later.len(), 1 + KEPT);
    }

    #[test]
    fn a_journal_whose_end_was_lost_tells_of_a_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let journal = Journal::open(&path);
        record(&journal, 3);
        journal.flush();
        let kept = std::fs::read(&path).expect("read");
        record(&journal, 2);
        let seen = Position { sequence: 5, run: journal.shared.run.clone() };
        journal.flush();
        drop(journal);
        std::fs::write(&path, kept).expect("written");
        let journal = Journal::open(&path);
        assert_eq!(news(&mut journal.reader_after(seen.clone())), ["5.."]);
        record(&journal, 2);
        assert_eq!(news(&mut journal.reader_after(seen)), ["5..4", "4", "5"]);
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
        let oldest = last - KEPT as u64 + 1;
        let expected = [format!("10..{oldest}")];
        let kept = (oldest..=last).map(|sequence| sequence.to_string());
        assert_eq!(news(&mut reader), expected.into_iter().chain(kept).collect::<Vec<_>>());
    }
}
