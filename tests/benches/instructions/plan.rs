//! The plan that the host gives: the gateways to measure, and how.

use serde::Deserialize;

use crate::frame::Family;

#[derive(Deserialize)]
pub(crate) struct Plan {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) measurements: Vec<Measurement>,
}

/// A gateway, by all that makes it one.
#[derive(Deserialize)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) family: Family,
    /// Number of uplinks.
    pub(crate) uplinks: usize,
    /// The destination port of its flows.
    pub(crate) port: u16,
    /// Set if clients keep their addresses.
    pub(crate) untranslated: bool,
    /// Set if its interfaces have drivers: pairs of them instead of ones without a far end. Without linkbal,
    /// a program there forwards.
    pub(crate) drivers: bool,
    /// Numbers of the uplinks that must be used, all of them.
    pub(crate) used: Vec<usize>,
    /// Names and values of sysctls.
    pub(crate) sysctls: Vec<(String, String)>,
    /// Arguments of `ip`, one command a line.
    pub(crate) ip: String,
    /// A script for nft.
    pub(crate) nft: String,
    /// Commands of a shell.
    pub(crate) shell: String,
    /// A configuration of linkbal.
    pub(crate) linkbal: Option<String>,
}

/// A number of flows, and what their packets are.
#[derive(Deserialize)]
pub(crate) struct Measurement {
    pub(crate) flows: u32,
    pub(crate) directions: Vec<Direction>,
}

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From the LAN, of an established flow.
    Up,
    /// To the LAN, of an established flow.
    Down,
    /// The first one of a flow.
    New,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::New => "new",
        }
    }
}
