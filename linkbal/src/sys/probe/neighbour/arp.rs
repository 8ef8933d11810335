//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{Ends, Mac};

/// The address of all machines of a network.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// The beginning of a message for Ethernet with IPv4 addresses: hardware type 1, protocol type
/// 0x0800, lengths 6 and 4.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

const LENGTH: usize = 28;

/// Builds a request for the neighbour's Ethernet address.
pub(super) fn request(ends: &Ends<Ipv4Addr>) -> [u8; LENGTH] {
    message(REQUEST, (ends.own_mac, ends.own), ([0; 6], ends.neighbour))
}

/// Returns whether a message is the neighbour's reply to this machine. Ethernet pads it.
pub(super) fn is_reply(bytes: &[u8], ends: &Ends<Ipv4Addr>) -> bool {
    let Some(sender) = bytes.get(8..14).and_then(|mac| mac.try_into().ok()) else { return false };
    let reply = message(REPLY, (sender, ends.neighbour), (ends.own_mac, ends.own));
    bytes.starts_with(&reply)
}

fn message(operation: [u8; 2], sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[..6].copy_from_slice(&KIND);
    message[6..8].copy_from_slice(&operation);
    message[8..14].copy_from_slice(&sender.0);
    message[14..18].copy_from_slice(&sender.1.octets());
    message[18..24].copy_from_slice(&target.0);
    message[24..28].copy_from_slice(&target.1.octets());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Ends<Ipv4Addr>> {
        any::<(Mac, Ipv4Addr, Ipv4Addr)>().prop_map(|(own_mac, own, neighbour)| Ends {
            own_mac,
            own,
            neighbour,
        })
    }

    proptest! {
        #[test]
        fn only_the_reply_counts_and_any_change_but_of_its_address_is_noticed(
            ends in ends(), mac: Mac, padding: [u8; 18], at in 0usize..LENGTH, flip in 1u8..,
        ) {
            let honest = message(REPLY, (mac, ends.neighbour), (ends.own_mac, ends.own));
            let mut padded = [&honest[..], &padding].concat();
            prop_assert!(is_reply(&padded, &ends));
            prop_assert!(!is_reply(&request(&ends), &ends));
            padded[at] ^= flip;
            prop_assert_eq!(is_reply(&padded, &ends), (8..14).contains(&at));
            prop_assert!(!is_reply(&honest[..at], &ends));
        }

        #[test]
        fn hostile_messages_are_harmless(bytes: Vec<u8>, ends in ends()) {
            prop_assert!(!is_reply(&bytes, &ends));
        }
    }
}
