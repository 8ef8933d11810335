//! The lock that keeps a second daemon out: the file of its process id.
//!
//! Only the lock counts, never the contents of the file: it can be empty, damaged, or of a process
//! that ended long ago. The kernel tells who holds a lock (`/proc/locks`).

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

/// Time to wait for the lock of a dead daemon, and the pause between attempts.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Maximum length of a process id with its line end, in bytes.
const MAX_PID_TEXT: u64 = 16;

/// Mode of the folder of socket and lock, and the bits that would let others write to it.
const FOLDER_MODE: u32 = 0o755;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Creates a folder, and those above it, that nobody else can change. A failure to create it is
/// only logged: a read-only or full disk does not prevent the start.
///
/// # Errors
///
/// If it belongs to somebody else.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(FOLDER_MODE).create(folder);
    let found = match made.and_then(|()| fs::metadata(folder)) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!("failed to make {}: {error}", folder.display());
            return Ok(());
        }
    };
    let own = geteuid().as_raw();
    ensure!(
        [0, own].contains(&found.uid()),
        "failed to use {}: it belongs to user {}, which could put another socket there; remove it",
        folder.display(),
        found.uid()
    );
    // The umask of whoever starts us may be anything.
    if found.mode() & WRITABLE_BY_OTHERS != 0 && found.uid() == own {
        let mode = Permissions::from_mode(found.mode() & 0o7777 & !WRITABLE_BY_OTHERS);
        fs::set_permissions(folder, mode)
            .with_context(|| format!("failed to set the mode of {}", folder.display()))?;
    }
    Ok(())
}

/// Takes the lock of the pid file, and writes the process id to it; the inner error says why there
/// can be no such file. The lock of a dead daemon is waited for: a process that it was just about
/// to start may hold it for a moment.
///
/// # Errors
///
/// If another daemon holds it; the error names its pid.
pub(super) fn take(path: &Path) -> Result<io::Result<Flock<File>>> {
    let begun = Instant::now();
    loop {
        let file = match open(path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let mut file = hold(file, path)?;
        // The former holder may have removed the file, and another process made a new one.
        if is_at(&file, path) {
            if let Err(error) = note_pid(&mut file) {
                tracing::warn!("failed to write our pid to {}: {error}", path.display());
            }
            return Ok(Ok(file));
        }
        ensure!(begun.elapsed() <= LOCK_TIMEOUT, "failed to lock {}: it changes", path.display());
        sleep(RETRY_DELAY);
    }
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Takes the lock of a file or folder; `path` is the file that may name the holder.
///
/// # Errors
///
/// As [`take`].
pub(super) fn hold(mut file: File, path: &Path) -> Result<Flock<File>> {
    let begun = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((busy, Errno::EWOULDBLOCK)) => {
                let holder = holder(&busy);
                let lives = holder.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
                if lives || begun.elapsed() > LOCK_TIMEOUT {
                    bail!(
                        "linkbal already runs in this network namespace with {}; stop it first, or \
                         see `linkbal status`",
                        name(holder, path)
                    )
                }
                file = busy;
            }
            Err((_, errno)) => {
                return Err(errno).context(format!("failed to lock {}", path.display()));
            }
        }
        sleep(RETRY_DELAY);
    }
}

/// Opens the pid file, and creates it if needed. Anything but a file of linkbal's, such as a link
/// that somebody left there, is replaced: writing to it would harm something else.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    // No terminal, no end of a pipe, no device that could be waited for.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = options.open(path).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((found, file)) if is_ours(&found) => return Ok(file),
        Ok(_) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {}
        Err(error) => return Err(error),
    }
    tracing::warn!("{} is no file of linkbal's: replaced", path.display());
    fs::remove_file(path)?;
    options.create_new(true).open(path)
}

/// Returns whether a file is a plain one with one name that belongs to the current user.
fn is_ours(found: &Metadata) -> bool {
    found.is_file() && found.nlink() <= 1 && found.uid() == geteuid().as_raw()
}

/// Returns whether a file is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let both = file.metadata().ok().zip(fs::symlink_metadata(path).ok());
    both.is_some_and(|(own, there)| same(&own, &there))
}

/// Returns the process that locked a file; the kernel does not tell one of another pid namespace.
pub(super) fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder_in(line, inode))
}

