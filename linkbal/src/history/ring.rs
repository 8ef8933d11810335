//! A ring of buckets, one for each step of time.

use std::collections::VecDeque;

/// The newest buckets, without gaps: a bucket of which nothing is known has its default value.
///
/// A slot is a time divided by the step, rounded down.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring<B> {
    /// Length of a step, in seconds.
    step: u64,
    /// Most buckets that are kept.
    length: usize,
    /// Slot of the last bucket.
    newest: u64,
    buckets: VecDeque<B>,
}

impl<B: Copy + Default + PartialEq> Ring<B> {
    /// Creates a ring of `length` buckets of `step` seconds each; both are at least 1.
    pub const fn new(step: u64, length: usize) -> Ring<B> {
        Ring { step, length, newest: 0, buckets: VecDeque::new() }
    }

    /// Returns the length of a step, in seconds.
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// Returns the slot of a time.
    const fn slot(&self, at: u64) -> u64 {
        match at.checked_div(self.step) {
            Some(slot) => slot,
            None => at,
        }
    }

    /// Returns the slot of the first bucket.
    fn oldest(&self) -> u64 {
        self.newest.saturating_add(1).saturating_sub(self.buckets.len() as u64)
    }

    /// Returns the bucket of a time, which becomes the last one if it is later; `None` if it is older
    /// than what is kept.
    pub fn at(&mut self, at: u64) -> Option<&mut B> {
        let slot = self.slot(at);
        if self.buckets.is_empty() {
            // All that there will be, so that it need not grow step by step.
            self.buckets.reserve_exact(self.length);
            self.buckets.push_back(B::default());
            self.newest = slot;
        }
        if slot > self.newest {
            self.advance(slot);
        }
        while slot < self.oldest() {
            if self.buckets.len() >= self.length || self.too_old(slot) {
                return None;
            }
            self.buckets.push_front(B::default());
        }
        let place = slot.saturating_sub(self.oldest());
        self.buckets.get_mut(usize::try_from(place).ok()?)
    }

    fn too_old(&self, slot: u64) -> bool {
        slot.saturating_add(self.length as u64) <= self.newest
    }

    fn advance(&mut self, slot: u64) {
        if slot.saturating_sub(self.newest) >= self.length as u64 {
            self.buckets.clear();
            self.newest = slot.saturating_sub(1);
        }
        while self.newest < slot {
            if self.buckets.len() >= self.length {
                self.buckets.pop_front();
            }
            self.buckets.push_back(B::default());
            self.newest = self.newest.saturating_add(1);
        }
    }

    /// Returns the buckets of which something is known and that end after `since`, with the times at
    /// which they begin, in ascending order.
    pub fn since(&self, since: u64) -> impl Iterator<Item = (u64, &B)> {
        let skipped = self.slot(since).saturating_sub(self.oldest());
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.buckets.len());
        let first = self.oldest().saturating_add(skipped as u64);
        let starts = (first..).map(|slot| slot.saturating_mul(self.step));
        let known = |(_, bucket): &(u64, &B)| **bucket != B::default();
        starts.zip(self.buckets.range(skipped..)).filter(known)
    }

    /// Removes the buckets that begin at `end` or later.
    pub fn truncate(&mut self, end: u64) {
        while !self.buckets.is_empty() && self.newest.saturating_mul(self.step) >= end {
            self.buckets.pop_back();
            self.newest = self.newest.saturating_sub(1);
        }
    }

    /// Removes the buckets that are too old at a time. The memory of an empty ring is given back.
    pub fn expire(&mut self, now: u64) {
        let kept = self.slot(now).saturating_sub(self.length as u64);
        while !self.buckets.is_empty() && self.oldest() <= kept {
            self.buckets.pop_front();
        }
        if self.buckets.is_empty() {
            self.buckets.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn known(ring: &Ring<u32>, since: u64) -> Vec<(u64, u32)> {
        ring.since(since).map(|(at, bucket)| (at, *bucket)).collect()
    }

    #[test]
    fn gaps_are_unknown_and_old_buckets_leave() {
        let mut ring = Ring::new(10, 3);
        *ring.at(105).expect("the first") = 1;
        *ring.at(109).expect("the same") += 1;
        *ring.at(121).expect("after a gap") = 5;
        assert_eq!(known(&ring, 0), [(100, 2), (120, 5)]);
        assert_eq!(known(&ring, 110), [(120, 5)]);
        *ring.at(119).expect("in the gap") = 4;
        *ring.at(130).expect("the next") = 6;
        assert_eq!(known(&ring, 0), [(110, 4), (120, 5), (130, 6)]);
        assert_eq!(ring.at(109), None);
        ring.truncate(125);
        assert_eq!(known(&ring, 0), [(110, 4), (120, 5)]);
        ring.expire(145);
        assert_eq!(known(&ring, 0), [(120, 5)]);
        ring.expire(u64::MAX);
        assert_eq!((known(&ring, 0), ring.buckets.capacity()), (vec![], 0));
    }

    proptest! {
        #[test]
        fn a_ring_is_a_map_of_the_newest_slots(
            times in prop::collection::vec((prop_oneof![0u64..500, any::<u64>()], 1u32..9), 1..60),
            length in 1usize..20,
        ) {
            let mut ring = Ring::new(7, length);
            let mut model: BTreeMap<u64, u32> = BTreeMap::new();
            for (at, value) in times {
                let slot = at / 7;
                let newest = model.keys().last().copied().unwrap_or(slot).max(slot);
                let first = (newest + 1).saturating_sub(length as u64);
                if let Some(bucket) = ring.at(at) {
                    *bucket += value;
                    prop_assert!(slot >= first);
                    *model.entry(slot).or_default() += value;
                } else {
                    prop_assert!(slot < first);
                }
                model.retain(|slot, _| *slot >= first);
                prop_assert!(ring.buckets.len() <= length);
                let expected: Vec<_> = model.iter().map(|(slot, value)| (slot * 7, *value)).collect();
                prop_assert_eq!(known(&ring, 0), expected);
            }
        }
    }
}
