//! The schedule for resolving the domains of rules, so that their addresses are known before a
//! client asks for them, or even if it asks a DNS server whose replies are not seen.
//!
//! Every name is resolved at the start, and again before its addresses expire: at three quarters of
//! the shortest TTL. A thousand names are not resolved all at once: lookups begin one after the
//! other, at intervals of [`PACE`], and at most [`MAX_ASKED`] are under way.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use linkbal_common::dns::domain::{MAX_TTL_S, MIN_TTL_S};

/// Least time for which addresses are kept: clients keep them longer than they should, too.
pub const MIN_TTL: Duration = Duration::from_secs(MIN_TTL_S as u64);

/// Most time for which addresses are kept: the datapath forgets them then, so they are resolved
/// again before.
pub const MAX_TTL: Duration = Duration::from_secs(MAX_TTL_S as u64);

/// Most lookups that are under way at a time.
pub const MAX_ASKED: usize = 20;

/// Time from the beginning of one lookup to that of the next.
pub const PACE: Duration = Duration::from_millis(10);

/// Time until the first repetition of a lookup that failed; it doubles up to [`MAX_RETRY`].
pub const RETRY: Duration = Duration::from_secs(5);

/// Most time between two attempts, and between two lookups of a name without addresses.
pub const MAX_RETRY: Duration = Duration::from_secs(300);

/// An address, and the time for which it may be believed.
pub type Lifetime = (IpAddr, Duration);

/// The state of the name of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameState {
    /// Time of the next lookup; `None` while one is under way.
    due: Option<Duration>,
    /// Time at which the first of the addresses expires.
    expires: Duration,
    /// Number of lookups in a row that failed.
    failures: u32,
    failure: Option<String>,
}

impl NameState {
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
pub struct Names {
    states: BTreeMap<String, NameState>,
    /// Lookups by the time at which they are due.
    queue: BTreeSet<(Duration, String)>,
    /// Time before which no lookup begins.
    next_start: Duration,
}

impl Names {
    /// Creates the schedule for names that are all due at `now`.
    pub fn new(names: impl IntoIterator<Item = String>, now: Duration) -> Names {
        let state = NameState { due: Some(now), ..NameState::default() };
        let states: BTreeMap<_, _> = names.into_iter().map(|name| (name, state.clone())).collect();
        let queue = states.keys().map(|name| (now, name.clone())).collect();
        Names { states, queue, next_start: now }
    }

    /// Replaces the names: new ones are due at `now`.
    pub fn replace(&mut self, names: BTreeSet<String>, now: Duration) {
        self.states.retain(|name, _| names.contains(name));
        self.queue.retain(|(_, name)| names.contains(name));
        for name in names {
            if !self.states.contains_key(&name) {
                self.states.insert(name.clone(), NameState::default());
                self.schedule(&name, now);
            }
        }
    }

    /// Returns the names and their states.
    pub const fn states(&self) -> &BTreeMap<String, NameState> {
        &self.states
    }

    /// Returns the time at which [`Self::start`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let (due, _) = self.queue.first()?;
        let asked = self.states.len().saturating_sub(self.queue.len());
        (asked < MAX_ASKED).then(|| self.next_start.max(*due))
    }

    /// Returns the name to resolve now. It is due again only after [`Self::resolved`] or
    /// [`Self::not_resolved`].
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
    pub fn resolved(&mut self, name: &str, addresses: &[Lifetime], now: Duration) -> Option<Known> {
        let state = self.asked(name)?;
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
    pub fn not_resolved(&mut self, name: &str, reason: String, now: Duration) -> bool {
        let Some(state) = self.asked(name) else { return false };
        let doublings = state.failures.min(MAX_RETRY.as_secs().ilog2());
        let delay = MAX_RETRY.min(RETRY.saturating_mul(1 << doublings));
        state.failures = state.failures.saturating_add(1);
        let is_news = state.failure.replace(reason).is_none();
        self.schedule(name, now.saturating_add(delay));
        is_news
    }

    /// Stores that a lookup had no way out: that says nothing of the name.
    pub fn not_sent(&mut self, name: &str, now: Duration) {
        if self.asked(name).is_some() {
            self.schedule(name, now.saturating_add(RETRY));
        }
    }

    /// Returns the state of a name whose lookup is under way.
    fn asked(&mut self, name: &str) -> Option<&mut NameState> {
        self.states.get_mut(name).filter(|state| state.due.is_none())
    }

    fn schedule(&mut self, name: &str, due: Duration) {
        if let Some(state) = self.states.get_mut(name) {
            state.due = Some(due);
            self.queue.insert((due, name.to_owned()));
        }
    }
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
