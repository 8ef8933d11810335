//! The last good configuration: what the gateway starts with if its file cannot be used.
//!
//! The state directory keeps it, so that it outlives a reboot: only once everything of it is in
//! force, and for a configuration on trial only once it is confirmed. Any gateway is better than
//! none, and the one that was there yesterday is better than any.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{Configured, Daemon, reload_refusal::ReloadRefusal};
use crate::{
    config::{ConfigError, Parsed, Sources},
    engine::{ReloadOutcome, Report},
    sys::host::{file, instance::Instance, thread},
};

/// A configuration that was in force, as stored in the file.
#[derive(Debug, Default, Deserialize, Serialize)]
struct LastGood {
    sources: Sources,
    /// Time at which it was stored, RFC 3339, UTC.
    saved: String,
}

/// The reason for which the last good configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Time at which the last good configuration was stored, RFC 3339, UTC.
    pub saved: String,
    /// Fault of the file, in one line.
    pub reason: ReloadRefusal,
}

/// Returns the last good configuration in place of the file at `path`, which cannot be used.
///
/// # Errors
///
/// The error of the file, if there is no other configuration.
pub fn instead_of(path: PathBuf, error: ConfigError) -> Result<Configured, ConfigError> {
    let found = Instance::unprepared().ok().and_then(|instance| load(&instance));
    let Some((Parsed { config, .. }, sources, saved)) = found else { return Err(error) };
    tracing::error!("{error}");
    let fallback = Some(Fallback { saved, reason: ReloadRefusal::from(&error) });
    Ok(Configured { path, config, sources, fallback, strict: false })
}

/// Returns the last good configuration in place of `configured`, which was read, but could not be put
/// in force; `None` if there is none, or it is the same.
pub(super) fn instead_of_refused(
    instance: &Instance,
    path: PathBuf,
    refused: &Sources,
    reason: ReloadRefusal,
) -> Option<Configured> {
    let (Parsed { config, .. }, sources, saved) = load(instance)?;
    let fallback = Some(Fallback { saved, reason });
    let other = sources != *refused;
    other.then_some(Configured { path, config, sources, fallback, strict: false })
}

fn load(instance: &Instance) -> Option<(Parsed, Sources, String)> {
    let lost = "there is no last good configuration to go back to";
    let kept: Option<LastGood> = file::load(&path(instance), lost);
    let LastGood { sources, saved } = kept?;
    let parsed = sources.parse();
    // One of another version, for example.
    let parsed = parsed.inspect_err(|error| tracing::warn!("the last good configuration: {error}"));
    Some((parsed.ok()?, sources, saved))
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir.join("last-good.json")
}

/// Stores a configuration. In a thread: its files may be large.
fn keep(instance: &Instance, sources: Arc<Sources>) {
    let path = path(instance);
    let work = move || {
        let saved = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let text = file::json(&LastGood { sources: Sources::clone(&sources), saved });
        if text.len() as u64 > file::LARGE {
            tracing::warn!("the configuration is too large to be kept as the last good one");
            return;
        }
        // A failure is logged, and tried again.
        drop(file::store_in_background(&path, Some(text)));
    };
    if let Err(error) = thread::start("keep", work) {
        tracing::warn!("the configuration is not kept as the last good one: {error:#}");
    }
}

impl Daemon {
    /// Keeps the configuration as the last good one, once everything of it is in force.
    pub(super) fn keep_last_good(&mut self) {
        let proven = self.engine.is_installed() && self.trial.is_none() && !self.is_reloading();
        if proven && !self.good_kept {
            self.good_kept = true;
            keep(&self.instance, Arc::clone(&self.sources));
        }
    }

    /// Reports that the last good configuration is in force, if it is.
    pub(super) fn report_fallback(&mut self) {
        let Some(Fallback { saved, reason }) = self.fallback.clone() else { return };
        // Hooks, receivers and everybody at this machine are told of it.
        let outcome = ReloadOutcome::LastGood { saved, reason: reason.public };
        self.report(&Report::Configuration { path: self.path.display().to_string(), outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TEXT: &str = "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.a]\ninterface = \"eth0\"\n";

    fn sources(text: &str) -> Sources {
        Sources { name: "linkbal.toml".into(), text: text.into(), ..Sources::default() }
    }

    #[test]
    fn what_was_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_dir = folder.path().to_path_buf();
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        assert!(load(&instance).is_none());
        let kept = LastGood { sources: sources(TEXT), saved: "2026-01-01T00:00:00Z".into() };
        let store = |text: &[u8]| std::fs::write(path(&instance), text).expect("written");
        store(&file::json(&kept));
        let (parsed, found, saved) = load(&instance).expect("it was kept");
        assert_eq!(parsed.config, Config::parse(TEXT, "x").expect("it is valid"));
        assert_eq!((found, saved), (sources(TEXT), kept.saved));
        let other = |refused: &Sources| {
            instead_of_refused(&instance, "x".into(), refused, "no memory".to_owned().into())
        };
        assert!(other(&sources(TEXT)).is_none(), "the same one is refused again");
        assert!(other(&sources("")).is_some());
        store(&file::json(&LastGood { sources: sources("[lan"), saved: String::new() }));
        assert!(load(&instance).is_none(), "it is not valid any more");
        store(b"{\"sources\": ");
        assert!(load(&instance).is_none());
    }
}
