//! Changes between two readings of the flow table: flows that are new, and flows that ended.

use std::collections::{HashMap, hash_map::Entry as Slot};

use linkbal_common::flow::{Flow, FlowKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::record::{FlowEntry, FlowRecord};

/// Maximum number of flows that are followed at a time: so many take about 15 MB.
pub const MAX_FOLLOWED: usize = 100_000;

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowChangeKind {
    /// The flow began, or came to its uplink.
    New,
    /// The flow ended, or left its uplink.
    Ended,
}

/// A change of a flow, as `linkbal flows --follow --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FlowChange<'a> {
    /// Kind.
    pub change: FlowChangeKind,
    /// The flow; one that ended as it was last.
    #[serde(flatten, borrow)]
    pub flow: FlowRecord<'a>,
}

/// The flows of the last reading.
#[derive(Debug)]
pub struct Followed {
    max: usize,
    reading: u32,
    known: HashMap<FlowKey, Seen>,
    /// Number of flows of this reading that there was no room for.
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    entry: FlowEntry,
    reading: u32,
}

impl Default for Followed {
    fn default() -> Followed {
        Followed::with_room(MAX_FOLLOWED)
    }
}

impl Followed {
    fn with_room(max: usize) -> Followed {
        Followed { max, reading: 0, known: HashMap::new(), left_out: 0 }
    }

    /// Adds a flow of the present reading, and returns the changes that it means: none if it is as it
    /// was, and two if it is on another uplink.
    pub fn add(
        &mut self,
        entry: FlowEntry,
    ) -> impl Iterator<Item = (FlowChangeKind, FlowEntry)> + use<> {
        let reading = self.reading;
        let seen = Seen { entry, reading };
        let is_full = self.known.len() >= self.max;
        let before = match self.known.entry(entry.key) {
            Slot::Occupied(mut known) => Some(known.insert(seen).entry),
            Slot::Vacant(_) if is_full => {
                self.left_out = self.left_out.saturating_add(1);
                return None.into_iter().chain(None);
            }
            Slot::Vacant(free) => {
                free.insert(seen);
                None
            }
        };
        let stays = before.as_ref().is_some_and(|before| is_same(&before.flow, &entry.flow));
        let ended = before.filter(|_| !stays).map(|before| (FlowChangeKind::Ended, before));
        let new = (!stays).then_some((FlowChangeKind::New, entry));
        ended.into_iter().chain(new)
    }

    /// Ends a reading; returns the flows that were not in it.
    pub fn end(&mut self) -> Vec<FlowEntry> {
        let reading = self.reading;
        let gone = self.known.extract_if(|_, seen| seen.reading != reading);
        let gone = gone.map(|(_, seen)| seen.entry).collect();
        self.reading = reading.wrapping_add(1);
        self.left_out = 0;
        gone
    }

    /// Returns the number of flows of the present reading that are not followed, since there are too
    /// many.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// Returns whether two entries of a tuple are of the same flow.
const fn is_same(a: &Flow, b: &Flow) -> bool {
    a.uplink == b.uplink && a.first_seen_ms == b.first_seen_ms
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{super::filter::tests::entries, *};

    fn read(followed: &mut Followed, entries: &[FlowEntry]) -> Vec<(FlowChangeKind, FlowEntry)> {
        let mut changes: Vec<_> = entries.iter().flat_map(|entry| followed.add(*entry)).collect();
        changes.extend(followed.end().into_iter().map(|entry| (FlowChangeKind::Ended, entry)));
        changes
    }

    fn place(entry: &FlowEntry) -> String {
        format!("{:?} {} {}", entry.key, entry.flow.uplink, entry.flow.first_seen_ms)
    }

    #[test]
    fn flows_beyond_the_limit_are_counted_and_not_followed() {
        let mut followed = Followed::with_room(1);
        let entry = |port| FlowEntry {
            key: FlowKey { source_port: port, ..FlowKey::default() },
            ..FlowEntry::default()
        };
        assert_eq!(followed.add(entry(1)).count(), 1);
        assert_eq!(followed.add(entry(2)).count(), 0);
        assert_eq!(followed.left_out(), 1);
        assert!(followed.end().is_empty());
        assert_eq!(followed.left_out(), 0);
    }

    proptest! {
        /// Checks that who applies all changes has the flows of the last reading.
        #[test]
        fn changes_lead_from_one_reading_to_the_next(
            readings in prop::collection::vec(prop::collection::vec(entries(), 0..20), 1..6),
        ) {
            let mut followed = Followed::default();
            let mut present = BTreeSet::new();
            for mut entries in readings {
                // A table has one entry of a tuple.
                let mut keys = BTreeSet::new();
                entries.retain(|entry| keys.insert(format!("{:?}", entry.key)));
                for (kind, entry) in read(&mut followed, &entries) {
                    match kind {
                        FlowChangeKind::New => prop_assert!(present.insert(place(&entry))),
                        FlowChangeKind::Ended => prop_assert!(present.remove(&place(&entry))),
                    }
                }
                prop_assert_eq!(&present, &entries.iter().map(place).collect());
            }
        }
    }
}
