//! The keyed hash that maps flows and sessions to buckets.
//!
//! SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with the reduced
//! rounds they allow for hash tables): an attacker without the seed cannot choose flows that pile
//! up in one bucket. Packets of a flow that is known and active need no hash.

pub use crate::maps::seed::Seed;
use crate::maps::{
    flow::{FlowKey, SessionKey},
    uplink::Family,
};

/// Returns the hash of a flow. Its low bits are the slot of its proposal, and its bucket if it does
/// not stick.
#[inline(always)]
pub fn flow_hash(seed: Seed, key: &FlowKey) -> u32 {
    let last = u64::from(key.source_port)
        | u64::from(key.destination_port) << 16
        | u64::from(key.protocol) << 32
        | u64::from(key.family) << 40;
    of_ends(seed, key.family(), &key.source, &key.destination, last)
}

/// Returns the hash of a host that asks DNS servers, by its MAC address and the front of its
/// address. Has a stack frame of its own, so that its callers need not hold it.
#[inline(never)]
pub(crate) fn asker_hash(seed: &Seed, mac: u64, network: u64) -> u32 {
    siphash13(*seed, &[mac, network, 1 << 62]) as u32
}

/// Returns the hash of a new sticky session; its low bits are the bucket.
#[inline(always)]
pub fn session_hash(seed: Seed, key: &SessionKey) -> u32 {
    let last = u64::from(key.class) | u64::from(key.family) << 32 | 1 << 63;
    of_ends(seed, key.family(), &key.source, &key.destination, last)
}

/// Returns the hash of two addresses and a word, which tells families and kinds of keys apart.
#[inline(always)]
fn of_ends(seed: Seed, family: Family, a: &[u32; 4], b: &[u32; 4], last: u64) -> u32 {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let mut hash = SipHash::new(seed);
    match family {
        Family::Ipv4 => hash.absorb(pair(a[0], b[0])),
        Family::Ipv6 => {
            hash.absorb(pair(a[0], a[1]));
            hash.absorb(pair(a[2], a[3]));
            hash.absorb(pair(b[0], b[1]));
            hash.absorb(pair(b[2], b[3]));
        }
    }
    hash.absorb(last);
    let words = match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 5,
    };
    hash.finish(words) as u32
}

/// Computes SipHash-1-3 of little-endian words.
#[inline(always)]
fn siphash13<const WORDS: usize>(seed: Seed, words: &[u64; WORDS]) -> u64 {
    let mut hash = SipHash::new(seed);
    for word in words {
        hash.absorb(*word);
    }
    hash.finish(WORDS as u64)
}

/// The state of SipHash-1-3 over words.
struct SipHash([u64; 4]);

impl SipHash {
    #[inline(always)]
    const fn new(seed: Seed) -> SipHash {
        SipHash([
            seed[0] ^ 0x736f_6d65_7073_6575,
            seed[1] ^ 0x646f_7261_6e64_6f6d,
            seed[0] ^ 0x6c79_6765_6e65_7261,
            seed[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        round(&mut self.0);
        self.0[0] ^= word;
    }

    /// Returns the hash of the `words` that were absorbed.
    #[inline(always)]
    fn finish(mut self, words: u64) -> u64 {
        self.absorb((words * 8) << 56);
        self.0[2] ^= 0xff;
        round(&mut self.0);
        round(&mut self.0);
        round(&mut self.0);
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;

    use crate::maps::bucket::BUCKETS;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_siphash13(seed: Seed, words: [u64; 5]) {
            let mut reference = siphasher::sip::SipHasher13::new_with_keys(seed[0], seed[1]);
            for word in words {
                reference.write(&word.to_le_bytes());
            }
            prop_assert_eq!(siphash13(seed, &words), reference.finish());
        }

        #[test]
        fn every_field_of_a_flow_counts(seed: Seed, key: [u32; 8], port in 1u16..) {
            let flow = FlowKey {
                source: [key[0], key[1], key[2], key[3]],
                destination: [key[4], key[5], key[6], key[7]],
                source_port: port,
                protocol: 17,
                family: 4,
                ..FlowKey::default()
            };
            let others = [
                FlowKey { source_port: port ^ 1, ..flow },
                FlowKey { destination_port: 1, ..flow },
                FlowKey { protocol: 6, ..flow },
                FlowKey { family: 6, ..flow },
                FlowKey { source: [key[0] ^ 1, key[1], key[2], key[3]], ..flow },
                FlowKey { destination: [key[4], key[5], key[6], key[7] ^ 1], ..flow },
            ];
            let all = others.map(|other| flow_hash(seed, &other));
            // Seven equal hashes by chance: never in a lifetime of runs.
            prop_assert!(all.iter().any(|hash| *hash != flow_hash(seed, &flow)));
        }
    }

    /// Checks that flows chosen to share a bucket under one seed scatter under another.
    #[test]
    fn chosen_flows_do_not_pile_up_without_the_seed() {
        let flow = |n: u32| FlowKey {
            source: [n, 0, 0, 0],
            destination: [7, 0, 0, 0],
            protocol: 17,
            family: 4,
            ..FlowKey::default()
        };
        let chosen: Vec<_> = (0..4_000_000)
            .map(flow)
            .filter(|key| flow_hash([1, 2], key).is_multiple_of(BUCKETS))
            .collect();
        assert!(chosen.len() > 800);
        let mut hits = std::collections::HashMap::<u32, u32>::new();
        for key in &chosen {
            *hits.entry(flow_hash([3, 4], key) % BUCKETS).or_default() += 1;
        }
        assert!(hits.values().max() <= Some(&8), "{hits:?}");
    }
}
