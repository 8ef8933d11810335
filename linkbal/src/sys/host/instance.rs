//! The files and folders of linkbal, which has one instance for each network namespace.
//!
//! In the namespace of process 1, pins live in `/sys/fs/bpf/linkbal`, files in `/run/linkbal` and
//! those that outlive a reboot in `/var/lib/linkbal`; elsewhere the former two get a subfolder
//! `netns-COOKIE`, and the latter are below that of `/run/linkbal`. The cookie of a network
//! namespace is unique until the next boot, unlike its inode number, so that leftovers never apply
//! to another namespace.

mod lock;

use std::{
    env,
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail};
use linkbal_common::maps;
use nix::{
    fcntl::Flock,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{file, thread};

/// The place of bpffs, and the same place as process 1 sees it: `ip netns exec` hides the former
/// behind a new `/sys`.
const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_OF_INIT: &str = "/proc/1/root/sys/fs/bpf";

const RUN_DIR: &str = "/run/linkbal";

/// File below the run folder with the sysctls as they were before linkbal.
pub(in crate::sys) const SAVED_SYSCTLS: &str = "sysctls.json";

/// File below the run folder with the bonds and their members as they were before linkbal.
pub(in crate::sys) const BOND_RECORDS: &str = "bonds.json";

/// File below the run folder with the interfaces that have filters.
pub(in crate::sys) const CLSACT_RECORD: &str = "clsact.json";

/// Files below the run folder about the network namespace.
const OF_NAMESPACE: [&str; 3] = [SAVED_SYSCTLS, BOND_RECORDS, CLSACT_RECORD];

/// Name of the file that is locked, with linkbal's process id.
const PID_FILE: &str = "linkbal.pid";

/// Length of the id of a boot: a UUID (RFC 9562 section 4).
const BOOT_ID: usize = 36;

/// File name of the API's socket.
const SOCKET: &str = "linkbal.sock";

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h, since Linux 5.14).
const SO_NETNS_COOKIE: i32 = 71;

/// The folders of the instance of the current network namespace.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Folder of the pins on bpffs.
    pub bpf_dir: PathBuf,
    /// Folder of socket, lock and state.
    pub run_dir: PathBuf,
    /// Folder of files that outlive a reboot.
    pub state_dir: PathBuf,
}

impl Instance {
    /// Finds the folders, and mounts bpffs if it is nowhere.
    ///
    /// # Errors
    ///
    /// If bpffs is not mounted and cannot be.
    pub fn current() -> Result<Instance> {
        Instance::below(&bpffs()?)
    }

    /// Finds the folders and changes nothing: bpffs may not be mounted there.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell the network namespace.
    pub fn unprepared() -> Result<Instance> {
        let mounted = [BPFFS, BPFFS_OF_INIT].into_iter().find(|path| is_bpffs(path));
        Instance::below(Path::new(mounted.unwrap_or(BPFFS)))
    }

    fn below(bpffs: &Path) -> Result<Instance> {
        let bpf_dir = in_namespace(&bpffs.join("linkbal"))?;
        let run_dir = run_dir()?;
        // Another namespace does not outlive a reboot itself.
        let state_dir = match subfolder()? {
            None => PathBuf::from("/var/lib/linkbal"),
            Some(_) => run_dir.join("state"),
        };
        Ok(Instance { bpf_dir, run_dir, state_dir })
    }

    /// Returns whether a datapath is pinned.
    pub fn has_datapath(&self) -> bool {
        self.bpf_dir.join(maps::SETTINGS::NAME).exists()
    }

    /// Returns whether a datapath is pinned, as far as the user may know.
    pub fn known_datapath(&self) -> Option<bool> {
        self.bpf_dir.join(maps::SETTINGS::NAME).try_exists().ok()
    }

    /// Returns the process that holds the lock, if there is one and the kernel tells.
    pub fn holder(&self) -> Option<u32> {
        // The folders are locked, too, and alone where no file can be made.
        let files = [self.run_dir.join(PID_FILE), self.run_dir.clone(), self.bpf_dir.clone()];
        files.iter().find_map(|path| lock::holder(&File::open(path).ok()?))
    }

