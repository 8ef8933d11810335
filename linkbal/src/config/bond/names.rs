//! The names and numbers of the kernel's bonding driver (Documentation/networking/bonding.rst,
//! include/uapi/linux/if_bonding.h).

/// A choice that the kernel knows by a name and a number.
pub trait Named: Copy + PartialEq + 'static {
    /// All values with their names: the position of each is its number.
    const NAMES: &'static [(Self, &'static str)];

    /// The kernel's number.
    fn number(self) -> u8 {
        let at = Self::NAMES.iter().position(|(value, _)| *value == self);
        at.and_then(|at| u8::try_from(at).ok()).expect("every value is among its few names")
    }

    /// The value of that name.
    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }

    /// All names, in the order of the numbers.
    fn names() -> Vec<&'static str> {
        Self::NAMES.iter().map(|(_, name)| *name).collect()
    }
}

/// The name of a number that the kernel said.
pub fn name_of<T: Named>(number: u8) -> &'static str {
    T::NAMES.get(usize::from(number)).map_or("unknown", |(_, name)| name)
}

/// How packets are spread over the members of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// In turns.
    BalanceRr,
    /// One works, the others wait.
    ActiveBackup,
    /// By a hash.
    BalanceXor,
    /// Each packet on every member.
    Broadcast,
    /// By a hash, over those that the switch agrees to (LACP).
    Ieee8023ad,
    /// By load, receiving on one.
    BalanceTlb,
    /// By load in both directions, for IPv4.
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
    /// Whether members can be monitored by ARP requests.
    pub const fn has_arp(self) -> bool {
        !matches!(self, BondMode::Ieee8023ad | BondMode::BalanceTlb | BondMode::BalanceAlb)
    }

    /// Whether one member is preferred over the others.
    pub const fn has_primary(self) -> bool {
        matches!(self, BondMode::ActiveBackup | BondMode::BalanceTlb | BondMode::BalanceAlb)
    }

    /// Whether it can be chosen what packets are spread by.
    pub const fn has_hash(self) -> bool {
        matches!(self, BondMode::BalanceXor | BondMode::Ieee8023ad | BondMode::BalanceTlb)
    }

    /// Whether the switch is spoken to.
    pub const fn has_lacp(self) -> bool {
        matches!(self, BondMode::Ieee8023ad)
    }
}

/// Which members' ARP traffic is validated, and whether other traffic counts as a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpValidate {
    /// Of none.
    None,
    /// Of the active one.
    Active,
    /// Of those that wait.
    Backup,
    /// Of all.
    All,
    /// Of none, but only ARP counts.
    Filter,
    /// Of the active one, and only ARP counts.
    FilterActive,
    /// Of those that wait, and only ARP counts.
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

/// How often the switch is to send LACP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

impl Named for LacpRate {
    const NAMES: &'static [(LacpRate, &'static str)] =
        &[(LacpRate::Slow, "slow"), (LacpRate::Fast, "fast")];
}

/// What a packet is hashed by to choose a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmitHashPolicy {
    /// MAC addresses.
    Layer2,
    /// IP addresses and ports.
    Layer34,
    /// MAC and IP addresses.
    Layer23,
    /// As layer2+3, of the innermost headers.
    Encap23,
    /// As layer3+4, of the innermost headers.
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
