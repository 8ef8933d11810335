//! A writer in the background, for output that may come late: its reader can be stopped, and a disk
//! can hang.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    time::Duration,
};

use anyhow::Result;

use super::thread;

/// The queue to such a thread; clones share it.
#[derive(Clone, Debug)]
pub struct BackgroundWriter {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Write(Vec<u8>),
    /// A request to notify once everything before it is written.
    Flush(mpsc::Sender<()>),
}

impl BackgroundWriter {
    /// Starts a thread that hands each entry to `write`, with the number of entries that were lost
    /// before it. At most `length` entries wait.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(
        name: &str,
        length: usize,
        mut write: impl FnMut(&[u8], u64) + Send + 'static,
    ) -> Result<BackgroundWriter> {
        let (queue, entries) = mpsc::sync_channel(length);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let work = move || {
            for entry in entries {
                match entry {
                    Entry::Write(bytes) => write(&bytes, counted.swap(0, Ordering::Relaxed)),
                    // The caller may have given up.
                    Entry::Flush(done) => drop(done.send(())),
                }
            }
        };
        thread::start(name, work)?;
        Ok(BackgroundWriter { queue, lost })
    }

    /// Queues an entry without waiting; returns whether there was room for it.
    pub fn push(&self, bytes: Vec<u8>) -> bool {
        let taken = self.queue.try_send(Entry::Write(bytes)).is_ok();
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = mpsc::channel();
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            // If it takes longer, nobody reads.
            let _ = written.recv_timeout(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let (sender, written) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let outbox = BackgroundWriter::start("test", 2, move |bytes, lost| {
            let _ = sender.send((bytes.to_vec(), lost));
            let _ = wait.recv();
        })
        .expect("a thread");
        assert!(outbox.push(vec![0]));
        assert_eq!(written.recv().expect("written"), (vec![0], 0));
        // The thread hangs now.
        assert_eq!([1, 2, 3, 4].map(|byte| outbox.push(vec![byte])), [true, true, false, false]);
        outbox.flush(Duration::from_millis(1));
        drop(go);
        assert_eq!(written.recv().expect("written"), (vec![1], 2));
        assert_eq!(written.recv().expect("written"), (vec![2], 0));
        outbox.flush(Duration::from_secs(10));
        assert!(outbox.push(vec![5]));
        assert_eq!(written.recv().expect("written"), (vec![5], 0));
    }
}
