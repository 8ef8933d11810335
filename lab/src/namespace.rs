//! Network namespaces which clean up after themselves.

pub mod offload;
mod process;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

pub use self::process::Process;

/// The folder in which `ip netns` keeps its handles.
const HANDLES: &str = "/run/netns";
/// Folder in which the daemon keeps its pins, in a subfolder `netns-<cookie>` per namespace.
const BPF_FOLDER: &str = "/sys/fs/bpf/linkbal";
/// Folder in which the daemon keeps its socket and state, in such a subfolder, too.
const RUN_FOLDER: &str = "/run/linkbal";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Ends the caller with a clear message unless it is root.
///
/// # Panics
/// Without root: a privileged test that silently passes would prove nothing.
pub fn require_root() {
    assert!(Uid::effective().is_root(), "the lab needs root: it creates network namespaces");
}

/// A named network namespace; dropping it deletes it and what the daemon left for it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
    cookie: u64,
}

impl Namespace {
    /// Creates `lb<pid>-<n>-<role>` with its loopback interface up.
    ///
    /// # Errors
    /// When `ip netns add` fails or the namespace cannot be entered.
    pub fn new(role: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lb{}-{number}-{role}", std::process::id());
        run_to_end(Command::new("ip").args(["netns", "add", &name]), None)?;
        let namespace = Self::open(name)?;
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Takes over the existing namespace `name`.
    fn open(name: String) -> Result<Self> {
        let path = Path::new(HANDLES).join(&name);
        let file = File::open(&path).with_context(|| format!("failed to open namespace {name}"))?;
        let mut namespace = Self { name, handle: file, cookie: 0 };
        let entered = namespace.enter()?;
        let cookie = current_cookie()?;
        drop(entered);
        namespace.cookie = cookie;
        Ok(namespace)
    }

    /// Returns the name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the kernel's `SO_NETNS_COOKIE` of the namespace.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Returns the folder of the daemon's pins for the namespace.
    #[must_use]
    pub fn bpf_dir(&self) -> PathBuf {
        Path::new(BPF_FOLDER).join(format!("netns-{}", self.cookie))
    }

    /// Returns the folder of the daemon's socket and state files for the namespace.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        Path::new(RUN_FOLDER).join(format!("netns-{}", self.cookie))
    }

    /// Returns the path of the daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("linkbal.sock")
    }

    /// Moves the calling thread into the namespace until the guard is dropped.
    ///
    /// # Errors
    /// When the kernel refuses `setns`.
    pub fn enter(&self) -> Result<Entered> {
        let previous = File::open("/proc/thread-self/ns/net")
            .context("failed to open the thread's own namespace")?;
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("failed to enter namespace {}", self.name))?;
        Ok(Entered { previous, thread: PhantomData })
    }

    /// Creates a command whose process runs inside the namespace.
    ///
    /// The file system stays the host's (unlike with `ip netns exec`, which hides bpffs), and a
    /// Ctrl-C on the terminal does not reach it: the lab decides when its processes end.
    ///
    /// `nsenter` becomes the program. To enter here, between fork and exec, would have the page
    /// tables of a large test copied for each command.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={HANDLES}/{}", self.name)).arg("--").arg(program);
        command.process_group(0);
        command
    }

    /// Runs a command to its end inside the namespace; returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; its standard error is in the text.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        run_to_end(self.command(program).args(args), None)
    }

    /// Runs a command like [`Namespace::run`], with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn run_with_input(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        run_to_end(self.command(program).args(args), Some(input))
    }

    /// Runs `ip` once for each line.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        self.run_with_input("ip", &["-batch", "-"], lines).map(drop)
    }

    /// Loads an nft script as one transaction.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn load_nft(&self, script: &str) -> Result<()> {
        self.run_with_input("nft", &["-f", "-"], script).map(drop)
    }

    /// Starts a command of [`Namespace::command`] which is killed when its owner drops it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        Process::start(command)
    }

    /// Writes a sysctl of this namespace, named with dots: `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// When there is no such sysctl or the kernel refuses the value.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let _entered = self.enter()?;
        fs::write(sysctl_path(key), value)
            .with_context(|| format!("failed to set sysctl {key} to {value}"))
    }

    /// Reads a sysctl of this namespace, without its line end.
    ///
    /// # Errors
    /// When there is no such sysctl.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let _entered = self.enter()?;
        let text = fs::read_to_string(sysctl_path(key))
            .with_context(|| format!("failed to read sysctl {key}"))?;
        Ok(text.trim_end().to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("{error:#}");
        }
        for leftover in [self.bpf_dir(), self.run_dir()] {
            if leftover.exists()
                && let Err(error) = fs::remove_dir_all(&leftover)
            {
                eprintln!("failed to remove {}: {error}", leftover.display());
            }
        }
    }
}

