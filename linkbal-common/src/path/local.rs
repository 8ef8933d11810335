//! Local traffic, such as that of a proxy, a DNS forwarder or system updates.
//!
//! A socket that connects gets the fwmark of an uplink before the kernel looks for a route and a
//! source address. A datagram of an unconnected socket cannot be steered by the mark, which
//! `udp_sendmsg` (net/ipv4/udp.c) has read by then: it gets the uplink's address as its source, and
//! the ip rules by source do the rest.
//!
//! A choice of the program itself is respected: a device, a source address or a fwmark. Answers of
//! a server come from the address of the last request ([`udp_request`]).

pub mod udp_request;

use crate::{
    maps::{
        counter::Counter,
        flow::{Address, FlowKey},
        settings::Settings,
        uplink::{Family, NO_UPLINK},
    },
    mark::{BLOCKED, MarkMask},
    packet::parse::{ipv4_routable, ipv6_routable},
    path::{
        classify::Origin,
        ingress::choose_local,
        select::Selection,
        slow::{Request, task},
        tables::Tables,
        verdict::SkipReason,
    },
};

/// A socket as the kernel shows it when it connects or sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalSocket {
    /// Cookie of the network namespace.
    pub netns_cookie: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Index of the device that the program bound the socket to, or 0.
    pub device: u32,
    /// The fwmark of the socket.
    pub fwmark: u32,
    /// The fwmark that linkbal gave the socket last, or 0.
    pub given_fwmark: u32,
    /// The flow of the socket. The source address is zero if the program chose none.
    pub key: FlowKey,
}

/// Decides about a socket that connects, and counts it; returns its new fwmark, if it needs one.
///
/// The decision is made anew each time: there is no flow yet that could be broken.
#[inline(always)]
pub fn connect<T: Tables>(socket: &LocalSocket, tables: &T) -> Option<u32> {
    let settings = settings_for(socket, tables)?;
    let mask = MarkMask(settings.fwmark_mask);
    if has_chosen(socket, mask) {
        tables.count(Counter::LocalSkipped);
        return None;
    }
    if let Some(request) = udp_request::of(socket, tables) {
        // The kernel then takes the uplink's first address: this socket has its port already, and
        // can be given no other address.
        tables.count(Counter::LocalMarked);
        return Some(request.fwmark(socket.fwmark, mask));
    }
    let chosen = routable(&socket.key).ok().and_then(|()| {
        tables.with_request(|request| {
            request.key = socket.key;
            if request.key.source_port == 0 {
                // The kernel chooses the port later; until then the cookie tells connections apart.
                request.key.source_port = socket.cookie as u16;
            }
            let selection = request.choose(task::CHOOSE, NO_UPLINK, &Origin::LOCAL, tables);
            if !is_about(request, socket) {
                return Selection::NoneUsable;
            }
            match selection {
                Selection::Uplink(_) => tables.count_rule(request.reason.rule),
                Selection::Blocked(_) => tables.count_blocked(request.reason.rule),
                _ => {}
            }
            selection
        })
    });
    // An uplink on standby has no address: another gateway has it.
    let unaddressed = |uplink| tables.uplink_address(uplink, socket.key.family()) == [0; 4];
    let chosen = chosen.filter(
        |selection| !matches!(selection, Selection::Uplink(uplink) if unaddressed(*uplink)),
    );
    match chosen {
        Some(Selection::Uplink(number) | Selection::Blocked(number)) => {
            tables.count(Counter::LocalMarked);
            Some(mask.replace(socket.fwmark, number))
        }
        Some(
            Selection::NoneUsable | Selection::Rejected | Selection::Bypassed | Selection::OnLink,
        )
        | None => {
            tables.count(Counter::LocalSkipped);
            // The fwmark of an earlier connection does not apply to this one.
            let marked = socket.fwmark & mask.0 != 0;
            if marked { Some(socket.fwmark & !mask.0) } else { None }
        }
    }
}

/// The decision about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The datagram leaves as the program and the kernel have chosen.
    AsItIs,
    /// The datagram gets this source address.
    From(Address),
    /// The datagram is refused: its rule blocks it.
    Refused,
}

/// Decides about a datagram of an unconnected socket, and counts it.
///
/// Datagrams from one port to another are a flow, stored with the source address zero.
///
/// `IPV6` keeps the programs of both families apart, so that each is compiled on its own: shared
/// code would be a function, and the stack has no room for its frame.
#[inline(always)]
pub fn send<const IPV6: bool, T: Tables>(socket: &LocalSocket, tables: &T) -> Sending {
    let Some(settings) = settings_for(socket, tables) else { return Sending::AsItIs };
    let sending = match udp_request::of(socket, tables) {
        Some(request) if request.socket == socket.cookie => {
            request.answer(&socket.key, tables);
            Sending::From(request.address)
        }
        _ => choose::<IPV6, T>(socket, tables, settings),
    };
    let left_alone = matches!(sending, Sending::AsItIs);
    tables.count(if left_alone { Counter::LocalSkipped } else { Counter::LocalAddressed });
    sending
}

#[inline(always)]
fn choose<const IPV6: bool, T: Tables>(
    socket: &LocalSocket,
    tables: &T,
    settings: &Settings,
) -> Sending {
    if has_chosen(socket, MarkMask(settings.fwmark_mask)) || routable(&socket.key).is_err() {
        return Sending::AsItIs;
    }
    let number = tables.with_request(|request| {
        request.key = socket.key;
        let number = choose_local(tables, settings, request);
        if is_about(request, socket) { number } else { NO_UPLINK }
    });
    match number {
        None | Some(NO_UPLINK) => Sending::AsItIs,
        Some(number) if BLOCKED.contains(&number) => Sending::Refused,
        Some(uplink) => match tables.uplink_address(uplink, socket.key.family()) {
            [0, 0, 0, 0] => Sending::AsItIs,
            address => Sending::From(address),
        },
    }
}

/// Returns whether a request is still about a socket. Another process may have run on this CPU in
/// between, and have left its own request: then nothing is chosen, and the socket follows the best
/// uplink.
#[inline(always)]
fn is_about(request: &Request, socket: &LocalSocket) -> bool {
    let (theirs, ours) = (&request.key, &socket.key);
    theirs.destination == ours.destination && theirs.destination_port == ours.destination_port
}

/// Returns the settings, if the datapath is on and the socket is of its network namespace.
#[inline(always)]
fn settings_for<'a, T: Tables>(socket: &LocalSocket, tables: &'a T) -> Option<&'a Settings> {
    let settings = tables.settings()?;
    let ours = settings.netns_cookie == socket.netns_cookie && settings.fwmark_mask != 0;
    if ours { Some(settings) } else { None }
}

/// Returns whether the program has itself chosen a device, a source address or a fwmark.
#[inline(always)]
fn has_chosen(socket: &LocalSocket, mask: MarkMask) -> bool {
    let fwmark = socket.fwmark & mask.0;
    let own_fwmark = fwmark != 0 && fwmark != socket.given_fwmark & mask.0;
    socket.device != 0 || socket.key.source != [0; 4] || own_fwmark
}

/// Refuses destinations that are never reached by an uplink.
#[inline(always)]
fn routable(key: &FlowKey) -> Result<(), SkipReason> {
    // The source is not known yet; the destination takes its place.
    match key.family() {
        Family::Ipv4 => ipv4_routable(key.destination[0], key.destination[0]),
        Family::Ipv6 => ipv6_routable(&key.destination, &key.destination),
    }
}

#[cfg(test)]
mod tests;
