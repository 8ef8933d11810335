//! `linkbal run` and `linkbal teardown`.

use std::path::PathBuf;

use anyhow::Result;

use super::{command::OnExitArg, log, print, runtime};
use crate::{
    config::{Parsed, Sources},
    daemon::{self, Configured, OnExit, record::Recorder},
    sys::host::{instance::Instance, memory, privilege::require_root},
};

/// Runs the gateway to its end.
pub(super) fn run(
    path: PathBuf,
    on_exit: Option<OnExitArg>,
    record: Option<PathBuf>,
    strict: bool,
) -> Result<()> {
    require_root()?;
    memory::limit_arenas();
    // A reload, an edit and the status name it wherever whoever asks is.
    let configured = configured(std::path::absolute(&path).unwrap_or(path), strict)?;
    let on_exit = on_exit.map(|on_exit| match on_exit {
        OnExitArg::Keep => OnExit::Keep,
        OnExitArg::Teardown => OnExit::Teardown,
    });
    let recorder = record.map(|path| Recorder::create(&path)).transpose()?;
    let runtime = runtime()?;
    let ran = runtime.block_on(daemon::run(configured, on_exit, recorder));
    // What hangs in a thread is not waited for.
    runtime.shutdown_background();
    log::end();
    ran
}

/// Reads the configuration to run with, and starts the log.
fn configured(path: PathBuf, strict: bool) -> Result<Configured> {
    let loaded = Sources::load(&path);
    let (Parsed { config, warnings }, sources) = match loaded {
        Err(error) if strict => return Err(error.into()),
        Err(error) => {
            log::start()?;
            return Ok(daemon::instead_of(path, error)?);
        }
        Ok(loaded) => loaded,
    };
    log::start()?;
    warnings.lines().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Configured { path, config, sources, fallback: None, strict })
}

/// Removes everything, and prints what there was.
pub(super) fn teardown() -> Result<()> {
    require_root()?;
    let instance = Instance::current()?;
    let lines = runtime()?.block_on(daemon::teardown_alone(&instance))?.lines();
    if lines.is_empty() {
        return print("linkbal has nothing to remove here\n");
    }
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}
