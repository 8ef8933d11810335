//! Changes that lead interfaces to their desired state.
//!
//! Each step looks at what the ones before it have led to, by [`Bonding::apply`], so that what is
//! right already is left alone. A new bond gets its members only after it was observed: a kernel
//! that cannot create it would otherwise cost the machine its network cards.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{
    BondChange, BondOption, BondRecord, Bonding, Options,
    wanted::{Purpose, Wanted, wanted},
};
use crate::config::{Bond, BondMode, Named as _};

/// Computes the changes, in order. Those for a bond that does not exist yet, and what is left of
/// linkbal's records, come with the next observation.
pub fn plan(bonds: &[Bond], observed: &Bonding) -> Vec<BondChange> {
    let mut plan = Plan { now: observed.clone(), changes: Vec::new() };
    plan.settle_records(bonds);
    let wanted = wanted(bonds, &plan.now);
    plan.note(&wanted);
    plan.create(bonds);
    plan.take_apart(&wanted);
    for (name, wanted) in &wanted {
        plan.set_up_bond(name, wanted);
    }
    plan.put_together(&wanted);
    for (name, wanted) in &wanted {
        plan.prefer(name, wanted);
        plan.finish(name, wanted);
    }
    plan.forget(&wanted);
    plan.changes
}

struct Plan {
    now: Bonding,
    changes: Vec<BondChange>,
}

impl Plan {
    fn push(&mut self, change: BondChange) {
        self.now.apply(&change);
        self.changes.push(change);
    }

    /// Matches the records with the interfaces that have their names now: an interface may have
    /// been renamed, or be gone, and another one may have come with its name.
    fn settle_records(&mut self, bonds: &[Bond]) {
        let mut settled = BTreeMap::new();
        for (name, record) in &self.now.records {
            let seen = |index| self.now.ports.iter().find(|(_, port)| port.ifindex == index);
            let made = self.now.ports.get(name).filter(|port| port.ifindex != 0);
            match (record.ifindex, made) {
                (Some(index), _) => {
                    let kept = seen(index).map(|(name, _)| (name.clone(), record.clone()));
                    settled.extend(kept);
                }
                (None, Some(port)) => {
                    let record = BondRecord { ifindex: Some(port.ifindex), ..record.clone() };
                    settled.insert(name.clone(), record);
                }
                (None, None) if bonds.iter().any(|bond| bond.name == *name) => {
                    settled.insert(name.clone(), record.clone());
                }
                (None, None) => {}
            }
        }
        let before = self.now.records.clone();
        for name in before.keys().filter(|name| !settled.contains_key(*name)) {
            self.push(BondChange::Forget(name.clone()));
        }
        for (name, record) in settled {
            if before.get(&name) != Some(&record) {
                self.push(BondChange::Note(name, record));
            }
        }
    }

    /// Records interfaces that are about to be used, before anything of them changes.
    fn note(&mut self, wanted: &BTreeMap<String, Wanted>) {
        for (name, _) in wanted.iter().filter(|(_, wanted)| wanted.purpose == Purpose::Used) {
            if self.now.records.contains_key(name) {
                continue;
            }
            let former = self.now.ports[name].clone();
            let ifindex = Some(former.ifindex);
            let record = BondRecord { ifindex, former: Some(former), added: BTreeSet::new() };
            self.push(BondChange::Note(name.clone(), record));
        }
    }

    fn create(&mut self, bonds: &[Bond]) {
        for bond in bonds {
            if self.now.ports.contains_key(&bond.name) {
                continue;
            }
            if !self.now.records.contains_key(&bond.name) {
                let record = BondRecord { ifindex: None, former: None, added: BTreeSet::new() };
                self.push(BondChange::Note(bond.name.clone(), record));
            }
            self.push(BondChange::Create(bond.name.clone(), bond.mode.number()));
        }
    }

    /// Releases members that must not be in their bond or bridge, and all members of bonds that
    /// change their mode or are deleted; deletes bonds.
    fn take_apart(&mut self, wanted: &BTreeMap<String, Wanted>) {
        for (name, wanted) in wanted {
            let mode = |options: &Options| options.mode;
            let present = self.now.ports[name].bond.as_ref().map(mode);
            let changes = wanted.options.as_ref().map(mode) != present;
            if wanted.purpose == Purpose::Deleted || wanted.options.is_some() && changes {
                self.release_all(name);
            }
        }
        for (name, wanted) in wanted {
            if wanted.master.is_none() && self.now.ports[name].master.is_some() {
                self.push(BondChange::Release(name.clone()));
            }
        }
        for (name, _) in wanted.iter().filter(|(_, wanted)| wanted.purpose == Purpose::Deleted) {
            self.push(BondChange::Delete(name.clone()));
        }
    }

    fn release_all(&mut self, bond: &str) {
        let members = self.now.ports.iter().filter(|(_, port)| port.is_in(bond));
        let members: Vec<String> = members.map(|(name, _)| name.clone()).collect();
        members.into_iter().for_each(|member| self.push(BondChange::Release(member)));
    }

