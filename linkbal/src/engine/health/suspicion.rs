//! Evidence of traffic: its answers speak for an uplink, and their lack makes it suspected.

use std::{collections::BTreeMap, time::Duration};

use super::{Answers, Health, HealthEvent, State, traffic::Traffic};
use crate::{
    engine::uplinks::{UplinkState, Uplinks},
    per_family::{PerFamily, other},
};

impl UplinkState {
    /// Returns the smoothed latency of the slower family.
    fn latency(&self) -> Duration {
        let each = self.health.values().filter_map(|health| health.window().latency());
        each.max().unwrap_or_default()
    }

    /// Returns the time at which the traffic becomes suspicious; `None` while that would have no
    /// effect.
    pub(in crate::engine) fn suspicion_at(&self) -> Option<Duration> {
        let of_use = |health: &Health| health.state() == State::Up && !health.is_suspected();
        let any = self.health.values().any(of_use);
        self.traffic.suspicion_at(self.latency()).filter(|_| any)
    }

    /// Passes to each family the answers that speak for it.
    fn traffic_answered(&mut self, answered: PerFamily<bool>, now: Duration) {
        let is_lossy = |health: &Health| {
            health.state() == State::Up && health.has_targets() && health.window().loss() >= LOSSY
        };
        let lossy = PerFamily::from_fn(|family| is_lossy(&self.health[family]));
        for (family, health) in self.health.iter_mut() {
            let other_family = other(family);
            let silent_since = health.silent_since();
            let own = answered[family].then(|| self.traffic.answers(family, silent_since, now));
            let others = (answered[other_family] && lossy[other_family]).then_some(Answers::Few);
            if let Some(answers) = own.max(others) {
                health.handle(&HealthEvent::TrafficAnswered(answers), now);
            }
        }
    }
}

/// Handles the counters of uplinks, by index, and the networks that answered; those that did not
/// change may be left out.
pub(in crate::engine) fn count(
    counters: &BTreeMap<u32, Traffic>,
    networks: &BTreeMap<u32, PerFamily<u32>>,
    uplinks: &mut Uplinks,
    now: Duration,
) {
    for uplink in uplinks.iter_mut() {
        let Some(traffic) = counters.get(&uplink.index) else { continue };
        let networks = networks.get(&uplink.index).copied().unwrap_or_default();
        let answered = uplink.traffic.update(*traffic, networks, now);
        uplink.traffic_answered(answered, now);
    }
}

/// Returns whether counters of traffic may decide a verdict soon: a usable uplink loses probes.
pub(in crate::engine) fn may_decide(uplinks: &Uplinks) -> bool {
    let silent = |health: &Health| health.silent_since().is_some();
    uplinks.iter().any(|uplink| uplink.health.values().any(silent))
}

/// Suspects uplinks whose traffic is not answered: they are probed fast.
pub(in crate::engine) fn suspect(uplinks: &mut Uplinks, now: Duration) {
    for uplink in uplinks.iter_mut() {
        if uplink.suspicion_at().is_some_and(|at| at <= now) {
            uplink.traffic.raise(now);
            for (_, health) in uplink.health.iter_mut() {
                health.handle(&HealthEvent::Suspected, now);
            }
        }
    }
}

/// Share of lost probes from which on the line of a family may be full.
const LOSSY: f64 = 0.1;
