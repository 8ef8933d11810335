//! Notifications of the kernel about links, addresses, routes and ip rules, and about other changes
//! that may undo linkbal's work.

mod inotify;
pub(super) mod messages;
mod multicast;
mod queue;

use std::fs;

use anyhow::{Context as _, Result};
use futures::{FutureExt as _, StreamExt as _, channel::mpsc::UnboundedReceiver};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    rule::RuleAttribute,
};
use netlink_sys::{AsyncSocket as _, Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

pub use self::inotify::FileWatcher;
use self::{multicast::MulticastSockets, queue::EventQueue};
use super::netlink;
use crate::engine::kernel::{
    network::{NetworkEvent, PROTOCOL},
    resource::{Process, ResourceKind},
};

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Neigh,
];

/// Bytes of messages that may wait before the kernel drops some.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Upper bound of process ids (`PID_MAX_LIMIT` in include/linux/threads.h); the kernel gives
/// further sockets of a process higher port numbers.
const MAX_PID: u32 = 1 << 22;

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// The stream of events.
#[derive(Debug)]
pub struct NetworkEvents {
    listener: Listener,
    multicast: MulticastSockets,
    queue: EventQueue,
    /// Port of the socket by which this process makes changes, once that is known.
    own_port: Option<u32>,
}

impl NetworkEvents {
    /// Listens in the network namespace of the calling thread, within a tokio runtime.
    pub fn subscribe() -> Result<NetworkEvents> {
        let (listener, multicast) = (Listener::start()?, MulticastSockets::subscribe()?);
        Ok(NetworkEvents { listener, multicast, queue: EventQueue::default(), own_port: None })
    }

    /// Takes changes by the socket with this netlink port for this process's own from now on.
    ///
    /// A process has its id as the port of its first socket alone.
    pub(super) const fn set_own_port(&mut self, port: u32) {
        self.own_port = Some(port);
    }

    /// Returns the watch of files, which has none at first.
    pub fn watch(&self) -> FileWatcher {
        self.multicast.watch()
    }

    /// Listens to changes of IPsec policies as well, from now on; returns false if the kernel has no
    /// IPsec.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn listen_to_ipsec(&mut self) -> Result<bool> {
        self.multicast.listen_to_ipsec()
    }

    /// Waits for the next event; `None` once the socket has failed. May be dropped while it waits.
    ///
    /// Must be called on the thread that subscribed.
    pub async fn next(&mut self) -> Option<NetworkEvent> {
        loop {
            if let Some(event) = self.queue.next() {
                return Some(event);
            }
            tokio::select! {
                message = self.listener.messages.next() => self.handle(message?.0)?,
                events = self.multicast.next() => self.queue.extend(events),
            }
            // All that is there already, so that what is out of date is passed over.
            while let Some(message) = self.listener.messages.next().now_or_never() {
                self.handle(message?.0)?;
            }
        }
    }

    fn handle(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> Option<()> {
        let event = event(message.payload, message.header.port_number, self.own_port);
        if event == Some(NetworkEvent::Overrun) {
            // A full socket stays silent about further losses until it has been read empty
            // (netlink_overrun in net/netlink/af_netlink.c). A new one hears all that comes
            // after the observation that follows.
            let renewed = Listener::start();
            self.listener = renewed.inspect_err(|error| tracing::error!("{error:#}")).ok()?;
        }
        self.queue.extend(event);
        Some(())
    }
}

/// A subscription to the usual groups of rtnetlink.
#[derive(Debug)]
struct Listener {
    messages: Messages,
    reader: JoinHandle<()>,
}

impl Listener {
    fn start() -> Result<Listener> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)
            .context("failed to subscribe to rtnetlink")?;
        enlarge_receive_buffer(connection.socket_mut().socket_ref())?;
        Ok(Listener { messages, reader: tokio::spawn(connection) })
    }
}

