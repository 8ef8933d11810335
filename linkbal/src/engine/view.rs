//! The view that others have of the engine: the daemon between events, and the status.

use std::collections::{BTreeMap, BTreeSet};

use linkbal_common::uplink::{Family, UpMask};

use super::{
    Engine,
    balance::avoid,
    domains::Domains,
    health::{reason::Gap, suspicion},
    kernel::{
        conflict::Conflict,
        drift::Drift,
        network::{Snapshot, route_command},
    },
    obstacles::Obstacle,
    uplinks::{UplinkState, Uplinks},
};

/// The state, for the daemon and the status.
impl Engine {
    /// Returns the uplinks.
    pub const fn uplinks(&self) -> &Uplinks {
        &self.context.uplinks
    }

    /// Returns the uplinks that are usable, by family.
    pub const fn up(&self) -> UpMask {
        self.context.up
    }

    /// Returns the uplinks that new flows avoid as long as there are others.
    pub fn avoided(&self) -> UpMask {
        avoid::avoided(&self.context, &self.leases)
    }

    /// Returns the families in which no uplink is usable but drained ones, though without the
    /// administrator there might be one.
    pub fn families_without_choice(&self) -> Vec<Family> {
        avoid::families_without_choice(&self.context)
    }

    /// Returns whether counters of traffic may decide a verdict soon: a usable uplink loses probes.
    pub fn wants_traffic(&self) -> bool {
        suspicion::may_decide(&self.context.uplinks)
    }

    /// Returns whether routes, ip rules and translation are in place for all uplinks.
    pub const fn is_installed(&self) -> bool {
        self.reconciler.is_installed()
    }

    /// Returns the LAN interfaces and whether they exist.
    pub const fn lan(&self) -> &BTreeMap<String, bool> {
        self.lan.exists()
    }

    /// Returns the last observation.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.context.snapshot.as_ref()
    }

    /// Returns the repairs, and what is throttled.
    pub const fn drift(&self) -> &Drift {
        &self.drift
    }

    /// Returns the conflicts.
    pub const fn conflicts(&self) -> &BTreeSet<Conflict> {
        self.conflicts.found()
    }

    /// Says what of an uplink is gone and may come back in a moment.
    pub fn gap(&self, uplink: &UplinkState, family: Family) -> Option<Gap> {
        self.leases.gap(uplink, family, self.context.now)
    }

    /// Returns the command that brings back the default route that an uplink had, if that is gone.
    pub fn lost_route(&self, uplink: &UplinkState, family: Family) -> Option<String> {
        let route = self.leases.former_route(uplink, family)?;
        Some(route_command(route, &uplink.config.interface))
    }

    /// Returns the firewall chains of others that drop what this machine sends, or the answers to it,
    /// for the status.
    pub fn closed(&self) -> Vec<String> {
        self.conflicts.closed(&self.context)
    }

    /// Returns what the kernel refuses, with the reason and advice.
    pub fn refused(&self) -> BTreeMap<String, String> {
        let named = |(what, problem): (String, String)| (self.named(&what), self.named(&problem));
        self.refusals.explained().into_iter().map(named).collect()
    }

    /// Puts the names of devices in place of their indexes in a text about routes.
    pub fn named(&self, text: &str) -> String {
        let snapshot = self.context.snapshot.as_ref();
        snapshot.map_or_else(|| text.to_owned(), |snapshot| snapshot.with_device_names(text))
    }

    /// Returns the probes that this machine cannot send, by name, with the reason.
    pub fn unsent_probes(&self) -> BTreeMap<String, String> {
        self.refusals.unsent_probes()
    }

    /// Returns why the flows of an uplink take no shortcuts; `None` if they do.
    pub fn obstacle_of_uplink(&self, uplink: &UplinkState) -> Option<Obstacle> {
        self.shortcuts.of_uplink(&self.context, &uplink.config)
    }

    /// Returns why packets of a LAN interface take no shortcuts; `None` if they do.
    pub fn obstacle_of_lan(&self, interface: &str) -> Option<Obstacle> {
        let snapshot = self.context.snapshot.as_ref()?;
        self.shortcuts.of_lan(&self.context.config, snapshot, interface)
    }

    /// Returns the number of observations of the kernel.
    pub const fn observations(&self) -> u64 {
        self.reconciler.observations()
    }

    /// Returns the domains of rules.
    pub const fn domains(&self) -> &Domains {
        &self.domains
    }
}