/// A guard of a thread inside a namespace; dropping it brings the thread back.
#[derive(Debug)]
pub struct Entered {
    previous: File,
    /// A marker that keeps the guard on the thread that entered.
    thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        setns(&self.previous, CloneFlags::CLONE_NEWNET)
            .expect("a thread may return to the namespace it came from");
    }
}

/// Deletes the namespaces, and the processes in them, of labs whose process is dead.
///
/// # Errors
/// When a namespace cannot be deleted.
pub fn purge_stale() -> Result<()> {
    let Ok(entries) = fs::read_dir(HANDLES) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            purge(&name)?;
        }
    }
    Ok(())
}

fn purge(name: &str) -> Result<()> {
    let pids = run_to_end(Command::new("ip").args(["netns", "pids", name]), None);
    for pid in pids.unwrap_or_default().lines().filter_map(|line| line.trim().parse().ok()) {
        // It may have ended since it was listed.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    match Namespace::open(name.to_owned()) {
        Ok(namespace) => drop(namespace),
        // A lab that died inside `ip netns add` leaves a file which is no namespace.
        Err(_) => drop(delete(name)),
    }
    // Another lab may have been quicker: what counts is that it is gone.
    ensure!(!Path::new(HANDLES).join(name).exists(), "failed to delete namespace {name}");
    Ok(())
}

/// Returns the id of the process which made the namespace `lb<pid>-<n>-<role>`.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix("lb")?.split_once('-')?;
    let (number, _role) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn delete(name: &str) -> Result<()> {
    run_to_end(Command::new("ip").args(["netns", "del", name]), None).map(drop)
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// Returns `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h) of a socket made by this thread.
fn current_cookie() -> Result<u64> {
    // SAFETY: a plain system call; the result is checked before it is used.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    ensure!(raw >= 0, "failed to open a socket: {}", std::io::Error::last_os_error());
    // SAFETY: `raw` is an open descriptor which nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of::<u64>())?;
    // SAFETY: the kernel writes at most `size` bytes, which is the size of `cookie`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    ensure!(status == 0, "failed to read the cookie: {}", std::io::Error::last_os_error());
    Ok(cookie)
}

/// Runs `command` to its end; returns its standard output.
pub(crate) fn run_to_end(command: &mut Command, input: Option<&str>) -> Result<String> {
    let label = label(command);
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {label}"))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).with_context(|| format!("failed to feed {label}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("failed to run {label}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run {label}: {}: {}", output.status, reason.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read output of {label}"))
}

/// Returns the command line as a user would type it, without what enters a namespace.
fn label(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    match words.as_slice() {
        [first, _, separator, rest @ ..] if first == "nsenter" && separator == "--" => {
            rest.join(" ")
        }
        all => all.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("lb123-0-gw"), Some(123));
        assert_eq!(owner("lb123-0-isp-a"), Some(123));
        for foreign in ["lb", "lbx-0-gw", "lb12-gw", "lb12-x-gw", "lab12-0-gw", "cni-12"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
