//! The hook: a program of the user's, which runs for each event.
//!
//! Events wait in a queue, and the program runs for one after the other, in order. It gets the
//! event in its environment and as JSON, one line, on its standard input. Its output goes to the
//! log. The program and all that it started have 10 s; then its process group is killed. Whatever
//! it does, the daemon does not wait for it.
//!
//! Even to start it may hang, on a dead mount. While it does, no other is started, and events are left
//! out: each would cost a thread and what it has open.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{descriptors, thread};
use crate::events::Event;

/// Maximum number of events that wait.
const QUEUE: usize = 100;

/// Time that the program may run for one event.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of its output that is read, in bytes; then the pipe is closed.
const OUTPUT: usize = 16 << 10;

/// Maximum length of a line of output in the log, in bytes.
const LINE: usize = 500;

/// The queue of events for a program.
#[derive(Debug)]
pub struct Hook {
    queue: mpsc::Sender<Arc<Event>>,
    dropped: Dropped,
}

/// The number of events for which the program was not run. Clones share it.
#[derive(Clone, Debug, Default)]
struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// Counts another one; returns all so far.
    fn count(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

impl Hook {
    /// Starts a task that runs `command`, a program and its arguments, for each event.
    pub fn start(command: Vec<String>) -> Hook {
        let (queue, events) = mpsc::channel(QUEUE);
        let dropped = Dropped::default();
        tokio::spawn(work(command, events, dropped.clone()));
        Hook { queue, dropped }
    }

    /// Queues an event for the program; drops it if too many wait.
    pub fn push(&self, event: Arc<Event>) {
        if let Err(error) = self.queue.try_send(event) {
            let dropped = self.dropped.count();
            let sequence = error.into_inner().sequence;
            tracing::warn!(
                "the hook is not run for event {sequence}: {QUEUE} events wait already; so far \
                 {dropped} were left out"
            );
        }
    }

    /// Returns the number of events that were dropped, since too many waited or a start hung.
    pub fn dropped(&self) -> u64 {
        self.dropped.0.load(Ordering::Relaxed)
    }
}

/// Returns the environment variables for an event; those that it says nothing about are empty.
fn environment(event: &Event) -> [(&'static str, String); 9] {
    [
        ("LINKBAL_EVENT", event.kind.name().into()),
        ("LINKBAL_SEVERITY", event.severity.name().into()),
        ("LINKBAL_SEQUENCE", event.sequence.to_string()),
        ("LINKBAL_TIME", event.time.clone()),
        ("LINKBAL_UPLINK", event.uplink.clone().unwrap_or_default()),
        ("LINKBAL_FAMILY", event.family.clone().unwrap_or_default()),
        ("LINKBAL_FROM", event.from.clone()),
        ("LINKBAL_TO", event.to.clone()),
        ("LINKBAL_REASON", event.reason.clone()),
    ]
}

async fn work(command: Vec<String>, mut events: mpsc::Receiver<Arc<Event>>, dropped: Dropped) {
    let Some((program, arguments)) = command.split_first() else { return };
    while let Some(event) = events.recv().await {
        let failed = |error| {
            tracing::warn!("the hook failed for event {}: {error:#}", event.sequence);
        };
        match start(program, arguments, &event).await {
            Ok(Start::Done(group)) => {
                if let Err(error) = run(program, group, &event).await {
                    failed(error);
                }
            }
            Ok(Start::Hangs(starting)) => {
                let limit = HOOK_TIMEOUT.as_secs();
                failed(anyhow::anyhow!(
                    "{program} could not be started within {limit} s: is its disk in order? \
                     Until that start has ended, it is run for no event"
                ));
                leave_out(starting, &mut events, &dropped).await;
            }
            Err(error) => failed(error),
        }
    }
}

/// Leaves out events until a start that hangs has ended, or nobody has any.
async fn leave_out(
    mut starting: Starting,
    events: &mut mpsc::Receiver<Arc<Event>>,
    dropped: &Dropped,
) {
    loop {
        tokio::select! {
            // A program that has started after all is late: it is killed.
            _ = &mut starting => break,
            event = events.recv() => match event {
                Some(_) => {
                    dropped.count();
                }
                None => return,
            },
        }
    }
    let count = dropped.0.load(Ordering::Relaxed);
    tracing::info!("the hook is run again; so far {count} events were left out");
}

/// The program that a thread starts.
type Starting = oneshot::Receiver<std::io::Result<Group>>;

/// The state of a start after the time that it may take.
enum Start {
    Done(Group),
    Hangs(Starting),
}

async fn start(program: &str, arguments: &[String], event: &Event) -> Result<Start> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment(event)).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Given back if the start hangs: it has opened what it needs by then.
    let _lent = descriptors::lend();
    let (sender, mut starting) = oneshot::channel();
    let runtime = Handle::current();
    thread::start("hook", move || {
        let _entered = runtime.enter();
        // Nobody waits for it if the hook is another one by now.
        let _ = sender.send(command.spawn().map(|child| Group { child }));
    })?;
    match timeout(HOOK_TIMEOUT, &mut starting).await {
        Ok(started) => {
            Ok(Start::Done(started?.with_context(|| format!("failed to start {program}"))?))
        }
        Err(_) => Ok(Start::Hangs(starting)),
    }
}

