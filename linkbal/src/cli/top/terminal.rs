//! The terminal: its modes are as before, however this ends.

use std::{
    io::{Stdout, Write as _, stdout},
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use crossterm::{
    cursor::{Hide, Show},
    execute,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use nix::sys::signal::{Signal, raise};
use ratatui::{Frame, Terminal, backend::CrosstermBackend};

/// Set once a part of the program has failed; the terminal was given back then.
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// The screen; dropping it restores the terminal.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes over the terminal. A panic gives it back before it is reported.
    ///
    /// # Errors
    ///
    /// If its modes cannot be changed.
    pub(super) fn enter() -> Result<Screen> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            HAS_PANICKED.store(true, Ordering::Relaxed);
            restore();
            report(panicked);
        }));
        take_over()?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout()));
        let terminal = terminal.inspect_err(|_| restore());
        Ok(Screen(terminal.context("failed to look at the terminal")?))
    }

    /// Draws what has changed.
    ///
    /// # Errors
    ///
    /// If the terminal takes nothing, or a task has panicked.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        ensure!(!HAS_PANICKED.load(Ordering::Relaxed), "linkbal top failed, as told above");
        self.0.draw(draw).map(drop).context("failed to draw")
    }

    /// Draws everything anew the next time.
    ///
    /// # Errors
    ///
    /// As [`Screen::draw`].
    pub(super) fn clear(&mut self) -> Result<()> {
        self.0.clear().context("failed to draw")
    }

    /// Gives the terminal to the shell until that lets this go on.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be taken over again.
    pub(super) fn suspend(&mut self) -> Result<()> {
        restore();
        raise(Signal::SIGTSTP).context("failed to stop")?;
        take_over()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn take_over() -> Result<()> {
    enable_raw_mode().context("failed to change the modes of the terminal")?;
    let drawn = execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All), Hide);
    drawn.inspect_err(|_| restore()).context("failed to draw")
}

/// Restores the terminal; there is nobody to tell if that fails.
fn restore() {
    let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    let _ = stdout().flush();
    let _ = disable_raw_mode();
}
