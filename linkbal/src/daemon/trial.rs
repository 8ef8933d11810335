//! A configuration on trial: unless it is confirmed in time, the one before comes back.
//!
//! A file below the state directory knows of the trial, so that it outlives the daemon: one that
//! starts in time goes on with it, and one that starts later, or after a reboot, begins with the
//! configuration before. After a lost trial the file stays, with what was lost: as long as the
//! configuration file says the same, a start does not fall for it again. `linkbal reload` does.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Configured;
use crate::{
    api::reload::LONGEST,
    config::{Parsed, Sources},
    sys::{file, instance::Instance},
};

/// A trial, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Trial {
    /// The configuration that comes back.
    former: Sources,
    /// That on trial.
    candidate: Sources,
    /// The boot that the deadline belongs to.
    boot: String,
    /// When the trial ends, since boot; `None` when it is lost.
    until: Option<Duration>,
}

impl Trial {
    /// Begins a trial.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    pub(super) fn new(
        instance: &Instance,
        former: Sources,
        candidate: &Sources,
        limit: Duration,
    ) -> Result<Trial> {
        let until = Some(since_boot()?.saturating_add(limit));
        let trial = Trial { former, candidate: candidate.clone(), boot: boot()?, until };
        Trial::keep(instance, Some(&trial))?;
        Ok(trial)
    }

    /// Keeps a trial, or that there is none.
    pub(super) fn keep(instance: &Instance, trial: Option<&Trial>) -> Result<()> {
        let path = path(instance);
        match trial {
            Some(trial) => file::replace(&path, &serde_json::to_vec(trial)?),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("failed to remove {}", path.display()))
                }
                _ => Ok(()),
            },
        }
    }

    /// The configuration that comes back.
    pub(super) const fn former(&self) -> &Sources {
        &self.former
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        let now = since_boot().unwrap_or(Duration::MAX);
        // A file that was damaged can say anything.
        self.until.unwrap_or_default().saturating_sub(now).min(LONGEST)
    }

    /// Remembers that it is lost.
    pub(super) fn lost(mut self, instance: &Instance) -> Result<()> {
        self.until = None;
        Trial::keep(instance, Some(&self))
    }
}

/// What a start is to begin with, when the configuration file says `configured`; and the trial that
/// goes on.
pub(super) fn resume(
    instance: &Instance,
    configured: Configured,
) -> Result<(Configured, Option<Trial>)> {
    let Some(trial) = read(&path(instance))? else { return Ok((configured, None)) };
    if trial.until.is_none() && trial.candidate != configured.sources {
        // Somebody has changed the file since.
        Trial::keep(instance, None)?;
        return Ok((configured, None));
    }
    if trial.boot == boot()? && !trial.left().is_zero() {
        tracing::warn!(
            "the configuration is on trial: the one before comes back in {} s unless you say \
             `linkbal confirm`",
            trial.left().as_secs()
        );
        return Ok((configured, Some(trial)));
    }
    tracing::warn!(
        "{} was on trial, and nobody has confirmed it: the configuration before is used until the \
         file changes, or until `linkbal reload`",
        configured.path.display()
    );
    let sources = trial.former.clone();
    let Parsed { config, .. } = sources.parse().map_err(|error| anyhow!("{error}"))?;
    trial.lost(instance)?;
    Ok((Configured { config, sources, ..configured }, None))
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir.join("trial.json")
}

/// A trial that cannot be read is none: a gateway starts all the same.
fn read(path: &Path) -> Result<Option<Trial>> {
    match fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(trial) => Ok(Some(trial)),
            Err(error) => {
                tracing::warn!("failed to parse {}: {error}", path.display());
                Ok(None)
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    Ok(id.context("failed to read the id of this boot")?.trim().to_owned())
}

/// Sleep counts, too.
fn since_boot() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}
