//! Files, read so that nothing can hang or grow without end, and written so that a crash leaves
//! them whole.
//!
//! Packets are forwarded without any of them. A file that cannot be read is left out, with a
//! warning that says what is lost; a file that cannot be written is written later.

pub(crate) mod exchange;
mod retry;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::retry::{remove_stored, store, store_in_background};
use super::{descriptors, thread};

/// Maximum size in bytes of a configuration, of each file that it names, and of files that linkbal
/// keeps: some million prefixes.
pub const LARGE: u64 = 64 << 20;

/// Maximum size in bytes of files that hold a few words.
pub(crate) const SMALL: u64 = 64 << 10;

/// Maximum number of folders that are moved aside for a file.
const MAX_ASIDE: u32 = 1000;

/// Time that a disk may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of threads that read, and its maximum, which only hanging ones reach.
static READING: AtomicUsize = AtomicUsize::new(0);
const MAX_READERS: usize = 16;

/// Reads a regular file of at most `limit` bytes. Anything else in its place cannot block this: a
/// pipe without a writer, a device without an end, a mount without a server.
///
/// # Errors
///
/// As the kernel answers, or if it is no regular file, too large, or not read within 5 s.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let name = path.to_owned();
    if READING.fetch_add(1, Ordering::Relaxed) >= MAX_READERS {
        READING.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other("files that were to be read before still hang"));
    }
    // On a dead mount, nothing but another thread can be left behind.
    let work = move || {
        let bytes = read_regular(&name, limit);
        READING.fetch_sub(1, Ordering::Relaxed);
        // The caller may have given up.
        let _ = sender.send(bytes);
    };
    thread::start("read", work).map_err(|error| {
        READING.fetch_sub(1, Ordering::Relaxed);
        io::Error::other(error)
    })?;
    receiver.recv_timeout(READ_TIMEOUT).unwrap_or_else(|_| {
        let text = format!("not read within {} s: is its disk in order?", READ_TIMEOUT.as_secs());
        Err(io::Error::new(ErrorKind::TimedOut, text))
    })
}

/// Reads a text file as [`read`] does.
///
/// # Errors
///
/// As [`read`], and if it is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // To open some devices is to do something with them.
    check_regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    check_regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("larger than {} KiB", limit >> 10);
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "no regular file"))
}

/// Reads a JSON file that linkbal left; a missing one yields the default. A file that is damaged,
/// of another version or foreign is left out with a warning, which says what is `lost`: it must not
/// prevent the start, or the removal of everything.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path, lost: &str) -> T {
    let parsed = match read(path, LARGE) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => return T::default(),
        Err(error) => Err(format!("cannot be read ({error})")),
    };
    parsed.unwrap_or_else(|problem| {
        tracing::warn!("{} {problem}: {lost}", path.display());
        T::default()
    })
}

/// Parses the contents of a JSON file of linkbal's.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| format!("is damaged ({error})"))
}

/// Writes a value as JSON, as [`store`] does.
pub(crate) fn store_json(path: &Path, value: &impl Serialize) {
    store(path, json(value));
}

/// Returns a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    // Fails only for maps whose keys are no text; there are none.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// Replaces the file at `path`, and creates its folder if needed: a reader sees the old contents or
/// the new ones, never a part, even after a power failure. Anything else in its place makes room.
///
/// # Errors
///
/// If it cannot be written; then the old contents stand.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    write(path, contents).with_context(|| format!("failed to write {}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    rewrite(path, |file| file.write_all(contents))
}

/// Replaces a file of linkbal's own by what `fill` writes, as [`replace`] does; returns what that
/// returns. What a process leaves that is killed meanwhile is overwritten by the next one.
///
/// # Errors
///
/// If it cannot be written; then the old contents stand.
pub(crate) fn rewrite<T>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    rewrite_by(path, &own_draft_of(path), fill)
}

/// Replaces a file by a draft that `fill` writes.
fn rewrite_by<T>(
    path: &Path,
    draft: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let _lent = descriptors::lend();
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let written = write_draft(draft, fill).and_then(|filled| {
        make_room(path)?;
        fs::rename(draft, path).map(|()| filled)
    });
    if written.is_err() {
        // On a full disk, a half one is in the way.
        let _ = fs::remove_file(draft);
    }
    let filled = written?;
    // The name, too, must be on the disk.
    File::open(folder)?.sync_all()?;
    Ok(filled)
}

/// Creates the file at `path`, and its folder if needed, for everybody to read: it is there as a whole
/// or not at all. A file whose text is `example` makes room.
///
/// # Errors
///
/// If it exists, of kind [`ErrorKind::AlreadyExists`], or if it cannot be written.
pub fn create(path: &Path, contents: &[u8], example: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = draft_of(path);
    let created = write_draft(&draft, |file| {
        file.write_all(contents)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))
    })
    .and_then(|()| match is_text(path, example) {
        true => fs::rename(&draft, path),
        // Unlike a renamed one, a link never takes the place of a file.
        false => fs::hard_link(&draft, path),
    });
    // It has another name by now, or is of no use.
    let _ = fs::remove_file(&draft);
    created?;
    File::open(folder)?.sync_all()
}

/// Returns whether a file, and no link to one, has exactly that text.
pub(crate) fn is_text(path: &Path, text: &str) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
        && read_text(path, LARGE).is_ok_and(|found| found == text)
}

/// Returns the name under which a file of linkbal's own is written before it takes its place: nobody
/// else has files in those folders.
fn own_draft_of(path: &Path) -> PathBuf {
    beside(path, ".draft")
}

/// Returns the name under which this process writes another file before it takes its place: no other
/// file's, and no other process's.
fn draft_of(path: &Path) -> PathBuf {
    beside(path, &format!(".draft{}", std::process::id()))
}

/// Returns a path with an addition to its name.
fn beside(path: &Path, addition: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(addition);
    PathBuf::from(name)
}

fn write_draft<T>(draft: &Path, fill: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    make_room(draft)?;
    // What an earlier process left of an interrupted write.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Of nobody's business: configurations, and settings of the machine.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(draft)?;
    let filled = fill(&mut file)?;
    file.sync_all()?;
    Ok(filled)
}

/// Removes a folder in the place of a file or, if it is not empty, moves it aside.
fn make_room(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    fs::remove_dir(path).or_else(|_| fs::rename(path, aside(path)))
}

/// Returns an unused name beside `path`.
fn aside(path: &Path) -> PathBuf {
    let name = |number: u32| beside(path, &format!(".aside{number}"));
    let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    (0..MAX_ASIDE).map(name).find(free).unwrap_or_else(|| name(MAX_ASIDE))
}

/// Removes a file; a missing one is a success.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = make_room(path).and_then(|()| fs::remove_file(path));
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
