//! Resets of the TCP connections of an uplink that went down, so that clients reconnect now instead
//! of waiting for answers that cannot come.
//!
//! The datapath answers what clients send with a reset. This reaches those that only wait, or only
//! receive: each gets, as if from its server,
//!
//! 1. a reset with the sequence number that it acknowledged last, which ends every connection that
//!    is exactly there (RFC 9293 section 3.10.7.4);
//! 2. an empty segment of the past, to which all others answer with where they are; that answer
//!    meets the datapath.
//!
//! A connection is known to be over when the datapath has seen the client's own reset, or a new
//! connection in its place. The others are tried again: a packet can be lost, and Linux answers a
//! segment of the past only twice a second (`tcp_invalid_ratelimit`).

mod local;
mod segment;

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use etherparse::EtherType;
use linkbal_common::{
    flow::{Flow, FlowKey, INBOUND, tcp_state},
    uplink::Family,
};
use socket2::{Domain, Protocol, Socket, Type};

pub use self::local::LocalConnections;
use super::{
    datapath::flows::{FlowEntries, FlowTable},
    host::{descriptors, thread},
    packet_socket::link_address,
};
use crate::protocol;

/// Pauses before clients that have not answered get another reset.
const RETRY_DELAYS: [Duration; 4] = [
    Duration::from_millis(600),
    Duration::from_millis(600),
    Duration::from_millis(1300),
    Duration::from_millis(2500),
];

/// The flows that are over: those of an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlows {
    /// Index of the uplink.
    pub uplink: u32,
    /// The family.
    pub family: Family,
    /// The epoch that flows must have to go on.
    pub epoch: u32,
}

impl EndedFlows {
    /// Returns whether a flow is a TCP connection of the LAN that is over without knowing it.
    fn includes(&self, key: &FlowKey, flow: &Flow) -> bool {
        key.family() == self.family
            && key.protocol == protocol::TCP
            && flow.uplink == self.uplink
            && flow.epoch != self.epoch
            && flow.sticky_class != INBOUND
            && flow.tcp_ack != 0
            && flow.tcp_state != tcp_state::CLOSING
            && flow.ifindex != 0
    }
}

/// The outcome of the resets for one uplink and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetSummary {
    /// The flows that are over.
    pub ended: EndedFlows,
    /// Number of TCP connections of clients that were reset.
    pub clients: usize,
    /// Number of them whose client did not answer.
    pub silent: usize,
}

/// Resets the connections in the background, and the local ones `local`; the maps are pinned in
/// `maps`. `report` gets the summary.
pub fn spawn(
    maps: PathBuf,
    ended: EndedFlows,
    local: LocalConnections,
    report: impl FnOnce(ResetSummary) + Send + 'static,
) {
    let work = move || {
        let lent = descriptors::lend();
        let pending = PendingResets::send(&maps, ended);
        // The clients of the LAN come first: they are many.
        if let Err(error) = local.abort() {
            tracing::warn!("{error:#}");
        }
        drop(lent);
        match pending {
            Ok(pending) => report(pending.finish()),
            Err(error) => tracing::warn!("{error:#}"),
        }
    };
    if let Err(error) = thread::start("reset", work) {
        tracing::warn!("connections of a line that is down are not reset: {error:#}");
    }
}

/// Resets that clients have yet to answer.
struct PendingResets {
    ended: EndedFlows,
    flows: FlowEntries,
    clients: Clients,
    open: Vec<FlowKey>,
}

impl PendingResets {
    /// Resets every connection once.
    fn send(maps: &Path, ended: EndedFlows) -> Result<PendingResets> {
        let flows = FlowTable::open(maps)?;
        let clients = Clients::new()?;
        let mut open = Vec::new();
        let reset = |key: &FlowKey, flow: &Flow| {
            if ended.includes(key, flow) {
                clients.reset(key, flow);
                open.push(*key);
            }
        };
        flows.for_each(reset)?;
        let flows = flows.into_entries()?;
        Ok(PendingResets { ended, flows, clients, open })
    }

    /// Resets connections again whose clients do not answer, and returns the summary.
    fn finish(mut self) -> ResetSummary {
        let all = self.open.len();
        for pause in RETRY_DELAYS {
            if self.open.is_empty() {
                break;
            }
            sleep(pause);
            let PendingResets { ended, flows, clients, open } = &mut self;
            open.retain(|key| match flows.get(key) {
                Some(flow) if ended.includes(key, &flow) => {
                    clients.reset(key, &flow);
                    true
                }
                _ => false,
            });
        }
        let summary = ResetSummary { ended: self.ended, clients: all, silent: self.open.len() };
        if all > 0 {
            let (family, silent) = (self.ended.family.name(), summary.silent);
            tracing::info!("{all} {family} connections of clients reset, {silent} of them silent");
        }
        summary
    }
}

/// A socket to the hosts of the LAN, past routing and filters, which know nothing of segments that
/// no server sent.
struct Clients(Socket);

impl Clients {
    fn new() -> Result<Clients> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)));
        Ok(Clients(socket.context("failed to open a packet socket")?))
    }

    /// Sends a reset and a probe to a client. What cannot be sent now is sent again later.
    fn reset(&self, key: &FlowKey, flow: &Flow) {
        let ether_type = match key.family() {
            Family::Ipv4 => EtherType::IPV4,
            Family::Ipv6 => EtherType::IPV6,
        };
        let [a, b, c, d, e, f, ..] = flow.mac;
        let client = link_address(flow.ifindex, ether_type, [a, b, c, d, e, f]);
        for segment in segment::reset_and_probe(key, flow) {
            if let Err(error) = self.0.send_to(&segment, &client) {
                tracing::debug!("failed to send a reset: {error}");
            }
        }
    }
}
