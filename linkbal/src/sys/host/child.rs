//! Helper programs, none of which can block anything.
//!
//! A program is started by a thread of its own, since even that can hang, for example on a dead
//! mount. It leads a process group, which is killed when its time is over, when the program is
//! done, and when it is no longer waited for: what it has started ends with it. Its input and
//! output are files in memory and not pipes, so that it makes no difference whether it reads,
//! writes without end, or leaves a process behind that keeps its output open.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, killpg},
    },
    unistd::Pid,
};
use tokio::sync::oneshot;

use super::{moment_after, thread};

/// Time that a program may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Time that its thread may take on top of that, to start it, to wait and to end it.
const SPARE: Duration = Duration::from_secs(1);

/// Maximum number of bytes that a program may print; it cannot write more.
const MAX_OUTPUT: usize = 64 << 20;

/// Maximum number of programs at a time. Only programs that the kernel does not let go of, although
/// killed, come to so many.
const MAX_RUNNING: usize = 16;

/// An error: a program did not answer in time.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{program} did not answer within {} s and was killed", .limit.as_secs())]
pub struct NoAnswer {
    /// Name of the program.
    pub program: String,
    /// Time that it had.
    pub limit: Duration,
}

/// A program to run.
#[derive(Debug)]
pub(in crate::sys) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    input: Option<File>,
    limit: Duration,
}

/// The status and output of a program that has ended.
#[derive(Debug)]
pub(in crate::sys) struct Output {
    pub(in crate::sys) status: ExitStatus,
    pub(in crate::sys) stdout: Vec<u8>,
    pub(in crate::sys) stderr: Vec<u8>,
}

impl Invocation {
    /// Creates an order without input, for at most [`LIMIT`].
    pub(in crate::sys) fn new(program: impl AsRef<Path>, arguments: &[&str]) -> Invocation {
        Invocation {
            program: program.as_ref().to_owned(),
            arguments: arguments.iter().map(OsString::from).collect(),
            input: None,
            limit: LIMIT,
        }
    }

    /// Adds an input, which the program can also read twice.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub(in crate::sys) fn with_input(mut self, text: &str) -> Result<Invocation> {
        let mut file =
            memory().with_context(|| format!("failed to hand {} its input", self.name()))?;
        file.write_all(text.as_bytes())?;
        file.rewind()?;
        self.input = Some(file);
        Ok(self)
    }

    /// Sets another limit of time.
    pub(in crate::sys) fn within(self, limit: Duration) -> Invocation {
        Invocation { limit, ..self }
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn no_answer(&self) -> NoAnswer {
        NoAnswer { program: self.name(), limit: self.limit }
    }
}

impl Output {
    /// Returns what the program printed to its standard output.
    ///
    /// # Errors
    ///
    /// If it failed, with its standard error.
    pub(in crate::sys) fn success(self, program: &str) -> Result<Vec<u8>> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = String::from_utf8_lossy(&self.stderr);
        match said.trim_end() {
            "" => Err(anyhow!("{program} ended with {}", self.status)),
            said => Err(anyhow!("{program}: {said}")),
        }
    }
}

/// Runs a program to its end; `started` gets its process id. The program is killed if the future is
/// dropped.
///
/// # Errors
///
/// If it cannot be started, which an [`io::Error`] tells, or with [`NoAnswer`].
pub(in crate::sys) async fn run(
    invocation: Invocation,
    started: impl FnOnce(u32) + Send + 'static,
) -> Result<Output> {
    let limit = invocation.limit.saturating_add(SPARE);
    let no_answer = invocation.no_answer();
    let (sender, receiver) = oneshot::channel();
    let _group = spawn(invocation, started, move |printed| drop(sender.send(printed)))?;
    match tokio::time::timeout(limit, receiver).await {
        Ok(Ok(printed)) => printed,
        Ok(Err(_)) => Err(anyhow!("the thread that runs {} died", no_answer.program)),
        Err(_) => Err(no_answer.into()),
    }
}

/// Runs a program as [`run`] does, and blocks meanwhile.
///
/// # Errors
///
/// As [`run`].
pub(in crate::sys) fn run_blocking(invocation: Invocation) -> Result<Output> {
    let limit = invocation.limit.saturating_add(SPARE);
    let no_answer = invocation.no_answer();
    let (sender, receiver) = mpsc::channel();
    let _group = spawn(invocation, |_| {}, move |printed| drop(sender.send(printed)))?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| Err(no_answer.into()))
}

