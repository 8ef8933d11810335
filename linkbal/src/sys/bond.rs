//! Bonds over rtnetlink, and the records by which they are restored.

mod link;
pub(super) mod observe;
mod records;

use std::path::PathBuf;

use anyhow::{Error, Result, anyhow};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags},
};

use self::{
    link::{bond_message, flag, named, with},
    records::Records,
};
use super::netlink::Netlink;
use crate::engine::kernel::bond::{BondChange, BondOption, Bonding, plan};

/// Maximum number of rounds of observing and changing until everything is restored.
const ROUNDS: usize = 5;

/// Bonds and their members, with records of their former state.
#[derive(Debug)]
pub(super) struct Bonds {
    records: Records,
    /// Name of the interface that was taken down last.
    closed: Option<String>,
}

impl Bonds {
    /// Reads the records that an earlier run left in `file`; a missing file holds none.
    pub(super) fn load(file: PathBuf) -> Bonds {
        Bonds { records: Records::load(file), closed: None }
    }

    /// Returns whether something is to be restored.
    pub(super) fn has_records(&self) -> bool {
        !self.records.all().is_empty()
    }

    /// Returns the names of all interfaces that are to be restored.
    pub(super) fn names(&self) -> Vec<String> {
        self.records.all().keys().cloned().collect()
    }

    /// Observes all Ethernet interfaces.
    pub(super) async fn observe(&self, netlink: &Netlink) -> Result<Bonding> {
        let ports = netlink.ports().await?;
        Ok(Bonding { ports, records: self.records.all().clone() })
    }

    /// Makes one change. A change that is in force already is a success, and so is one of an
    /// interface that is gone, which the next observation will show.
    pub(super) async fn apply(&mut self, netlink: &Netlink, change: &BondChange) -> Result<()> {
        match change {
            BondChange::Note(name, record) => {
                self.records.note(name, record);
                Ok(())
            }
            BondChange::Forget(name) => {
                self.records.forget(name);
                Ok(())
            }
            change => {
                perform(netlink, change).await?;
                self.log_change(change);
                Ok(())
            }
        }
    }

    /// Logs a change, as a warning if the bond was taken down for a change of its mode: it lost its
    /// routes.
    fn log_change(&mut self, change: &BondChange) {
        match change {
            BondChange::SetOption(name, BondOption::Mode(_))
                if self.closed.as_ref() == Some(name) =>
            {
                tracing::warn!("{change}; it was down for that, and lost routes of others");
            }
            _ => tracing::info!("{change}"),
        }
        if let BondChange::SetUp(name, false) = change {
            self.closed = Some(name.clone());
        }
    }

    /// Restores everything to its former state; goes on after failures and returns them.
    pub(super) async fn restore(&mut self, netlink: &Netlink) -> Vec<Error> {
        let mut failures = Vec::new();
        for _ in 0..ROUNDS {
            if !self.has_records() {
                return Vec::new();
            }
            let bonding = match self.observe(netlink).await {
                Ok(bonding) => bonding,
                Err(error) => return vec![error],
            };
            failures.clear();
            for change in plan(&[], &bonding) {
                failures.extend(self.apply(netlink, &change).await.err());
            }
        }
        if failures.is_empty() && self.has_records() {
            let names: Vec<&str> = self.records.all().keys().map(String::as_str).collect();
            failures.push(anyhow!("failed to restore {}: they change again", names.join(", ")));
        }
        failures
    }
}

async fn perform(netlink: &Netlink, change: &BondChange) -> Result<()> {
    let request = match change {
        BondChange::Create(name, mode) => return netlink.create_bond(name, *mode).await,
        BondChange::AddAddress(name, address) => {
            return netlink.set_address(name, *address, true).await;
        }
        BondChange::DeleteAddress(name, address) => {
            return netlink.set_address(name, *address, false).await;
        }
        BondChange::Note(..) | BondChange::Forget(_) => return Ok(()),
        BondChange::Delete(name) => RouteNetlinkMessage::DelLink(named(name)),
        BondChange::Release(name) => with(name, LinkAttribute::Controller(0)),
        BondChange::Enslave(name, master) => match netlink.ifindex(master).await? {
            Some(ifindex) => with(name, LinkAttribute::Controller(ifindex)),
            None => return Ok(()),
        },
        BondChange::SetOption(name, option) => {
            let option = netlink.info(option).await?;
            RouteNetlinkMessage::NewLink(bond_message(name, vec![option]))
        }
        BondChange::SetMac(name, mac) => with(name, LinkAttribute::Address(mac.to_vec())),
        BondChange::SetMtu(name, mtu) => with(name, LinkAttribute::Mtu(*mtu)),
        BondChange::SetPromisc(name, on) => flag(name, LinkFlags::Promisc, *on),
        BondChange::SetUp(name, up) => flag(name, LinkFlags::Up, *up),
    };
    netlink.set_link(change, request).await
}
