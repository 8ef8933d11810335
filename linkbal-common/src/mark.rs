//! linkbal's bits of the fwmark, and of connections' marks.
//!
//! ```text
//! bit of the mask   0 .. 4   number of the uplink plus one; 0: none
//!                   5        proposal: a packet whose uplink is only proposed (fwmark only)
//!                   6        inbound: a connection that came in by its uplink
//! ```
//!
//! A connection's mark holds the uplink of the connection. It is set once, by nft, and is
//! authoritative; the flow table is a cache of it. A packet of a flow in the table carries the
//! number alone. A packet whose uplink was just chosen, or is to be checked again, carries the
//! proposal bit as well: nft replaces the number by that of the connection, if it has one, and the
//! program at the egress of the uplink stores the uplink by which the packet really left. ip rules
//! look at the number alone.

use crate::maps::uplink::MAX_UPLINKS;

/// Default mask, without the bits that mwan3, pbr and Tailscale use.
pub const DEFAULT_MASK: u32 = 0x7f00_0000;

/// Number above those of the uplinks, for packets that are dropped.
pub const DROP: u32 = MAX_UPLINKS as u32;

/// Number above [`DROP`], for packets that are refused: their sender is told.
pub const REJECT: u32 = DROP + 1;

/// Numbers of packets that must not leave.
pub const BLOCKED: [u32; 2] = [DROP, REJECT];

/// Number above [`REJECT`], for packets of TCP connections that ended with their uplink: they are
/// answered with a reset.
pub const RESET: u32 = REJECT + 1;

/// Bits of the number.
const NUMBER: u32 = 0x1f;
const PROPOSAL: u32 = 0x20;
const INBOUND: u32 = 0x40;
const ALL: u32 = NUMBER | PROPOSAL | INBOUND;

/// linkbal's bits of a fwmark. Foreign bits are never read or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MarkMask(pub u32);

impl MarkMask {
    /// Returns whether the mask is not zero and its bits are contiguous.
    pub const fn is_contiguous(self) -> bool {
        self.0 != 0 && {
            let run = self.0 >> self.0.trailing_zeros();
            run & run.wrapping_add(1) == 0
        }
    }

    /// Returns whether the mask is one run of at least seven bits: a number, and the two flags.
    pub const fn fits(self) -> bool {
        self.is_contiguous() && self.0 >> self.0.trailing_zeros() >= ALL
    }

    /// Returns the lowest bit: a number times this one is where it belongs.
    #[inline(always)]
    const fn one(self) -> u32 {
        self.0 & self.0.wrapping_neg()
    }

    #[inline(always)]
    const fn at(self, bits: u32) -> u32 {
        bits.wrapping_mul(self.one()) & self.0
    }

    /// Returns the bits of the number: the mask of ip rules.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.at(NUMBER)
    }

    /// Returns the bit of a packet whose uplink is only proposed.
    #[inline(always)]
    pub const fn proposal(self) -> u32 {
        self.at(PROPOSAL)
    }

    /// Returns the bit of a connection that came in by its uplink, and of its packets when they are
    /// to be learned.
    #[inline(always)]
    pub const fn inbound(self) -> u32 {
        self.at(INBOUND)
    }

    /// Returns the bits of a connection's mark that hold its uplink and whether it came in by it.
    #[inline(always)]
    pub const fn connection(self) -> u32 {
        self.number() | self.inbound()
    }

    /// Returns the fwmark of `uplink`, foreign bits and flags zero.
    #[inline(always)]
    pub const fn encode(self, uplink: u32) -> u32 {
        self.at((uplink + 1) & NUMBER)
    }

    /// Returns the uplink in `fwmark`, if it carries one.
    #[inline(always)]
    pub const fn decode(self, fwmark: u32) -> Option<u32> {
        let value = (fwmark & self.number()) >> (self.0.trailing_zeros() & 31);
        if value == 0 || value > MAX_UPLINKS as u32 { None } else { Some(value - 1) }
    }

    /// Returns whether `fwmark` carries an uplink that is final.
    #[inline(always)]
    pub const fn is_final(self, fwmark: u32) -> bool {
        let number = fwmark & self.at(NUMBER | PROPOSAL);
        number != 0 && number <= (MAX_UPLINKS as u32).wrapping_mul(self.one())
    }

    /// Returns `fwmark` with linkbal's bits set to `uplink` and all others kept.
    #[inline(always)]
    pub const fn replace(self, fwmark: u32, uplink: u32) -> u32 {
        self.clear(fwmark) | self.encode(uplink)
    }

    /// Returns `fwmark` with linkbal's bits set to a proposal of `uplink`, and all others kept.
    #[inline(always)]
    pub const fn propose(self, fwmark: u32, uplink: u32) -> u32 {
        self.replace(fwmark, uplink) | self.proposal()
    }

    /// Returns `fwmark` with linkbal's bits set to ask for the uplink of the connection, if it has
    /// one.
    #[inline(always)]
    pub const fn ask(self, fwmark: u32) -> u32 {
        self.clear(fwmark) | self.proposal()
    }

    /// Returns `fwmark` without linkbal's bits.
    #[inline(always)]
    pub const fn clear(self, fwmark: u32) -> u32 {
        fwmark & !self.0
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
        assert_eq!(mask.number(), 0x1f00_0000);
        assert_eq!((mask.proposal(), mask.inbound()), (0x2000_0000, 0x4000_0000));
    }

    #[test]
    fn narrow_or_torn_masks_do_not_fit() {
        assert!(!MarkMask(0).fits());
        assert!(!MarkMask(0x3f00_0000).fits());
        assert!(MarkMask(0x0000_007f).fits());
        assert!(!MarkMask(0xbf00_0000).fits());
        assert!(MarkMask(0xffff_ffff).fits());
    }

    proptest! {
        #[test]
        fn foreign_bits_stay(fwmark: u32, uplink in 0u32..16, width in 7u32..=32, at in 0u32..=25) {
            let run = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let mask = MarkMask(run.checked_shl(at.min(32 - width)).unwrap_or(run));
            let marked = mask.replace(fwmark, uplink);
            prop_assert_eq!(marked & !mask.0, fwmark & !mask.0);
            prop_assert_eq!(mask.decode(marked), Some(uplink));
            prop_assert_eq!(marked & (mask.proposal() | mask.inbound()), 0);
            let proposed = mask.propose(fwmark, uplink) | mask.inbound();
            prop_assert_eq!(proposed & !mask.0, fwmark & !mask.0);
            prop_assert_eq!(mask.decode(proposed), Some(uplink));
            prop_assert_eq!(proposed & mask.number(), mask.encode(uplink));
            prop_assert!(mask.is_final(marked) && mask.is_final(marked | mask.inbound()));
            prop_assert!(!mask.is_final(proposed) && !mask.is_final(mask.clear(marked)));
            prop_assert!(!mask.is_final(mask.replace(fwmark, RESET)));
            prop_assert_eq!(mask.decode(mask.ask(fwmark)), None);
            prop_assert_eq!(mask.clear(proposed), fwmark & !mask.0);
        }
    }
}
