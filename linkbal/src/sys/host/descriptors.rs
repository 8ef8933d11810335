//! File descriptors: a high limit, and a reserve for work that ends an outage.
//!
//! A process whose table of descriptors is full can open no socket and start no program: it could
//! neither delete connections, nor reset clients, nor write the nft table. Therefore some
//! descriptors are held from the start, without use. Work that must not fail borrows them
//! ([`lend`]): if the table is full, they are closed for that time, and opened again afterwards.
//! Meanwhile other work gets none ([`check`]).

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};

/// The soft limit to ask for. More is of no use, and programs that linkbal starts may walk through
/// all descriptors that they could have.
const TARGET_LIMIT: libc::rlim_t = 1 << 16;

/// Maximum number of descriptors to hold: for each uplink and family that go down at a time the
/// flow table and a socket, and what it takes to start `nft` and `ss`.
const RESERVE: usize = 96;

/// Divisor of the limit: of a small table, no more than this part is held.
const SHARE: libc::rlim_t = 4;

/// Number of free descriptors with which the reserve is not needed.
const ENOUGH: usize = 24;

static TABLE: Mutex<Table> =
    Mutex::new(Table { size: 0, spare: Vec::new(), lent: 0, given: false });

#[derive(Debug)]
struct Table {
    /// Number of descriptors to hold; 0 before [`prepare`].
    size: usize,
    spare: Vec<OwnedFd>,
    /// Number of current borrowers.
    lent: usize,
    /// True if the held descriptors are closed for the borrowers.
    given: bool,
}

/// Raises the limit of this process and takes the reserve, once, at the start.
///
/// # Errors
///
/// If the kernel does not tell the limit, or the table is full already.
pub fn prepare() -> Result<()> {
    let limit = raise().context("failed to raise the limit of open files")?;
    let share = usize::try_from(limit / SHARE).unwrap_or(RESERVE);
    let mut table = table();
    table.size = share.min(RESERVE);
    table.fill().context("failed to keep descriptors in reserve")
}

/// Lends the reserve: descriptors can be opened although the table is full, until the returned
/// value is dropped. Costs some ten microseconds.
pub fn lend() -> Lent {
    let mut table = table();
    table.lent = table.lent.saturating_add(1);
    if !table.given && table.size > 0 && !has_room() {
        table.spare.clear();
        table.given = true;
    }
    Lent(())
}

/// Checks that free descriptors are not needed by more important work.
///
/// # Errors
///
/// While the reserve is in use, as if the table were full.
pub fn check() -> io::Result<()> {
    match table().given {
        true => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        false => Ok(()),
    }
}

/// Takes back the part of the reserve that could not be had when it was returned.
pub fn refill() {
    let mut table = table();
    if table.lent == 0 {
        // It is tried again the next time.
        let _ = table.fill();
    }
}

/// A loan of the reserve, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the reserve is taken back when this is dropped"]
pub struct Lent(());

impl Drop for Lent {
    fn drop(&mut self) {
        let mut table = table();
        table.lent = table.lent.saturating_sub(1);
        if table.lent == 0 {
            table.given = false;
            let _ = table.fill();
        }
    }
}

impl Table {
    fn fill(&mut self) -> io::Result<()> {
        while self.spare.len() < self.size {
            self.spare.push(nothing()?);
        }
        Ok(())
    }
}

/// Locks the table, which no holder leaves half changed.
fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a descriptor that is of no use.
fn nothing() -> io::Result<OwnedFd> {
    File::open("/").map(OwnedFd::from)
}

fn has_room() -> bool {
    let tried: Vec<_> = (0..ENOUGH).map_while(|_| nothing().ok()).collect();
    tried.len() == ENOUGH
}

/// Raises the soft limit as far as is allowed and of use; returns it.
fn raise() -> io::Result<libc::rlim_t> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the struct, which lives.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = limit.rlim_max.min(TARGET_LIMIT);
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    limit.rlim_cur = wanted;
    // SAFETY: the kernel only reads the struct.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(wanted)
}
