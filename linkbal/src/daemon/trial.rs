//! A configuration on trial: unless it is confirmed in time, the previous one comes back.
//!
//! A file in the state directory keeps the trial, so that it outlives the daemon. A daemon that
//! starts in time goes on with it; one that starts later, or after a reboot, begins with the
//! previous configuration. After a lost trial the file stays, with the lost configuration: as long
//! as the configuration file has the same contents, a start does not use it. `linkbal reload` does.
//!
//! A text that came by the API is on trial while the configuration file still has the previous one: a
//! file that changes meanwhile decides, and after a lost trial there is nothing to keep.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{fs, path::PathBuf, time::Duration};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Configured, admin::Stored};
use crate::{
    api::reload::MAX_TRIAL,
    config::{Parsed, Sources},
    sys::host::{file, instance::Instance},
};

/// Reason for which a configuration that lost its trial is not in force.
pub(super) const LOST: &str = "it was not confirmed in time: the configuration before it is in \
                               force; `linkbal reload` reads the file again";

/// Reason for which a configuration whose trial was undone is not in force.
pub(super) const UNDONE: &str = "its trial was undone: the configuration before it is in force; \
                                 `linkbal reload` reads the file again";

/// A trial, as stored in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Trial {
    /// The configuration to go back to.
    former: Sources,
    /// The configuration on trial.
    candidate: Sources,
    /// Set if the candidate is a text that came by the API: the file has the former one.
    #[serde(default)]
    by_text: bool,
    /// Identifier of the boot that the deadline belongs to.
    boot: String,
    /// End of the trial, as time since boot; `None` if it is lost.
    until: Option<Duration>,
    /// Time since boot before which the return to the former configuration is not tried again.
    #[serde(skip)]
    retry_at: Duration,
}

/// Pause before a return that failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

impl Trial {
    /// Creates a trial that begins now.
    pub(super) fn new(former: Sources, candidate: &Sources, limit: Duration) -> Trial {
        let until = Some(since_boot().saturating_add(limit));
        let candidate = candidate.clone();
        let (boot, retry_at) = (boot(), Duration::ZERO);
        Trial { former, candidate, by_text: false, boot, until, retry_at }
    }

    /// Returns the trial as one of a text that came by the API, or of the file.
    #[must_use]
    pub(super) fn by_text(self, by_text: bool) -> Trial {
        Trial { by_text, ..self }
    }

    /// Returns whether the file does not have what is on trial.
    pub(super) const fn is_by_text(&self) -> bool {
        self.by_text
    }

    /// Stores a trial, or that there is none, so that it outlives the daemon. The trial itself does
    /// not depend on that: a failure is logged, and tried again.
    pub(super) fn keep(instance: &Instance, trial: Option<&Trial>) -> Stored {
        file::store_in_background(&path(instance), trial.map(file::json))
    }

    /// Returns whether it is time to go back.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero() && since_boot() >= self.retry_at
    }

    /// Puts off the return, which failed.
    #[must_use]
    pub(super) fn put_off(self) -> Trial {
        Trial { retry_at: since_boot().saturating_add(RETRY_DELAY), ..self }
    }

    /// Returns whether it was not confirmed in time.
    fn is_lost(&self) -> bool {
        self.until.is_none() || self.boot != boot() || self.left().is_zero()
    }

    /// Returns the configuration to go back to.
    pub(super) const fn former(&self) -> &Sources {
        &self.former
    }

    /// Returns the text on trial.
    pub(super) fn candidate_text(&self) -> &str {
        &self.candidate.text
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        // A damaged file may contain any value.
        self.until.unwrap_or_default().saturating_sub(since_boot()).min(MAX_TRIAL)
    }

    fn announce(&self) {
        tracing::warn!(
            "the configuration is on trial: the one before comes back in {} s unless you say \
             `linkbal confirm`",
            self.left().as_secs()
        );
    }

    /// Stores that the trial is lost; of a text, which is not in the file, that there is none.
    pub(super) fn lost(mut self, instance: &Instance) {
        if self.by_text {
            return drop(Trial::keep(instance, None));
        }
        self.until = None;
        drop(Trial::keep(instance, Some(&self)));
    }
}

