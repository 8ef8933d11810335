//! What the datapath must know of the configuration, in one map entry.

use crate::{hash::Seed, map_struct};

/// Version of the layout of all maps; raised when any map struct changes its meaning.
pub const LAYOUT: u32 = 2;

/// Most classes of sticky sessions.
pub const MAX_STICKY_CLASSES: usize = 8;

/// A class of sticky sessions: who shares an uplink, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StickyClass {
    /// Seconds without a packet after which a session ends.
    pub idle_s: u32,
    /// 1: one session for each source and destination; 0: one for each source.
    pub by_destination: u32,
}
map_struct!(StickyClass, 8);

/// The settings of the datapath. All zero (an unset map) means: touch nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`LAYOUT`] of whoever wrote this.
    pub layout: u32,
    /// linkbal's bits of the fwmark; 0 turns the datapath off.
    pub fwmark_mask: u32,
    /// Secret of the bucket hash.
    pub seed: Seed,
    /// Sticky classes, by the index that `STICKY_PORTS` holds.
    pub sticky: [StickyClass; MAX_STICKY_CLASSES],
}
map_struct!(Settings, 8 + 16 + 8 * MAX_STICKY_CLASSES);

impl Settings {
    /// A sticky class; none for [`crate::flow::NOT_STICKY`].
    #[inline(always)]
    pub fn class(&self, index: u32) -> Option<&StickyClass> {
        self.sticky.get(index as usize)
    }
}
