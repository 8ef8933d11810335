//! Lookups of the addresses of the rules' domains.

use std::time::Duration;

use super::{Command, Engine, Report, names::Lifetime};

impl Engine {
    /// Returns whether lookups have a way out that is in place.
    pub(super) const fn can_resolve(&self) -> bool {
        self.installed && self.up.0 != 0
    }

    pub(super) fn start_lookups(&mut self, now: Duration) {
        if self.can_resolve() {
            let name = self.names.start(now);
            self.commands.extend(name.map(|name| Command::Resolve { name }));
        }
    }

    pub(super) fn resolved(&mut self, name: String, addresses: &[Lifetime], now: Duration) {
        let Some(known) = self.names.resolved(&name, addresses, now) else { return };
        if known.recovered {
            let report = Report::Name { name: name.clone(), failure: None };
            self.commands.push_back(Command::Report(report));
        }
        if !known.addresses.is_empty() {
            self.commands.push_back(Command::Learn { name, addresses: known.addresses });
        }
    }

    pub(super) fn not_resolved(&mut self, name: String, reason: String, now: Duration) {
        if !self.can_resolve() {
            self.names.not_sent(&name, now);
        } else if self.names.not_resolved(&name, reason.clone(), now) {
            let report = Report::Name { name, failure: Some(reason) };
            self.commands.push_back(Command::Report(report));
        }
    }
}
