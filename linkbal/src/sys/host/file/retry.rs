//! Delayed writes: of files that cannot be written at once, and in the background those that could
//! hang.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::sync::oneshot;

use super::{super::moment_after, remove, replace, thread};

/// Pause before a failed write is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The result of a write.
type WriteResult = Result<(), String>;

static QUEUE: Mutex<WriteQueue> = Mutex::new(WriteQueue { pending: BTreeMap::new(), busy: None });
static CHANGED: Condvar = Condvar::new();
static WRITER: Once = Once::new();

#[derive(Debug)]
struct WriteQueue {
    /// The pending writes by path: of several contents, the last one.
    pending: BTreeMap<PathBuf, PendingWrite>,
    /// The file that the writer is at: nothing else writes that one.
    busy: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct PendingWrite {
    /// The contents; `None` if the file is to be removed.
    contents: Option<Vec<u8>>,
    /// Number that tells one request for the file from another.
    number: u64,
    /// Time of the next attempt; `None` for at once, if it has not failed.
    due: Option<Instant>,
    /// True if the failure was logged.
    logged: bool,
    waiters: Vec<oneshot::Sender<WriteResult>>,
}

/// Replaces a file. If it cannot be written now, that is logged, and it is tried again until it
/// works. For places that cannot hang, such as below `/run`.
pub(crate) fn store(path: &Path, contents: Vec<u8>) {
    write_or_queue(path, Some(contents));
}

/// Removes a file; if that fails, it is tried again as by [`store`].
pub(crate) fn remove_stored(path: &Path) {
    write_or_queue(path, None);
}

fn write_or_queue(path: &Path, contents: Option<Vec<u8>>) {
    let mut queue = queue();
    if queue.busy.as_deref() == Some(path) {
        enqueue(&mut queue, path, contents);
        return;
    }
    let earlier = queue.pending.remove(path);
    // Under the lock: an earlier order cannot come after this one.
    let Err(error) = perform(path, contents.as_deref()) else { return };
    if !earlier.is_some_and(|earlier| earlier.logged) {
        log_failure(&error);
    }
    let due = Some(moment_after(RETRY_DELAY));
    queue.pending.insert(
        path.to_owned(),
        PendingWrite { contents, due, logged: true, ..PendingWrite::default() },
    );
    drop(queue);
    start_writer();
}

/// Replaces a file in the background, or removes it if there are no contents; the receiver gets
/// the outcome: that it is done, or that it failed and is tried again.
pub(crate) fn store_in_background(
    path: &Path,
    contents: Option<Vec<u8>>,
) -> oneshot::Receiver<WriteResult> {
    let (sender, receiver) = oneshot::channel();
    enqueue(&mut queue(), path, contents).waiters.push(sender);
    CHANGED.notify_all();
    start_writer();
    receiver
}

fn enqueue<'a>(
    queue: &'a mut WriteQueue,
    path: &Path,
    contents: Option<Vec<u8>>,
) -> &'a mut PendingWrite {
    let pending = queue.pending.entry(path.to_owned()).or_default();
    pending.contents = contents;
    pending.number = pending.number.wrapping_add(1);
    pending.due = None;
    pending
}

fn queue() -> MutexGuard<'static, WriteQueue> {
    // Each entry is whole at any time.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn perform(path: &Path, contents: Option<&[u8]>) -> Result<()> {
    match contents {
        Some(contents) => replace(path, contents),
        None => remove(path),
    }
}

fn log_failure(error: &anyhow::Error) {
    tracing::warn!("{error:#}; it is tried again until it works");
}

/// Starts the writer once. Without its thread, a failed write is only tried again with the next
/// change of its file.
fn start_writer() {
    WRITER.call_once(|| {
        if let Err(error) = thread::start("write", write_all) {
            tracing::warn!("files that cannot be written now are not written later: {error:#}");
        }
    });
}

fn write_all() {
    let mut queue = queue();
    loop {
        let now = Instant::now();
        let mut due =
            queue.pending.iter().filter(|(_, pending)| pending.due.is_none_or(|due| due <= now));
        let Some((path, pending)) = due.next() else {
            let waited = CHANGED.wait_timeout(queue, RETRY_DELAY);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        };
        let (path, contents, number) = (path.clone(), pending.contents.clone(), pending.number);
        queue.busy = Some(path.clone());
        // Not under the lock: it may hang.
        drop(queue);
        let outcome = perform(&path, contents.as_deref());
        queue = self::queue();
        queue.busy = None;
        handle_result(&mut queue.pending, &path, number, &outcome);
    }
}

/// Handles the result of a write. A file that was queued anew in the meantime stays.
fn handle_result(
    all: &mut BTreeMap<PathBuf, PendingWrite>,
    path: &Path,
    number: u64,
    outcome: &Result<()>,
) {
    let Some(pending) = all.get_mut(path).filter(|pending| pending.number == number) else {
        return;
    };
    let result = outcome.as_ref().map(drop).map_err(|error| format!("{error:#}"));
    for waiter in pending.waiters.drain(..) {
        // The caller may have given up.
        let _ = waiter.send(result.clone());
    }
    let logged = std::mem::replace(&mut pending.logged, outcome.is_err());
    match outcome {
        Ok(()) => {
            all.remove(path);
            if logged {
                tracing::info!("{} is up to date again", path.display());
            }
        }
        Err(error) => {
            pending.due = Some(moment_after(RETRY_DELAY));
            if !logged {
                log_failure(error);
            }
        }
    }
}