    /// Returns whether this is the instance of the first network namespace, that of the service.
    pub fn is_first(&self) -> bool {
        self.run_dir == Path::new(RUN_DIR)
    }

    /// Returns the path of the API's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET)
    }

    /// Takes the lock that keeps a second daemon out, and leaves the process id in its file. The
    /// lock of a dead daemon is waited for: a process that it was just about to start may hold it
    /// for a moment.
    ///
    /// # Errors
    ///
    /// If another daemon holds it; the error names its pid.
    pub fn lock(&self) -> Result<Lock> {
        // A subfolder is no safer than what it is in.
        for folder in [Path::new(RUN_DIR), &self.run_dir] {
            if self.run_dir.starts_with(folder) {
                lock::make_folder(folder)?;
            }
        }
        let path = self.run_dir.join(PID_FILE);
        let folder = self.locked_folder()?;
        let mut held = vec![lock::hold(folder, &path)?];
        match lock::take(&path)? {
            Ok(file) => held.push(file),
            // Below a read-only /run, or on a full disk, the folder alone keeps others out.
            Err(error) => tracing::warn!("failed to make {}: {error}", path.display()),
        }
        self.forget_others()?;
        Ok(Lock { _held: held })
    }

    /// Opens the folder that is locked besides the pid file: that of the file or, if this fails,
    /// that of the pins.
    fn locked_folder(&self) -> Result<File> {
        let folder = match File::open(&self.run_dir) {
            Ok(folder) => return Ok(folder),
            Err(_) => &self.bpf_dir,
        };
        let opened = fs::create_dir_all(folder).and_then(|()| File::open(folder));
        opened.with_context(|| format!("failed to lock {}", folder.display()))
    }
}

/// The lock that keeps a second daemon out, as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _held: Vec<Flock<File>>,
}

impl Instance {
    /// Removes the files about interfaces and settings of another boot, or of another network
    /// namespace: where the folder outlives them, as in a container, they would be applied to
    /// others.
    fn forget_others(&self) -> Result<()> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let now = format!("{} {}", boot.trim(), netns_cookie()?);
        let path = self.run_dir.join("namespace");
        let before = file::read_text(&path, file::SMALL).ok();
        if before.as_deref() == Some(&now) {
            return Ok(());
        }
        // What is damaged tells nothing: files of another boot are rarer than that.
        let other = before.is_some_and(|before| is_namespace(&before));
        for name in OF_NAMESPACE.into_iter().filter(|_| other) {
            let file = self.run_dir.join(name);
            if fs::remove_file(&file).is_ok() {
                tracing::info!("{} was of an earlier boot: removed", file.display());
            }
        }
        file::store(&path, now.into());
        Ok(())
    }
}

/// Returns whether a text names a boot and a network namespace, as a whole.
fn is_namespace(text: &str) -> bool {
    let words: Option<(&str, &str)> = text.split_once(' ');
    words.is_some_and(|(boot, cookie)| boot.len() == BOOT_ID && cookie.parse::<u64>().is_ok())
}

/// Returns the path of the daemon's unix socket in this network namespace, whether it runs or not.
///
/// # Errors
///
/// If the kernel does not tell the network namespace.
pub fn socket() -> Result<PathBuf> {
    Ok(run_dir()?.join(SOCKET))
}

fn run_dir() -> Result<PathBuf> {
    in_namespace(Path::new(RUN_DIR))
}

fn in_namespace(base: &Path) -> Result<PathBuf> {
    Ok(subfolder()?.map_or_else(|| base.to_path_buf(), |name| base.join(name)))
}