    /// Sets the options of a bond, its MAC address and its MTU.
    fn set_up_bond(&mut self, name: &str, wanted: &Wanted) {
        let Some(goal) = &wanted.options else { return };
        let Some(present) = self.now.ports[name].bond.clone() else { return };
        let set = |option| BondChange::SetOption(name.to_owned(), option);
        let steps = present.steps_while_down(goal);
        if !steps.is_empty() && self.now.ports[name].up {
            self.push(BondChange::SetUp(name.to_owned(), false));
        }
        steps.into_iter().map(set).for_each(|change| self.push(change));
        let present = self.now.ports[name].bond.clone().unwrap_or_default();
        present.steps(goal).into_iter().map(set).for_each(|change| self.push(change));
        self.set_numbers(name, wanted);
    }

    fn set_numbers(&mut self, name: &str, wanted: &Wanted) {
        let port = &self.now.ports[name];
        let mac = wanted.mac.filter(|mac| port.mac != *mac);
        let mtu = wanted.mtu.filter(|mtu| port.mtu != *mtu);
        let mac = mac.map(|mac| BondChange::SetMac(name.to_owned(), mac));
        let mtu = mtu.map(|mtu| BondChange::SetMtu(name.to_owned(), mtu));
        mac.into_iter().chain(mtu).for_each(|change| self.push(change));
    }

    /// Puts members into their bond or bridge. A bond takes only interfaces that are down.
    fn put_together(&mut self, wanted: &BTreeMap<String, Wanted>) {
        for (name, wanted) in wanted {
            let Some(port) = self.now.ports.get(name) else { continue };
            let Some(master) = wanted.master.as_ref().filter(|master| !port.is_in(master)) else {
                continue;
            };
            let Some(there) = self.now.ports.get(master).filter(|there| there.ifindex != 0) else {
                continue;
            };
            if port.up && there.bond.is_some() {
                self.push(BondChange::SetUp(name.clone(), false));
            }
            self.push(BondChange::Enslave(name.clone(), master.clone()));
        }
    }

    /// Sets the preferred member, if it is in the bond.
    fn prefer(&mut self, name: &str, wanted: &Wanted) {
        let Some(goal) = wanted.options.as_ref().filter(|goal| goal.has(BondMode::has_primary))
        else {
            return;
        };
        let present = self.now.ports[name].bond.as_ref().and_then(|bond| bond.primary.clone());
        let here =
            |primary: &&String| self.now.ports.get(*primary).is_some_and(|port| port.is_in(name));
        if present != goal.primary && goal.primary.as_ref().is_none_or(|primary| here(&primary)) {
            let option = BondOption::Primary(goal.primary.clone());
            self.push(BondChange::SetOption(name.to_owned(), option));
        }
    }

    fn finish(&mut self, name: &str, wanted: &Wanted) {
        if !self.now.ports.contains_key(name) {
            return;
        }
        self.set_numbers(name, wanted);
        if self.now.ports[name].promisc != wanted.promisc {
            self.push(BondChange::SetPromisc(name.to_owned(), wanted.promisc));
        }
        if self.now.ports[name].up != wanted.up {
            self.push(BondChange::SetUp(name.to_owned(), wanted.up));
        }
        self.set_addresses(name, wanted);
    }

    /// Adds and removes addresses. Those that are added are recorded first, and those that are
    /// removed leave the record last.
    fn set_addresses(&mut self, name: &str, wanted: &Wanted) {
        let missing = &wanted.addresses - &self.now.ports[name].addresses;
        self.note_added(name, |added| added | &(&missing & &wanted.own));
        for address in missing {
            self.push(BondChange::AddAddress(name.to_owned(), address));
        }
        let surplus = &wanted.surplus & &self.now.ports[name].addresses;
        for address in surplus {
            self.push(BondChange::DeleteAddress(name.to_owned(), address));
        }
        self.note_added(name, |added| added - &wanted.surplus);
    }

    fn note_added(&mut self, name: &str, change: impl FnOnce(&BTreeSet<IpNet>) -> BTreeSet<IpNet>) {
        let Some(record) = self.now.records.get(name) else { return };
        let added = change(&record.added);
        if added != record.added {
            let record = BondRecord { added, ..record.clone() };
            self.push(BondChange::Note(name.to_owned(), record));
        }
    }

    /// Forgets interfaces that are given back, once there is nothing left to change: the kernel may
    /// refuse a change, and an interface that leaves a bond changes the bond.
    fn forget(&mut self, wanted: &BTreeMap<String, Wanted>) {
        if !self.changes.iter().all(BondChange::is_memory) {
            return;
        }
        for (name, _) in wanted.iter().filter(|(_, wanted)| wanted.purpose == Purpose::GivenBack) {
            self.push(BondChange::Forget(name.clone()));
        }
    }
}
