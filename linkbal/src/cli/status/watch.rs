//! `linkbal status --watch`: the status again and again.

use std::{
    io::{ErrorKind, IsTerminal as _, Write as _, stdout},
    ops::ControlFlow,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use hyper::Method;
use textwrap::core::display_width;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::render;
use crate::{
    api::client::{self, Denied},
    cli::{fold, local_time::Zone},
};

/// Sequences of a terminal (ECMA-48): to its upper left corner; clear all, the rest of a line, or of the
/// screen.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[2J";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Prints the status of the daemon behind a socket until Ctrl-C, or until the reader is gone; without a
/// daemon, says so and goes on.
///
/// # Errors
///
/// If the user may not ask the daemon, or nothing can be printed.
pub(in crate::cli) async fn watch(socket: &Path, wide: bool, pause: Duration) -> Result<()> {
    let mut end = signal(SignalKind::interrupt()).context("failed to watch for signals")?;
    let mut output = Output::new();
    loop {
        let turn = async {
            let text = text(socket, wide).await?;
            let flow = output.show(&text, pause)?;
            sleep(pause).await;
            Ok::<_, anyhow::Error>(flow)
        };
        tokio::select! {
            flow = turn => if flow?.is_break() { return Ok(()) },
            _ = end.recv() => return output.end(),
        }
    }
}

/// Returns the status, or why there is none.
async fn text(socket: &Path, wide: bool) -> Result<String> {
    let asked = client::request(socket, Method::GET, "/v1/status", client::TIMEOUT).await;
    match asked.and_then(|text| client::read(&text)) {
        Ok(status) => Ok(render(&status, wide, &Zone::system())),
        Err(error) if error.is::<Denied>() => Err(error),
        Err(error) => Ok(format!("linkbal: {error:#}\n")),
    }
}

/// The output: a screen that is drawn over, or texts one after the other.
struct Output {
    is_screen: bool,
    is_first: bool,
}

impl Output {
    fn new() -> Output {
        let is_dumb = std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        Output { is_screen: stdout().is_terminal() && !is_dumb, is_first: true }
    }

    /// Shows a text, and returns whether to go on: not if the reader is gone.
    fn show(&mut self, text: &str, pause: Duration) -> Result<ControlFlow<()>> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let now = Zone::system().show(&now);
        let text = if self.is_screen {
            let size = terminal_size::terminal_size_of(stdout());
            let size = size.map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()));
            let pause = humantime::format_duration(pause);
            let title = format!("{now}, every {pause}; Ctrl-C ends it");
            screen(&title, &fold::for_people(text), size, self.is_first)
        } else {
            series(&now, text, self.is_first)
        };
        self.is_first = false;
        write(&text)
    }

    /// Leaves the last text on the screen, with the cursor below it.
    fn end(&self) -> Result<()> {
        let text = if self.is_screen { "\r\n" } else { "" };
        write(text).map(drop)
    }
}

fn write(text: &str) -> Result<ControlFlow<()>> {
    let mut output = stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error).context("failed to print"),
    }
}

/// Returns a text as one of a series.
fn series(title: &str, text: &str, is_first: bool) -> String {
    let gap = if is_first { "" } else { "\n" };
    format!("{gap}{title}\n{text}")
}

/// Returns what draws a text over the one before, as far as it fits. Nothing is cleared before it is drawn
/// over, so that nothing flickers.
fn screen(title: &str, text: &str, (width, height): (usize, usize), is_first: bool) -> String {
    let lines: Vec<&str> = [title, ""].into_iter().chain(text.lines()).collect();
    // The last row is for the cursor.
    let room = height.saturating_sub(1).max(1);
    let left_out = lines.len().saturating_sub(room);
    let mut shown: Vec<String> = lines.iter().take(room).map(|line| cut(line, width)).collect();
    if let Some(last) = shown.last_mut().filter(|_| left_out > 0) {
        let more = left_out.saturating_add(1);
        *last = cut(&format!(".. {more} more lines, for which the window is too low"), width);
    }
    let begin = if is_first { CLEAR } else { "" };
    let lines: Vec<String> = shown.iter().map(|line| format!("{line}{CLEAR_LINE}")).collect();
    format!("{begin}{HOME}{}\r\n{CLEAR_BELOW}", lines.join("\r\n"))
}

/// Returns as much of a line as fits a width: a terminal would go on in the next row.
fn cut(line: &str, width: usize) -> String {
    let mut used = 0_usize;
    let fits = |char: &char| {
        used = used.saturating_add(display_width(char.encode_utf8(&mut [0; 4])));
        used <= width
    };
    line.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_and_not_cleared() {
        let first = screen("now", "abc\ndef\n", (80, 24), true);
        assert_eq!(first, "\x1b[2J\x1b[Hnow\x1b[K\r\n\x1b[K\r\nabc\x1b[K\r\ndef\x1b[K\r\n\x1b[J");
        let next = screen("now", "a long line\nb\nc\nd\n", (6, 5), false);
        assert_eq!(next, "\x1b[Hnow\x1b[K\r\n\x1b[K\r\na long\x1b[K\r\n.. 3 m\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn what_is_no_screen_gets_one_text_after_the_other() {
        let texts = [series("1", "a\n", true), series("2", "b\n", false)];
        assert_eq!(texts.concat(), "1\na\n\n2\nb\n");
    }
}
