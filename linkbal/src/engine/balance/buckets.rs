//! Ranked buckets from weights and tiers.
//!
//! The first choice of every bucket follows exact quotas: `BUCKETS * weight / sum`, rounded by
//! largest remainder, so that the table's shares are off by less than one bucket. Which buckets an
//! uplink gets is decided by weighted rendezvous scores of (uplink name, bucket), and so does not
//! depend on the order of the configuration. The further choices are ordered by the same scores:
//! when an uplink goes down, its buckets scatter over the others by weight and no other bucket
//! moves; when it is back, the table is what it was, since it never changed.
//!
//! A lower tier comes after all of a higher one and is ranked in the same way.
//!
//! Given the table before it, a change of weights takes away only what exceeds the new quotas.

use std::collections::BTreeMap;

use linkbal_common::bucket::{BUCKETS, Bucket, END_OF_RANKS};

/// The properties of an uplink that the ranking needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name, from which the scores come.
    pub name: String,
    /// Index that goes into the buckets.
    pub index: u8,
    /// Weight within its tier.
    pub weight: u32,
    /// Tier; the lowest number first.
    pub tier: u32,
}

/// Ranks the buckets. `previous` is the table in force, if there is one: its first choices are
/// kept as far as the quotas allow.
pub fn rank(candidates: &[Candidate], previous: Option<&[Bucket]>) -> Vec<Bucket> {
    let mut tiers: BTreeMap<u32, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        tiers.entry(candidate.tier).or_default().push(candidate);
    }
    let mut table = vec![Vec::with_capacity(candidates.len()); BUCKETS as usize];
    for (position, tier) in tiers.values_mut().enumerate() {
        tier.sort_by(|a, b| a.name.cmp(&b.name));
        let previous = previous.filter(|_| position == 0);
        rank_tier(tier, previous, &mut table);
    }
    table.into_iter().map(|ranks| to_bucket(&ranks)).collect()
}

fn to_bucket(ranks: &[u8]) -> Bucket {
    let mut bucket = Bucket::EMPTY;
    bucket.rank[..ranks.len()].copy_from_slice(ranks);
    bucket
}

fn rank_tier(tier: &[&Candidate], previous: Option<&[Bucket]>, table: &mut [Vec<u8>]) {
    let quotas = quotas(tier);
    let scores: Vec<Vec<f64>> = (0..BUCKETS)
        .map(|bucket| tier.iter().map(|candidate| score(candidate, bucket)).collect())
        .collect();
    let mut first: Vec<usize> = (0..BUCKETS as usize)
        .map(|bucket| {
            let kept = previous.and_then(|table| owner(tier, &table[bucket]));
            kept.unwrap_or_else(|| best(&scores[bucket]))
        })
        .collect();
    fit_to_quotas(&mut first, &quotas, &scores);
    for (bucket, ranks) in table.iter_mut().enumerate() {
        let mut order: Vec<usize> = (0..tier.len()).collect();
        order.sort_by(|a, b| scores[bucket][*b].total_cmp(&scores[bucket][*a]));
        let others = order.into_iter().filter(|other| *other != first[bucket]);
        ranks.extend([first[bucket]].into_iter().chain(others).map(|at| tier[at].index));
    }
}

/// Computes the buckets of each candidate by largest remainder; ties go to the earlier name.
fn quotas(tier: &[&Candidate]) -> Vec<usize> {
    let sum: u64 = tier.iter().map(|candidate| u64::from(candidate.weight)).sum::<u64>().max(1);
    let exact = |candidate: &Candidate| u64::from(BUCKETS) * u64::from(candidate.weight);
    let mut quotas: Vec<usize> = tier.iter().map(|c| (exact(c) / sum) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..tier.len()).collect();
    by_remainder.sort_by_key(|at| std::cmp::Reverse(exact(tier[*at]) % sum));
    let left = BUCKETS as usize - quotas.iter().sum::<usize>();
    for at in by_remainder.into_iter().cycle().take(left) {
        quotas[at] += 1;
    }
    quotas
}

