//! What the administrator wants of the uplinks, kept until it is undone.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::PathBuf};

use anyhow::{Context as _, Result};
use linkbal_common::uplink::Family;

use super::Daemon;
use crate::{
    api::admin::{Refused, Wished},
    config::names_help,
    engine::{Event, UplinkState, admin::Admin},
    sys::{file, instance::Instance},
};

/// What is wanted, by uplink, and the file that keeps it.
#[derive(Debug)]
pub(super) struct Wishes {
    path: PathBuf,
    /// Enabled uplinks are left out; those that are not configured at the moment are kept.
    by_uplink: BTreeMap<String, Admin>,
}

impl Wishes {
    /// Reads what an earlier run left. A gateway that cannot read it starts all the same.
    pub(super) fn load(instance: &Instance) -> Wishes {
        let path = instance.state_dir.join("admin.json");
        let by_uplink = read(&path).unwrap_or_else(|error| {
            tracing::warn!("every uplink is taken as enabled: {error:#}");
            BTreeMap::new()
        });
        Wishes { path, by_uplink }
    }

    pub(super) const fn by_uplink(&self) -> &BTreeMap<String, Admin> {
        &self.by_uplink
    }

    /// Keeps a wish.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then all is as before.
    pub(super) fn set(&mut self, uplink: &str, admin: Admin) -> Result<()> {
        let mut next = self.by_uplink.clone();
        match admin {
            Admin::Enabled => drop(next.remove(uplink)),
            Admin::Disabled | Admin::Drained => drop(next.insert(uplink.to_owned(), admin)),
        }
        file::replace(&self.path, &serde_json::to_vec_pretty(&next)?)?;
        self.by_uplink = next;
        Ok(())
    }
}

impl Daemon {
    /// Fulfils a wish: keeps it, and has it carried out before it is answered.
    pub(super) fn wish(&mut self, uplink: String, admin: Admin) -> Result<Wished, Refused> {
        let known = self.known(&uplink)?;
        let (index, before) = (known.indexed.index, known.admin);
        // What cannot be kept is not done either.
        self.wishes.set(&uplink, admin).map_err(Refused::Failed)?;
        self.handle(Event::Admin { uplink: index, admin });
        let warning = warning(admin, &self.engine.families_without_choice());
        Ok(Wished { uplink, admin, changed: before != admin, warning })
    }

    /// The uplink of that name.
    pub(super) fn known(&self, name: &str) -> Result<&UplinkState, Refused> {
        let known = self.engine.uplinks().iter();
        let found = known.clone().find(|known| known.indexed.uplink.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = known.map(|known| known.indexed.uplink.name.as_str()).collect();
            let help = names_help(name, "the uplinks", &names);
            Refused::Unknown { name: name.to_owned(), help }
        })
    }
}

/// What one should know when a wish leaves the new flows of some families no uplink of their own.
fn warning(admin: Admin, families: &[Family]) -> Option<String> {
    if admin == Admin::Enabled || families.is_empty() {
        return None;
    }
    let names: Vec<_> = families.iter().map(|family| family.name()).collect();
    Some(format!("every uplink is down or drained for {}", names.join(" and ")))
}

fn read(path: &PathBuf) -> Result<BTreeMap<String, Admin>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("failed to parse {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_kept_until_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_dir = folder.path().join("made/when/needed");
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        let kept = || Wishes::load(&instance).by_uplink().clone();
        assert_eq!(kept(), BTreeMap::new());
        let mut wishes = Wishes::load(&instance);
        wishes.set("a", Admin::Disabled).expect("kept");
        wishes.set("b", Admin::Drained).expect("kept");
        let both = [("a".to_owned(), Admin::Disabled), ("b".to_owned(), Admin::Drained)];
        assert_eq!(kept(), both.clone().into());
        wishes.set("a", Admin::Enabled).expect("kept");
        assert_eq!(kept(), both[1..].iter().cloned().collect());
        fs::write(&wishes.path, "{\"b\": \"dra").expect("half a file");
        assert_eq!(kept(), BTreeMap::new(), "a gateway starts all the same");
    }

    #[test]
    fn a_wish_that_cannot_be_kept_is_none() {
        let state_dir = PathBuf::from("/dev/null/state");
        let instance = Instance { bpf_dir: PathBuf::new(), run_dir: PathBuf::new(), state_dir };
        let mut wishes = Wishes::load(&instance);
        let error = wishes.set("a", Admin::Disabled).expect_err("no folder");
        assert!(format!("{error:#}").contains("failed to write /dev/null/state/admin.json"));
        assert_eq!(wishes.by_uplink(), &BTreeMap::new());
    }
}
