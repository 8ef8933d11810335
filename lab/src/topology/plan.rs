//! The address plan of the lab, as pure arithmetic.
//!
//! | network | IPv4 | IPv6 |
//! |---|---|---|
//! | LAN | 10.77.0.0/24 | fd77::/64 |
//! | uplink i, gateway to provider | 203.0.113.(4i)/30 | 2001:db8:(a+i)::/64 |
//! | customers of provider i | 203.0.113.(4i)/30 | 2001:db8:(a+i)::/48 |
//! | provider i to the core | 192.0.2.(4i)/30 | 2001:db8:fe:i::/64 |
//! | pool of provider i, for DHCP | 100.64.i.0/24 | |
//! | servers | 198.51.100.0/24 | 2001:db8:ff::/64 |
//! | other networks with a server each | 198.18.n.0/24 | 2001:db8:(1000+n)::/48 |
//!
//! All of them are documentation or private ranges (RFC 2544, RFC 5737, RFC 3849, RFC 4193, RFC
//! 6598).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of clients on the LAN, each with one address per family. Each is a neighbour of its
/// gateway, and all namespaces of a machine share one table of 1024 neighbours (`gc_thresh3`).
pub const CLIENTS: u8 = 100;
/// Number of servers, each with one address per family.
pub const SERVERS: u8 = 100;
/// Maximum number of uplinks that linkbal takes.
pub const MAX_UPLINKS: usize = 16;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the option which selects the family in `ip`.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    /// Returns the prefix length of a subnet between two routers of the lab, in bits.
    pub(super) fn transfer_prefix(self) -> u8 {
        match self {
            Self::V4 => 30,
            Self::V6 => 64,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Returns the gateway's address on the LAN.
#[must_use]
pub fn lan_gateway(family: Family) -> IpAddr {
    lan(family, 1)
}

/// Returns the LAN address that gateway `number` of a pair keeps: 0 or 1.
#[must_use]
pub fn own_lan_address(family: Family, number: usize) -> IpAddr {
    lan(family, 2 + wrapped(number, 2))
}

/// Returns the address of client `number`, which counts from 0 and wraps after [`CLIENTS`].
#[must_use]
pub fn client(family: Family, number: usize) -> IpAddr {
    // fd77::10 is written like 10.77.0.10: the first client follows the lower nine in both.
    let first = match family {
        Family::V4 => 10,
        Family::V6 => 0x10,
    };
    lan(family, first + wrapped(number, CLIENTS))
}

/// Returns the address of server `number`, which counts from 0 and wraps after [`SERVERS`].
#[must_use]
pub fn server(family: Family, number: usize) -> IpAddr {
    let host = 1 + wrapped(number, SERVERS);
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, host.into()).into(),
    }
}

/// Returns the address of the server of another network, which answers by TCP alone: see
/// [`Lab::add_networks`](super::Lab::add_networks).
#[must_use]
pub fn far_server(family: Family, network: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, network, 1).into(),
        Family::V6 => {
            Ipv6Addr::new(0x2001, 0xdb8, 0x1000 + u16::from(network), 0, 0, 0, 0, 1).into()
        }
    }
}

/// Returns the gateway's own address on uplink `index`, which servers see for its clients.
#[must_use]
pub fn uplink_address(family: Family, index: usize) -> IpAddr {
    customer_net(family, index, 2)
}

/// Returns the provider's address on uplink `index`: the gateway's next hop.
#[must_use]
pub fn nexthop(family: Family, index: usize) -> IpAddr {
    customer_net(family, index, 1)
}

/// Returns the address of a host of provider `index` that needs no other network to answer: its
/// resolver.
#[must_use]
pub fn resolver(family: Family, index: usize) -> IpAddr {
    core_net(family, index, 2)
}

/// Returns address `host` of the pool that provider `index` gives out by DHCP; 1 is the provider's
/// own.
#[must_use]
pub fn pool(index: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, small(index), host)
}

/// Returns the uplink to which an address seen by a server belongs.
#[must_use]
pub fn uplink_of(seen: IpAddr) -> Option<usize> {
    let seen = seen.to_canonical();
    match seen {
        IpAddr::V4(seen) => (0..MAX_UPLINKS).find(|&i| {
            uplink_address(Family::V4, i) == seen || pool(i, 0).octets()[..3] == seen.octets()[..3]
        }),
        IpAddr::V6(seen) => {
            let [0x2001, 0xdb8, network, ..] = seen.segments() else { return None };
            let index = usize::from(network.checked_sub(0xa)?);
            (index < MAX_UPLINKS).then_some(index)
        }
    }
}

/// Returns the core's (host 1) or the provider's (host 2) address on the link between them.
pub(super) fn core_net(family: Family, index: usize, host: u8) -> IpAddr {
    let index = small(index);
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 4 * index + host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xfe, index.into(), 0, 0, 0, host.into()).into(),
    }
}

/// Returns the prefix of all addresses that provider `index` has for its customers.
pub(super) fn customer_prefix(family: Family, index: usize) -> String {
    let length = if family == Family::V4 { 30 } else { 48 };
    format!("{}/{length}", customer_net(family, index, 0))
}

/// Returns the prefix of all servers.
pub(super) fn server_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "198.51.100.0/24",
        Family::V6 => "2001:db8:ff::/64",
    }
}

/// Returns the prefix of all other networks.
pub(super) fn far_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "198.18.0.0/16",
        Family::V6 => "2001:db8:1000::/40",
    }
}

fn customer_net(family: Family, index: usize, host: u8) -> IpAddr {
    let index = small(index);
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 4 * index + host).into(),
        Family::V6 => {
            let network = 0xa + u16::from(index);
            Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host.into()).into()
        }
    }
}

fn lan(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

fn wrapped(number: usize, count: u8) -> u8 {
    u8::try_from(number % usize::from(count)).expect("a remainder of a u8 fits a u8")
}

fn small(index: usize) -> u8 {
    assert!(index < MAX_UPLINKS, "the lab has at most {MAX_UPLINKS} uplinks");
    u8::try_from(index).expect("16 fits a u8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_is_known_by_the_address_servers_see() {
        for family in Family::ALL {
            for index in 0..MAX_UPLINKS {
                assert_eq!(uplink_of(uplink_address(family, index)), Some(index));
                assert_eq!(uplink_of(client(family, index)), None);
                assert_eq!(uplink_of(server(family, index)), None);
            }
        }
    }

    #[test]
    fn the_plan_is_the_documented_one() {
        assert_eq!(client(Family::V4, 0).to_string(), "10.77.0.10");
        assert_eq!(client(Family::V4, 100).to_string(), "10.77.0.10");
        assert_eq!(client(Family::V6, 0).to_string(), "fd77::10");
        assert_eq!(server(Family::V6, 1).to_string(), "2001:db8:ff::2");
        assert_eq!(uplink_address(Family::V4, 1).to_string(), "203.0.113.6");
        assert_eq!(nexthop(Family::V6, 1).to_string(), "2001:db8:b::1");
    }
}
