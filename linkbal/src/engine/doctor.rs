//! Faults that keep a gateway from working as a whole: of its uplinks, and of the machine.
//!
//! [`find`] judges what was tried and observed; nothing here asks anything.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod leftovers;
mod line;
mod machine;
mod missing;
mod own_fault;
mod pair;
#[cfg(test)]
mod tests;
pub mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use linkbal_common::uplink::Family;
use serde::Serialize;

pub use self::missing::{States, missing};
use self::{
    leftovers::{Job, Leftover},
    uplinks::Known,
};
use super::kernel::network::Snapshot;
use crate::config::{Config, Severity};

/// Something that is wrong, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Complaint {
    /// The weight.
    pub severity: Severity,
    /// Fault in words.
    pub what: String,
    /// Meaning or advice; may be empty.
    pub advice: String,
    /// The command that mends it; empty if there is none.
    pub command: String,
}

impl Complaint {
    /// Creates a complaint.
    pub fn new(
        severity: Severity,
        what: impl Into<String>,
        advice: impl Into<String>,
        command: impl Into<String>,
    ) -> Complaint {
        let (what, advice, command) = (what.into(), advice.into(), command.into());
        Complaint { severity, what, advice, command }
    }
}

/// A number of hosts that were asked, and of those that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// Number of hosts that were asked.
    pub asked: usize,
    /// Number of hosts that answered.
    pub answered: usize,
    /// Hosts that did not, as they were asked.
    pub silent: Vec<String>,
}

/// Result of trying an uplink in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Set if the gateway answered on the link; null if there is none to ask.
    pub gateway: Option<bool>,
    /// Echo requests.
    pub ping: Attempts,
    /// TCP connections; a refusal is an answer.
    pub tcp: Attempts,
    /// Requests by UDP other than DNS.
    pub udp: Attempts,
    /// DNS queries.
    pub dns: Attempts,
    /// The addresses that this machine had in these.
    pub sources: BTreeSet<IpAddr>,
    /// The MTU of the interface, in bytes.
    pub device_mtu: u32,
    /// The largest packet that came through and back, in bytes; null if none was tried, or none
    /// came.
    pub path_mtu: Option<u32>,
}

impl Tried {
    /// Returns the number of hosts that were asked, those of all kinds together.
    fn asked(&self) -> usize {
        self.kinds().into_iter().fold(0, |all, kind| all.saturating_add(kind.asked))
    }

    /// Returns the number of those that answered.
    fn answered(&self) -> usize {
        self.kinds().into_iter().fold(0, |all, kind| all.saturating_add(kind.answered))
    }

    const fn kinds(&self) -> [&Attempts; 4] {
        [&self.ping, &self.tcp, &self.udp, &self.dns]
    }
}

/// The trial of an uplink in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Name of the uplink.
    pub uplink: String,
    /// Interface of the uplink.
    pub interface: String,
    /// The family.
    #[serde(serialize_with = "name_of")]
    pub family: Family,
    /// Result.
    pub tried: Tried,
}

fn name_of<S: serde::Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(family.name())
}

/// The daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// Numbers of files that it may have open, and up to which it may raise that, if known.
    pub open_files: Option<(u64, u64)>,
}

/// The state of a machine besides its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The daemon, if it runs.
    pub daemon: Option<Daemon>,
    /// Values of sysctls, by path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
    /// Year of the clock.
    pub year: u32,
    /// Set if the kernel says that nobody keeps the clock right.
    pub unsynchronised: bool,
    /// Programs that linkbal runs and that are not installed.
    pub missing: BTreeSet<String>,
    /// Processes that look like scripts for several uplinks.
    pub leftovers: Vec<Leftover>,
    /// Jobs of cron that look like that.
    pub jobs: Vec<Job>,
    /// Firewall chains of others that drop what this machine sends, or the answers to it.
    pub closed: Vec<String>,
}

impl Machine {
    /// Returns a sysctl as a number.
    fn number(&self, path: &str) -> Option<u64> {
        self.sysctls.get(path)?.trim().parse().ok()
    }
}

/// Returns the sysctls to observe.
pub fn watched(config: &Config) -> Vec<String> {
    machine::watched(config)
}

/// Returns what is wrong, the worst first. `known` is what the daemon has of its uplinks, if it runs.
pub fn find(
    config: &Config,
    snapshot: &Snapshot,
    machine: &Machine,
    trials: &[Trial],
    known: &[Known],
) -> Vec<Complaint> {
    let of_line = |trial: &Trial| {
        line::find(config, snapshot, trial, own_fault::find(machine, trials, trial).as_ref())
    };
    let untold = trials.iter().filter(|trial| !uplinks::explains(known, trial));
    let mut found: Vec<Complaint> = untold.flat_map(of_line).collect();
    found.extend(uplinks::down(machine, trials, known));
    found.extend(uplinks::taken_out(known));
    found.extend(pair::find(config, snapshot));
    found.extend(machine::find(config, snapshot, machine));
    found.extend(leftovers::find(machine));
    found.sort();
    found.dedup();
    found
}

/// Returns the first command in a piece of advice: it is in backquotes.
pub fn command_in(advice: &str) -> String {
    let quoted = advice.split('`').skip(1).step_by(2);
    let mut commands = quoted.filter(|text| text.contains(' ') && !text.contains("ADDRESS"));
    commands.next().unwrap_or_default().to_owned()
}
