//! The buckets of all groups of uplinks: those of all uplinks first, then those of rules.

use linkbal_common::{
    bucket::{BUCKETS, Bucket, MAX_GROUPS},
    rule::RuleAction,
};

use crate::{
    config::Member,
    engine::{
        balance::buckets::{Candidate, rank},
        indexed::Indexed,
    },
};

/// Index of the first of the single buckets of ordered lists.
const FIRST_SINGLE: u32 = MAX_GROUPS * BUCKETS;

/// Groups under construction.
pub(super) struct Groups<'a> {
    uplinks: &'a [Indexed],
    previous: Option<&'a [Bucket]>,
    /// Candidates of the weighted groups, in order.
    weighted: Vec<Vec<Candidate>>,
    /// Buckets of the ordered lists, in order.
    single: Vec<Bucket>,
}

impl<'a> Groups<'a> {
    /// Creates the groups with that of all uplinks.
    pub(super) fn new(uplinks: &'a [Indexed], previous: Option<&'a [Bucket]>) -> Groups<'a> {
        Groups { uplinks, previous, weighted: vec![all(uplinks)], single: Vec::new() }
    }

    /// Returns the buckets of a rule's members; equal groups share theirs. No members mean all
    /// uplinks.
    pub(super) fn action(&mut self, members: &[Member]) -> RuleAction {
        if members.is_empty() {
            return RuleAction::NO_RULE;
        }
        let candidates: Vec<Candidate> =
            members.iter().filter_map(|member| self.candidate(member)).collect();
        if is_ordered(&candidates) {
            self.single.push(ordered(&candidates));
            let first_bucket = FIRST_SINGLE + self.single.len() as u32 - 1;
            return RuleAction { first_bucket, bucket_mask: 0, ..RuleAction::NO_RULE };
        }
        let known = self.weighted.iter().position(|group| *group == candidates);
        let group = known.unwrap_or_else(|| {
            self.weighted.push(candidates);
            self.weighted.len() - 1
        });
        RuleAction { first_bucket: group as u32 * BUCKETS, ..RuleAction::NO_RULE }
    }

    /// Returns the candidate of a member. The configuration has made sure that the uplink exists.
    fn candidate(&self, member: &Member) -> Option<Candidate> {
        let indexed = self.uplinks.iter().find(|indexed| indexed.config.name == member.uplink)?;
        Some(Candidate {
            name: member.uplink.clone(),
            index: indexed.index as u8,
            weight: member.weight,
            tier: member.tier,
        })
    }

    /// Returns the ranked buckets of all groups, as the map holds them.
    pub(super) fn into_buckets(self) -> Vec<Bucket> {
        let mut buckets = vec![Bucket::EMPTY; FIRST_SINGLE as usize];
        for (number, group) in self.weighted.iter().enumerate() {
            let range = number * BUCKETS as usize..(number + 1) * BUCKETS as usize;
            let previous = self.previous.and_then(|previous| previous.get(range.clone()));
            buckets[range].copy_from_slice(&rank(group, previous));
        }
        buckets.extend(self.single);
        buckets
    }
}

/// Returns the group of all uplinks.
pub(super) fn all(uplinks: &[Indexed]) -> Vec<Candidate> {
    let each = uplinks.iter().map(|indexed| Candidate {
        name: indexed.config.name.clone(),
        index: indexed.index as u8,
        weight: indexed.config.weight,
        tier: indexed.config.tier,
    });
    each.collect()
}

/// Returns whether each member has a tier of its own, so that one bucket is enough.
fn is_ordered(candidates: &[Candidate]) -> bool {
    let mut tiers: Vec<u32> = candidates.iter().map(|candidate| candidate.tier).collect();
    tiers.sort_unstable();
    tiers.windows(2).all(|pair| pair[0] != pair[1])
}

fn ordered(candidates: &[Candidate]) -> Bucket {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.tier);
    let mut bucket = Bucket::EMPTY;
    for (rank, candidate) in bucket.rank.iter_mut().zip(sorted) {
        *rank = candidate.index;
    }
    bucket
}
