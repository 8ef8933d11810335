//! State files of linkbal, read from bytes: for fuzz targets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::{MAX_UPLINKS, UpMask};
use serde::{Serialize, de::DeserializeOwned};

use super::{Indexes, state, trial::Trial};
use crate::{
    api::reload::MAX_TRIAL,
    config::{Config, Sources},
    engine::{
        Engine, Event,
        admin::AdminState,
        indexed::assign,
        kernel::{
            bond::{BondRecord, Bonding, plan},
            network::Snapshot,
        },
    },
    history::{
        History,
        pages::{HistoryQuestion, Pages},
    },
    sys::{host::file, sysctl::SavedSysctls},
};

/// Parses the text of a state file, and uses it as the daemon does.
pub fn state(which: u8, text: &[u8], config: &Config) {
    match which % 7 {
        0 => indexes(text, config),
        1 => {
            for sources in same::<BTreeMap<u32, Sources>>(text).unwrap_or_default().values() {
                let _ = sources.parse();
            }
        }
        2 => trial(text),
        3 => admin_states(text, config),
        4 => bonds(text, config),
        6 => history(text),
        _ => sysctls(text, config),
    }
}

/// Parses a value, and checks that it is the same after it is written and read again.
fn same<T: DeserializeOwned + Serialize>(text: &[u8]) -> Option<T> {
    let value: T = file::parse(text).ok()?;
    let written = file::json(&value);
    let again: T = file::parse(&written).expect("what was written can be read");
    assert_eq!(file::json(&again), written);
    Some(value)
}

fn indexes(text: &[u8], config: &Config) {
    let Some(read) = same::<Indexes>(text) else { return };
    let indexed = assign(&config.uplinks, &state::plausible(read));
    let indexes: BTreeSet<u32> = indexed.iter().map(|uplink| uplink.index).collect();
    assert_eq!(indexes.len(), config.uplinks.len(), "two uplinks have one index, or one has none");
    assert!(indexes.iter().all(|index| *index < MAX_UPLINKS as u32));
}

fn trial(text: &[u8]) {
    let Some(Some(trial)) = same::<Option<Trial>>(text) else { return };
    assert!(trial.left() <= MAX_TRIAL);
    let _ = trial.former().parse();
}

fn admin_states(text: &[u8], config: &Config) {
    let Some(admin_states) = same::<BTreeMap<String, AdminState>>(text) else { return };
    let indexed = assign(&config.uplinks, &Indexes::new());
    let engine =
        Engine::new(config.clone(), indexed, UpMask(1), Vec::new(), &admin_states, Duration::ZERO);
    assert_eq!(engine.uplinks().len(), config.uplinks.len());
}

fn bonds(text: &[u8], config: &Config) {
    let Some(records) = same::<BTreeMap<String, BondRecord>>(text) else { return };
    let observed = Bonding { records, ..Bonding::default() };
    for bonds in [config.bonds.as_slice(), &[]] {
        plan(bonds, &observed).iter().for_each(|change| drop(change.to_string()));
    }
}

fn history(text: &[u8]) {
    let (history, _) = History::read(text);
    let written = history.lines();
    let (again, unread) = History::read(written.as_bytes());
    assert_eq!((again.lines(), unread), (written, 0));
    for hours in [false, true] {
        let mut pages =
            Pages::new(HistoryQuestion { since: Some(0), hours, ..HistoryQuestion::default() });
        while pages.next(&history).is_some() {}
    }
}

fn sysctls(text: &[u8], config: &Config) {
    let Some(saved) = SavedSysctls::parse(text) else { return };
    let before = saved.before();
    let sysctls = before.keys().map(|path| (path.clone(), "1".to_owned())).collect();
    let snapshot = Snapshot { sysctls, sysctls_before: before, ..Snapshot::default() };
    let indexed = assign(&config.uplinks, &Indexes::new());
    let none = BTreeMap::new();
    let mut engine =
        Engine::new(config.clone(), indexed, UpMask(1), Vec::new(), &none, Duration::ZERO);
    engine.handle_event(Event::Observed(snapshot), Duration::ZERO);
    while engine.next_command().is_some() {}
}
