//! The schedule for resolving the domains of rules, so that their addresses are known before a
//! client asks for them, or even if it asks a DNS server whose replies are not seen.
//!
//! Every name is resolved at the start, and again before its addresses expire: at three quarters of
//! the shortest TTL. A thousand names are not resolved all at once: lookups begin one after the
//! other, at intervals of [`PACE`], and at most [`MAX_PENDING`] are under way.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::dns::domain::{MAX_TTL_S, MIN_TTL_S};

use super::{command::Command, context::Output, event::Lifetime, report::Report};
use crate::config::Rule;

/// Least time for which addresses are kept: clients keep them longer than they should, too.
pub const MIN_TTL: Duration = Duration::from_secs(MIN_TTL_S as u64);

/// Most time for which addresses are kept: the datapath forgets them then, so they are resolved
/// again before.
pub const MAX_TTL: Duration = Duration::from_secs(MAX_TTL_S as u64);

/// Most lookups that are under way at a time.
pub const MAX_PENDING: usize = 20;

/// Time from the beginning of one lookup to that of the next.
pub const PACE: Duration = Duration::from_millis(10);

/// Time until the first repetition of a lookup that failed; it doubles up to [`MAX_RETRY`].
pub const RETRY: Duration = Duration::from_secs(5);

/// Most time between two attempts, and between two lookups of a name without addresses.
pub const MAX_RETRY: Duration = Duration::from_secs(300);

/// The state of the name of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainState {
    /// Time of the next lookup; `None` while one is under way.
    due: Option<Duration>,
    /// Time at which the first of the addresses expires.
    expires: Duration,
    /// Number of lookups in a row that failed.
    failures: u32,
    failure: Option<String>,
}

impl DomainState {
    /// Returns whether the addresses are known at `now`.
    pub fn is_resolved(&self, now: Duration) -> bool {
        now < self.expires
    }

    /// Returns the reason why the last lookup failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

/// The names of all rules.
#[derive(Debug)]
pub struct Domains {
    states: BTreeMap<String, DomainState>,
    /// Lookups by the time at which they are due.
    queue: BTreeSet<(Duration, String)>,
    /// Time before which no lookup begins.
    next_start: Duration,
}

impl Domains {
    /// Creates the schedule for the domains of rules, which are all due at `now`.
    pub(super) fn of_rules(rules: &[Rule], now: Duration) -> Domains {
        Domains::new(names(rules), now)
    }

    /// Creates the schedule for names that are all due at `now`.
    pub fn new(names: impl IntoIterator<Item = String>, now: Duration) -> Domains {
        let state = DomainState { due: Some(now), ..DomainState::default() };
        let states: BTreeMap<_, _> = names.into_iter().map(|name| (name, state.clone())).collect();
        let queue = states.keys().map(|name| (now, name.clone())).collect();
        Domains { states, queue, next_start: now }
    }

    /// Replaces the names: new ones are due at `now`.
    pub fn replace(&mut self, names: BTreeSet<String>, now: Duration) {
        self.states.retain(|name, _| names.contains(name));
        self.queue.retain(|(_, name)| names.contains(name));
        for name in names {
            if !self.states.contains_key(&name) {
                self.states.insert(name.clone(), DomainState::default());
                self.schedule(&name, now);
            }
        }
    }

    /// Returns the names and their states.
    pub const fn states(&self) -> &BTreeMap<String, DomainState> {
        &self.states
    }

    /// Returns the time at which [`Self::start`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let (due, _) = self.queue.first()?;
        let pending = self.states.len().saturating_sub(self.queue.len());
        (pending < MAX_PENDING).then(|| self.next_start.max(*due))
    }

