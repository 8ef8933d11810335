//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket};

use super::{Mac, Pair};

/// The address of all machines of a network.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// Builds a request for the neighbour's Ethernet address.
pub(super) fn request(pair: &Pair<Ipv4Addr>) -> Vec<u8> {
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: pair.local_mac,
        sender_ipv4: pair.local.octets(),
        target_mac: [0; 6],
        target_ipv4: pair.neighbour.octets(),
    };
    request.to_bytes().to_vec()
}

/// Returns the Ethernet address of the neighbour in its reply to this machine; `None` if a message
/// is no such reply. Ethernet pads it.
pub(super) fn replier(bytes: &[u8], pair: &Pair<Ipv4Addr>) -> Option<Mac> {
    let packet = ArpPacket::from_slice(bytes).ok()?.try_eth_ipv4().ok()?;
    (packet == reply(pair, packet.sender_mac)).then_some(packet.sender_mac)
}

/// Returns the neighbour's reply if its Ethernet address is `mac`.
const fn reply(pair: &Pair<Ipv4Addr>, mac: Mac) -> ArpEthIpv4Packet {
    ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: mac,
        sender_ipv4: pair.neighbour.octets(),
        target_mac: pair.local_mac,
        target_ipv4: pair.local.octets(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_reply(bytes: &[u8], pair: &Pair<Ipv4Addr>) -> bool {
        replier(bytes, pair).is_some()
    }

    fn pair() -> impl Strategy<Value = Pair<Ipv4Addr>> {
        any::<(Mac, Ipv4Addr, Ipv4Addr)>().prop_map(|(local_mac, local, neighbour)| Pair {
            local_mac,
            local,
            neighbour,
        })
    }

    proptest! {
        #[test]
        fn only_the_reply_counts_and_any_change_but_of_its_address_is_noticed(
            pair in pair(), mac: Mac, padding: [u8; 18], at in 0usize..28, flip in 1u8..,
        ) {
            let honest = reply(&pair, mac).to_bytes();
            let mut padded = [&honest[..], &padding].concat();
            prop_assert!(is_reply(&padded, &pair));
            prop_assert!(!is_reply(&request(&pair), &pair));
            padded[at] ^= flip;
            prop_assert_eq!(is_reply(&padded, &pair), (8..14).contains(&at));
            prop_assert!(!is_reply(&honest[..at], &pair));
        }

        #[test]
        fn hostile_messages_are_harmless(bytes: Vec<u8>, pair in pair()) {
            prop_assert!(!is_reply(&bytes, &pair));
        }
    }
}
