//! Exemptions from NAT.

use ipnet::IpNet;

/// Packets that are not translated: those that match one element of every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Source prefixes.
    pub source: Vec<IpNet>,
    /// Destination prefixes.
    pub destination: Vec<IpNet>,
    /// Names of the uplinks that they leave by.
    pub uplinks: Vec<String>,
}

impl Exempt {
    /// Returns whether packets to its destinations follow the routes and the kernel's IPsec
    /// policies, and are not balanced: no uplink is named for them.
    pub fn follows_routes(&self) -> bool {
        self.uplinks.is_empty()
    }
}
