//! The selection of an uplink from a bucket, and what can come of a selection.

use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        flow::FlowKey,
        rule::{RuleAction, otherwise},
        settings::Settings,
        uplink::{Family, UpMask},
    },
    mark::{DROP, REJECT},
    path::{pick::pick, tables::Tables},
};

/// The outcome for a flow that had to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The flow uses this uplink.
    Uplink(u32),
    /// The flow is blocked by its rule: one of [`BLOCKED`](crate::mark::BLOCKED).
    Blocked(u32),
    /// No uplink is usable.
    NoneUsable,
    /// The uplink that the source belongs to is down, and others are not: the host shall try
    /// another of its addresses.
    Rejected,
    /// The main table alone routes the destination.
    Bypassed,
    /// The destination is in a network of an uplink: the main table routes it, unless the flow
    /// answers a connection that came in by another uplink.
    OnLink,
}

impl Selection {
    pub(crate) const NONE_USABLE: u32 = 0x100;
    pub(crate) const REJECTED: u32 = 0x101;
    pub(crate) const BYPASSED: u32 = 0x102;
    pub(crate) const ON_LINK: u32 = 0x103;

    /// Encodes the outcome as one word, which is all that comes back from the slow path.
    #[inline(always)]
    pub const fn encode(self) -> u32 {
        match self {
            Selection::Uplink(number) | Selection::Blocked(number) => number,
            Selection::NoneUsable => Selection::NONE_USABLE,
            Selection::Rejected => Selection::REJECTED,
            Selection::Bypassed => Selection::BYPASSED,
            Selection::OnLink => Selection::ON_LINK,
        }
    }

    /// Decodes the outcome from one word.
    #[inline(always)]
    pub const fn decode(word: u32) -> Selection {
        match word {
            Selection::REJECTED => Selection::Rejected,
            Selection::BYPASSED => Selection::Bypassed,
            Selection::ON_LINK => Selection::OnLink,
            number if number < DROP => Selection::Uplink(number),
            number if number <= REJECT => Selection::Blocked(number),
            _ => Selection::NoneUsable,
        }
    }
}

/// The inputs of a choice, beside the flow.
pub(crate) struct Choice<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) action: RuleAction,
    pub(crate) up: UpMask,
    pub(crate) avoided: UpMask,
}

impl Choice<'_> {
    /// Returns the first usable uplink of the bucket that `hash` falls into: of the rule's group,
    /// or else, if the rule says so, of all uplinks.
    #[inline(always)]
    pub(crate) fn pick<T: Tables>(&self, tables: &T, hash: u32, key: &FlowKey) -> Option<u32> {
        let bucket = tables.bucket(self.action.first_bucket + (hash & self.action.bucket_mask));
        let uplink = self.pick_from(&bucket, key.family());
        if uplink.is_none() && self.action.otherwise == otherwise::BALANCE {
            return self.pick_from(&tables.bucket(hash & (BUCKETS - 1)), key.family());
        }
        uplink
    }

    /// Picks an uplink of a bucket; an avoided uplink is better than none.
    #[inline(always)]
    fn pick_from(&self, bucket: &Bucket, family: Family) -> Option<u32> {
        let preferred = self.up.without(self.avoided);
        let any_preferred = bucket.members() & preferred.family(family) != 0;
        pick(bucket, if any_preferred { preferred } else { self.up }, family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{maps::uplink::MAX_UPLINKS, mark::BLOCKED};

    #[test]
    fn selections_come_back_as_they_were() {
        let on = (0..MAX_UPLINKS as u32).map(Selection::Uplink);
        let blocked = BLOCKED.map(Selection::Blocked);
        let others =
            [Selection::NoneUsable, Selection::Rejected, Selection::Bypassed, Selection::OnLink];
        for selection in on.chain(blocked).chain(others) {
            assert_eq!(Selection::decode(selection.encode()), selection);
        }
    }
}
