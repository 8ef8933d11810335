//! Obstacles to shortcuts, and the flows that take some in spite of them, as values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// The things that packets with shortcuts would pass by, as far as the kernel was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Obstacles {
    /// Obstacle to all packets, in words: IPsec policies.
    pub everywhere: Option<String>,
    /// Things of others that see the packets that come in by an interface behind linkbal's program, in
    /// words, by index; `None` if nothing does.
    pub ingress: BTreeMap<u32, Option<String>>,
}

/// A reason why packets take no shortcuts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The configuration leaves the uplink or the interface out.
    Configured(&'static str),
    /// Packets of all flows would pass by this.
    Everywhere(String),
    /// Packets would pass by something at the ingress of an interface.
    Ingress {
        /// Name of the interface.
        interface: String,
        /// Thing that would be bypassed.
        what: String,
    },
    /// The driver of an interface needs the route of each packet, which packets of shortcuts have not.
    Driver {
        /// Name of the interface.
        interface: String,
    },
    /// Nothing is known yet of the ingress of an interface.
    Unknown {
        /// Name of the interface.
        interface: String,
    },
}

/// The reason in a few words.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Configured(words) => f.write_str(words),
            Obstacle::Everywhere(what) => f.write_str(what),
            Obstacle::Ingress { interface, what } => {
                write!(f, "{what} at the ingress of {interface}")
            }
            Obstacle::Driver { interface } => {
                write!(
                    f,
                    "{interface} is a tunnel that takes its peer from the route of each packet"
                )
            }
            Obstacle::Unknown { interface } => {
                write!(f, "{interface} is missing, or not looked at yet")
            }
        }
    }
}

/// The flows that take shortcuts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The uplinks whose flows do, bit `i` for uplink `i`.
    pub uplinks: u32,
    /// Indexes of the LAN interfaces whose packets do not.
    pub left_out: BTreeSet<u32>,
}
