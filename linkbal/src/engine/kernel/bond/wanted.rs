//! Desired state of the interfaces that have to do with bonds.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{BondRecord, Bonding, Mac, Options, Port};
use crate::config::Bond;

/// The final purpose of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The interface is used as the configuration says.
    Used,
    /// The interface becomes what it was before, and is forgotten.
    GivenBack,
    /// The interface was created by linkbal, and is deleted.
    Deleted,
    /// The interface stays as it is, except for what others need for a moment.
    LeftAlone,
}

/// The desired state of an interface.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) purpose: Purpose,
    pub(super) master: Option<String>,
    pub(super) up: bool,
    /// MAC address; `None`: the present one, or the one that its bond gives it.
    pub(super) mac: Option<Mac>,
    /// MTU in bytes; `None`: the present one, or the one that its bond gives it.
    pub(super) mtu: Option<u32>,
    pub(super) promisc: bool,
    /// Options, if it is a bond.
    pub(super) options: Option<Options>,
    /// Addresses that it must have; it may have others.
    pub(super) addresses: BTreeSet<IpNet>,
    /// The part of `addresses` that it would not have without linkbal.
    pub(super) own: BTreeSet<IpNet>,
    /// Addresses that it must not have.
    pub(super) surplus: BTreeSet<IpNet>,
}

/// Returns the desired state of each interface; those left out have nothing to do with bonds.
pub(super) fn wanted(bonds: &[Bond], now: &Bonding) -> BTreeMap<String, Wanted> {
    let goal = Goal { bonds, now };
    let each = now.ports.iter().filter(|(_, port)| port.ifindex != 0);
    each.filter_map(|(name, port)| Some((name.clone(), goal.of(name, port)?))).collect()
}

struct Goal<'a> {
    bonds: &'a [Bond],
    now: &'a Bonding,
}

impl Goal<'_> {
    fn of(&self, name: &str, port: &Port) -> Option<Wanted> {
        let record = self.now.records.get(name);
        if let Some(bond) = self.bonds.iter().find(|bond| bond.name == name) {
            // Something else of that name cannot become a bond.
            port.bond.as_ref()?;
            return Some(Wanted::bond(bond, port, record));
        }
        if let Some(bond) = self.bond_with_member(name) {
            return self.can_be_bond(bond).then(|| self.member(bond, port, record));
        }
        match record {
            None => self.stranger(port),
            Some(BondRecord { former: None, .. }) => {
                Some(Wanted { purpose: Purpose::Deleted, ..Wanted::as_it_is(port) })
            }
            Some(BondRecord { former: Some(former), added, .. }) => {
                if former.master.as_ref().is_some_and(|master| self.is_configured(master)) {
                    return Some(self.kept_out(port));
                }
                Some(self.given_back(former, added))
            }
        }
    }

    fn bond_with_member(&self, name: &str) -> Option<&Bond> {
        self.bonds.iter().find(|bond| bond.members.iter().any(|member| member == name))
    }

    /// Returns whether the name of a bond is free, or belongs to a bond.
    fn can_be_bond(&self, bond: &Bond) -> bool {
        self.now.ports.get(&bond.name).is_none_or(|port| port.bond.is_some())
    }

    fn is_configured(&self, name: &str) -> bool {
        self.bonds.iter().any(|bond| bond.name == name)
    }

    fn member(&self, bond: &Bond, port: &Port, record: Option<&BondRecord>) -> Wanted {
        let master = self.now.ports.get(&bond.name).filter(|master| master.ifindex != 0);
        let base = Wanted { purpose: Purpose::Used, ..Wanted::as_it_is(port) };
        let Some(master) = master else { return base };
        let bond_record = self.now.records.get(&bond.name);
        let was = record.and_then(|record| record.former.as_ref());
        Wanted {
            master: Some(bond.name.clone()),
            up: true,
            mtu: Wanted::bond(bond, master, bond_record).mtu.or(Some(master.mtu)),
            promisc: bond.promisc || was.map_or(port.promisc, |was| was.promisc),
            // Addresses are of no use on a member, and come back with the rest.
            addresses: BTreeSet::new(),
            ..base
        }
    }

    /// Returns the desired state of an interface that is not configured and was never touched.
    fn stranger(&self, port: &Port) -> Option<Wanted> {
        let master = port.master.as_ref()?;
        if self.is_configured(master) {
            return Some(self.kept_out(port));
        }
        let known = self.now.records.contains_key(master);
        known.then(|| Wanted::as_it_is(port))
    }

    /// Returns the desired state of an interface that is kept out of a configured bond.
    fn kept_out(&self, port: &Port) -> Wanted {
        let master = port.master.clone().filter(|master| !self.is_configured(master));
        Wanted {
            purpose: Purpose::Used,
            master,
            addresses: BTreeSet::new(),
            ..Wanted::as_it_is(port)
        }
    }

    fn given_back(&self, former: &Port, added: &BTreeSet<IpNet>) -> Wanted {
        let goes_away = |name: &String| {
            !self.now.ports.contains_key(name)
                || self.now.records.get(name).is_some_and(|record| record.former.is_none())
        };
        let master = former.master.clone().filter(|master| !goes_away(master));
        let is_bond = |name: &String| self.now.ports[name].bond.is_some();
        let alone = !master.as_ref().is_some_and(is_bond);
        Wanted {
            purpose: Purpose::GivenBack,
            up: former.up,
            mac: alone.then_some(former.mac),
            mtu: alone.then_some(former.mtu),
            promisc: former.promisc,
            options: former.bond.clone(),
            addresses: former.addresses.clone(),
            surplus: added - &former.addresses,
            master,
            own: BTreeSet::new(),
        }
    }
}

impl Wanted {
    fn as_it_is(port: &Port) -> Wanted {
        Wanted {
            purpose: Purpose::LeftAlone,
            master: port.master.clone(),
            up: port.up,
            mac: None,
            mtu: None,
            promisc: port.promisc,
            options: None,
            addresses: port.addresses.clone(),
            own: BTreeSet::new(),
            surplus: BTreeSet::new(),
        }
    }

    fn bond(bond: &Bond, port: &Port, record: Option<&BondRecord>) -> Wanted {
        let addresses: BTreeSet<IpNet> = bond.addresses.iter().copied().collect();
        let added = record.map(|record| &record.added - &addresses).unwrap_or_default();
        let was = record.and_then(|record| record.former.as_ref());
        Wanted {
            purpose: Purpose::Used,
            up: true,
            mac: bond.mac,
            mtu: bond.mtu.or(was.map(|was| was.mtu)),
            options: Some(Options::wanted(bond)),
            addresses: &(&addresses | &port.addresses) - &added,
            own: was.map_or_else(|| addresses.clone(), |was| &addresses - &was.addresses),
            surplus: added,
            ..Wanted::as_it_is(port)
        }
    }
}
