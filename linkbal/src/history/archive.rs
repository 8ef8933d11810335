//! The file of history, and what is shared with its writer and its readers.
//!
//! A thread of its own writes it; the main loop never waits for the disk. Lines are added once a minute,
//! and at once when an outage begins or ends. The file is written anew, beside the former one, when what
//! was added is half as much again, or if something went wrong.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{History, pages::Pages, record::Record};
use crate::{
    sys::host::{file, writer::BackgroundWriter},
    words::count,
};

/// Most entries that wait for the disk.
const QUEUE: usize = 64;

/// Bytes that may be added to a small file before it is written anew.
const GROWTH: u64 = 1 << 20;

/// Largest size of a file that is written anew, more than all uplinks need; it may grow by half.
const MAX_FILE: u64 = 16 << 20;

/// Largest file that is read.
const MAX_READ: u64 = 2 * MAX_FILE;

/// Longest time that the end of the daemon waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// The history of all uplinks; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    /// Creates a shared history.
    pub fn new(history: History) -> Shared {
        Shared(Arc::new(Mutex::new(history)))
    }

    /// Waits for the history, which nobody holds for long.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        // A panic while it was locked came between two samples.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next records of an answer; `None` after the last ones.
    pub fn page(&self, pages: &mut Pages) -> Option<Vec<Record>> {
        pages.next(&self.lock())
    }
}

/// The history, with the queue to its file.
#[derive(Debug)]
pub struct Archive {
    shared: Shared,
    /// The queue, if there could be one.
    writer: Option<BackgroundWriter>,
}

impl Archive {
    /// Reads the file at `path`, and starts a thread that writes it. Failures are logged: without a file,
    /// history does not survive a restart.
    pub fn open(path: &Path) -> Archive {
        let shared = Shared::new(read(path));
        let path = path.to_owned();
        let mut file = HistoryFile { path, shared: shared.clone(), sizes: None, failed: false };
        let write = move |lines: &[u8], lost: u64| file.add(lines, lost > 0);
        let writer = BackgroundWriter::start("history", QUEUE, write)
            .inspect_err(|error| tracing::warn!("{error:#}: history does not survive a restart"));
        Archive { shared, writer: writer.ok() }
    }

    /// Returns the history.
    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Queues what changed of outages and, if `all` is set, everything else that did.
    pub fn save(&self, all: bool) {
        let mut history = self.shared.lock();
        let stale = history.take_stale();
        let lines = if all { history.take_lines() } else { history.take_outage_lines() };
        drop(history);
        let Some(writer) = self.writer.as_ref() else { return };
        // With a disk that hangs, lines are lost here; then the file is written anew.
        if stale {
            writer.push(Vec::new());
        } else if !lines.is_empty() {
            writer.push(lines.into_bytes());
        }
    }

    /// Saves everything, and waits a moment until it is in the file.
    pub fn flush(&self) {
        self.save(true);
        if let Some(writer) = &self.writer {
            writer.flush(FLUSH_TIMEOUT);
        }
    }
}

fn read(path: &Path) -> History {
    let bytes = match file::read(path, MAX_READ) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return History::default(),
        Err(error) => {
            tracing::warn!("{} cannot be read ({error}): history begins anew", path.display());
            return History::default();
        }
    };
    let (history, unread) = History::read(&bytes);
    if unread > 0 {
        let lines = count(unread, "line");
        tracing::warn!("{}: {lines} left out that cannot be read", path.display());
    }
    history
}

struct HistoryFile {
    path: PathBuf,
    shared: Shared,
    /// Size of the file when it was last written as a whole, and now; `None` if it is to be written anew.
    sizes: Option<(u64, u64)>,
    /// Set once a failure was logged.
    failed: bool,
}

impl HistoryFile {
    /// Adds lines. The file is written anew if there are none, if some are missing, or if it is too
    /// large.
    fn add(&mut self, lines: &[u8], missing: bool) {
        let anew = missing || lines.is_empty();
        let grown = self.sizes.filter(|_| !anew).map(|(whole, now)| {
            let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            (whole, now.saturating_add(added))
        });
        let fits = |(whole, now): &(u64, u64)| {
            now.saturating_sub(*whole) <= GROWTH.max(whole.checked_div(2).unwrap_or_default())
        };
        let outcome = match grown.filter(fits) {
            Some(sizes) => self.append(lines).map(|()| sizes),
            None => self.rewrite().map(|size| (size, size)),
        };
        self.sizes = outcome.as_ref().ok().copied();
        self.log(outcome.as_ref().err());
    }

