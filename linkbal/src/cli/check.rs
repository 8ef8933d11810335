//! `linkbal check`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

use super::{exit::Exit, plan, print, runtime, stderr, subject::config_or_daemons, terminal_width};
use crate::{
    config::{Config, Parsed, Problem, Severity, Sources},
    sys::host::privilege::require_root,
    words::count,
};

/// Checks a configuration and, for `machine`, what others have set up here.
pub(super) fn check(config: Option<PathBuf>, machine: bool) -> Result<ExitCode> {
    if machine {
        require_root()?;
    }
    let (path, daemon) = config_or_daemons(config);
    let path = path.as_path();
    let last_good = daemon.as_ref().and_then(|status| status.configuration.last_good.as_ref());
    if let Some(good) = last_good {
        stderr::line(format_args!(
            "linkbal: the daemon runs with the last good configuration, of {}, since the file could \
             not be used at its start; once it can, say `linkbal reload`",
            good.saved
        ));
    }
    let (Parsed { config, warnings }, sources) = Sources::load(path)?;
    if !warnings.problems().is_empty() {
        stderr::line(format_args!("{warnings:width$}", width = terminal_width()));
    }
    let shown = path.display();
    if machine && let Some(summary) = check_machine(&config, &sources, path)? {
        print(&format!("{shown} can be used, but {summary}\n"))?;
        return Ok(Exit::MachineProblem.into());
    }
    let bonds = match config.bonds.len() {
        0 => String::new(),
        bonds => format!(", {}", count(bonds, "bond")),
    };
    let uplinks = count(config.uplinks.len(), "uplink");
    let whose = if daemon.is_some() { " (the file of the running daemon)" } else { "" };
    print(&format!("{shown}: fine, {uplinks}{bonds}{whose}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what does not fit a configuration on this machine; returns a summary if something is bad.
fn check_machine(config: &Config, sources: &Sources, path: &Path) -> Result<Option<String>> {
    let found = runtime()?.block_on(plan::machine_problems(config, sources, path))?;
    let width = terminal_width();
    stderr::text(format_args!(
        "{:width$}{}{}",
        found.findings,
        plan::conflicts(&found.conflicts),
        found.hints
    ));
    let bad = |(severity, _): &&(Severity, Problem)| *severity != Severity::Hint;
    let mistakes = found.findings.found().iter().filter(bad).count();
    let conflicts = found.conflicts.iter().filter(|conflict| !conflict.compatible).count();
    let things = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let parts = [
        things(mistakes, "value does not fit this machine", "values do not fit this machine"),
        things(conflicts, "setting of others conflicts", "settings of others conflict"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Ok((!parts.is_empty()).then(|| parts.join(" and ")))
}
