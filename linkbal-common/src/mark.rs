//! linkbal's share of the fwmark: a run of bits holding the uplink's number plus one.

use crate::uplink::MAX_UPLINKS;

/// Default mask: clear of the bits that mwan3, pbr, Tailscale and Calico use.
pub const DEFAULT_MASK: u32 = 0x3f00_0000;

/// Numbers behind those of the uplinks, for packets that shall not leave: dropped, refused.
pub const BLOCKED: [u32; 2] = [MAX_UPLINKS as u32, MAX_UPLINKS as u32 + 1];

/// Number behind those, for packets of TCP connections that are over with their uplink: they are
/// answered with a reset.
pub const RESET: u32 = BLOCKED[1] + 1;

/// The bits of a fwmark that are linkbal's. Foreign bits are never read nor changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MarkMask(pub u32);

impl MarkMask {
    /// Whether the set bits are one run.
    pub const fn is_contiguous(self) -> bool {
        self.0 != 0 && {
            let run = self.0 >> self.0.trailing_zeros();
            run & run.wrapping_add(1) == 0
        }
    }

    /// Whether the mask is one run of bits that can hold all numbers, and "none".
    pub const fn fits(self) -> bool {
        self.is_contiguous() && self.0 >> self.0.trailing_zeros() > RESET
    }

    /// The fwmark of `uplink`, foreign bits zero.
    #[inline(always)]
    pub const fn encode(self, uplink: u32) -> u32 {
        ((uplink + 1) << (self.0.trailing_zeros() & 31)) & self.0
    }

    /// The uplink in `fwmark`, if it carries one.
    #[inline(always)]
    pub const fn decode(self, fwmark: u32) -> Option<u32> {
        let value = (fwmark & self.0) >> (self.0.trailing_zeros() & 31);
        if value == 0 || value > MAX_UPLINKS as u32 { None } else { Some(value - 1) }
    }

    /// `fwmark` with linkbal's bits set to `uplink` and all others kept.
    #[inline(always)]
    pub const fn replace(self, fwmark: u32, uplink: u32) -> u32 {
        (fwmark & !self.0) | self.encode(uplink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn default_mask_holds_all_uplinks() {
        let mask = MarkMask(DEFAULT_MASK);
        assert!(mask.fits());
        assert_eq!(mask.encode(0), 0x0100_0000);
        assert_eq!(mask.encode(15), 0x1000_0000);
    }

    #[test]
    fn narrow_or_torn_masks_do_not_fit() {
        assert!(!MarkMask(0).fits());
        assert!(!MarkMask(0x0f00_0000).fits());
        assert!(MarkMask(0x1f00_0000).fits());
        assert!(!MarkMask(0x5f00_0000).fits());
        assert!(MarkMask(0xffff_ffff).fits());
    }

    proptest! {
        #[test]
        fn foreign_bits_stay(fwmark: u32, uplink in 0u32..16, width in 5u32..=32, at in 0u32..=27) {
            let run = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let mask = MarkMask(run.checked_shl(at.min(32 - width)).unwrap_or(run));
            let marked = mask.replace(fwmark, uplink);
            prop_assert_eq!(marked & !mask.0, fwmark & !mask.0);
            prop_assert_eq!(mask.decode(marked), Some(uplink));
        }
    }
}