/// Hands a program its event, and waits for its end.
async fn run(program: &str, mut group: Group, event: &Event) -> Result<()> {
    let line = event.json() + "\n";
    let status = match timeout(HOOK_TIMEOUT, group.communicate(&line)).await {
        Ok(status) => status.with_context(|| format!("failed to wait for {program}"))?,
        Err(_) => anyhow::bail!("it was killed after {} s", HOOK_TIMEOUT.as_secs()),
    };
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

/// A program and what it started. As long as the program was not waited for, its process group
/// cannot be another one's.
struct Group {
    child: Child,
}

impl Group {
    /// Hands the program `line` and logs its output, up to its end.
    async fn communicate(&mut self, line: &str) -> std::io::Result<std::process::ExitStatus> {
        let (input, output, errors) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let feed = async {
            if let Some(mut input) = input {
                // It need not read it.
                let _ = input.write_all(line.as_bytes()).await;
            }
        };
        tokio::join!(feed, log(output), log(errors));
        self.child.wait().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // There is no id once it was waited for.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // Fails only if no process is left.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Logs output line by line, up to [`OUTPUT`].
async fn log(output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    let mut text = Vec::new();
    let mut output = output.take(OUTPUT as u64);
    let mut lines = Lines::default();
    // A broken pipe ends the output.
    while output.read_buf(&mut text).await.is_ok_and(|size| size > 0) {
        lines.push(&text).iter().for_each(|line| tracing::info!("hook: {line}"));
        text.clear();
    }
    lines.rest().iter().for_each(|line| tracing::info!("hook: {line}"));
    if output.limit() == 0 {
        tracing::warn!("hook: its output is cut off after {OUTPUT} bytes");
    }
}

/// A converter of bytes to lines for the log.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Returns the lines that `bytes` complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => lines.extend(self.rest()),
                // What is too long for the log is left out.
                byte if self.partial.len() < LINE => self.partial.push(*byte),
                _ => {}
            }
        }
        lines
    }

    /// Returns the rest without a line's end. Control characters, which would upset a terminal,
    /// become spaces.
    fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(&line).replace(char::is_control, " ");
        (!line.trim().is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_lines_of_bounded_length() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\r\ntw"), ["one "]);
        assert_eq!(lines.push(b"o\n\n\xff\x1b[2J\n"), ["two", "\u{fffd} [2J"]);
        lines.push(&[b'x'; 3 * LINE]);
        assert_eq!(lines.rest().map(|line| line.len()), Some(LINE));
        assert_eq!(lines.rest(), None);
    }
}
