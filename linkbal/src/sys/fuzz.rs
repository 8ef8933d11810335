//! Messages of the kernel and the network, read without the sockets that they come from: for fuzz
//! targets.

use linkbal_common::uplink::Family;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{NetfilterMessageInner, conntrack::ConntrackMessage};
use netlink_packet_route::RouteNetlinkMessage;

use super::{
    bond::observe,
    conntrack::{self, adopt},
    events::{self, messages},
    netlink::{
        self, generic, routes, rules,
        tunnels::{self, wireguard},
        wire,
    },
    probe,
};
use crate::engine::kernel::network::{NetworkEvent, Tunnel};

/// Port number of the kernel.
const KERNEL: u32 = 0;

/// Reads messages of rtnetlink, and those for which no crate is used.
pub fn route(bytes: &[u8]) -> Vec<NetworkEvent> {
    let mut all = messages::route_events(bytes);
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else { return all };
    if let NetlinkPayload::InnerMessage(inner) = &message.payload {
        observed(inner);
    }
    all.extend(events::event(message.payload, KERNEL, None));
    all
}

/// Reads a message as an observation does.
fn observed(message: &RouteNetlinkMessage) {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            let names = observe::name(link).map(|name| (link.header.index, name));
            let _ =
                (netlink::link(link), netlink::octets(link), tunnels::tunnels([link].into_iter()));
            let _ = observe::port(link, &names.into_iter().collect());
        }
        RouteNetlinkMessage::NewAddress(address) => {
            let _ = (netlink::address(address), observe::lasting_address(address));
        }
        RouteNetlinkMessage::NewRoute(route) => {
            for route in routes::parse(route).unwrap_or_default() {
                let _ = route.to_string();
            }
        }
        RouteNetlinkMessage::NewRule(rule) => {
            for family in Family::ALL {
                let _ = rules::parse(family, rule).to_string();
            }
        }
        _ => {}
    }
}

/// Reads messages of nftables, as events and as the answer to a request.
pub fn nftables(bytes: &[u8]) -> Vec<NetworkEvent> {
    messages::generation(bytes);
    messages::Transaction::default().handle(bytes, 77)
}

/// Reads a connection; `None` if it is none.
pub fn connection(bytes: &[u8]) -> Option<()> {
    let NetlinkPayload::InnerMessage(message) = conntrack::read(bytes).ok()?.payload else {
        return None;
    };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(entry)) = message.inner else {
        return None;
    };
    let _ = (adopt::ends(&entry), adopt::key(&entry));
    assert!(adopt::identity(&entry).len() <= entry.len(), "a connection is named by what it has");
    Some(())
}

/// Reads WireGuard's messages about a device.
pub fn wireguard(bytes: &[u8]) -> Tunnel {
    let mut tunnel = Tunnel::default();
    for message in wire::messages(bytes) {
        wireguard::parse_into(&mut tunnel, generic::body(&message));
    }
    tunnel
}

/// Returns whether the bytes are an answer to an echo or to a query.
pub fn answer(bytes: &[u8]) -> bool {
    probe::is_answer(bytes)
}
