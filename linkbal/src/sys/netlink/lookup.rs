//! The way that the kernel itself would send a packet.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::StreamExt as _;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteType},
};

use super::Netlink;
use crate::protocol::{ICMP, ICMPV6, TCP, UDP};

/// A packet to look a route up for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Source address; the unspecified one for none.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Index of the interface that it comes in by, or 0 for a local packet.
    pub ifindex: u32,
    /// The fwmark.
    pub fwmark: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port, in the machine's byte order; `None` for unknown ones.
    pub ports: [Option<u16>; 2],
    /// DSCP (RFC 2474).
    pub dscp: u8,
}

/// The outcome of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// Index of the interface that the packet leaves by.
    pub ifindex: Option<u32>,
    /// The table that the route is in.
    pub table: u32,
    /// Set if the packet is delivered to this machine.
    pub is_local: bool,
}

impl Netlink {
    /// Returns whether what this machine sends to a port of `destination` stays here, or leaves by none
    /// of the interfaces with the indexes `uplinks`.
    ///
    /// # Errors
    ///
    /// As [`Self::route_of`].
    pub async fn is_beside(
        &self,
        destination: IpAddr,
        protocol: u8,
        port: u16,
        uplinks: &BTreeSet<u32>,
    ) -> io::Result<bool> {
        let source = match destination {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let (ifindex, fwmark, dscp) = (0, 0, 0);
        let ports = [None, Some(port)];
        let lookup = Lookup { source, destination, ifindex, fwmark, protocol, ports, dscp };
        let found = self.route_of(&lookup).await?;
        let by_uplink = found.ifindex.is_none_or(|at| uplinks.contains(&at));
        Ok(found.is_local || !by_uplink)
    }

    /// Asks the kernel for the route of a packet.
    ///
    /// # Errors
    ///
    /// As the kernel answers: if there is no route, it refuses the packet, or its source is not
    /// valid at its interface.
    pub async fn route_of(&self, lookup: &Lookup) -> io::Result<FoundRoute> {
        let mut message = RouteMessage::default();
        let length = if lookup.destination.is_ipv4() { 32 } else { 128 };
        let header = &mut message.header;
        header.address_family =
            if length == 32 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        header.destination_prefix_length = length;
        header.flags = RouteFlags::LookupTable;
        message.attributes.push(RouteAttribute::Destination(lookup.destination.into()));
        if !lookup.source.is_unspecified() {
            message.header.source_prefix_length = length;
            message.attributes.push(RouteAttribute::Source(lookup.source.into()));
        }
        if lookup.ifindex != 0 {
            message.attributes.push(RouteAttribute::Iif(lookup.ifindex));
        }
        message.attributes.push(RouteAttribute::Mark(lookup.fwmark));
        message.header.tos = lookup.dscp << 2;
        message.attributes.extend(lookup.ends());
        let mut replies = self.request(RouteNetlinkMessage::GetRoute(message), 0)?;
        match replies.next().await.map(|reply| reply.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route))) => {
                found(&route)
            }
            Some(NetlinkPayload::Error(error)) => Err(error.to_io()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Lookup {
    /// Returns what ip rules for protocols and ports need. The kernel takes these protocols alone
    /// (`rtm_getroute_parse_ip_proto` in net/ipv4/fib_frontend.c).
    fn ends(&self) -> Vec<RouteAttribute> {
        if !matches!(self.protocol, ICMP | TCP | UDP | ICMPV6) {
            return Vec::new();
        }
        let [source, destination] = self.ports;
        let source = source.map(RouteAttribute::Sport);
        let destination = destination.map(RouteAttribute::Dport);
        [Some(RouteAttribute::IpProto(self.protocol)), source, destination]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn found(route: &RouteMessage) -> io::Result<FoundRoute> {
    let refusal = match route.header.kind {
        RouteType::Unreachable => Some(libc::EHOSTUNREACH),
        RouteType::Prohibit => Some(libc::EACCES),
        RouteType::BlackHole => Some(libc::EINVAL),
        _ => None,
    };
    if let Some(errno) = refusal {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let mut found = FoundRoute {
        ifindex: None,
        table: route.header.table.into(),
        is_local: route.header.kind == RouteType::Local,
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => found.ifindex = Some(*ifindex),
            RouteAttribute::Table(table) => found.table = *table,
            _ => {}
        }
    }
    Ok(found)
}
