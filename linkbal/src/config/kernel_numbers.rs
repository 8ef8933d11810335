//! Numbers of routing tables and ip rules: those of linkbal, counted from the configured first ones.
//!
//! docs/kernel-objects.md lists them with what is in them. Priorities (`PRIORITY_...`) are offsets from
//! the first one. The kernel gives a rule without a priority the one before the first: that should be
//! none of ours.

use linkbal_common::{
    mark::{BLOCKED, RESET},
    uplink::MAX_UPLINKS,
};

use super::Kernel;

const UPLINKS: u32 = MAX_UPLINKS as u32;

/// Tables: one for packets without a mark, one for each number of an uplink or of what is blocked, and
/// after a gap one for each tunnel.
const TABLE_UNMARKED: u32 = 0;
const TABLE_NUMBERED: u32 = 1;
const TABLE_TUNNEL: u32 = 32;

/// Numbers of tables, from the first one to the last one.
pub const TABLES: u32 = TABLE_TUNNEL + UPLINKS;

/// The leap of forwarded packets over the rules for local traffic.
pub const PRIORITY_FORWARDED: u32 = 0;
/// An interface of one uplink.
pub const PRIORITY_DEVICE: u32 = 1;
/// Routes to the endpoints of tunnels, before the rules for marks.
pub const PRIORITY_DIRECT: u32 = 2;
/// Outer packets of tunnels.
pub const PRIORITY_OUTER: u32 = 3;
/// The main table for packets without a number; for all, where the uplinks' tables do not repeat its
/// routes.
pub const PRIORITY_MAIN_FIRST: u32 = 4;
/// Numbers in the fwmark: of uplinks, then of what is blocked.
pub const PRIORITY_FWMARK: u32 = 10;
/// The main table for all packets.
pub const PRIORITY_MAIN: u32 = 100;
/// Source addresses of uplinks.
pub const PRIORITY_SOURCE: u32 = 110;
/// Interfaces of several uplinks.
pub const PRIORITY_SHARED_DEVICE: u32 = 130;
/// The best uplink.
pub const PRIORITY_UNMARKED: u32 = 199;

/// Number of priorities that are linkbal's.
pub const PRIORITIES: u32 = PRIORITY_UNMARKED + 1;

const _: () = {
    assert!(
        RESET == UPLINKS + BLOCKED.len() as u32,
        "what is blocked has the numbers behind the uplinks"
    );
    assert!(TABLE_UNMARKED < TABLE_NUMBERED && TABLE_NUMBERED + RESET <= TABLE_TUNNEL);
    assert!(PRIORITY_MAIN_FIRST < PRIORITY_FWMARK && PRIORITY_FWMARK + RESET <= PRIORITY_MAIN);
    assert!(PRIORITY_MAIN < PRIORITY_SOURCE);
    assert!(PRIORITY_SOURCE + UPLINKS <= PRIORITY_SHARED_DEVICE);
    assert!(PRIORITY_SHARED_DEVICE + UPLINKS <= PRIORITY_UNMARKED);
};

impl Kernel {
    /// Returns the table for packets without a mark: that of the best uplink.
    pub const fn table_unmarked(&self) -> u32 {
        self.table_base.saturating_add(TABLE_UNMARKED)
    }

    /// Returns the table of an uplink, or of a number behind those of the uplinks.
    pub const fn table(&self, number: u32) -> u32 {
        self.table_base.saturating_add(TABLE_NUMBERED).saturating_add(number)
    }

    /// Returns the table for the outer packets of an uplink that is a tunnel.
    pub const fn tunnel_table(&self, index: u32) -> u32 {
        self.table_base.saturating_add(TABLE_TUNNEL).saturating_add(index)
    }

    /// Returns whether a table is linkbal's.
    pub fn has_table(&self, table: u32) -> bool {
        (self.table_unmarked()..self.table(RESET)).contains(&table)
            || (self.tunnel_table(0)..=self.tunnel_table(UPLINKS.saturating_sub(1)))
                .contains(&table)
    }

    /// Returns a priority of linkbal's by its offset from the first one.
    pub const fn priority(&self, offset: u32) -> u32 {
        self.rule_priority.saturating_add(offset)
    }

    /// Returns the priority of the last ip rule.
    pub const fn last_priority(&self) -> u32 {
        self.priority(PRIORITY_UNMARKED)
    }

    /// Returns whether a priority is linkbal's.
    pub fn has_priority(&self, priority: u32) -> bool {
        (self.rule_priority..=self.last_priority()).contains(&priority)
    }
}
