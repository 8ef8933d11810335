//! A configuration on trial: unless it is confirmed in time, the one before comes back.
//!
//! A file below the state directory knows of the trial, so that it outlives the daemon: one that
//! starts in time goes on with it, and one that starts later, or after a reboot, begins with the
//! configuration before. After a lost trial the file stays, with what was lost: as long as the
//! configuration file says the same, a start does not fall for it again. `linkbal reload` does.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{fs, path::PathBuf, time::Duration};

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
    pub(super) fn new(former: Sources, candidate: &Sources, limit: Duration) -> Trial {
        let until = Some(since_boot().saturating_add(limit));
        Trial { former, candidate: candidate.clone(), boot: boot(), until }
    }

    /// Keeps a trial, or that there is none, so that it outlives the daemon; the trial itself does not
    /// depend on that.
    pub(super) fn keep(instance: &Instance, trial: Option<&Trial>) {
        // A failure is in the log, and tried again.
        drop(file::keep_beside(&path(instance), trial.map(file::json)));
    }

    /// The configuration that comes back.
    pub(super) const fn former(&self) -> &Sources {
        &self.former
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        // A file that was damaged can say anything.
        self.until.unwrap_or_default().saturating_sub(since_boot()).min(LONGEST)
    }

    /// Remembers that it is lost.
    pub(super) fn lost(mut self, instance: &Instance) {
        self.until = None;
        Trial::keep(instance, Some(&self));
    }
}

/// What a start is to begin with, when the configuration file says `configured`; and the trial that
/// goes on.
pub(super) fn resume(instance: &Instance, configured: Configured) -> (Configured, Option<Trial>) {
    let lost = "a configuration on trial stays in force";
    let trial: Option<Trial> = file::load(&path(instance), lost);
    let Some(trial) = trial else { return (configured, None) };
    if trial.until.is_none() && trial.candidate != configured.sources {
        // Somebody has changed the file since.
        Trial::keep(instance, None);
        return (configured, None);
    }
    if trial.boot == boot() && !trial.left().is_zero() {
        tracing::warn!(
            "the configuration is on trial: the one before comes back in {} s unless you say \
             `linkbal confirm`",
            trial.left().as_secs()
        );
        return (configured, Some(trial));
    }
    tracing::warn!(
        "{} was on trial, and nobody has confirmed it: the configuration before is used until the \
         file changes, or until `linkbal reload`",
        configured.path.display()
    );
    let sources = trial.former.clone();
    let former = match sources.parse() {
        Ok(Parsed { config, .. }) => Configured { config, sources, ..configured },
        // A file of another version, for one: anything is better than no gateway.
        Err(error) => {
            tracing::error!(
                "the configuration before cannot be used, that on trial stays: {error}"
            );
            configured
        }
    };
    trial.lost(instance);
    (former, None)
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir.join("trial.json")
}

fn boot() -> String {
    // Without /proc there would be no daemon.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Sleep counts, too. The clock is always there.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
