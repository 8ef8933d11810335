//! A change of the configuration while everything runs.
//!
//! An uplink is the same one if its index and its interface are: it keeps its health, its flows and
//! what the administrator wants of it. The flows of all others end as when they go down, and new
//! uplinks must prove themselves. The caller has made the datapath ready: it changes with the first
//! [`Command::Attach`](super::Command::Attach).

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use linkbal_common::uplink::{Family, UpMask};

use super::{
    Engine, admin::AdminState, context::Context, domains, indexed::Indexed,
    kernel::nexthop::configured_gateway, uplinks::UplinkState,
};
use crate::config::{Config, Uplink};

impl Engine {
    /// Goes on with another configuration, which [`refusal`] has nothing against.
    /// `admin` is the state that the administrator wants of uplinks that were not configured
    /// before.
    pub fn reconfigure(
        &mut self,
        config: Config,
        indexed: Vec<Indexed>,
        admin: &BTreeMap<String, AdminState>,
        now: Duration,
    ) {
        self.context.now = now;
        self.context.config = config;
        for gone in replace_uplinks(&mut self.context, indexed, admin) {
            self.leases.forget(&gone);
            self.failback.forget(gone.index);
            self.flows.add(&gone);
        }
        self.domains.replace(domains::names(&self.context.config.rules), now);
        self.lan.reconfigure(&self.context.config);
        let is_up = |uplink: &UplinkState, family| uplink.health[family].state().is_up();
        let up = self.context.uplinks.mask(is_up);
        self.flows.give_back(&mut self.context.uplinks);
        if up == self.context.up {
            self.flows.end_stale(&mut self.context, &self.datapath, &mut self.output);
        } else {
            self.context.up = up;
            self.set_usable();
        }
        self.shortcuts.reconfigure();
        self.update_datapath();
        self.weights.reconfigure(&self.context, &mut self.output);
        let Engine { context, reconciler, drift, refusals, output, .. } = self;
        reconciler.reconfigure(context, drift, refusals, output);
        self.update_admin();
        self.check_readiness();
        self.update_quality();
    }
}

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
    let gone = before.iter().filter(|old| after.iter().all(|new| new.name != old.config.name));
    let gone: Vec<&Indexed> = gone.collect();
    let new = after.iter().filter(|new| before.iter().all(|old| new.name != old.config.name));
    let sole = |interface: &str| {
        let users = after.iter().filter(|uplink| uplink.interface == interface);
        let mut formers = gone.iter().filter(|former| former.config.interface == interface);
        let former = formers.next()?;
        (users.count() == 1 && formers.next().is_none()).then_some(former.index)
    };
    new.filter_map(|uplink| Some((uplink.name.clone(), sole(&uplink.interface)?))).collect()
}

/// Returns the uplinks that only got another name, each with its name before and now.
pub fn renames(before: &[Indexed], after: &[Uplink]) -> Vec<(String, String)> {
    let former = |index: u32| before.iter().find(|uplink| uplink.index == index);
    let pairs = renamed(before, after).into_iter();
    pairs.filter_map(|(now, index)| Some((former(index)?.config.name.clone(), now))).collect()
}

impl UplinkState {
    /// Returns the same uplink under another configuration.
    fn continued(mut self, config: Arc<Uplink>, now: Duration) -> UplinkState {
        for family in Family::ALL {
            self.health[family].set_probe(&config.probe, family, now);
            let known = self.present[family] || configured_gateway(&config, family).is_some();
            self.present[family] = config.carries(family) && known;
        }
        self.load.restart();
        let limit = |uplink: &Uplink| uplink.capacity.zip(uplink.spillover);
        if limit(&config) != limit(&self.config) {
            self.load.judge_anew();
        }
        UplinkState { config, ..self }
    }
}

/// Puts other uplinks in place of the present ones; returns those that are gone. `admin` is the
/// state that the administrator wants of uplinks that were not configured before, by name.
pub(super) fn replace_uplinks(
    context: &mut Context,
    indexed: Vec<Indexed>,
    admin: &BTreeMap<String, AdminState>,
) -> Vec<UplinkState> {
    let now = context.now;
    let mut before: Vec<UplinkState> = mem::take(&mut context.uplinks).into_iter().collect();
    let uplinks = indexed.into_iter().map(|next| {
        match before.iter().position(|uplink| uplink.indexed().is_continued_by(&next)) {
            Some(at) => before.swap_remove(at).continued(next.config, now),
            None => UplinkState::new(next, UpMask::default(), admin, now),
        }
    });
    context.uplinks = uplinks.collect();
    before
}
