//! Bonds as values: what was observed, what linkbal has to give back, and the changes to make.
//!
//! linkbal remembers what each interface was before it touched it, as a [`Record`] that is observed
//! like everything else. So the way back is no different from the way there: [`plan`] without any
//! bonds leads to what the records say.

mod effects;
mod options;
mod plan;
mod repair;
mod status;
mod text;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(super) use self::repair::undone;
pub use self::{
    options::{BondOption, Options},
    plan::plan,
    status::{BondState, BondStatus, MemberState, MemberStatus, Watch, status},
};

/// A MAC address.
pub type Mac = [u8; 6];

/// What concerns bonds, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Bonding {
    /// Ethernet interfaces by name.
    pub ports: BTreeMap<String, Port>,
    /// What interfaces were before linkbal touched them, by name.
    pub records: BTreeMap<String, Record>,
}

/// An Ethernet interface, which may be a bond, a member of one, or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Port {
    /// Interface index; 0 if it was asked for, but not seen yet.
    pub ifindex: u32,
    /// Administratively up.
    pub up: bool,
    /// MAC address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Asked to receive what is not for it, too (`IFF_PROMISC`).
    pub promisc: bool,
    /// The bond or bridge that it is in.
    pub master: Option<String>,
    /// Addresses that somebody gave it for ever, those in duplicate detection included and
    /// link-local ones left out, with the length of their network's prefix.
    pub addresses: BTreeSet<IpNet>,
    /// Of a bond: how it works.
    pub bond: Option<Options>,
    /// Of a bond: the member that works in modes that have one.
    pub active: Option<String>,
    /// Of a bond's member: what the bond thinks of it.
    pub member: Option<Membership>,
}

/// What a bond thinks of its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Membership {
    /// Its monitoring finds it alive.
    pub alive: bool,
    /// Packets are sent by it.
    pub active: bool,
}

/// What is to be known of an interface to give it back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Record {
    /// Its index, which tells it from a later one of the same name; `None` if it is yet to be made.
    pub ifindex: Option<u32>,
    /// As it was before; `None`: it did not exist, and goes away again.
    pub former: Option<Port>,
    /// Addresses that it got from linkbal.
    pub added: BTreeSet<IpNet>,
}

/// One change of an interface. The first field is its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BondChange {
    /// Remember what it was before.
    Note(String, Record),
    /// Forget that: it is given back, or gone.
    Forget(String),
    /// Make a bond of a mode; one that exists is a success.
    Create(String, u8),
    /// Delete a bond.
    Delete(String),
    /// Take it out of its bond or bridge.
    Release(String),
    /// Put it into a bond or bridge.
    Enslave(String, String),
    /// Change how a bond works.
    SetOption(String, BondOption),
    /// Change its MAC address.
    SetMac(String, Mac),
    /// Change its MTU, and that of its members.
    SetMtu(String, u32),
    /// Let it receive what is not for it, or not.
    SetPromisc(String, bool),
    /// Take it up or down.
    SetUp(String, bool),
    /// Add an address.
    AddAddress(String, IpNet),
    /// Remove an address.
    DeleteAddress(String, IpNet),
}

impl BondChange {
    /// The interface that it is about.
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

    /// Whether it changes linkbal's memory only.
    pub const fn is_memory(&self) -> bool {
        matches!(self, BondChange::Note(..) | BondChange::Forget(_))
    }
}

#[cfg(test)]
mod tests;