impl Drop for Listener {
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

/// Returns the event that a message means which tells of a change by the socket `port`; `own_port` is
/// that of this process.
pub(super) fn event(
    payload: NetlinkPayload<RouteNetlinkMessage>,
    port: u32,
    own_port: Option<u32>,
) -> Option<NetworkEvent> {
    match payload {
        NetlinkPayload::Overrun(_) => Some(NetworkEvent::Overrun),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            netlink::link(&message).map(NetworkEvent::Link)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
            Some(NetworkEvent::AddressGone { ifindex: message.header.index })
        }
        // A port that leaves a bridge is also told as a deletion, in the bridge's family.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            (message.header.interface_family == AddressFamily::Unspec)
                .then_some(NetworkEvent::LinkGone { ifindex: message.header.index })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
            failed_neighbour(&message)
        }
        NetlinkPayload::InnerMessage(message) => {
            // Port 0 is the kernel itself, and changes by this process are no news.
            let ours = ours(&message).filter(|_| port != 0 && Some(port) != own_port);
            Some(ours.map_or(NetworkEvent::Changed, |what| NetworkEvent::ResourceChanged {
                what,
                by: process(port),
            }))
        }
        _ => None,
    }
}

fn failed_neighbour(message: &NeighbourMessage) -> Option<NetworkEvent> {
    if message.header.state != NeighbourState::Failed {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        _ => None,
    })?;
    Some(NetworkEvent::NeighbourFailed { ifindex: message.header.ifindex, address })
}

/// Returns what was deleted, if it was linkbal's.
fn ours(message: &RouteNetlinkMessage) -> Option<ResourceKind> {
    match message {
        RouteNetlinkMessage::DelRoute(route) => {
            (u8::from(route.header.protocol) == PROTOCOL).then_some(ResourceKind::Routes)
        }
        RouteNetlinkMessage::DelRule(rule) => {
            let ours = |attribute: &RuleAttribute| matches!(attribute, RuleAttribute::Protocol(protocol) if u8::from(*protocol) == PROTOCOL);
            rule.attributes.iter().any(ours).then_some(ResourceKind::Rules)
        }
        _ => None,
    }
}

/// Returns the process behind a netlink port: by default the first socket of a process has its id.
fn process(port: u32) -> Option<Process> {
    let name = || Some(fs::read_to_string(format!("/proc/{port}/comm")).ok()?.trim_end().into());
    (port < MAX_PID).then(|| Process { pid: port, name: name() })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{
        link::{LinkAttribute, LinkMessage},
        rule::RuleMessage,
    };

    use super::*;

    const OWN_PORT: Option<u32> = Some(u32::MAX - 7);

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
            event(
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link_message(family))),
                0,
                None,
            )
        };
        assert_eq!(gone(AddressFamily::Bridge), None);
        assert_eq!(gone(AddressFamily::Unspec), Some(NetworkEvent::LinkGone { ifindex: 7 }));
    }

    #[test]
    fn who_deleted_a_rule_of_ours_is_told() {
        let deleted = |protocol: u8, port| {
            let mut rule = RuleMessage::default();
            rule.attributes.push(RuleAttribute::Protocol(protocol.into()));
            event(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)), port, OWN_PORT)
        };
        let parent = std::os::unix::process::parent_id();
        let Some(NetworkEvent::ResourceChanged { what: ResourceKind::Rules, by: Some(by) }) =
            deleted(PROTOCOL, parent)
        else {
            panic!("nobody told");
        };
        assert!(by.pid == parent && by.name.is_some(), "{by:?}");
        let nobody = Some(NetworkEvent::ResourceChanged { what: ResourceKind::Rules, by: None });
        assert_eq!(deleted(PROTOCOL, u32::MAX - 5), nobody);
        for (protocol, port) in [(4, parent), (PROTOCOL, 0), (PROTOCOL, u32::MAX - 7)] {
            assert_eq!(deleted(protocol, port), Some(NetworkEvent::Changed), "{port}");
        }
    }

    #[test]
    fn lost_messages_are_told() {
        assert_eq!(
            event(NetlinkPayload::Overrun(Vec::new()), 0, None),
            Some(NetworkEvent::Overrun)
        );
    }
}
