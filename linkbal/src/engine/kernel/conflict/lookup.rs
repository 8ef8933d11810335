//! Lookups of routes: packets of the LAN, the routes that they should have, and the kernel's answers.

use std::net::IpAddr;

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use crate::engine::kernel::network::family;

/// A packet of the LAN whose route is looked up, and the route that it should have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RouteQuestion {
    /// Family of the packet.
    #[serde(with = "family")]
    pub family: Family,
    /// The uplink; `None` for a packet without a mark.
    pub uplink: Option<String>,
    /// The fwmark.
    pub fwmark: u32,
    /// Index of the interface of the LAN that it comes in by.
    pub iif: u32,
    /// A host of the LAN.
    pub source: IpAddr,
    /// A destination on the internet.
    pub destination: IpAddr,
    /// The table that it should be routed by.
    pub table: u32,
    /// The device that it should leave by.
    pub oif: u32,
    /// The gateway that it should go to.
    pub gateway: Option<IpAddr>,
}

/// The kernel's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LookedUpRoute {
    /// The question.
    pub question: RouteQuestion,
    /// The answer.
    pub answer: RouteAnswer,
}

/// The route of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteAnswer {
    /// The packet has a route.
    Route {
        /// The table of the route.
        table: u32,
        /// The device.
        oif: Option<u32>,
        /// The gateway.
        gateway: Option<IpAddr>,
    },
    /// The packet has no route: the kernel's words.
    Refused(String),
}

impl LookedUpRoute {
    /// Returns whether the packet goes elsewhere.
    pub(in crate::engine) fn astray(&self) -> bool {
        let RouteQuestion { oif: wanted, gateway: by, .. } = &self.question;
        match &self.answer {
            // Two uplinks on one interface differ in the gateway.
            RouteAnswer::Route { oif, gateway, .. } => *oif != Some(*wanted) || gateway != by,
            RouteAnswer::Refused(_) => true,
        }
    }
}
