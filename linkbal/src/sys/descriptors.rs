//! File descriptors: enough of them, and a reserve for what ends an outage.
//!
//! A process whose table of descriptors is full can open no socket and start no program: it could
//! neither delete connections, nor reset clients, nor write the nft table. So some descriptors are
//! held from the start, open on nothing of use. Whoever has work that must not fail borrows them
//! ([`lend`]): if the table is full, they are closed for as long, and opened again afterwards.
//! Meanwhile nobody else gets one ([`check`]).

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};

/// The soft limit that is asked for. More are of no use, and programs that linkbal starts may walk
/// through all that they could have.
const WANTED: libc::rlim_t = 1 << 16;

/// Descriptors that are held, at most: for each uplink and family that go down at a time the flow
/// table and a socket, and what it takes to start `nft` and `ss`.
const RESERVE: usize = 96;

/// Of a small table, no more than this part is held.
const SHARE: libc::rlim_t = 4;

/// With so many free ones nobody needs the reserve.
const ENOUGH: usize = 24;

static TABLE: Mutex<Table> =
    Mutex::new(Table { size: 0, spare: Vec::new(), lent: 0, given: false });

#[derive(Debug)]
struct Table {
    /// How many are to be held; 0 before [`prepare`].
    size: usize,
    spare: Vec<OwnedFd>,
    /// How many borrow it now.
    lent: usize,
    /// Whether those that were held are closed for them.
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

/// Lets whatever follows open descriptors although the table is full, until the answer is dropped.
/// Costs some ten microseconds.
pub fn lend() -> Lent {
    let mut table = table();
    table.lent = table.lent.saturating_add(1);
    if !table.given && table.size > 0 && !has_room() {
        table.spare.clear();
        table.given = true;
    }
    Lent(())
}

/// Makes sure that what is free is not needed by somebody with better use for it.
///
/// # Errors
///
/// As if the table were full.
pub fn check() -> io::Result<()> {
    match table().given {
        true => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        false => Ok(()),
    }
}

/// Takes back what could not be had when it was given back.
pub fn refill() {
    let mut table = table();
    if table.lent == 0 {
        // The next time, then.
        let _ = table.fill();
    }
}

/// As long as this lives, the reserve is there for whoever needs it.
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

/// Nobody leaves it half changed.
fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A descriptor that nobody uses.
fn nothing() -> io::Result<OwnedFd> {
    File::open("/").map(OwnedFd::from)
}

fn has_room() -> bool {
    let tried: Vec<_> = (0..ENOUGH).map_while(|_| nothing().ok()).collect();
    tried.len() == ENOUGH
}

/// Raises the soft limit as far as is allowed and of use; answers it.
fn raise() -> io::Result<libc::rlim_t> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the struct, which lives.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = limit.rlim_max.min(WANTED);
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
