//! The fwmarks that packets of the LAN may carry.

use linkbal_common::{
    mark::{BLOCKED, MarkMask},
    uplink::MAX_UPLINKS,
};

use super::survey::{MarkRule, Survey};
use crate::config::Config;

/// The fwmarks that packets of the LAN may carry.
#[derive(Debug)]
pub(super) struct Marks<'a> {
    mask: MarkMask,
    rules: Vec<&'a MarkRule>,
}

impl<'a> Marks<'a> {
    /// Collects the marks that linkbal and the rules of firewalls set.
    pub(super) fn of(config: &Config, survey: &'a Survey) -> Marks<'a> {
        let packets = survey.marks.iter().filter(|change| !change.of_connection);
        let rules = packets.flat_map(|change| &change.rules).collect();
        Marks { mask: MarkMask(config.kernel.fwmark_mask), rules }
    }

    /// Returns whether a packet may have `value` under `mask`.
    pub(super) fn may_be(&self, value: u32, mask: u32) -> bool {
        let numbers = 0..(MAX_UPLINKS as u32).saturating_add(BLOCKED.len() as u32);
        let mut own = numbers.map(|number| self.mask.encode(number)).chain([0]);
        own.any(|mark| mark & mask == value & mask)
            || self.rules.iter().any(|rule| {
                // If a rule keeps linkbal's number, an ip rule that wants none sees no such packet.
                let numbered = self.mask.0 & mask & !rule.bits != 0 && value & self.mask.0 == 0;
                !numbered && rule.may_set(value, mask)
            })
    }
}

impl MarkRule {
    fn may_set(&self, value: u32, mask: u32) -> bool {
        let wanted = value & mask;
        if self.bits & mask & wanted == 0 {
            return false;
        }
        self.value.is_none_or(|set| (set ^ wanted) & self.bits & mask == 0)
    }
}