/// Returns the configuration to start with, given the contents of the configuration file as
/// `configured`, and the trial that goes on.
pub(super) fn resume(instance: &Instance, configured: Configured) -> (Configured, Option<Trial>) {
    let lost = "a configuration on trial stays in force";
    let trial: Option<Trial> = file::load(&path(instance), lost);
    let Some(trial) = trial else { return (configured, None) };
    if trial.by_text {
        return resume_text(instance, configured, trial);
    }
    if trial.is_lost() && trial.candidate != configured.sources {
        // The file has been changed since.
        drop(Trial::keep(instance, None));
        return (configured, None);
    }
    if !trial.is_lost() {
        trial.announce();
        return (configured, Some(trial));
    }
    tracing::warn!(
        "{} was on trial, and was not confirmed: the configuration before is used until the \
         file changes, or until `linkbal reload`",
        configured.path.display()
    );
    let sources = trial.former.clone();
    let former = match sources.parse() {
        Ok(Parsed { config, .. }) => Configured { config, sources, ..configured },
        // A file of another version, for example: any configuration is better than no gateway.
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

/// Returns the text on trial and its trial, if they go on; else what the file has.
fn resume_text(
    instance: &Instance,
    configured: Configured,
    trial: Trial,
) -> (Configured, Option<Trial>) {
    let has_changed = configured.sources.text != trial.former.text;
    if !has_changed && !trial.is_lost() {
        let sources = trial.candidate.clone();
        match sources.parse() {
            Ok(Parsed { config, .. }) => {
                trial.announce();
                return (Configured { config, sources, ..configured }, Some(trial));
            }
            Err(error) => tracing::error!("the text on trial cannot be used any more: {error}"),
        }
    }
    drop(Trial::keep(instance, None));
    tracing::warn!(
        "the trial of a text that is not in {} is over: the file is used",
        configured.path.display()
    );
    (configured, None)
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir.join("trial.json")
}

fn boot() -> String {
    // Without /proc there would be no daemon.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Returns the time since boot, sleep included. This clock always exists.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FORMER: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n";

    fn sources(text: &str) -> Sources {
        Sources { name: "linkbal.toml".into(), text: text.into(), ..Sources::default() }
    }

    /// Returns the text to start with, and whether a trial goes on, if the file has `text`.
    async fn resumed(trial: Trial, text: &str) -> (String, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let state_dir = folder.path().to_path_buf();
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        Trial::keep(&instance, Some(&trial)).await.expect("an answer").expect("stored");
        let config = Config::parse(text, "x").expect("it is valid");
        let (path, sources) = ("linkbal.toml".into(), sources(text));
        let in_file = Configured { path, config, sources, fallback: None, strict: false };
        let (configured, trial) = resume(&instance, in_file);
        assert_eq!(configured.config, configured.sources.parse().expect("it is valid").config);
        (configured.sources.text, trial.is_some())
    }

    #[tokio::test]
    async fn a_text_goes_on_in_time_while_the_file_is_as_it_was() {
        let candidate = format!("{FORMER}weight = 2\n");
        let other = format!("{FORMER}weight = 3\n");
        let begun = |seconds| {
            let limit = Duration::from_secs(seconds);
            Trial::new(sources(FORMER), &sources(&candidate), limit).by_text(true)
        };
        assert_eq!(resumed(begun(600), FORMER).await, (candidate.clone(), true));
        assert_eq!(resumed(begun(0), FORMER).await, (FORMER.into(), false));
        assert_eq!(resumed(begun(600), &other).await, (other.clone(), false));
        // Of another boot.
        let earlier = Trial { boot: "earlier".into(), ..begun(600) };
        assert_eq!(resumed(earlier, FORMER).await, (FORMER.into(), false));
        // One of the file that was lost is not used again, though it is there.
        let lost = begun(0).by_text(false);
        assert_eq!(resumed(lost, &candidate).await, (FORMER.into(), false));
    }
}
