//! The configuration that a command is about: that of the running daemon, or of a file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use hyper::Method;

use super::{doctor, request_within, stderr};
use crate::{
    api::{client, configuration::Configuration, status::Status},
    config::{Config, DEFAULT_PATH as DEFAULT_CONFIG, Parsed, Sources},
    engine::doctor::Complaint,
    sys::host::{file, instance::Instance},
};

/// Longest time to ask a daemon which file it runs with.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the file that was named; else that of the daemon in this network namespace, with its
/// status; else the default one.
pub(super) fn config_or_daemons(named: Option<PathBuf>) -> (PathBuf, Option<Status>) {
    if let Some(path) = named {
        return (path, None);
    }
    let asked = request_within(Method::GET, "/v1/status", FILE_TIMEOUT);
    let hanging = asked.is_err().then(|| Instance::unprepared().ok()?.holder()).flatten();
    if let Some(pid) = hanging {
        stderr::line(format_args!(
            "linkbal: the daemon (process {pid}) does not answer: {DEFAULT_CONFIG} is used; \
             --config names another"
        ));
    }
    let status = asked.ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
    match status {
        Some(status) if !status.configuration.file.is_empty() => {
            (PathBuf::from(&status.configuration.file), Some(status))
        }
        _ => (DEFAULT_CONFIG.into(), None),
    }
}

/// Returns the configuration in force, if a daemon runs with the file at `path`, whatever that has now.
///
/// # Errors
///
/// If no daemon answers, or what it has cannot be read.
fn in_force(path: &Path) -> Result<Option<(Parsed, Sources)>> {
    let text = request_within(Method::GET, "/v1/configuration", FILE_TIMEOUT)?;
    let found: Configuration = client::read(&text)?;
    let same = |file: &str| {
        Path::new(file) == path || path.canonicalize().is_ok_and(|it| it == Path::new(file))
    };
    if !same(&found.status.file) {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |named: &Path| file::read_text(named, file::LARGE);
    let parsed = Config::parse_with(&found.text, path, &read)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = found.files.iter().map(PathBuf::from);
    let files = files.filter_map(|file| Some((file.clone(), read(&folder.join(file)).ok()?)));
    let files = files.collect();
    Ok(Some((parsed, Sources { name, text: found.text, files })))
}

/// Returns what `doctor` tries: what is in force or, if no daemon answers, what the file has; and what
/// is to say of the file.
///
/// # Errors
///
/// If the file cannot be used, and nothing is in force in its place.
pub(super) fn tried(path: &Path) -> Result<(Parsed, Sources, Option<Complaint>)> {
    match (in_force(path), Sources::load(path)) {
        (Ok(Some((parsed, sources))), Ok((_, file))) => {
            let changed = (file != sources).then(|| doctor::changed(path));
            Ok((parsed, sources, changed))
        }
        (Ok(Some((parsed, sources))), Err(error)) => {
            Ok((parsed, sources, Some(doctor::unusable(path, &error))))
        }
        (_, Ok((parsed, sources))) => Ok((parsed, sources, None)),
        (Ok(None), Err(error)) => Err(error.into()),
        (Err(silence), Err(error)) => {
            stderr::line(format_args!("linkbal: {silence:#}"));
            Err(error.into())
        }
    }
}
