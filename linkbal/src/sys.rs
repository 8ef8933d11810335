//! Access to the kernel, without decisions.
//!
//! All of it works in the network namespace of the calling thread.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod bond;
pub mod conntrack;
pub mod datapath;
pub mod doctor;
pub mod events;
pub mod facts;
#[cfg(feature = "model")]
pub mod fuzz;
pub mod host;
pub mod init;
pub mod ipsec;
pub mod netlink;
pub mod nft;
pub mod notify;
pub mod obstacles;
mod packet_socket;
pub mod probe;
pub mod removed;
pub mod reset;
pub mod resolve;
mod router_solicitation;
pub mod survey;
pub mod sysctl;
mod tls;

use std::{collections::BTreeMap, io, path::Path};

use anyhow::{Error, Result, ensure};
use futures::future::try_join_all;
use linkbal_common::uplink::Family;
use tokio::join;

use self::{
    bond::Bonds,
    events::{FileWatcher, NetworkEvents},
    host::instance::{BOND_RECORDS, SAVED_SYSCTLS},
    netlink::Netlink,
    nft::Nft,
    removed::Removed,
    sysctl::SavedSysctls,
};
use crate::engine::{
    balance::load::Octets,
    kernel::{
        bond::Bonding,
        network::{ACCEPT_LOCAL, Change, PROTOCOL, Snapshot, Unobserved},
        nft_text::flowtable::FLOWTABLE,
        refusal::KernelRefusal,
    },
};

/// The kernel's network state, to be observed, changed and, at the end, restored.
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    nft: Nft,
    /// True if the nft table was last known to be as it was written.
    nft_seen: bool,
    flowtable: Flowtable,
    bonds: Bonds,
    sysctls: SavedSysctls,
    files: FileWatcher,
    removed: Removed,
}

/// The nft table of the flowtable.
#[derive(Debug)]
struct Flowtable {
    table: Nft,
    /// Set once it was deleted, or never there.
    deleted: bool,
    /// True if it was last known to be as it was asked for.
    seen: bool,
}

impl Flowtable {
    async fn is_current(&mut self) -> bool {
        // The last known state if nft does not answer: the other table tells that.
        self.seen = self.deleted || self.table.is_current().await.unwrap_or(self.seen);
        self.seen
    }

    async fn set(&mut self, text: Option<&str>) -> Result<()> {
        (self.deleted, self.seen) = (false, false);
        match text {
            Some(text) => self.table.replace(text).await?,
            None => drop(self.table.delete()?),
        }
        (self.deleted, self.seen) = (text.is_none(), true);
        Ok(())
    }
}

/// Returns the refusal of a change, from its error.
fn refusal(change: &Change, error: &Error) -> KernelRefusal {
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
    };
    KernelRefusal {
        resource: change.into(),
        errno: error.chain().find_map(errno),
        message: format!("{error:#}"),
    }
}

impl Kernel {
    /// Opens the sockets. Must be called within a tokio runtime.
    ///
    /// `run_dir` must not outlive a reboot, or sysctls of an earlier boot would be restored.
    pub fn connect(run_dir: &Path) -> Result<(Kernel, NetworkEvents)> {
        let sysctls = SavedSysctls::load(run_dir.join(SAVED_SYSCTLS));
        let bonds = Bonds::load(run_dir.join(BOND_RECORDS));
        // Subscribed before the first snapshot, so that no change falls between the two.
        let mut events = NetworkEvents::subscribe()?;
        let netlink = Netlink::connect()?;
        events.set_own_port(netlink.port());
        let files = events.watch();
        let nft = Nft::default();
        let flowtable = Flowtable { table: Nft::named(FLOWTABLE), deleted: false, seen: false };
        let removed = Removed::default();
        let kernel =
            Kernel { netlink, nft, nft_seen: false, flowtable, bonds, sysctls, files, removed };
        Ok((kernel, events))
    }

    /// Observes everything but bonds. Of `sysctls`, paths below `/proc/sys`, and those that linkbal has
    /// changed, it reads those that exist.
    pub async fn snapshot(&mut self, sysctls: &[String]) -> Result<Snapshot> {
        let (sysctls_before, sysctls_set) = (self.sysctls.before(), self.sysctls.set_values());
        let changed = sysctls_before.keys().filter(|path| !sysctls.contains(path));
        let sysctls: Vec<String> = sysctls.iter().chain(changed).cloned().collect();
        // Before they are read, so that no change falls between the two.
        self.files.sysctls(&sysctls);
        // The program nft takes its time: longer than all else together.
        let (nft_current, flowtable_current, observed) =
            join!(self.nft.is_current(), self.flowtable.is_current(), self.netlink.snapshot());
        let flowtable_stale = !flowtable_current;
        let values = sysctls.iter().filter_map(|path| Some((path.clone(), sysctl::read(path)?)));
        let sysctls = values.collect();
        let mut unobserved = BTreeMap::new();
        let nft_current = nft_current.unwrap_or_else(|error| {
            unobserved.insert(Unobserved::Nft, format!("{error:#}"));
            // The last known state.
            self.nft_seen
        });
        self.nft_seen = nft_current;
        Ok(Snapshot {
            sysctls,
            sysctls_before,
            sysctls_set,
            nft_current,
            flowtable_stale,
            unobserved,
            ..observed?
        })
    }

