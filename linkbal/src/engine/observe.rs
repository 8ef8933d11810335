//! Observations of the kernel, and the changes that are asked of it.

use std::{collections::BTreeSet, time::Duration};

use linkbal_common::uplink::Family;

use super::{
    Command, Engine, bond,
    desired::{self, nexthop},
    diff,
    health::State,
    lan,
    network::{Change, LOOPBACK, Link, NetworkEvent, Role, Snapshot},
    repair::Touch,
    uplinks::position,
};

/// Time from a change in the kernel to its observation: more changes usually follow.
pub(super) const SETTLE: Duration = Duration::from_millis(20);

/// Most time between two comparisons with the kernel's state, even if nothing was heard.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) fn network_event(&mut self, event: NetworkEvent, now: Duration) {
        let observe_at = match event {
            NetworkEvent::NeighbourFailed { ifindex, address } => {
                return self.neighbour_failed(ifindex, address, now);
            }
            NetworkEvent::OtherTables { by } => return self.conflicts.tables_changed(by, now),
            NetworkEvent::Datapath { .. } => return,
            NetworkEvent::Overrun => {
                self.conflicts.tables_changed(None, now);
                self.repairs.touched(Touch::Routes, None, now);
                now
            }
            _ => now + SETTLE,
        };
        let observe_at = self.pace.next(observe_at);
        self.observe_at = Some(self.observe_at.map_or(observe_at, |due| due.min(observe_at)));
        // The carrier need not wait for the full observation.
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        match event {
            NetworkEvent::Link(link) => {
                if !link.up || !link.carrier {
                    self.repairs.fallen(link.ifindex, now);
                }
                forget_name(snapshot, &link);
                snapshot.links.insert(link.ifindex, link);
            }
            NetworkEvent::AddressGone { ifindex } => return self.repairs.fallen(ifindex, now),
            NetworkEvent::LinkGone { ifindex } => {
                self.repairs.fallen(ifindex, now);
                snapshot.links.remove(&ifindex);
            }
            NetworkEvent::Touched { what, by } => return self.repairs.touched(what, by, now),
            _ => return,
        }
        self.check_readiness(now);
    }

    pub(super) fn observed(&mut self, mut snapshot: Snapshot, now: Duration) {
        self.observing = false;
        let soon = now + RECONCILE_INTERVAL;
        self.observe_at = Some(self.observe_at.map_or(soon, |due| due.min(soon)));
        self.follow_ground(&mut snapshot, now);
        self.conflicts.tell_filtered(&mut snapshot);
        self.tell_datapath(&snapshot);
        let bonds = self.bonds.follow(bond::status(&self.config.bonds, &snapshot));
        self.commands.extend(bonds.into_iter().map(Command::Report));
        self.compare_ways(&snapshot, now);
        let before = self.snapshot.replace(snapshot).filter(|_| self.repairs.is_current());
        self.follow_conflicts();
        self.reconcile(before.as_ref(), now);
        self.follow_unobserved();
        self.settle_repairs(now);
        let held = self.repairs.due().map(|due| due.max(now));
        self.observe_at = self.observe_at.into_iter().chain(held).min();
        self.check_readiness(now);
        self.end_moved();
    }

    /// Tells the datapath where to run, and everything that changed in the network there.
    pub(super) fn tell_datapath(&mut self, snapshot: &Snapshot) {
        self.attach(snapshot);
        let bypass = desired::bypass(&self.config.exempt, &self.indexed(), snapshot);
        if bypass != self.bypass {
            self.bypass.clone_from(&bypass);
            self.commands.push_back(Command::SetBypass(bypass));
        }
        let addresses = desired::uplink_addresses(&self.indexed(), snapshot);
        if addresses != self.addresses {
            self.addresses.clone_from(&addresses);
            self.commands.push_back(Command::SetUplinkAddresses(addresses));
        }
        self.tell_uplink_interfaces(snapshot);
        self.tell_avoided();
    }

    /// Attaches the datapath to every LAN interface that exists, also to a new one of the same name
    /// or pattern, and to the uplinks.
    fn attach(&mut self, snapshot: &Snapshot) {
        self.tell_lan(snapshot);
        let lan = lan::present(&self.config, snapshot).into_iter();
        let outside = self.outside().into_iter();
        let outside = outside.filter_map(|(role, name)| Some((role, snapshot.link(name)?)));
        let links = lan.map(|link| (Role::Lan, link)).chain(outside);
        let links = links.map(|(role, link)| (role, link.clone()));
        self.commands.push_back(Command::Attach(links.collect()));
    }

    /// Returns the interfaces of the uplinks, and the loopback device if DNS look-ups of local
    /// traffic matter.
    pub(super) fn outside(&self) -> Vec<(Role, &str)> {
        let uplinks = self.config.uplinks.iter().map(|uplink| uplink.interface.as_str());
        let reads_dns = self.config.local_balance && !self.names.states().is_empty();
        let (role, loopback) =
            if reads_dns { (Role::WanDns, Some(LOOPBACK)) } else { (Role::Wan, None) };
        let names: BTreeSet<&str> = uplinks.chain(loopback).collect();
        let lan = &self.config.lan_interfaces;
        let outside = names.into_iter().filter(|name| !lan.iter().any(|other| other == name));
        outside.map(|name| (role, name)).collect()
    }

    fn tell_uplink_interfaces(&mut self, snapshot: &Snapshot) {
        let interfaces = Some(desired::uplink_interfaces(&self.indexed(), snapshot));
        if interfaces != self.uplink_interfaces {
            self.uplink_interfaces.clone_from(&interfaces);
            self.commands.extend(interfaces.map(Command::SetUplinkInterfaces));
        }
    }

    /// Checks which uplinks are ready. At the start this waits until everything is in place: a flow
    /// that an uplink got before its addresses are translated would be tracked without translation
    /// for as long as it lives.
    pub(super) fn check_readiness(&mut self, now: Duration) {
        if !self.installed {
            return;
        }
        let Some(snapshot) = self.snapshot.take() else { return };
        let mut transitions = Vec::new();
        for (at, family) in self.every_health() {
            let uplink = &mut self.uplinks[at];
            let nexthop = nexthop(&snapshot, &uplink.indexed.uplink, family);
            let ready = nexthop.as_ref().map(|_| ()).map_err(String::as_str);
            let interface = &uplink.indexed.uplink.interface;
            let link = snapshot.link(interface);
            uplink.present[position(family)] |= ready.is_ok();
            uplink.has_ipv4 =
                link.is_some_and(|link| desired::has_address(&snapshot, link, Family::Ipv4));
            let patience = self.bonds.patience(&self.config.bonds, interface, now);
            if ready.is_err() && patience.is_some() && uplink.state() == State::Init {
                self.observe_at = self.observe_at.into_iter().chain(patience).min();
                continue;
            }
            let health = &mut uplink.health[position(family)];
            // An uplink that is up must have its routes in place, too; `Applied` comes back here.
            if ready.is_ok() && !health.is_ready() && self.pending_changes > 0 {
                continue;
            }
            let transition = match ready {
                Err(reason) if uplink.standby[position(family)] == Some(true) => {
                    health.stand_by(reason, now)
                }
                ready => health.set_ready(ready, now),
            };
            transitions.extend(transition.map(|transition| (at, family, transition)));
        }
        self.snapshot = Some(snapshot);
        self.follow_verdicts(transitions, now);
        self.tell_promised();
        self.start_rounds(now);
    }

    /// Asks for the changes from the observed to the desired state; `before` is the state before
    /// that, if a new one was observed.
    pub(super) fn reconcile(&mut self, before: Option<&Snapshot>, now: Duration) {
        let indexed = self.indexed();
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        let desired = desired::desired(&self.config, &indexed, snapshot, self.up);
        // The observation only says that nobody else touched the table.
        snapshot.nft_current &= self.asked.as_ref().is_none_or(|asked| asked.nft == desired.nft);
        let changes = diff::diff(&desired, snapshot);
        let changes = self.permitted(changes, &desired, before, now);
        self.asked = Some(desired);
        if before.is_some() {
            self.forget_refused(&changes);
        }
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        if changes.is_empty() {
            return;
        }
        diff::assume(snapshot, &changes);
        if changes.iter().any(|change| matches!(change, Change::ReplaceNft(_))) {
            self.adoptions.writing();
            // Before anything leads packets elsewhere: connections that have an uplink keep it.
            self.adopt_now();
        }
        self.pending_changes += 1;
        self.repairs.asked();
        self.commands.push_back(Command::Apply(changes));
    }
}

/// Forgets the known interface with the name of `link`: if it was recreated, it has another index.
fn forget_name(snapshot: &mut Snapshot, link: &Link) {
    snapshot.links.retain(|_, known| known.name != link.name);
}
