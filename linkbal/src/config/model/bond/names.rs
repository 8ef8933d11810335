//! The names and numbers of the kernel's bonding driver (Documentation/networking/bonding.rst,
//! include/uapi/linux/if_bonding.h).

/// A choice that has a name and a number in the kernel.
pub trait Named: Copy + PartialEq + 'static {
    /// All values with their names; the position of each is its number.
    const NAMES: &'static [(Self, &'static str)];

    /// Returns the kernel's number.
    fn number(self) -> u8 {
        let at = Self::NAMES.iter().position(|(value, _)| *value == self);
        at.and_then(|at| u8::try_from(at).ok()).expect("every value is among its few names")
    }

    /// Returns the value of that name.
    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }

    /// Returns all names, in the order of the numbers.
    fn names() -> Vec<&'static str> {
        Self::NAMES.iter().map(|(_, name)| *name).collect()
    }
}

/// Returns the name of a number from the kernel.
pub fn name_of<T: Named>(number: u8) -> &'static str {
    T::NAMES.get(usize::from(number)).map_or("unknown", |(_, name)| name)
}

/// The mode of a bond: the distribution of packets over its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// Round-robin.
    BalanceRr,
    /// One active member, the others on standby.
    ActiveBackup,
    /// A hash chooses the member.
    BalanceXor,
    /// Every member sends each packet.
    Broadcast,
    /// A hash chooses the member, of those that the switch agrees to (LACP).
    Ieee8023ad,
    /// Load decides for sent packets; one member receives.
    BalanceTlb,
    /// Load decides in both directions, for IPv4.
    BalanceAlb,
}

impl Named for BondMode {
    const NAMES: &'static [(BondMode, &'static str)] = &[
        (BondMode::BalanceRr, "balance-rr"),
        (BondMode::ActiveBackup, "active-backup"),
        (BondMode::BalanceXor, "balance-xor"),
        (BondMode::Broadcast, "broadcast"),
        (BondMode::Ieee8023ad, "802.3ad"),
        (BondMode::BalanceTlb, "balance-tlb"),
        (BondMode::BalanceAlb, "balance-alb"),
    ];
}

impl BondMode {
    /// Returns whether members can be monitored by ARP requests.
    pub const fn has_arp(self) -> bool {
        !matches!(self, BondMode::Ieee8023ad | BondMode::BalanceTlb | BondMode::BalanceAlb)
    }

    /// Returns whether one member is preferred over the others.
    pub const fn has_primary(self) -> bool {
        matches!(self, BondMode::ActiveBackup | BondMode::BalanceTlb | BondMode::BalanceAlb)
    }

    /// Returns whether the hash policy can be chosen.
    pub const fn has_hash(self) -> bool {
        matches!(self, BondMode::BalanceXor | BondMode::Ieee8023ad | BondMode::BalanceTlb)
    }

    /// Returns whether the mode uses LACP.
    pub const fn has_lacp(self) -> bool {
        matches!(self, BondMode::Ieee8023ad)
    }
}

/// Members whose ARP traffic is validated, and whether other traffic counts as a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpValidate {
    /// No member.
    None,
    /// The active member.
    Active,
    /// The backup members.
    Backup,
    /// All members.
    All,
    /// No member, but only ARP counts.
    Filter,
    /// The active member, and only ARP counts.
    FilterActive,
    /// The backup members, and only ARP counts.
    FilterBackup,
}

impl Named for ArpValidate {
    const NAMES: &'static [(ArpValidate, &'static str)] = &[
        (ArpValidate::None, "none"),
        (ArpValidate::Active, "active"),
        (ArpValidate::Backup, "backup"),
        (ArpValidate::All, "all"),
        (ArpValidate::Filter, "filter"),
        (ArpValidate::FilterActive, "filter_active"),
        (ArpValidate::FilterBackup, "filter_backup"),
    ];
}

/// The rate at which the switch is asked to send LACP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LacpRate {
    /// One packet every 30 seconds.
    Slow,
    /// One packet every second.
    Fast,
}

impl Named for LacpRate {
    const NAMES: &'static [(LacpRate, &'static str)] =
        &[(LacpRate::Slow, "slow"), (LacpRate::Fast, "fast")];
}

/// The fields of a packet that are hashed to choose a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmitHashPolicy {
    /// MAC addresses.
    Layer2,
    /// IP addresses and ports.
    Layer34,
    /// MAC and IP addresses.
    Layer23,
    /// Same as layer2+3, of the innermost headers.
    Encap23,
    /// Same as layer3+4, of the innermost headers.
    Encap34,
    /// VLAN and source MAC address.
    VlanSrcmac,
}

impl Named for XmitHashPolicy {
    const NAMES: &'static [(XmitHashPolicy, &'static str)] = &[
        (XmitHashPolicy::Layer2, "layer2"),
        (XmitHashPolicy::Layer34, "layer3+4"),
        (XmitHashPolicy::Layer23, "layer2+3"),
        (XmitHashPolicy::Encap23, "encap2+3"),
        (XmitHashPolicy::Encap34, "encap3+4"),
        (XmitHashPolicy::VlanSrcmac, "vlan+srcmac"),
    ];
}
