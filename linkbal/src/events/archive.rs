//! The file of events, so that they survive restarts: one line of JSON each, the oldest first.
//!
//! A thread of its own appends to it; the main loop never waits for the disk. It is written anew
//! with the last events when it has grown to twice as many. A line that is torn by a crash, or
//! anything else that is no event, is left out.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::Event;
use crate::sys::host::{
    file::{self, LARGE},
    writer::BackgroundWriter,
};

/// Most events that wait for the disk.
const QUEUE: usize = 1000;

/// Largest size of the file, in bytes; the last half of it is kept then.
const MAX_BYTES: usize = 1 << 20;

/// The file, and the events that are in it.
struct Archive {
    path: PathBuf,
    /// The last lines, without line ends.
    lines: VecDeque<String>,
    /// Most lines that are kept.
    most: usize,
    /// Size of `lines` in bytes, with line ends.
    size: usize,
    /// Lines in the file, and their bytes; `None` if it is to be written anew.
    written: Option<(usize, usize)>,
    /// Set once a failure was logged.
    failed: bool,
}

/// Reads the events of a file: at most `most`, the last ones, in ascending order.
pub(super) fn read(path: &Path, most: usize) -> Vec<Event> {
    let bytes = match file::read(path, LARGE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!("{} cannot be read ({error}): former events are lost", path.display());
            return Vec::new();
        }
    };
    let mut last = 0;
    let parse = |line: &[u8]| serde_json::from_slice::<Event>(line).ok();
    let events = bytes.split(|byte| *byte == b'\n').filter_map(parse);
    // Numbers ascend, whatever stands in the file.
    let ascending = events.filter(|event| {
        let later = event.sequence > last && event.sequence < u64::MAX;
        last = last.max(if later { event.sequence } else { 0 });
        later
    });
    let mut events: VecDeque<Event> = VecDeque::new();
    for event in ascending {
        if events.len() == most {
            events.pop_front();
        }
        events.push_back(event);
    }
    events.into()
}

/// Starts a thread that keeps `most` events in the file at `path`, which has those of `known`; lines
/// are pushed to what is returned. `None` if that is not possible, which is logged.
pub(super) fn start(path: &Path, known: &[Event], most: usize) -> Option<BackgroundWriter> {
    let mut archive = Archive::new(path, known.iter().map(Event::json), most);
    let write = move |line: &[u8], _: u64| {
        archive.add(&String::from_utf8_lossy(line));
    };
    let started = BackgroundWriter::start("events", QUEUE, write);
    started.inspect_err(|error| tracing::warn!("{error:#}: events do not survive a restart")).ok()
}

impl Archive {
    fn new(path: &Path, known: impl Iterator<Item = String>, most: usize) -> Archive {
        let (lines, size) = (VecDeque::new(), 0);
        let path = path.to_owned();
        let mut archive = Archive { path, lines, most, size, written: None, failed: false };
        known.for_each(|line| archive.note(line));
        archive
    }

    fn note(&mut self, line: String) {
        self.size = self.size.saturating_add(length(&line));
        self.lines.push_back(line);
        while self.lines.len() > self.most || self.size > MAX_BYTES / 2 {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.size = self.size.saturating_sub(length(&oldest));
        }
    }

    fn add(&mut self, line: &str) {
        let length = length(line);
        self.note(line.to_owned());
        let grown = self
            .written
            .map(|(lines, bytes)| (lines.saturating_add(1), bytes.saturating_add(length)));
        let fits = |(lines, bytes): &(usize, usize)| {
            *lines <= self.most.saturating_mul(2) && *bytes <= MAX_BYTES
        };
        let outcome = match grown.filter(fits) {
            Some(grown) => self.append(line).map(|()| grown),
            None => self.rewrite(),
        };
        // After a failure, the file is written as a whole with the next event.
        self.written = outcome.as_ref().ok().copied();
        self.log(outcome.as_ref().err());
    }

    fn log(&mut self, failure: Option<&io::Error>) {
        match failure {
            Some(error) if !self.failed => tracing::warn!(
                "failed to write {}: {error}; it is tried again with the next event",
                self.path.display()
            ),
            None if self.failed => {
                tracing::info!("{} is up to date again", self.path.display());
            }
            _ => {}
        }
        self.failed = failure.is_some();
    }

    fn append(&self, line: &str) -> io::Result<()> {
        // Without `create`: who removes the file, removes the former events.
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// Writes the file as a whole; returns its lines and bytes.
    fn rewrite(&mut self) -> io::Result<(usize, usize)> {
        let lines = self.lines.iter().fold(String::new(), |all, line| all + line + "\n");
        file::rewrite(&self.path, |file| file.write_all(lines.as_bytes()))?;
        Ok((self.lines.len(), lines.len()))
    }
}

fn length(line: &str) -> usize {
    line.len().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use tempfile::tempdir;

    use super::*;
    use crate::engine::Report;

    fn event(sequence: u64) -> Event {
        let report = Report::Lan { interface: "lan0".into(), exists: true };
        Event::new(sequence, SystemTime::UNIX_EPOCH, &report)
    }

    fn sequences(path: &Path, most: usize) -> Vec<u64> {
        read(path, most).iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn the_last_events_are_kept_in_a_bounded_file() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("state/events.jsonl");
        assert!(sequences(&path, 10).is_empty());
        let mut archive = Archive::new(&path, [].into_iter(), 10);
        for number in 1..=100 {
            archive.add(&event(number).json());
            let text = fs::read_to_string(&path).expect("it is there");
            assert!(text.lines().count() <= 20, "{number}");
        }
        assert_eq!(sequences(&path, 10), (91..=100).collect::<Vec<_>>());
        let mode = fs::metadata(&path).expect("it is there");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }

    #[test]
    fn what_is_torn_or_foreign_is_left_out_and_the_file_goes_on() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let torn = &event(4).json()[..20];
        let last = event(u64::MAX).json();
        let text =
            [&event(1).json(), "\u{0}", "{}", &event(3).json(), &event(2).json(), &last, torn];
        fs::write(&path, text.join("\n")).expect("written");
        assert_eq!(sequences(&path, 10), [1, 3], "and in order");
        let known = read(&path, 10);
        let mut archive = Archive::new(&path, known.iter().map(Event::json), 10);
        archive.add(&event(4).json());
        assert_eq!(sequences(&path, 10), [1, 3, 4], "no line is glued to the torn one");
        assert_eq!(sequences(&path, 2), [3, 4]);
    }

    #[test]
    fn long_events_do_not_make_the_file_long() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let mut archive = Archive::new(&path, [].into_iter(), 1000);
        for number in 1..200 {
            let report = Report::Refused { what: "x".repeat(20_000), problem: None };
            archive.add(&Event::new(number, SystemTime::UNIX_EPOCH, &report).json());
            let size = fs::metadata(&path).expect("it is there").len();
            assert!(size <= MAX_BYTES as u64, "{size}");
        }
        assert!(sequences(&path, 1000).ends_with(&[198, 199]));
    }

    #[test]
    fn a_disk_that_fails_is_tried_again() {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let mut archive = Archive::new(&path, [].into_iter(), 10);
        archive.add(&event(1).json());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("something in its place");
        archive.add(&event(2).json());
        assert!(archive.failed);
        fs::remove_dir(&path).expect("removed");
        archive.add(&event(3).json());
        assert_eq!((sequences(&path, 10), archive.failed), (vec![1, 2, 3], false));
    }
}
