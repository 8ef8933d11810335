//! Keys of sticky sessions, from flows and classes.

use crate::maps::{
    flow::{FlowKey, SessionKey},
    key::Address,
    settings::StickyClass,
    uplink::Family,
};

impl SessionKey {
    /// Returns the key of the session that `flow` belongs to in a class; `index` is its
    /// [`sticky_index`].
    #[inline(always)]
    pub fn of(flow: &FlowKey, index: u32, class: &StickyClass) -> SessionKey {
        let bits = match flow.family() {
            Family::Ipv4 => class.source_bits_ipv4,
            Family::Ipv6 => class.source_bits_ipv6,
        };
        // Without a branch: the stack of the programs has no room for a second path through here.
        let destination_bits = if class.by_destination != 0 { 128 } else { 0 };
        SessionKey {
            source: leading_bits(&flow.source, bits),
            destination: leading_bits(&flow.destination, destination_bits),
            class: index,
            family: u32::from(flow.family),
        }
    }
}

/// Returns the first `bits` bits of an address, with the others zero.
#[inline(always)]
fn leading_bits(address: &Address, bits: u32) -> Address {
    let mask = |word: u32| {
        let bits = bits.saturating_sub(32 * word).min(32);
        if bits == 0 { 0 } else { (u32::MAX << ((32 - bits) & 31)).to_be() }
    };
    [address[0] & mask(0), address[1] & mask(1), address[2] & mask(2), address[3] & mask(3)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn leading_bits_are_those_of_the_network(octets: [u8; 16], bits in 0u32..=128) {
            let word = |at: usize| {
                u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
            };
            let masked = leading_bits(&[word(0), word(4), word(8), word(12)], bits);
            let expected = match bits {
                0 => 0,
                bits => u128::from_be_bytes(octets) & u128::MAX << (128 - bits),
            };
            let had: Vec<u8> = masked.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(had, expected.to_be_bytes());
        }
    }
}
