//! Names as hashes, and the names of an address.

use crate::{
    map_struct,
    maps::seed::{FACTOR, Seed},
};

/// The hash of a name, which stands for it in the maps: 64 bits, with a secret seed. Two names of
/// one configuration do not collide by chance, and another name only by luck.
pub type NameHash = u64;

/// Key in `DOMAIN_RULES` for all addresses: the rules that name no domain.
pub const NO_NAME: NameHash = 0;

/// Minimum time in seconds that an address is remembered: programs use a resolved address for
/// longer than its record says.
pub const MIN_TTL_S: u32 = 60;

/// Maximum time in seconds, a day: caches of clients keep nothing for longer, and wrong entries
/// expire then.
pub const MAX_TTL_S: u32 = 24 * 3600;

/// Maximum number of names that are remembered of one address.
pub const NAMES: usize = 4;

/// The names of an address, each with its expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Domain {
    /// The longest configured domain that each name belongs to.
    pub names: [NameHash; NAMES],
    /// Expiry of each name, in seconds since boot.
    pub expires_s: [u32; NAMES],
}
map_struct!(Domain, 48);

impl Domain {
    /// Returns the entry with a name that the address has for `ttl_s` seconds from `now_s`. The
    /// name takes its own place, or that of the name that expires first.
    #[inline(always)]
    #[must_use]
    pub fn with(mut self, name: NameHash, ttl_s: u32, now_s: u32) -> Domain {
        let (mut place, mut soonest) = (0, u32::MAX);
        for slot in 0..NAMES {
            let expires_s = if self.names[slot] == name { 0 } else { self.expires_s[slot] };
            if expires_s < soonest {
                (place, soonest) = (slot, expires_s);
            }
        }
        let expires_s = now_s.saturating_add(ttl_s.clamp(MIN_TTL_S, MAX_TTL_S));
        for slot in 0..NAMES {
            if slot == place {
                // A later expiry is kept.
                let kept = if self.names[slot] == name { self.expires_s[slot] } else { 0 };
                self.names[slot] = name;
                self.expires_s[slot] = if kept > expires_s { kept } else { expires_s };
            }
        }
        self
    }
}

/// Returns the hash of a label before its first byte.
#[inline(always)]
pub(crate) const fn label_start(seed: Seed) -> u64 {
    seed[0] ^ 0xcbf2_9ce4_8422_2325
}

/// Adds a byte to the hash of a label (FNV-1a: Fowler, Noll and Vo, RFC 9923). Case does not matter
/// in names (RFC 4343).
#[inline(always)]
pub(crate) const fn label_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte.to_ascii_lowercase() as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Returns the hash of the name with one more label in front; that of the root is the second seed.
#[inline(always)]
pub(crate) const fn with_label(parent: NameHash, label: u64) -> NameHash {
    (parent ^ label).rotate_left(23).wrapping_mul(FACTOR) ^ label >> 32
}

/// Returns the hash of a name in text, such as `bank.example`; that of the empty name is
/// [`NO_NAME`].
pub fn name_hash(seed: Seed, name: &str) -> NameHash {
    if name.is_empty() {
        return NO_NAME;
    }
    let label = |text: &str| text.bytes().fold(label_start(seed), label_byte);
    name.rsplit('.').map(label).fold(seed[1], with_label)
}
