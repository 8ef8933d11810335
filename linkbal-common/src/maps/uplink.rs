//! Uplinks, and the word that tells which of them are usable.

/// Maximum number of uplinks of a gateway: one bit each of a 16-bit half of [`UpMask`].
pub const MAX_UPLINKS: usize = 16;

/// Value for no uplink: a flow that is not in the table has none.
pub const NO_UPLINK: u32 = u32::MAX;

/// Address family of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    Ipv4 = 4,
    /// IPv6.
    Ipv6 = 6,
}

impl Family {
    /// Both families, in the order of their bits in [`UpMask`].
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// Returns the name as in `status`, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }
}

/// Number of slots of uplinks by family: the entries of `EPOCHS`, `UPLINK_ADDRESSES` and `UPLINK_MTU`,
/// and the bits of [`UpMask`].
pub const FAMILY_SLOTS: usize = 2 * MAX_UPLINKS;

/// Returns the slot of an uplink and a family: IPv4 of all uplinks, then IPv6.
#[inline(always)]
pub const fn family_slot(uplink: u32, family: Family) -> u32 {
    match family {
        Family::Ipv4 => uplink,
        Family::Ipv6 => MAX_UPLINKS as u32 + uplink,
    }
}

/// Returns the uplink of a [`family_slot`]: always one below [`MAX_UPLINKS`], as the verifier sees.
#[inline(always)]
pub const fn slot_uplink(slot: u32) -> u32 {
    slot % MAX_UPLINKS as u32
}

/// The usable uplinks: a bit for each [`family_slot`].
///
/// One 32-bit store of this word re-routes every flow and every bucket at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct UpMask(pub u32);

impl UpMask {
    /// Returns the bits of the uplinks usable for `family`, uplink `i` at bit `i`.
    #[inline(always)]
    pub const fn family(self, family: Family) -> u32 {
        match family {
            Family::Ipv4 => self.0 & ((1 << MAX_UPLINKS) - 1),
            Family::Ipv6 => self.0 >> MAX_UPLINKS,
        }
    }

    /// Returns whether the uplink of a [`family_slot`] is usable for that family.
    #[inline(always)]
    pub const fn has_slot(self, slot: u32) -> bool {
        self.0 >> (slot % FAMILY_SLOTS as u32) & 1 == 1
    }

    /// Returns whether `uplink` is usable for `family`; false for an index of [`MAX_UPLINKS`] or
    /// more.
    #[inline(always)]
    pub const fn contains(self, uplink: u32, family: Family) -> bool {
        uplink < MAX_UPLINKS as u32 && self.has_slot(family_slot(uplink, family))
    }

    /// Returns the mask without the uplinks of another one.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, other: UpMask) -> UpMask {
        UpMask(self.0 & !other.0)
    }

    /// Returns the uplinks of either mask.
    #[must_use]
    pub const fn union(self, other: UpMask) -> UpMask {
        UpMask(self.0 | other.0)
    }

    /// Returns the mask without an uplink, in both families.
    #[must_use]
    pub const fn without_uplink(self, uplink: u32) -> UpMask {
        self.with(uplink, Family::Ipv4, false).with(uplink, Family::Ipv6, false)
    }

    /// Returns the mask with one uplink set or cleared for one family.
    #[must_use]
    pub const fn with(self, uplink: u32, family: Family, usable: bool) -> UpMask {
        let bit = 1 << family_slot(slot_uplink(uplink), family);
        UpMask(if usable { self.0 | bit } else { self.0 & !bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_do_not_touch_each_other() {
        let mask = UpMask::default().with(3, Family::Ipv4, true).with(15, Family::Ipv6, true);
        assert_eq!(mask.0, 1 << 3 | 1 << 31);
        assert!(mask.contains(3, Family::Ipv4) && !mask.contains(3, Family::Ipv6));
        assert!(mask.contains(15, Family::Ipv6) && !mask.contains(15, Family::Ipv4));
        assert!(!mask.contains(16, Family::Ipv4) && !mask.contains(u32::MAX, Family::Ipv6));
        assert_eq!(mask.with(3, Family::Ipv4, false).0, 1 << 31);
    }
}
