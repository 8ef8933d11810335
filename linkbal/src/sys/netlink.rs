//! rtnetlink: links, addresses, routes and ip rules.

mod devices;
pub(in crate::sys) mod exchange;
pub(in crate::sys) mod generic;
pub mod lookup;
pub(super) mod routes;
pub(super) mod rules;
pub(super) mod tunnels;
pub(in crate::sys) mod wire;

use std::{collections::BTreeMap, io, net::IpAddr};

use anyhow::{Context as _, Result, bail};
use futures::{Stream, StreamExt as _};
use linkbal_common::uplink::Family;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
        LinkMessage,
    },
};
use netlink_sys::AsyncSocket as _;
use rtnetlink::Handle;

use crate::{
    engine::{
        balance::load::Octets,
        kernel::network::{Address, Link, Snapshot, Tunnel},
    },
    per_family::PerFamily,
};

/// Maximum number of attempts at a dump whose table changes meanwhile.
const DUMP_ATTEMPTS: usize = 8;

/// A connection for requests.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    port: u32,
}

impl Netlink {
    /// Opens the socket in the network namespace of the calling thread, within a tokio runtime.
    pub fn connect() -> Result<Netlink> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection().context("failed to open an rtnetlink socket")?;
        // Without these, the end of an answer looks like the end of the connection.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        let address = socket.bind_auto().context("failed to bind an rtnetlink socket")?;
        tokio::spawn(connection);
        Ok(Netlink { handle, port: address.port_number() })
    }

    /// Returns the netlink port of the socket, which notifications of its changes name.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// Observes links, addresses, routes and ip rules. The rest of the snapshot stays empty.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let (links, tunnels) = self.links().await?;
        let mut snapshot = Snapshot {
            links: links.into_iter().map(|link| (link.ifindex, link)).collect(),
            tunnels,
            addresses: self.addresses().await?,
            ..Snapshot::default()
        };
        for family in Family::ALL {
            snapshot.routes.extend(self.routes(family).await?);
            snapshot.rules.extend(self.rules(family).await?);
        }
        Ok(snapshot)
    }

    async fn links(&self) -> Result<(Vec<Link>, BTreeMap<u32, Tunnel>)> {
        let messages = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await;
        let messages = messages.context("failed to list the interfaces")?;
        let messages = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        });
        Ok((messages.clone().filter_map(link).collect(), tunnels::tunnels(messages)))
    }

    /// Returns the bytes that an interface has carried; `None` if it does not exist.
    pub async fn octets(&self, interface: &str) -> Result<Option<Octets>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
        let mut replies = self.request(RouteNetlinkMessage::GetLink(message), 0)?;
        let reply = replies.next().await.map(|reply| reply.payload);
        let failure: io::Error = match reply {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))) => {
                return Ok(octets(&message));
            }
            Some(NetlinkPayload::Error(error)) => error.to_io(),
            _ => io::ErrorKind::NotConnected.into(),
        };
        if failure.raw_os_error() == Some(libc::ENODEV) {
            return Ok(None);
        }
        Err(failure).with_context(|| format!("failed to read the counters of {interface}"))
    }

    async fn addresses(&self) -> Result<Vec<Address>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let messages = self.dump(request).await.context("failed to list the addresses")?;
        let addresses = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => address(message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Sends a request that the kernel answers with success or an error number.
    pub(super) async fn change(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut replies = self.request(request, NLM_F_ACK | flags)?;
        match replies.next().await.map(|reply| reply.payload) {
            Some(NetlinkPayload::Error(error)) if error.code.is_none() => Ok(()),
            Some(NetlinkPayload::Error(error)) => Err(error.to_io()),
            Some(_) => Err(io::Error::other("the kernel sent no acknowledgement")),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads a whole table, with all entries of one moment.
    pub(super) async fn dump(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(entries) = self.try_dump(request.clone()).await? {
                return Ok(entries);
            }
        }
        bail!("the table changed during each of {DUMP_ATTEMPTS} attempts to read it")
    }

    /// Tries to read a table as [`Self::dump`] does; `None` if it changed meanwhile.
    async fn try_dump(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut replies = self.request(request, NLM_F_DUMP)?;
        let mut entries = Vec::new();
        let mut interrupted = false;
        while let Some(reply) = replies.next().await {
            interrupted |= reply.header.flags & NLM_F_DUMP_INTR != 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(entry) => entries.push(entry),
                NetlinkPayload::Done(done) => {
                    ended(done.code)?;
                    return Ok((!interrupted).then_some(entries));
                }
                NetlinkPayload::Error(error) => {
                    ended(error.raw_code())?;
                    return Ok(Some(entries));
                }
                _ => bail!("the answer is incomplete"),
            }
        }
        Err(io::Error::from(io::ErrorKind::NotConnected).into())
    }

    pub(super) fn request(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        self.handle.clone().request(message).map_err(|_| io::ErrorKind::NotConnected.into())
    }
}

