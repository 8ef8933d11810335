//! Administrative states of the uplinks, kept until they are changed.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use linkbal_common::uplink::Family;
use tokio::{sync::oneshot, time::timeout};

use super::Daemon;
use crate::{
    api::admin::{AdminOutcome, RequestError},
    config::names_help,
    engine::{Event, admin::AdminState, uplinks::UplinkState},
    sys::host::{file, instance::Instance},
};

/// Longest time that a request waits for the disk.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// The channel for whether a state has been stored.
pub(super) type Stored = oneshot::Receiver<Result<(), String>>;

/// Administrative states by uplink, and the file that keeps them.
#[derive(Debug)]
pub(super) struct AdminStates {
    path: PathBuf,
    /// Enabled uplinks are left out; those that are not configured at the moment are kept.
    by_uplink: BTreeMap<String, AdminState>,
}

impl AdminStates {
    /// Reads the states that an earlier run left. If they cannot be read, the gateway starts
    /// nevertheless.
    pub(super) fn load(instance: &Instance) -> AdminStates {
        let path = instance.state_dir.join("admin.json");
        let by_uplink = file::load(&path, "every uplink is taken as enabled");
        AdminStates { path, by_uplink }
    }

    pub(super) const fn by_uplink(&self) -> &BTreeMap<String, AdminState> {
        &self.by_uplink
    }

    /// Carries states over to uplinks that got another name, given as names before and now. Nothing is left
    /// under the former name, so that an uplink that is added under it begins enabled.
    pub(super) fn rename(&mut self, names: &[(String, String)]) {
        if names.is_empty() {
            return;
        }
        for (before, now) in names {
            match self.by_uplink.remove(before) {
                Some(admin) => self.by_uplink.insert(now.clone(), admin),
                None => self.by_uplink.remove(now),
            };
        }
        // A failure is in the log, and tried again.
        drop(file::store_in_background(&self.path, Some(file::json(&self.by_uplink))));
    }

    /// Stores a state; the receiver gets whether it is in the file.
    pub(super) fn set(&mut self, uplink: &str, admin: AdminState) -> Stored {
        match admin {
            AdminState::Enabled => {
                self.by_uplink.remove(uplink);
            }
            AdminState::Disabled | AdminState::Drained => {
                self.by_uplink.insert(uplink.to_owned(), admin);
            }
        }
        file::store_in_background(&self.path, Some(file::json(&self.by_uplink)))
    }
}

impl Daemon {
    /// Sets an administrative state: it is in force, and stored, before the request is answered.
    /// With `now`, an uplink that is enabled need not prove itself. A state that cannot be stored lasts until the daemon ends.
    pub(super) fn set_admin(
        &mut self,
        uplink: String,
        admin: AdminState,
        now: bool,
        answer: oneshot::Sender<Result<AdminOutcome, RequestError>>,
    ) {
        let (index, before) = match self.uplink_by_name(&uplink) {
            Ok(known) => (known.index, known.admin),
            // The client may have disconnected.
            Err(refused) => return drop(answer.send(Err(refused))),
        };
        let stored = self.admin_states.set(&uplink, admin);
        self.handle(Event::Admin { uplink: index, admin });
        if now {
            self.handle(Event::EnableNow { uplink: index });
        }
        let warning = warning(admin, &self.engine.families_without_choice());
        let outcome = AdminOutcome { uplink, admin, changed: before != admin, warning };
        tokio::spawn(async move {
            let warnings = [outcome.warning, not_stored(stored).await].into_iter().flatten();
            let warning = warnings.reduce(|all, next| format!("{all}; {next}"));
            drop(answer.send(Ok(AdminOutcome { warning, ..outcome })));
        });
    }

    /// Returns the uplink of that name.
    pub(super) fn uplink_by_name(&self, name: &str) -> Result<&UplinkState, RequestError> {
        let known = self.engine.uplinks().iter();
        let found = known.clone().find(|known| known.config.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = known.map(|known| known.config.name.as_str()).collect();
            let help = names_help(name, "the uplinks", &names);
            RequestError::UnknownUplink { name: name.to_owned(), help }
        })
    }
}

/// Returns why a state is not stored, as far as that is known soon.
pub(super) async fn not_stored(stored: Stored) -> Option<String> {
    let problem = match timeout(DISK_TIMEOUT, stored).await {
        Ok(Ok(outcome)) => outcome.err()?,
        _ => "the disk does not answer".into(),
    };
    Some(format!("a restart of linkbal may not know of it: {problem}"))
}

/// Returns a warning if a state leaves new flows of some families no uplink of their own.
fn warning(admin: AdminState, families: &[Family]) -> Option<String> {
    if admin == AdminState::Enabled || families.is_empty() {
        return None;
    }
    let names: Vec<_> = families.iter().map(|family| family.name()).collect();
    Some(format!("every uplink is down or drained for {}", names.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn stored(stored: Stored) -> Result<(), String> {
        stored.await.expect("an answer")
    }

    #[tokio::test]
    async fn requested_states_are_kept_until_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_dir = folder.path().join("made/when/needed");
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        let known = || AdminStates::load(&instance).by_uplink().clone();
        assert_eq!(known(), BTreeMap::new());
        let mut admin_states = AdminStates::load(&instance);
        stored(admin_states.set("a", AdminState::Disabled)).await.expect("kept");
        stored(admin_states.set("b", AdminState::Drained)).await.expect("kept");
        let both = [("a".to_owned(), AdminState::Disabled), ("b".to_owned(), AdminState::Drained)];
        assert_eq!(known(), both.clone().into());
        stored(admin_states.set("a", AdminState::Enabled)).await.expect("kept");
        assert_eq!(known(), both[1..].iter().cloned().collect());
        std::fs::write(&admin_states.path, "{\"b\": \"dra").expect("half a file");
        assert_eq!(known(), BTreeMap::new(), "a gateway starts all the same");
    }

    #[tokio::test]
    async fn a_state_follows_a_rename_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_dir = folder.path().to_path_buf();
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        let mut states = AdminStates::load(&instance);
        for uplink in ["a", "stale"] {
            stored(states.set(uplink, AdminState::Disabled)).await.expect("kept");
        }
        let pair = |before: &str, now: &str| (before.to_owned(), now.to_owned());
        states.rename(&[pair("a", "fiber"), pair("b", "stale")]);
        assert_eq!(states.by_uplink(), &[("fiber".to_owned(), AdminState::Disabled)].into());
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_stored_is_reported() {
        let state_dir = PathBuf::from("/dev/null/state");
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        let mut admin_states = AdminStates::load(&instance);
        let warning =
            not_stored(admin_states.set("a", AdminState::Disabled)).await.expect("a warning");
        assert!(warning.contains("failed to write /dev/null/state/admin.json"), "{warning}");
        assert_eq!(admin_states.by_uplink(), &[("a".to_owned(), AdminState::Disabled)].into());
    }
}