/// Moves the cheapest buckets from those over their quota to those under it.
fn fit_to_quotas(first: &mut [usize], quotas: &[usize], scores: &[Vec<f64>]) {
    let mut counts = vec![0; quotas.len()];
    first.iter().for_each(|owner| counts[*owner] += 1);
    // All moves that might help, least loss of score first; ties in the order of buckets.
    let mut moves: Vec<(f64, usize, usize)> = Vec::new();
    for (bucket, owner) in first.iter().enumerate() {
        let takers = (0..quotas.len()).filter(|taker| counts[*taker] < quotas[*taker]);
        if counts[*owner] > quotas[*owner] {
            moves.extend(
                takers.map(|taker| (scores[bucket][*owner] - scores[bucket][taker], bucket, taker)),
            );
        }
    }
    moves.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, bucket, taker) in moves {
        let owner = first[bucket];
        if counts[owner] > quotas[owner] && counts[taker] < quotas[taker] {
            counts[owner] -= 1;
            counts[taker] += 1;
            first[bucket] = taker;
        }
    }
}

/// Returns the position in `tier` of a bucket's first choice, if it still belongs to the tier.
fn owner(tier: &[&Candidate], bucket: &Bucket) -> Option<usize> {
    let first = bucket.rank[0];
    tier.iter().position(|candidate| first != END_OF_RANKS && candidate.index == first)
}

