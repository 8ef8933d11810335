//! Limits of what one host may add to the tables of queries and addresses.

use crate::map_struct;

/// Maximum number of queries of a host that are stored in one second. Within the time in which a
/// reply counts, these do not fill the table.
pub const MAX_QUERIES: u32 = 1000;

/// Maximum number of new addresses of a host in one minute.
pub const MAX_ADDRESSES: u32 = 512;

/// Number of slots for hosts; a power of two. Two hosts may share one, but cannot choose each
/// other.
pub const ASKERS: usize = 1024;

/// Counts of a host. CPUs that count at the same time may lose some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Asker {
    /// The second of `queries`, since boot.
    pub second: u32,
    /// Number of queries in that second.
    pub queries: u32,
    /// The minute of `addresses`, since boot.
    pub minute: u32,
    /// Number of addresses in that minute.
    pub addresses: u32,
}
map_struct!(Asker, 16);

impl Asker {
    /// Counts a query; returns false if it is above the limit.
    #[inline(always)]
    pub(crate) fn may_ask(&mut self, now_s: u32) -> bool {
        if self.second != now_s {
            (self.second, self.queries) = (now_s, 0);
        }
        let may = self.queries < MAX_QUERIES;
        self.queries += u32::from(may);
        may
    }

    /// Returns the number of addresses that the host may still add.
    #[inline(always)]
    pub(crate) fn room(&mut self, now_s: u32) -> u32 {
        let minute = now_s / 60;
        if self.minute != minute {
            (self.minute, self.addresses) = (minute, 0);
        }
        MAX_ADDRESSES.saturating_sub(self.addresses)
    }

    /// Counts added addresses.
    #[inline(always)]
    pub(crate) fn add(&mut self, addresses: u32) {
        self.addresses = self.addresses.saturating_add(addresses);
    }
}