/// Judges the code that a dump ended with. A family that the kernel lacks (`ipv6.disable=1`) has no
/// entries, though the kernel calls it an error (`fib_nl_dumprule` in net/core/fib_rules.c).
fn ended(code: i32) -> io::Result<()> {
    if code >= 0 || code == -libc::EAFNOSUPPORT {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.saturating_neg()))
}

/// Returns the interface in a link message; `None` if that is about something else, such as a
/// bridge's port.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let (master, in_vrf) = (master(message), is_in_vrf(message));
    (message.header.interface_family == AddressFamily::Unspec).then_some(Link {
        ifindex: message.header.index,
        name,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        point_to_point: flags.intersects(LinkFlags::Pointopoint | LinkFlags::Noarp),
        ethernet: matches!(
            message.header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        port: master.is_some() && !in_vrf,
        vrf: master.filter(|_| in_vrf),
        mtu: mtu(message),
    })
}

/// Returns the MTU of an interface, of IPv4 and IPv6; a router advertisement may set the latter.
fn mtu(message: &LinkMessage) -> PerFamily<u32> {
    let mut mtu = PerFamily::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(value) => mtu.ipv4 = *value,
            LinkAttribute::AfSpecUnspec(families) => mtu.ipv6 = ipv6_mtu(families).unwrap_or(0),
            _ => {}
        }
    }
    mtu
}

fn ipv6_mtu(families: &[AfSpecUnspec]) -> Option<u32> {
    let ipv6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(attributes) => Some(attributes),
        _ => None,
    })?;
    ipv6.iter().find_map(|attribute| match attribute {
        AfSpecInet6::DevConf(values) => values.mtu6.try_into().ok(),
        _ => None,
    })
}

/// Returns the index of the interface that another one is part of.
fn master(message: &LinkMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(master) if *master != 0 => Some(*master),
        _ => None,
    })
}

/// Returns whether the master of an interface is a VRF: that only routes, others take over its packets.
fn is_in_vrf(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.contains(&LinkInfo::PortKind(InfoPortKind::Vrf)),
        _ => false,
    })
}

/// Returns the byte counters in a link message. The bytes that an uplink's interface receives come
/// down from the provider.
pub(super) fn octets(message: &LinkMessage) -> Option<Octets> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(Octets { down: stats.rx_bytes, up: stats.tx_bytes }),
        _ => None,
    })
}

/// Returns the address in an address message, if it may be used.
pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let (address, flags) = address_and_flags(message)?;
    let usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
    usable.then_some(Address {
        ifindex: message.header.index,
        address,
        prefix_length: message.header.prefix_len,
        deprecated: flags.contains(AddressFlags::Deprecated),
        // The same bit says of IPv4 that the address is a secondary one.
        temporary: message.header.family == AddressFamily::Inet6
            && flags.contains(AddressFlags::Secondary),
        held: false,
    })
}

/// Returns the own address in an address message, and its flags.
pub(super) fn address_and_flags(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            _ => {}
        }
    }
    // With a peer, IFA_ADDRESS is the peer's; otherwise IPv6 has no IFA_LOCAL.
    Some((local.or(address)?, flags))
}

/// Returns the family as netlink numbers it.
pub(super) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_the_kernel_lacks_has_no_entries() {
        assert!(ended(0).is_ok() && ended(-libc::EAFNOSUPPORT).is_ok());
        let refused = ended(-libc::EPERM).expect_err("a refusal");
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(ended(i32::MIN).is_err());
    }
}
