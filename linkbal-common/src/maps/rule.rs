//! The user's rules as the datapath sees them: bit vectors.
//!
//! Each dimension of a flow (source, destination, protocol, ports, DSCP, interface, VLAN, MAC)
//! looks up the set of rules that it satisfies; the sets are intersected, and the lowest bit left
//! is the first rule that matches (Lakshman and Stiliadis, "High-speed policy-based packet
//! forwarding using efficient multi-dimensional range matching", SIGCOMM 1998). The cost does not
//! depend on the number of rules.

pub use crate::maps::limits::MAX_RULES;
use crate::{
    map_struct,
    maps::{flow::NOT_STICKY, limits::BUCKETS},
};

/// A set of rules: rule `i` is bit `i % 64` of word `i / 64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleSet(pub [u64; MAX_RULES / 64]);
map_struct!(RuleSet, MAX_RULES / 8);

impl RuleSet {
    /// The empty set.
    pub const NONE: RuleSet = RuleSet([0; MAX_RULES / 64]);

    /// The set of all rules.
    pub const ALL: RuleSet = RuleSet([u64::MAX; MAX_RULES / 64]);

    /// Returns the rules in both sets.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: RuleSet) -> RuleSet {
        RuleSet([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    /// Returns the rules in either set.
    #[inline(always)]
    #[must_use]
    pub const fn or(self, other: RuleSet) -> RuleSet {
        RuleSet([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// Returns the set with rule `rule` in it.
    ///
    /// # Panics
    ///
    /// If `rule` is not below [`MAX_RULES`].
    #[must_use]
    pub const fn with(mut self, rule: usize) -> RuleSet {
        self.0[rule / 64] |= 1 << (rule % 64);
        self
    }

    /// Returns whether rule `rule` is in the set.
    pub const fn contains(self, rule: usize) -> bool {
        rule < MAX_RULES && self.0[rule / 64] >> (rule % 64) & 1 == 1
    }

    /// Returns the first rule of the set.
    #[inline(always)]
    pub const fn first(self) -> Option<u32> {
        if self.0[0] != 0 {
            Some(self.0[0].trailing_zeros())
        } else if self.0[1] != 0 {
            Some(64 + self.0[1].trailing_zeros())
        } else {
            None
        }
    }
}

/// The dimensions that rules may ask for, as bits of `Settings::dimensions`.
pub mod dimension {
    /// Source address.
    pub const SOURCE: u32 = 1;
    /// Destination address.
    pub const DESTINATION: u32 = 1 << 1;
    /// Protocol.
    pub const PROTOCOL: u32 = 1 << 2;
    /// Source port.
    pub const SOURCE_PORT: u32 = 1 << 3;
    /// Destination port.
    pub const DESTINATION_PORT: u32 = 1 << 4;
    /// DSCP.
    pub const DSCP: u32 = 1 << 5;
    /// Interface that the packet comes in by.
    pub const INTERFACE: u32 = 1 << 6;
    /// VLAN.
    pub const VLAN: u32 = 1 << 7;
    /// Source MAC address.
    pub const MAC: u32 = 1 << 8;
}

/// Actions of a rule when none of its uplinks is usable.
pub mod otherwise {
    /// The flows use the uplinks of flows without a rule.
    pub const BALANCE: u32 = 0;
    /// The packets are dropped.
    pub const DROP: u32 = 1;
    /// The packets are refused.
    pub const REJECT: u32 = 2;
}

/// The action of a rule on its flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleAction {
    /// First bucket of the rule's group.
    pub first_bucket: u32,
    /// Number of buckets of the rule's group, a power of two, less one.
    pub bucket_mask: u32,
    /// Index of the sticky class, or [`NOT_STICKY`]: by the destination port.
    pub sticky_class: u32,
    /// Action when no uplink is usable, one of [`otherwise`].
    pub otherwise: u32,
}
map_struct!(RuleAction, 16);

impl RuleAction {
    /// Action of flows without a rule: all uplinks, sticky by port.
    pub const NO_RULE: RuleAction = RuleAction {
        first_bucket: 0,
        bucket_mask: BUCKETS - 1,
        sticky_class: NOT_STICKY,
        otherwise: otherwise::BALANCE,
    };
}

/// Number of actions: one for each rule, and then that of flows that no rule matches.
pub const ACTIONS: usize = MAX_RULES + 1;

/// Index of the action of flows that no rule matches.
pub const NO_RULE: u32 = MAX_RULES as u32;
