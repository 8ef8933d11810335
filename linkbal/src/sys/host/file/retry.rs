//! Delayed writes: of files that cannot be written at once, and in the background those that could
//! hang.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::sync::oneshot;

use super::{super::moment_after, remove, replace};

/// Pause before a failed write is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// The result of a write.
type Outcome = Result<(), String>;

static DESK: Mutex<Desk> = Mutex::new(Desk { owed: BTreeMap::new(), busy: None });
static NEWS: Condvar = Condvar::new();
static WRITER: Once = Once::new();

#[derive(Debug)]
struct Desk {
    /// The pending writes by path: of several contents, the last one.
    owed: BTreeMap<PathBuf, Owed>,
    /// The file that the writer is at: nothing else writes that one.
    busy: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Owed {
    /// The contents; `None` if the file is to be removed.
    contents: Option<Vec<u8>>,
    /// Number that tells one order for the file from another.
    number: u64,
    /// Time of the next attempt; `None` for at once, if it has not failed.
    due: Option<Instant>,
    /// True if the failure was logged.
    told: bool,
    asking: Vec<oneshot::Sender<Outcome>>,
}

/// Replaces a file. If it cannot be written now, that is logged, and it is tried again until it
/// works. For places that cannot hang, such as below `/run`.
pub(crate) fn keep(path: &Path, contents: Vec<u8>) {
    settle(path, Some(contents));
}

/// Removes a file; if that fails, it is tried again as by [`keep`].
pub(crate) fn forget(path: &Path) {
    settle(path, None);
}

fn settle(path: &Path, contents: Option<Vec<u8>>) {
    let mut desk = desk();
    if desk.busy.as_deref() == Some(path) {
        order(&mut desk, path, contents);
        return;
    }
    let earlier = desk.owed.remove(path);
    // Under the lock: an earlier order cannot come after this one.
    let Err(error) = perform(path, contents.as_deref()) else { return };
    if !earlier.is_some_and(|earlier| earlier.told) {
        complain(&error);
    }
    let due = Some(moment_after(PAUSE));
    desk.owed.insert(path.to_owned(), Owed { contents, due, told: true, ..Owed::default() });
    drop(desk);
    start_writer();
}

/// Replaces a file in the background, or removes it if there are no contents; the receiver hears
/// when that is done, or that it failed and is tried again.
pub(crate) fn keep_beside(path: &Path, contents: Option<Vec<u8>>) -> oneshot::Receiver<Outcome> {
    let (sender, receiver) = oneshot::channel();
    order(&mut desk(), path, contents).asking.push(sender);
    NEWS.notify_all();
    start_writer();
    receiver
}

fn order<'a>(desk: &'a mut Desk, path: &Path, contents: Option<Vec<u8>>) -> &'a mut Owed {
    let owed = desk.owed.entry(path.to_owned()).or_default();
    owed.contents = contents;
    owed.number = owed.number.wrapping_add(1);
    owed.due = None;
    owed
}

fn desk() -> MutexGuard<'static, Desk> {
    // Each entry is whole at any time.
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn perform(path: &Path, contents: Option<&[u8]>) -> Result<()> {
    match contents {
        Some(contents) => replace(path, contents),
        None => remove(path),
    }
}

fn complain(error: &anyhow::Error) {
    tracing::warn!("{error:#}; it is tried again until it works");
}

/// Starts the writer once. Without its thread, a failed write is only tried again with the next
/// change of its file.
fn start_writer() {
    WRITER.call_once(|| {
        let started = thread::Builder::new().name("write".into()).spawn(write_all);
        if let Err(error) = started {
            tracing::warn!("failed to start a thread that writes files: {error}");
        }
    });
}

fn write_all() {
    let mut desk = desk();
    loop {
        let now = Instant::now();
        let mut due = desk.owed.iter().filter(|(_, owed)| owed.due.is_none_or(|due| due <= now));
        let Some((path, owed)) = due.next() else {
            let waited = NEWS.wait_timeout(desk, PAUSE);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        };
        let (path, contents, number) = (path.clone(), owed.contents.clone(), owed.number);
        desk.busy = Some(path.clone());
        // Not under the lock: it may hang.
        drop(desk);
        let outcome = perform(&path, contents.as_deref());
        desk = self::desk();
        desk.busy = None;
        take_in(&mut desk.owed, &path, number, &outcome);
    }
}

/// Takes in the result of a write. A file that was ordered anew in the meantime stays.
fn take_in(all: &mut BTreeMap<PathBuf, Owed>, path: &Path, number: u64, outcome: &Result<()>) {
    let Some(owed) = all.get_mut(path).filter(|owed| owed.number == number) else { return };
    let told = outcome.as_ref().map(drop).map_err(|error| format!("{error:#}"));
    for asking in owed.asking.drain(..) {
        // The caller may have given up.
        let _ = asking.send(told.clone());
    }
    let told = std::mem::replace(&mut owed.told, outcome.is_err());
    match outcome {
        Ok(()) => {
            all.remove(path);
            if told {
                tracing::info!("{} is up to date again", path.display());
            }
        }
        Err(error) => {
            owed.due = Some(moment_after(PAUSE));
            if !told {
                complain(error);
            }
        }
    }
}
