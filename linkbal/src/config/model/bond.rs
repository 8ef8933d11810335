//! Bonds: several network cards that act as one.

mod names;

use std::net::Ipv4Addr;

use ipnet::IpNet;

pub use self::names::{ArpValidate, BondMode, LacpRate, Named, XmitHashPolicy, name_of};

/// A bond. Values that are not given are the kernel's defaults, but for the monitoring, which is
/// never off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// Name of the interface.
    pub name: String,
    /// Mode: distribution of packets over the members.
    pub mode: BondMode,
    /// Interfaces of the members, at least one, each in this bond only.
    pub members: Vec<String>,
    /// Monitoring of the members.
    pub monitor: Monitor,
    /// The preferred active member, in modes with an active one.
    pub primary: Option<String>,
    /// Rate at which the switch is asked for LACP packets, in mode 802.3ad.
    pub lacp_rate: LacpRate,
    /// Hash policy, in modes with a choice.
    pub xmit_hash_policy: XmitHashPolicy,
    /// MAC address of the bond and its members; `None`: that of its first member.
    pub mac: Option<[u8; 6]>,
    /// MTU of the bond and its members; `None`: unchanged.
    pub mtu: Option<u32>,
    /// Set if its members receive packets for other stations, too.
    pub promisc: bool,
    /// Addresses of the bond, with the prefix lengths of their networks.
    pub addresses: Vec<IpNet>,
}

/// The monitoring of the members of a bond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// Monitoring by carrier.
    Carrier {
        /// Milliseconds between two checks (`miimon`).
        interval: u32,
    },
    /// Monitoring by ARP requests to targets.
    Arp {
        /// Milliseconds between two requests.
        interval: u32,
        /// Targets, 1 to 16.
        targets: Vec<Ipv4Addr>,
        /// Members whose ARP traffic is validated.
        validate: ArpValidate,
    },
}

impl Bond {
    /// Returns whether an interface is this bond, or a VLAN of it by the usual naming.
    pub fn carries(&self, interface: &str) -> bool {
        let rest = interface.strip_prefix(self.name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}
