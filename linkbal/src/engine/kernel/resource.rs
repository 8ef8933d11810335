//! Resources in the kernel that linkbal sets up and others may change, and who did.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of resource in the kernel that others may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum ResourceKind {
    /// ip rules.
    Rules,
    /// Routes.
    Routes,
    /// The nft table.
    Nft,
    /// Sysctls.
    Sysctls,
    /// Bonds and their members.
    Bonds,
    /// The eBPF programs, and everything that is pinned.
    Datapath,
}

/// A process that did something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Name, if the process still runs or the kernel tells.
    pub name: Option<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (process {})", self.pid),
            None => write!(f, "process {}, which has ended", self.pid),
        }
    }
}

/// A part of the datapath that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Part {
    /// The pin of a map or a program.
    Pin(String),
    /// A program at an interface, or the pin that holds it there.
    Attachment {
        /// Index of the interface.
        ifindex: u32,
        /// Name of the interface.
        interface: String,
    },
    /// The programs for local traffic.
    #[serde(alias = "OwnTraffic")]
    Local,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Pin(name) => write!(f, "pin {name}"),
            Part::Attachment { interface, .. } => f.write_str(&program_of(interface)),
            Part::Local => f.write_str("eBPF programs for local traffic"),
        }
    }
}

/// Returns the name of the programs of an interface.
pub(in crate::engine) fn program_of(interface: &str) -> String {
    format!("eBPF program of {interface}")
}
