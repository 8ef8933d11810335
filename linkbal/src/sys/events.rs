//! What the kernel says of its own accord about links, addresses, routes and ip rules.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocket as _, Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

use super::netlink;
use crate::engine::network::NetworkEvent;

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Bytes of messages that may wait for us before the kernel drops some.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The stream of events.
#[derive(Debug)]
pub struct NetworkEvents {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    reader: JoinHandle<()>,
}

impl NetworkEvents {
    /// Listens in the network namespace of the calling thread, within a tokio runtime.
    pub fn subscribe() -> Result<NetworkEvents> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)
            .context("failed to subscribe to rtnetlink")?;
        enlarge_receive_buffer(connection.socket_mut().socket_ref())?;
        Ok(NetworkEvents { messages, reader: tokio::spawn(connection) })
    }

    /// The next event; `None` once the socket has failed. May be dropped while it waits.
    ///
    /// To be called on the thread that subscribed.
    pub async fn next(&mut self) -> Option<NetworkEvent> {
        loop {
            let (message, _) = self.messages.next().await?;
            let event = event(message.payload);
            if event == Some(NetworkEvent::Overrun) {
                // A full socket stays silent about further losses until it has been read empty
                // (netlink_overrun in net/netlink/af_netlink.c). A new one hears all that comes
                // after the observation that follows.
                let renewed = NetworkEvents::subscribe();
                *self = renewed.inspect_err(|error| tracing::error!("{error:#}")).ok()?;
            }
            if event.is_some() {
                return event;
            }
        }
    }
}

impl Drop for NetworkEvents {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn enlarge_receive_buffer(socket: &Socket) -> Result<()> {
    // Past net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace.
    setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER))
        .context("failed to enlarge the receive buffer of rtnetlink")
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<NetworkEvent> {
    match payload {
        NetlinkPayload::Overrun(_) => Some(NetworkEvent::Overrun),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            netlink::link(&message).map(NetworkEvent::Link)
        }
        // A port that leaves a bridge is also told as a deletion, in the bridge's family.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            (message.header.interface_family == AddressFamily::Unspec)
                .then_some(NetworkEvent::LinkGone { ifindex: message.header.index })
        }
        NetlinkPayload::InnerMessage(_) => Some(NetworkEvent::Changed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    fn link_message(family: AddressFamily) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = family;
        message.header.index = 7;
        message.attributes.push(LinkAttribute::IfName("wan".into()));
        message
    }

    #[test]
    fn a_bridge_port_that_leaves_is_no_link_that_is_gone() {
        let gone = |family| {
            event(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link_message(family))))
        };
        assert_eq!(gone(AddressFamily::Bridge), None);
        assert_eq!(gone(AddressFamily::Unspec), Some(NetworkEvent::LinkGone { ifindex: 7 }));
    }

    #[test]
    fn lost_messages_are_told() {
        assert_eq!(event(NetlinkPayload::Overrun(Vec::new())), Some(NetworkEvent::Overrun));
    }
}