    /// Observes the Ethernet interfaces and bonds if any bonds are `configured`, or some are to be
    /// restored.
    pub async fn bonding(&self, configured: bool) -> Result<Option<Bonding>> {
        if configured || self.bonds.has_records() {
            return self.bonds.observe(&self.netlink).await.map(Some);
        }
        Ok(None)
    }

    /// Returns the bytes that interfaces have carried, by name; missing interfaces are left out.
    pub async fn octets(&self, interfaces: &[String]) -> Result<BTreeMap<String, Octets>> {
        // Together, so that the answers wake the daemon once.
        let each = interfaces.iter().map(|name| self.netlink.octets(name));
        let octets = try_join_all(each).await?;
        let named = interfaces.iter().cloned().zip(octets);
        Ok(named.filter_map(|(name, octets)| Some((name, octets?))).collect())
    }

    /// Makes one change; one that is in force already is a success.
    ///
    /// # Errors
    ///
    /// If the kernel, or the program that asks it, refuses.
    pub async fn apply(&mut self, change: &Change) -> Result<(), KernelRefusal> {
        self.try_apply(change).await.map_err(|error| refusal(change, &error))
    }

    async fn try_apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Bond(change) => self.bonds.apply(&self.netlink, change).await,
            Change::SetSysctl(path, value) => {
                // The table drops what the kernel would drop without this sysctl.
                let checked = self.nft_seen || !path.ends_with(ACCEPT_LOCAL) || value == "0";
                ensure!(checked, "the nft table, which then validates sources, is not in force");
                self.sysctls.set(path, value)?;
                router_solicitation::interface(path)
                    .into_iter()
                    .for_each(router_solicitation::routers);
                Ok(())
            }
            Change::ReplaceRoute(route) => self.netlink.replace_route(route).await,
            Change::AddRule(rule) => self.netlink.add_rule(rule).await,
            Change::ReplaceNft(text) => self.replace_nft(text).await,
            Change::SetFlowtable(text) => self.flowtable.set(text.as_deref()).await,
            Change::DeleteRule(rule) => self.netlink.delete_rule(rule).await,
            Change::DeleteRoute(route) => self.netlink.delete_route(route).await,
        }
    }

    async fn replace_nft(&mut self, text: &str) -> Result<()> {
        self.nft_seen = false;
        self.nft.replace(text).await?;
        self.nft_seen = true;
        Ok(())
    }

    /// Removes linkbal's rules, routes and nft table, and restores the sysctls and the bonds; goes
    /// on after failures and returns them. What was there is in [`Self::removed`] then.
    pub async fn uninstall(&mut self) -> Vec<Error> {
        let mut failures = Vec::new();
        for family in Family::ALL {
            self.uninstall_rules(family, &mut failures).await;
            self.uninstall_routes(family, &mut failures).await;
        }
        (self.flowtable.deleted, self.flowtable.seen) = (true, true);
        for table in [&mut self.flowtable.table, &mut self.nft] {
            match table.delete() {
                Ok(true) => self.removed.tables.push(table.name().to_owned()),
                Ok(false) => {}
                Err(error) => failures.push(error),
            }
        }
        self.restore_sysctls(&mut failures);
        let bonds = self.bonds.names();
        failures.extend(self.bonds.restore(&self.netlink).await);
        let left = self.bonds.names();
        self.removed.bonds.extend(bonds.into_iter().filter(|name| !left.contains(name)));
        failures
    }

    /// Returns everything that [`Self::uninstall`] has removed and restored.
    pub const fn removed(&self) -> &Removed {
        &self.removed
    }

    async fn uninstall_rules(&mut self, family: Family, failures: &mut Vec<Error>) {
        let rules = self.netlink.rules(family).await;
        let rules = rules.map_err(|error| failures.push(error)).unwrap_or_default();
        for rule in rules.iter().filter(|rule| rule.protocol == PROTOCOL) {
            match self.netlink.delete_rule(rule).await {
                Ok(()) => self.removed.rules = self.removed.rules.saturating_add(1),
                Err(error) => failures.push(error),
            }
        }
    }

    async fn uninstall_routes(&mut self, family: Family, failures: &mut Vec<Error>) {
        let routes = self.netlink.routes(family).await;
        let routes = routes.map_err(|error| failures.push(error)).unwrap_or_default();
        for route in routes.iter().filter(|route| route.protocol == PROTOCOL) {
            match self.netlink.delete_route(route).await {
                Ok(()) => self.removed.routes = self.removed.routes.saturating_add(1),
                Err(error) => failures.push(error),
            }
        }
    }

    fn restore_sysctls(&mut self, failures: &mut Vec<Error>) {
        let is = |path: &String, value: &String| sysctl::read(path).as_ref() == Some(value);
        let mut changed = self.sysctls.before();
        changed.retain(|path, before| !is(path, before));
        failures.extend(self.sysctls.restore_all());
        changed.retain(|path, before| is(path, before));
        self.removed.sysctls = changed;
    }
}
