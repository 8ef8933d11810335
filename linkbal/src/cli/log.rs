//! The log of the daemon, which never blocks, even if it is not read.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Result;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::sys::host::writer::BackgroundWriter;

/// Most lines that wait.
const QUEUE: usize = 4096;

/// Time for which the end waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

static LOG: OnceLock<BackgroundWriter> = OnceLock::new();

/// Logs to standard error.
///
/// # Errors
///
/// If a thread cannot be started.
pub(super) fn start() -> Result<()> {
    let lines = BackgroundWriter::start("log", QUEUE, |line, lost| {
        let mut errors = io::stderr().lock();
        if lost > 0 {
            // Where that fails, there is nobody to tell.
            let _ =
                writeln!(errors, "{lost} lines of the log were lost: they were not read in time");
        }
        let _ = errors.write_all(line);
    })?;
    let lines = LOG.get_or_init(|| lines);
    // What the DNS resolver thinks of /etc/resolv.conf it would say at each lookup.
    let default = "info,hickory_resolver=error,hickory_net=error";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(lines.clone()))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // The journal has its own clock.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        format.without_time().init();
    } else {
        format.init();
    }
    Ok(())
}

/// Waits a moment for the last lines.
pub(super) fn end() {
    if let Some(lines) = LOG.get() {
        lines.flush(FLUSH_TIMEOUT);
    }
}

struct Lines(BackgroundWriter);

/// A writer that takes each write as a whole line.
struct LineWriter<'a>(&'a BackgroundWriter);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