/// Returns the subfolder's name for this network namespace; `None` for that of process 1.
fn subfolder() -> Result<Option<String>> {
    let namespace = |path: &str| fs::read_link(path);
    let own = namespace("/proc/self/ns/net").context("failed to read /proc/self/ns/net")?;
    let thread = namespace("/proc/thread-self/ns/net").unwrap_or(own);
    let is_first = match namespace("/proc/1/ns/net") {
        Ok(init) => init == thread,
        // Looking at process 1 takes all its capabilities. A service manager tells that this is the
        // instance of the machine by the folder that it provides.
        Err(_) => env::var_os("RUNTIME_DIRECTORY").is_some_and(|given| given == RUN_DIR),
    };
    if is_first {
        return Ok(None);
    }
    Ok(Some(format!("netns-{}", netns_cookie()?)))
}

/// Returns the cookie of the calling thread's network namespace.
///
/// # Errors
///
/// If the kernel is older than 5.14.
pub fn netns_cookie() -> Result<u64> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| std::net::UdpSocket::bind("[::1]:0"))
        .or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))
        .context("failed to open a socket")?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that long.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error())
            .context("failed to read the network namespace's cookie: linkbal needs Linux 5.14");
    }
    Ok(cookie)
}

/// Returns the mount point of bpffs, and mounts it in the namespace of process 1 if there is none.
fn bpffs() -> Result<PathBuf> {
    for path in [BPFFS, BPFFS_OF_INIT] {
        if is_bpffs(path) {
            return Ok(path.into());
        }
    }
    // A thread of its own: the change of mount namespace must not outlive the mount.
    let mounted = thread::start("mount", mount_bpffs)?.join();
    mounted.unwrap_or_else(|_| bail!("failed to mount bpffs: the thread died"))?;
    let found = [BPFFS, BPFFS_OF_INIT].into_iter().find(|path| is_bpffs(path));
    found.map(PathBuf::from).context("failed to find bpffs after mounting it")
}

/// Returns whether bpffs is mounted where linkbal looks for it.
pub(in crate::sys) fn is_bpffs_mounted() -> bool {
    [BPFFS, BPFFS_OF_INIT].into_iter().any(is_bpffs)
}

fn is_bpffs(path: &str) -> bool {
    statfs(path).is_ok_and(|status| status.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs() -> Result<()> {
    // Where process 1 cannot be looked at, this namespace has to do.
    if let Ok(init) = File::open("/proc/1/ns/mnt")
        && unshare(CloneFlags::CLONE_FS).is_ok()
    {
        let _ = setns(init, CloneFlags::CLONE_NEWNS);
    }
    match mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700")) {
        Ok(()) => Ok(()),
        Err(errno) => Err(io::Error::from(errno)).with_context(|| {
            let hint = "mount it by hand: `mount -t bpf bpf /sys/fs/bpf`";
            format!("failed to mount bpffs on {BPFFS}; {hint}")
        }),
    }
}

/// Removes the files of a folder, and the folder itself unless other instances live below it. A
/// missing folder is a success. Goes on after failures, and returns the first one.
///
/// # Errors
///
/// If a file cannot be removed.
pub fn remove_files(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", folder.display()));
        }
    };
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| !is_folder(path));
    let mut failure = None;
    for path in files {
        if let Err(error) = fs::remove_file(&path) {
            let failed = format!("failed to remove {}", path.display());
            failure.get_or_insert(Error::new(error).context(failed));
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    // Not empty: others live here.
    let _ = fs::remove_dir(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn what_another_boot_left_is_not_given_back() {
        let folder = tempdir().expect("a folder");
        let dir = folder.path().to_path_buf();
        let instance =
            Instance { bpf_dir: dir.clone(), run_dir: dir.clone(), state_dir: dir.clone() };
        let saved = dir.join(SAVED_SYSCTLS);
        let lock = || drop(instance.lock().expect("locked"));
        fs::write(&saved, "{}").expect("written");
        lock();
        lock();
        assert!(saved.exists(), "it is of this boot, or nobody knows");
        fs::write(dir.join("namespace"), "00000000-0000-4000").expect("written");
        lock();
        assert!(saved.exists(), "half a name tells nothing");
        fs::write(dir.join("namespace"), "00000000-0000-4000-8000-000000000000 7")
            .expect("written");
        lock();
        assert!(!saved.exists());
        assert!(dir.join("namespace").exists());
    }
}