/// Number of programs whose thread has not ended.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Starts a program in a thread of its own, in the network namespace of the calling thread.
fn spawn(
    invocation: Invocation,
    started: impl FnOnce(u32) + Send + 'static,
    done: impl FnOnce(Result<Output>) + Send + 'static,
) -> Result<Group> {
    let group = Group::default();
    let shared = group.clone();
    let name = invocation.name();
    if RUNNING.fetch_add(1, Ordering::Relaxed) >= MAX_RUNNING {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        return Err(anyhow!("failed to start {name}: {MAX_RUNNING} earlier programs hang"));
    }
    let spawned = thread::start(&name, move || {
        work(invocation, &shared, started, done);
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
    spawned?;
    Ok(group)
}

/// The leaders of all running groups, which were not waited for.
static LEADERS: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Kills all running programs: this process is about to end, and would leave them behind.
pub(crate) fn kill_all() {
    // No holder leaves it half changed.
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().for_each(kill);
}

/// A process group that is killed when this is dropped. Clones share it.
#[derive(Clone, Default)]
struct Group(Arc<Mutex<State>>);

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    NotStarted,
    /// The program runs. Its leader was not waited for, so its number cannot be another process's.
    Running(Pid),
    Over,
    /// The program is no longer waited for.
    Unwanted,
}

impl Group {
    /// Records that the program runs, unless it is no longer wanted: then it is killed.
    fn runs(&self, leader: Pid) {
        let mut state = self.state();
        if matches!(*state, State::Unwanted) {
            kill(leader);
        } else {
            *state = State::Running(leader);
        }
        LEADERS.lock().unwrap_or_else(PoisonError::into_inner).insert(leader);
    }

    /// Kills all that is left of the group; from now on its number may be another one's.
    fn ends(&self, leader: Pid) {
        let mut state = self.state();
        kill(leader);
        LEADERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&leader);
        *state = State::Over;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No holder leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self) {
        let mut state = self.state();
        if let State::Running(leader) = *state {
            kill(leader);
        }
        if !matches!(*state, State::Over) {
            *state = State::Unwanted;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The thread has a clone, and drops it when it is done.
        self.give_up();
    }
}

fn kill(leader: Pid) {
    // Fails only if no process is left.
    let _ = killpg(leader, Signal::SIGKILL);
}

fn work(
    invocation: Invocation,
    group: &Group,
    started: impl FnOnce(u32),
    done: impl FnOnce(Result<Output>),
) {
    let no_answer = invocation.no_answer();
    let give_up = moment_after(invocation.limit);
    let (mut child, output, errors) = match start(invocation) {
        Ok(running) => running,
        Err(error) => return done(Err(error)),
    };
    started(child.id());
    let leader = Pid::from_raw(child.id() as i32);
    group.runs(leader);
    let ended = ends_until(&child, give_up);
    // It was not waited for yet, so that its number is still its own.
    kill(leader);
    if !ended.as_ref().is_ok_and(|ended| *ended) {
        let error = ended.err().map_or_else(|| no_answer.into(), Error::new);
        // A program that the kernel does not let go of even now is waited for here only.
        done(Err(error));
        let _ = ends_until(&child, moment_after(LIMIT));
        group.ends(leader);
        let _ = child.wait();
        return;
    }
    group.ends(leader);
    let printed = child.wait().map_err(Error::new).and_then(|status| {
        Ok(Output { status, stdout: written(output)?, stderr: written(errors)? })
    });
    done(printed);
}

fn start(invocation: Invocation) -> Result<(Child, File, File)> {
    let name = invocation.name();
    let (output, errors) = (output_file()?, output_file()?);
    let mut command = Command::new(&invocation.program);
    command.args(&invocation.arguments).process_group(0);
    command.stdin(invocation.input.map_or_else(Stdio::null, Stdio::from));
    command.stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
    Ok((child, output, errors))
}

/// Waits until a child has ended or the time is over; returns whether it has ended, without reaping
/// it.
fn ends_until(child: &Child, give_up: Instant) -> io::Result<bool> {
    let pidfd = pidfd(child.id())?;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        // Rounded up, so that nothing is asked again and again within the last millisecond.
        let timeout = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one `pollfd`, which outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, timeout) } {
            0 if left.is_zero() => return Ok(false),
            0 => {}
            count if count > 0 => return Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: it takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create(c"linkbal", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?))
}

/// Creates a file in memory that cannot become larger than it seems to be. Parts that are not
/// written take no memory.
fn output_file() -> io::Result<File> {
    let file = memory()?;
    file.set_len(MAX_OUTPUT as u64)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK))?;
    Ok(file)
}

/// Reads what was written, up to the position of the writer, with whom the file is shared.
fn written(mut file: File) -> io::Result<Vec<u8>> {
    let length = file.stream_position()?.min(MAX_OUTPUT as u64);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
