//! Keys of maps, but for those of flows and sessions.

use crate::{map_struct, maps::uplink::Family};

/// An address in network byte order; IPv4 in the first word, the others zero.
pub type Address = [u32; 4];

/// Key of `STICKY_PORTS`: the protocol number in the high half, the destination port in network
/// byte order in the low one.
pub type PortKey = u32;

/// Key of `RULES_MAC`: the six bytes of the address, then zeroes.
pub type MacKey = [u8; 8];

/// Value in place of the port in a [`PortKey`]: flows of the protocol that are related to others.
pub const RELATED: u16 = 0;

/// Builds a [`PortKey`]; `port` is in network byte order.
#[inline(always)]
pub const fn port_key(protocol: u8, port: u16) -> PortKey {
    (protocol as u32) << 16 | port as u32
}

/// Key of `RESOLVERS` and `DOMAINS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct HostKey {
    /// Address family: 4 or 6.
    pub family: u32,
    /// The address.
    pub address: Address,
}
map_struct!(HostKey, 20);

impl HostKey {
    /// Creates the key of an address.
    #[inline(always)]
    pub const fn new(family: Family, address: &Address) -> HostKey {
        HostKey { family: family as u32, address: *address }
    }
}

/// The key of a query, by which its reply is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct QueryKey {
    /// Address of the client.
    pub client: Address,
    /// Address of the server.
    pub server: Address,
    /// The client's port, in network byte order.
    pub port: u16,
    /// Identifier of the query, in network byte order.
    pub id: u16,
    /// The interface that the query was seen on, where its reply must be seen, too.
    pub ifindex: u32,
    /// Address family: 4 or 6.
    pub family: u32,
}
map_struct!(QueryKey, 44);
