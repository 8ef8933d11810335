//! The interfaces of the LAN that exist.

use std::collections::{BTreeMap, BTreeSet};

use super::matched;
use crate::{
    config::{
        Config,
        pattern::{is_match, is_pattern},
    },
    engine::{
        context::{Context, Output},
        report::Report,
    },
};

/// The interfaces of the LAN, with whether they exist.
#[derive(Debug, Default)]
pub(in crate::engine) struct LanInterfaces {
    exists: BTreeMap<String, bool>,
}

impl LanInterfaces {
    /// Returns whether they exist, by name.
    pub(in crate::engine) const fn exists(&self) -> &BTreeMap<String, bool> {
        &self.exists
    }

    /// Forgets interfaces that another configuration does not have.
    pub(in crate::engine) fn reconfigure(&mut self, config: &Config) {
        let patterns = &config.lan_interfaces;
        self.exists.retain(|name, _| patterns.iter().any(|pattern| is_match(pattern, name)));
    }

    /// Reports interfaces that appear or disappear. An interface that matches a pattern is reported
    /// only when it appears: its end is no fault. At the start, existing ones are no news.
    pub(in crate::engine) fn update(
        &mut self,
        context: &Context,
        started: bool,
        output: &mut Output,
    ) {
        let Some(snapshot) = &context.snapshot else { return };
        let listed = &context.config.lan_interfaces;
        for name in listed.iter().filter(|name| !is_pattern(name)) {
            let exists = snapshot.link(name).is_some();
            // An interface that exists at the start is no news.
            if self.exists.insert(name.clone(), exists).unwrap_or(true) != exists {
                output.report(Report::Lan { interface: name.clone(), exists });
            }
        }
        let matched: BTreeSet<String> =
            matched(&context.config, snapshot).map(|link| link.name.clone()).collect();
        for name in &matched {
            if self.exists.insert(name.clone(), true).is_none() && started {
                output.report(Report::Lan { interface: name.clone(), exists: true });
            }
        }
        self.exists.retain(|name, _| matched.contains(name) || listed.contains(name));
    }
}
