//! Limits of what one host takes of the tables that all hosts share.
//!
//! Answered flows and sessions are in tables that evict the oldest entries to make room for new
//! ones. So that a host that begins very many cannot evict those of others, only a limited number
//! of its own is stored in a window of time. The others do not stick, and their packets take more
//! time: connections go on by their marks, whatever the tables hold.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    map_struct,
    maps::{flow::FlowKey, uplink::Family},
};

/// Length of the window of a quota, in seconds.
pub const WINDOW_S: u32 = 600;

/// Counts of what a [`Host`] has stored in the present window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Quota {
    /// Start of the window, in seconds since boot.
    pub since_s: u32,
    /// Number of answered flows.
    pub flows: u32,
    /// Number of sticky sessions.
    pub sessions: u32,
    /// Number of entries that were not stored.
    pub refused: u32,
}
map_struct!(Quota, 16);

/// Maximum number of hosts whose quotas are known.
pub const HOSTS: usize = 16_384;

/// The owner of a quota, in one word, since the stack has no room for more: see [`host`].
pub type Host = u64;

/// The owner for all hosts together.
pub const ALL: Host = 0;

/// High half for IPv4, whose address is in the low half. No IPv6 network in use has this there.
const IPV4: u64 = 0xffff_ffff << 32;

/// Returns the owner of a flow's quota: the LAN host by its IPv4 address, or its IPv6 network (64
/// bits of the address), since a host can choose the rest. All in network byte order.
#[inline(always)]
pub fn host(key: &FlowKey) -> Host {
    let [first, second, ..] = key.source;
    match key.family() {
        Family::Ipv4 => IPV4 | u64::from(first),
        Family::Ipv6 => u64::from(second) << 32 | u64::from(first),
    }
}

/// Returns the address of a host, or the first one of its IPv6 network; `None` for [`ALL`].
pub fn address(host: Host) -> Option<IpAddr> {
    let [first, second] = [host as u32, (host >> 32) as u32].map(u32::to_ne_bytes);
    if host == ALL {
        None
    } else if host & IPV4 == IPV4 {
        Some(Ipv4Addr::from(first).into())
    } else {
        let mut octets = [0; 16];
        let (high, low) = octets.split_at_mut(4);
        high.copy_from_slice(&first);
        low[..4].copy_from_slice(&second);
        Some(Ipv6Addr::from(octets).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(family: Family, source: [u32; 4]) -> FlowKey {
        FlowKey { source, family: family as u8, ..FlowKey::default() }
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_host() {
        let of = |source| host(&key(Family::Ipv6, source));
        assert_eq!(of([1, 2, 3, 4]), of([1, 2, 5, 6]));
        assert_ne!(of([1, 2, 3, 4]), of([1, 3, 3, 4]));
        assert_ne!(of([1, 0, 0, 0]), host(&key(Family::Ipv4, [1, 0, 0, 0])));
        assert_eq!(address(ALL), None);
        let words = |bytes: &[u8]| -> [u32; 4] {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
                *word = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
            }
            words
        };
        let ipv4 = Ipv4Addr::new(10, 77, 0, 9);
        let ipv6 = Ipv6Addr::new(0xfd77, 1, 2, 3, 0, 0, 0, 0);
        let of_ipv4 = host(&key(Family::Ipv4, words(&ipv4.octets())));
        assert_eq!(address(of_ipv4), Some(ipv4.into()));
        assert_eq!(address(of(words(&ipv6.octets()))), Some(ipv6.into()));
    }
}