/// Returns the process in a line of `/proc/locks` (`lock_get_status` in fs/locks.c), if it is a
/// lock of a whole file with this inode: `1: FLOCK  ADVISORY  WRITE 812 00:1a:4711 0 EOF`. The
/// device is left out: it is not that of `stat` everywhere.
fn holder_in(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
    let found: u64 = file.rsplit(':').next()?.parse().ok()?;
    pid.parse().ok().filter(|pid| found == inode && *pid > 0)
}

/// Describes the process to stop in words.
fn name(holder: Option<u32>, path: &Path) -> String {
    if let Some(pid) = holder {
        return format!("pid {pid}");
    }
    let mut text = String::new();
    let read = File::open(path).map(|file| file.take(MAX_PID_TEXT).read_to_string(&mut text));
    let written = read.ok().and_then(Result::ok).and_then(|_| text.trim().parse::<u32>().ok());
    match written {
        Some(pid) => format!("pid {pid}, as {} says", path.display()),
        None => format!("a pid that {} does not tell", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn folder() -> (TempDir, std::path::PathBuf) {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("linkbal.pid");
        (folder, path)
    }

    fn own_pid() -> String {
        std::process::id().to_string()
    }

    #[test]
    fn whatever_stands_in_the_file_the_lock_counts() {
        for text in ["", "\n", "1", "0", "-1", "../1", "self", "99999999999999999999", "\0\u{1}x"] {
            let (_folder, path) = folder();
            fs::write(&path, text).expect("written");
            let lock = take(&path).expect("nobody holds it").expect("a file");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), own_pid(), "{text:?}");
            // And again while it is held: the holder is named, not who stands in the file.
            fs::write(&path, text).expect("written");
            let begun = Instant::now();
            let error = take(&path).expect_err("it is held").to_string();
            assert!(error.contains(&format!("with pid {};", own_pid())), "{text:?}: {error}");
            assert!(begun.elapsed() < LOCK_TIMEOUT);
            drop(lock);
        }
    }

    #[test]
    fn nothing_else_is_written_to() {
        let (folder, path) = folder();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").expect("written");
        let leave = |number: usize| match number {
            0 => symlink(&victim, &path).expect("a symbolic link"),
            1 => fs::hard_link(&victim, &path).expect("a hard link"),
            2 => symlink(folder.path().join("nowhere"), &path).expect("a link to nothing"),
            3 => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe"),
            _ => drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")),
        };
        for number in 0..5 {
            leave(number);
            let lock = take(&path).expect("nobody holds it").expect("a file");
            let found = fs::symlink_metadata(&path).expect("it is there");
            assert!(is_ours(&found), "{number}: {found:?}");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), own_pid());
            assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
            assert!(!folder.path().join("nowhere").exists());
            drop(lock);
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn a_file_that_is_removed_while_it_is_waited_for_is_no_lock() {
        let (_folder, path) = folder();
        let first = take(&path).expect("nobody holds it").expect("a file");
        fs::remove_file(&path).expect("removed");
        assert!(!is_at(&first, &path));
        let second = take(&path).expect("it is another file").expect("a file");
        assert!(is_at(&second, &path));
    }

    #[test]
    fn lines_of_the_kernel() {
        let line = "1: FLOCK  ADVISORY  WRITE 812 00:1a:4711 0 EOF";
        assert_eq!(holder_in(line, 4711), Some(812));
        assert_eq!(holder_in(line, 471), None);
        let posix = "2: POSIX  ADVISORY  READ 812 00:1a:4711 128 128";
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 900 00:1a:4711 0 EOF";
        let foreign = "3: FLOCK  ADVISORY  WRITE -1 00:1a:4711 0 EOF";
        for other in [posix, waiting, foreign, "", "1:", "1: FLOCK ADVISORY WRITE"] {
            assert_eq!(holder_in(other, 4711), None, "{other}");
        }
    }

    #[test]
    fn a_folder_is_nobody_elses() {
        let (folder, _) = folder();
        let deep = folder.path().join("a/b");
        make_folder(&deep).expect("made");
        fs::set_permissions(&deep, Permissions::from_mode(0o777)).expect("set");
        make_folder(&deep).expect("made");
        let mode = fs::metadata(&deep).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
}
