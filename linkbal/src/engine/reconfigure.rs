//! A change of the configuration while everything runs.
//!
//! An uplink is the same one if its index and its interface are: it keeps its health, its flows and
//! what the administrator wants of it. The flows of all others end as when they go down, and new
//! uplinks must prove themselves. The caller has made the datapath ready: it changes with the first
//! [`Command::Attach`].

use std::{collections::BTreeMap, mem, time::Duration};

use linkbal_common::uplink::{Family, UpMask};

use super::{
    Command, Engine, UplinkState,
    admin::Admin,
    desired::{Indexed, configured_gateway},
    ending::Former,
    health::State,
    load::Factors,
    uplinks::position,
};
use crate::config::{Config, Uplink, pattern::is_match};

/// Returns the reason why a configuration cannot follow another one while linkbal runs, if any.
pub fn refusal(before: &Config, after: &Config) -> Option<String> {
    let (old, new) = (before.kernel.fwmark_mask, after.kernel.fwmark_mask);
    (old != new).then(|| {
        format!(
            "kernel.fwmark_mask cannot change from {old:#x} to {new:#x} while linkbal runs, since \
             live connections carry the old marks: it needs `linkbal teardown` and a restart"
        )
    })
}

/// Returns the indexes of uplinks that only got another name: the interface of each is that of
/// exactly one uplink before and after.
pub fn renamed(before: &[Indexed], after: &[Uplink]) -> BTreeMap<String, u32> {
    let gone = before.iter().filter(|old| after.iter().all(|new| new.name != old.uplink.name));
    let gone: Vec<&Indexed> = gone.collect();
    let new = after.iter().filter(|new| before.iter().all(|old| new.name != old.uplink.name));
    let sole = |interface: &str| {
        let users = after.iter().filter(|uplink| uplink.interface == interface);
        let mut formers = gone.iter().filter(|former| former.uplink.interface == interface);
        let former = formers.next()?;
        (users.count() == 1 && formers.next().is_none()).then_some(former.index)
    };
    new.filter_map(|uplink| Some((uplink.name.clone(), sole(&uplink.interface)?))).collect()
}

impl UplinkState {
    fn is_continued_by(&self, next: &Indexed) -> bool {
        let same_interface = self.indexed.uplink.interface == next.uplink.interface;
        self.indexed.index == next.index && same_interface
    }

    /// Returns the same uplink under another configuration.
    fn continued(mut self, indexed: Indexed, now: Duration) -> UplinkState {
        let uplink = &indexed.uplink;
        for family in Family::ALL {
            let at = position(family);
            self.health[at].set_probe(&uplink.probe, family, now);
            let known = self.present[at] || configured_gateway(uplink, family).is_some();
            self.present[at] = uplink.carries(family) && known;
        }
        let limit = |uplink: &Uplink| uplink.capacity.zip(uplink.spillover);
        if limit(uplink) != limit(&self.indexed.uplink) {
            self.load.judge_anew();
        }
        UplinkState { indexed, ..self }
    }
}

impl Engine {
    /// Goes on with another configuration, which [`refusal`] has nothing against. `wishes` is what
    /// the administrator wants of uplinks that were not configured before.
    pub fn reconfigure(
        &mut self,
        config: Config,
        indexed: Vec<Indexed>,
        wishes: &BTreeMap<String, Admin>,
        now: Duration,
    ) {
        self.config = config;
        self.replace_uplinks(indexed, wishes, now);
        let domains = self.config.rules.iter().flat_map(|rule| rule.matches.domain.iter().cloned());
        self.names.replace(domains.collect(), now);
        let lan = &self.config.lan_interfaces;
        self.lan.retain(|name, _| lan.iter().any(|pattern| is_match(pattern, name)));
        if !self.config.adaptive {
            self.factors = Factors::default();
        }
        let up = self.usable();
        if up != self.up {
            self.up = up;
            let usable = self.with_promised();
            self.promised = Some(usable);
            self.commands.push_back(Command::SetUpMask(usable));
        }
        self.forget_stale();
        self.put_in_force(now);
        self.follow_admin(now);
        self.check_readiness(now);
        self.follow_quality(now);
        // The state of new interfaces in the kernel is not known yet.
        self.observe_at = Some(now);
    }

    fn replace_uplinks(
        &mut self,
        indexed: Vec<Indexed>,
        wishes: &BTreeMap<String, Admin>,
        now: Duration,
    ) {
        let mut before = mem::take(&mut self.uplinks);
        for next in indexed {
            let same = before.iter().position(|state| state.is_continued_by(&next));
            self.uplinks.push(match same {
                Some(at) => before.swap_remove(at).continued(next, now),
                None => UplinkState::new(next, UpMask::default(), wishes, now),
            });
        }
        for state in before {
            self.ground.forget(&state.indexed);
            self.former.push(Former::new(state));
        }
    }

    /// Returns the uplinks that are up, by family.
    fn usable(&self) -> UpMask {
        let both =
            self.uplinks.iter().flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
        let up =
            both.filter(|(uplink, family)| uplink.health[position(*family)].state() == State::Up);
        up.fold(UpMask::default(), |mask, (uplink, family)| {
            mask.with(uplink.indexed.index, family, true)
        })
    }

    /// Makes the datapath change, and everything that was told to it or follows from it.
    fn put_in_force(&mut self, now: Duration) {
        let Some(snapshot) = self.snapshot.take() else { return };
        self.tell_datapath(&snapshot);
        if self.config.adaptive {
            self.tell_weights();
        }
        self.snapshot = Some(snapshot);
        let before = self.pending_changes;
        self.reconcile(None, now);
        // No uplink comes up before what it needs is in place.
        self.installed &= self.pending_changes == before;
    }
}