    fn log(&mut self, failure: Option<&io::Error>) {
        let path = self.path.display();
        match failure {
            Some(error) if !self.failed => {
                tracing::warn!("failed to write {path}: {error}; it is tried again each minute");
            }
            None if self.failed => tracing::info!("{path} is up to date again"),
            _ => {}
        }
        self.failed = failure.is_some();
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        // Without `create`: who removes the file, removes the former history.
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(lines)
    }

    /// Writes the file as a whole; returns its size.
    fn rewrite(&self) -> io::Result<u64> {
        file::rewrite(&self.path, |file| self.write_all(file))
    }

    fn write_all(&self, file: &mut File) -> io::Result<u64> {
        let names: Vec<String> = self.shared.lock().names().cloned().collect();
        let mut size: u64 = 0;
        for name in names {
            // A copy: the main loop does not wait until it is text.
            let Some(uplink) = self.shared.lock().uplink(&name).cloned() else { continue };
            for part in uplink.lines(&name) {
                let grown = size.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
                if grown <= MAX_FILE {
                    file.write_all(part.as_bytes())?;
                    size = grown;
                }
            }
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;
    use crate::{
        history::{Counters, Sample},
        per_family::PerFamily,
    };

    /// A time of 2026.
    const START: u64 = 1_795_928_400;

    /// Records an uplink for some seconds.
    fn record(shared: &Shared, from: u64, seconds: u64) {
        for at in from..=from + seconds {
            let counters = Counters { bytes_up: at, bytes_down: at, flows: at };
            let families = PerFamily::default();
            let sample = Sample { uplink: "a".into(), index: 0, counters, families };
            shared.lock().record(at, Duration::from_secs(at), &[sample]);
        }
    }

    fn lines(archive: &Archive) -> String {
        archive.shared().lock().lines()
    }

    #[test]
    fn another_daemon_goes_on_where_the_file_ends() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("state/history.jsonl");
        let archive = Archive::open(&path);
        for minute in 0..5 {
            record(archive.shared(), START + 60 * minute, 60);
            archive.save(true);
        }
        archive.flush();
        let mode = fs::metadata(&path).expect("it is there");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        assert!(!lines(&archive).is_empty());
        assert_eq!(lines(&Archive::open(&path)), lines(&archive));
        // Torn, and damaged: the rest is there.
        let text = fs::read_to_string(&path).expect("it is there");
        fs::write(&path, format!("\u{0}\n{text}{}", &text[..30])).expect("written");
        let next = Archive::open(&path);
        assert_eq!(lines(&next), lines(&archive));
        record(next.shared(), START + 1000, 10);
        next.flush();
        assert_eq!(lines(&Archive::open(&path)), lines(&next), "nothing is glued to the torn line");
    }

    fn file(path: &Path) -> HistoryFile {
        let (path, shared) = (path.to_owned(), Shared::default());
        HistoryFile { path, shared, sizes: None, failed: false }
    }

    #[test]
    fn the_file_is_written_anew_before_it_is_large() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let mut file = file(&path);
        record(&file.shared.clone(), START, 100);
        let line = [&[b'x'; 99_999][..], b"\n"].concat();
        for _ in 0..50 {
            file.add(&line, false);
            assert!(fs::metadata(&path).expect("it is there").len() < 2 * GROWTH);
        }
        file.add(&line, true);
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, file.shared.lock().lines(), "a line was missing");
    }

    #[test]
    fn a_disk_that_fails_is_tried_again() {
        let folder = tempdir().expect("a folder");
        let state = folder.path().join("state");
        let path = state.join("history.jsonl");
        let mut file = file(&path);
        record(&file.shared.clone(), START, 100);
        fs::write(&state, "no folder").expect("written");
        file.add(b"{}\n", false);
        assert!(file.failed);
        fs::remove_file(&state).expect("removed");
        file.add(b"{}\n", false);
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!((text, file.failed), (file.shared.lock().lines(), false));
    }
}
