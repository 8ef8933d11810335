//! Sizes of the tables of a datapath, and what of them one host may take.

use linkbal_common::{
    maps,
    recent::RECENT,
    settings::Settings,
    shortcut::{DRIVER_SLOTS, SHORTCUTS, XDP_DEVICES},
};

/// Minimum number of sessions: each CPU keeps some entries of an LRU table to itself.
const MIN_SESSIONS: u32 = 4096;

/// Returns the number of entries of the tables whose size is configured. Several flows share a
/// session, even if only those of one web page, so that a quarter of as many sessions live as long
/// as the flows. As many flows can wait for their first answer.
fn table_sizes(flow_table_size: u32) -> [(&'static str, u32); 3] {
    let quarter = (flow_table_size / 4).max(MIN_SESSIONS);
    [
        (maps::FLOWS::NAME, flow_table_size),
        (maps::UNREPLIED::NAME, quarter),
        (maps::SESSIONS::NAME, quarter),
    ]
}

/// Sizes of the tables of a datapath.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Number of flows.
    pub flows: u32,
    /// Set if there are shortcuts.
    pub shortcuts: bool,
    /// Set if they begin at the drivers.
    pub drivers: bool,
    /// Set if flows of the present window are remembered.
    pub recent: bool,
}

impl Sizes {
    pub(super) fn of_tables(self) -> impl Iterator<Item = (&'static str, u32)> {
        let shortcuts = if self.shortcuts { SHORTCUTS as u32 } else { 1 };
        let shortcuts =
            [maps::SHORTCUTS_UP::NAME, maps::SHORTCUTS_DOWN::NAME].map(|name| (name, shortcuts));
        let [devices, slots] = if self.drivers {
            [XDP_DEVICES, DRIVER_SLOTS].map(|count| count as u32)
        } else {
            [1; 2]
        };
        let drivers = [(maps::XDP_DEVICES::NAME, devices), (maps::XDP_ADDRESSES::NAME, slots)];
        let recent = if self.recent { RECENT as u32 } else { 1 };
        let recent = (maps::RECENT::NAME, recent);
        table_sizes(self.flows).into_iter().chain(shortcuts).chain(drivers).chain([recent])
    }
}

/// Writes into `settings` how much of these tables one host may take, and all hosts together,
/// before [`quota::WINDOW_S`] is over.
///
/// [`quota::WINDOW_S`]: linkbal_common::quota::WINDOW_S
pub fn set_quotas(settings: &mut Settings, flow_table_size: u32) {
    let [(_, flows), _, (_, sessions)] = table_sizes(flow_table_size);
    settings.host_flows = flows / 8;
    settings.host_sessions = sessions / 8;
    settings.sessions = (sessions / 4).saturating_mul(3);
}