    /// Returns the name to resolve now. It is due again only after [`Self::store`] or
    /// [`Self::store_failure`].
    pub fn start(&mut self, now: Duration) -> Option<String> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        let (_, name) = self.queue.pop_first()?;
        self.next_start = now.saturating_add(PACE);
        self.states.entry(name.clone()).or_default().due = None;
        Some(name)
    }

    /// Stores the addresses of a name, and returns them with the time for which they are to be
    /// known; `None` for a name that was not asked for.
    ///
    /// A name can exist without an address of its own, like a domain that only has subdomains.
    pub fn store(&mut self, name: &str, addresses: &[Lifetime], now: Duration) -> Option<Known> {
        let state = self.pending(name)?;
        let kept = |(address, ttl): &Lifetime| (*address, (*ttl).clamp(MIN_TTL, MAX_TTL));
        let addresses: Vec<Lifetime> = addresses.iter().map(kept).collect();
        let shortest = addresses.iter().map(|(_, ttl)| *ttl).min();
        state.expires = shortest.map_or(now, |ttl| now.saturating_add(ttl));
        state.failures = 0;
        let recovered = state.failure.take().is_some();
        let delay = shortest
            .map_or(MAX_RETRY, |ttl| ttl.saturating_sub(ttl.checked_div(4).unwrap_or_default()));
        self.schedule(name, now.saturating_add(delay));
        Some(Known { addresses, recovered })
    }

    /// Stores the failure of a lookup, and returns whether that is news.
    pub fn store_failure(&mut self, name: &str, reason: String, now: Duration) -> bool {
        let Some(state) = self.pending(name) else { return false };
        let doublings = state.failures.min(MAX_RETRY.as_secs().ilog2());
        let delay = MAX_RETRY.min(RETRY.saturating_mul(1 << doublings));
        state.failures = state.failures.saturating_add(1);
        let is_news = state.failure.replace(reason).is_none();
        self.schedule(name, now.saturating_add(delay));
        is_news
    }

    /// Stores that a lookup had no way out: that says nothing of the name.
    pub fn store_unsent(&mut self, name: &str, now: Duration) {
        if self.pending(name).is_some() {
            self.schedule(name, now.saturating_add(RETRY));
        }
    }

    /// Returns the state of a name whose lookup is under way.
    fn pending(&mut self, name: &str) -> Option<&mut DomainState> {
        self.states.get_mut(name).filter(|state| state.due.is_none())
    }

    fn schedule(&mut self, name: &str, due: Duration) {
        if let Some(state) = self.states.get_mut(name) {
            state.due = Some(due);
            self.queue.insert((due, name.to_owned()));
        }
    }
}

/// The part of the engine that looks domains up.
impl Domains {
    /// Starts a lookup that is due.
    pub(super) fn start_lookups(&mut self, now: Duration, output: &mut Output) {
        let name = self.start(now);
        name.into_iter().for_each(|name| output.push(Command::Resolve { name }));
    }

    /// Handles the answer to a lookup.
    pub(super) fn resolved(
        &mut self,
        name: String,
        addresses: &[Lifetime],
        now: Duration,
        output: &mut Output,
    ) {
        let Some(known) = self.store(&name, addresses, now) else { return };
        if known.recovered {
            output.report(Report::Domain { domain: name.clone(), failure: None });
        }
        if !known.addresses.is_empty() {
            output.push(Command::Learn { name, addresses: known.addresses });
        }
    }

    /// Handles the failure of a lookup. Without a way out, it says nothing of the name.
    pub(super) fn not_resolved(
        &mut self,
        name: String,
        reason: String,
        has_way: bool,
        now: Duration,
        output: &mut Output,
    ) {
        if !has_way {
            return self.store_unsent(&name, now);
        }
        if self.store_failure(&name, reason.clone(), now) {
            output.report(Report::Domain { domain: name, failure: Some(reason) });
        }
    }
}

/// Returns the domains of rules.
pub(super) fn names(rules: &[Rule]) -> BTreeSet<String> {
    rules.iter().flat_map(|rule| rule.matches.domain.iter().cloned()).collect()
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Addresses, and the time for which each is to be known.
    pub addresses: Vec<Lifetime>,
    /// Set if the lookup before this one failed.
    pub recovered: bool,
}

#[cfg(test)]
mod tests;
