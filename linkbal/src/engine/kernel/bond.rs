//! Bonds as values: what was observed, what linkbal has to give back, and the changes to make.
//!
//! linkbal remembers what each interface was before it touched it, as a [`BondRecord`] that is observed
//! like everything else. So the way back is the same as the way there: [`plan`] without any bonds
//! leads to the state in the records.

mod effects;
mod options;
mod plan;
mod repair;
mod state;
mod status;
mod text;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(in crate::engine) use self::repair::undone;
pub use self::{
    options::{BondOption, Options},
    plan::plan,
    state::{BondState, MemberState},
    status::{BondStatus, MemberStatus, Watch, status},
};

/// A MAC address.
pub type Mac = [u8; 6];

/// The state of everything that concerns bonds, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Bonding {
    /// Ethernet interfaces by name.
    pub ports: BTreeMap<String, Port>,
    /// State of interfaces before linkbal touched them, by name.
    pub records: BTreeMap<String, BondRecord>,
}

/// An Ethernet interface, which may be a bond, a member of one, or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Port {
    /// Interface index; 0 if it was requested, but not observed yet.
    pub ifindex: u32,
    /// Set if the interface is administratively up.
    pub up: bool,
    /// MAC address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Set if it is asked to receive packets for others, too (`IFF_PROMISC`).
    pub promisc: bool,
    /// The bond or bridge that it is in.
    pub master: Option<String>,
    /// Permanent addresses with the prefix length of their network, those in duplicate address
    /// detection included and link-local ones left out.
    pub addresses: BTreeSet<IpNet>,
    /// Options, if it is a bond.
    pub bond: Option<Options>,
    /// The active member, if it is a bond in a mode that has one.
    pub active: Option<String>,
    /// State in its bond, if it is a member.
    pub member: Option<Membership>,
}

/// The state of a member in its bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Membership {
    /// Set if the bond's monitoring finds it alive.
    pub alive: bool,
    /// Set if packets are sent by it.
    pub active: bool,
}

/// Data that are needed to give an interface back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct BondRecord {
    /// Interface index, which tells it from a later one of the same name; `None` if it is not
    /// created yet.
    pub ifindex: Option<u32>,
    /// Former state; `None`: it did not exist, and is deleted again.
    pub former: Option<Port>,
    /// Addresses that it got from linkbal.
    pub added: BTreeSet<IpNet>,
}

/// A change of an interface. The first field is its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BondChange {
    /// The former state is recorded.
    Note(String, BondRecord),
    /// The record is removed: the interface is given back, or gone.
    Forget(String),
    /// A bond of a mode is created; one that exists is a success.
    Create(String, u8),
    /// A bond is deleted.
    Delete(String),
    /// The interface leaves its bond or bridge.
    Release(String),
    /// The interface enters a bond or bridge.
    Enslave(String, String),
    /// An option of a bond is set.
    SetOption(String, BondOption),
    /// The MAC address is set.
    SetMac(String, Mac),
    /// The MTU is set, and that of its members.
    SetMtu(String, u32),
    /// Promiscuous mode is turned on or off.
    SetPromisc(String, bool),
    /// The interface is taken up or down.
    SetUp(String, bool),
    /// An address is added.
    AddAddress(String, IpNet),
    /// An address is removed.
    DeleteAddress(String, IpNet),
}

impl BondChange {
    /// Returns the name of the interface that changes.
    pub fn interface(&self) -> &str {
        match self {
            BondChange::Note(name, _)
            | BondChange::Forget(name)
            | BondChange::Create(name, _)
            | BondChange::Delete(name)
            | BondChange::Release(name)
            | BondChange::Enslave(name, _)
            | BondChange::SetOption(name, _)
            | BondChange::SetMac(name, _)
            | BondChange::SetMtu(name, _)
            | BondChange::SetPromisc(name, _)
            | BondChange::SetUp(name, _)
            | BondChange::AddAddress(name, _)
            | BondChange::DeleteAddress(name, _) => name,
        }
    }

    /// Returns whether only linkbal's records change.
    pub const fn is_memory(&self) -> bool {
        matches!(self, BondChange::Note(..) | BondChange::Forget(_))
    }
}

#[cfg(test)]
mod tests;