fn best(scores: &[f64]) -> usize {
    (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or_default()
}

/// Computes the weighted rendezvous score: with `u` uniform in (0, 1) from a hash,
/// `-weight / ln(u)` is highest for each candidate with a probability in proportion to its weight.
fn score(candidate: &Candidate, bucket: u32) -> f64 {
    let uniform = (hash(&candidate.name, bucket) >> 11) as f64 / (1u64 << 53) as f64;
    let uniform = uniform.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    // A weight of zero ranks behind every other, in an order of its own.
    if candidate.weight == 0 { uniform - 1.0 } else { -f64::from(candidate.weight) / uniform.ln() }
}

/// Hashes with FNV-1a over the name, then the finalizer of SplitMix64 with the bucket mixed in.
fn hash(name: &str, bucket: u32) -> u64 {
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut mixed = name ^ u64::from(bucket).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use linkbal_common::{
        pick::pick,
        uplink::{Family, UpMask},
    };
    use proptest::prelude::*;

    use super::*;

    fn candidates(weights: &[(u32, u32)]) -> Vec<Candidate> {
        let each = weights.iter().enumerate();
        each.map(|(index, (weight, tier))| Candidate {
            name: format!("uplink{index}"),
            index: index as u8,
            weight: *weight,
            tier: *tier,
        })
        .collect()
    }

    fn firsts(table: &[Bucket]) -> Vec<u8> {
        table.iter().map(|bucket| bucket.rank[0]).collect()
    }

    fn count(table: &[Bucket], index: u8) -> i64 {
        firsts(table).iter().filter(|first| **first == index).count() as i64
    }

    fn all_up() -> UpMask {
        UpMask(u32::MAX)
    }

    prop_compose! {
        /// Generates one to sixteen uplinks of up to three tiers, each tier with some weight.
        fn uplinks()(weights in proptest::collection::vec((0u32..=1000, 1u32..=3), 1..=16))
            -> Vec<Candidate>
        {
            let mut all = candidates(&weights);
            for tier in 1..=3 {
                let mut of_tier = all.iter_mut().filter(|candidate| candidate.tier == tier);
                let first = of_tier.next();
                if of_tier.all(|candidate| candidate.weight == 0)
                    && let Some(first) = first
                {
                    first.weight = first.weight.max(1);
                }
            }
            all
        }
    }

    fn tier_of_firsts(all: &[Candidate]) -> Vec<&Candidate> {
        let lowest = all.iter().map(|candidate| candidate.tier).min().expect("one uplink at least");
        all.iter().filter(|candidate| candidate.tier == lowest).collect()
    }

    #[test]
    fn thirty_seventy() {
        let table = rank(&candidates(&[(30, 1), (70, 1)]), None);
        assert_eq!((count(&table, 0), count(&table, 1)), (1229, 2867));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn quotas_are_exact_to_one_bucket(all in uplinks()) {
            let table = rank(&all, None);
            let tier = tier_of_firsts(&all);
            let sum: u32 = tier.iter().map(|candidate| candidate.weight).sum();
            for candidate in tier {
                let wanted = f64::from(BUCKETS * candidate.weight) / f64::from(sum);
                let had = count(&table, candidate.index) as f64;
                prop_assert!((had - wanted).abs() < 1.0, "{had} of {wanted}");
            }
        }

        #[test]
        fn every_bucket_ranks_every_uplink_once_by_tier(all in uplinks()) {
            for bucket in rank(&all, None) {
                let ranks: Vec<u8> =
                    bucket.rank.into_iter().filter(|index| *index != END_OF_RANKS).collect();
                let mut sorted = ranks.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..all.len() as u8).collect::<Vec<_>>());
                prop_assert!(ranks.is_sorted_by_key(|index| all[*index as usize].tier));
            }
        }

        #[test]
        fn the_order_of_the_configuration_does_not_matter(
            (all, shuffled) in uplinks().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
        ) {
            prop_assert_eq!(rank(&all, None), rank(&shuffled, None));
        }

        #[test]
        fn only_the_dead_uplinks_buckets_move_and_recovery_is_identical(
            all in uplinks(), dead: prop::sample::Index,
        ) {
            let dead = dead.index(all.len()) as u32;
            let table = rank(&all, None);
            let without = all_up().with(dead, Family::Ipv4, false);
            for bucket in &table {
                let before = pick(bucket, all_up(), Family::Ipv4);
                let after = pick(bucket, without, Family::Ipv4);
                if before == Some(dead) {
                    prop_assert!(after != Some(dead) && (after.is_some() || all.len() == 1));
                } else {
                    prop_assert_eq!(before, after);
                }
                let back = without.with(dead, Family::Ipv4, true);
                prop_assert_eq!(pick(bucket, back, Family::Ipv4), before);
            }
        }

        #[test]
        fn a_weight_change_moves_the_minimum(all in uplinks(), at: prop::sample::Index, weight in 1u32..=1000) {
            let before = rank(&all, None);
            let mut changed = all.clone();
            changed[at.index(all.len())].weight = weight;
            let after = rank(&changed, Some(&before));
            let demanded: i64 = (0..all.len() as u8)
                .map(|index| (count(&after, index) - count(&before, index)).max(0))
                .sum();
            let moved = firsts(&before).iter().zip(firsts(&after)).filter(|(a, b)| **a != *b).count();
            prop_assert_eq!(moved as i64, demanded);
            let tier = tier_of_firsts(&changed);
            let sum: u32 = tier.iter().map(|candidate| candidate.weight).sum();
            for candidate in tier {
                let wanted = f64::from(BUCKETS * candidate.weight) / f64::from(sum);
                prop_assert!((count(&after, candidate.index) as f64 - wanted).abs() < 1.0);
            }
        }

        #[test]
        fn the_buckets_of_a_dead_uplink_scatter_by_weight(weights in proptest::collection::vec(10u32..100, 3..6)) {
            let all = candidates(&weights.iter().map(|weight| (*weight, 1)).collect::<Vec<_>>());
            let table = rank(&all, None);
            let without = all_up().with(0, Family::Ipv4, false);
            let orphans: Vec<_> = table.iter().filter(|bucket| bucket.rank[0] == 0).collect();
            let sum: u32 = weights[1..].iter().sum();
            for index in 1..all.len() as u32 {
                let got = orphans
                    .iter()
                    .filter(|bucket| pick(bucket, without, Family::Ipv4) == Some(index))
                    .count() as f64;
                let share = f64::from(weights[index as usize]) / f64::from(sum);
                let expected = orphans.len() as f64 * share;
                let sigma = (expected * (1.0 - share)).sqrt();
                prop_assert!((got - expected).abs() < 6.0 * sigma + 1.0, "{got} of {expected}");
            }
        }
    }
}
