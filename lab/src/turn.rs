//! Turns of tests on one machine: most run beside each other, some need it for themselves.
//!
//! Every lab takes a turn beside others. A test that measures, floods, or keeps all processors busy
//! takes one alone, before its lab: it waits until all others have ended theirs, and new ones wait
//! until its end. One that only takes long gives way.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turns that are taken.
#[derive(Default)]
struct Turns {
    /// Number of turns of each thread: a test may build several labs.
    taken: Option<HashMap<ThreadId, usize>>,
    /// Number of tests that wait to be alone.
    waiting: usize,
    /// Set while a test is alone.
    alone: bool,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns { taken: None, waiting: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

fn turns() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(turns: MutexGuard<'static, Turns>) -> MutexGuard<'static, Turns> {
    CHANGED.wait(turns).unwrap_or_else(PoisonError::into_inner)
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    thread: ThreadId,
    alone: bool,
}

/// Takes a turn beside others.
#[must_use]
pub fn shared() -> Turn {
    let thread = thread::current().id();
    let mut turns = turns();
    // Who has a turn already must not wait for those that wait for its end.
    while !turns.has(thread) && (turns.alone || turns.waiting > 0) {
        turns = wait(turns);
    }
    turns.take(thread);
    Turn { thread, alone: false }
}

/// Takes a turn alone.
///
/// # Panics
/// If the thread has a turn already: it would wait for itself.
#[must_use]
pub fn alone() -> Turn {
    let thread = thread::current().id();
    let mut turns = turns();
    assert!(!turns.has(thread), "a test that needs the machine alone says so before its lab");
    turns.waiting += 1;
    while turns.alone || turns.taken.as_ref().is_some_and(|taken| !taken.is_empty()) {
        turns = wait(turns);
    }
    turns.waiting -= 1;
    turns.alone = true;
    turns.take(thread);
    Turn { thread, alone: true }
}

/// Lowers the priority of this thread and of all that it starts from now on, for a test that keeps a
/// processor busy for long without measuring anything.
pub fn give_way() {
    /// A weight of 110, where others have 1024 (`sched_prio_to_weight` in kernel/sched/core.c).
    const NICE: libc::c_int = 10;
    // SAFETY: the call takes numbers only; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        eprintln!("failed to lower the priority: {}", std::io::Error::last_os_error());
    }
}

impl Turns {
    fn has(&self, thread: ThreadId) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.contains_key(&thread))
    }

    fn take(&mut self, thread: ThreadId) {
        *self.taken.get_or_insert_default().entry(thread).or_default() += 1;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = turns();
        turns.alone &= !self.alone;
        if let Some(taken) = &mut turns.taken
            && let Some(count) = taken.get_mut(&self.thread)
        {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.thread);
            }
        }
        drop(turns);
        CHANGED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_runs_beside_a_test_that_is_alone() {
        let running = AtomicUsize::new(0);
        let enter = |limit| {
            let before = running.fetch_add(1, Ordering::SeqCst);
            assert!(before < limit, "{before} others run");
            thread::sleep(Duration::from_millis(2));
            running.fetch_sub(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for number in 0..12 {
                scope.spawn(move || {
                    if number % 4 == 0 {
                        let _turn = alone();
                        let _lab = shared();
                        enter(1);
                    } else {
                        let _turn = shared();
                        let _second = shared();
                        enter(12);
                    }
                });
            }
        });
    }
}
