//! IPsec policies, as the kernel lists them: which of them takes or drops a packet that is forwarded.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_sys::protocols::NETLINK_XFRM;

use super::netlink::{
    exchange::Connection,
    wire::{Message, attribute, request},
};

/// Messages and attributes of policies (include/uapi/linux/xfrm.h): of single ones, of their numbers, and
/// of what happens without one.
const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRM_MSG_NEWSPDINFO: u16 = 0x24;
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRM_MSG_GETDEFAULT: u16 = 0x28;
const XFRMA_SPD_INFO: u16 = 1;
const XFRMA_TMPL: u16 = 5;
/// Length of the flags before the attributes of the numbers.
const SPD_FLAGS: usize = 4;
/// Action of a policy: `XFRM_POLICY_BLOCK`, and `XFRM_USERPOLICY_BLOCK` without one.
const XFRM_POLICY_BLOCK: u8 = 1;

/// Length of `struct xfrm_userpolicy_info`, and offsets in it: what it selects comes first.
const INFO: usize = 168;
const PRIORITY: usize = 152;
const DIRECTION: usize = 160;
const ACTION: usize = 161;
/// Offsets in `struct xfrm_selector`: destination and source, ports with their masks in network byte
/// order, the family, lengths of prefixes, protocol, and device.
const SOURCE: usize = 16;
const PORTS: usize = 32;
const FAMILY: usize = 40;
const PREFIXES: usize = 42;
const PROTOCOL: usize = 44;
const DEVICE: usize = 48;
/// `XFRM_POLICY_OUT`, `XFRM_POLICY_FWD`.
const OUT: u8 = 1;
const FORWARD: u8 = 2;

/// A packet that leaves, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// Source address, before it is translated.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source and destination port; `None` if it is not known, and matched by policies for all ports
    /// alone.
    pub ports: [Option<u16>; 2],
    /// IP protocol number.
    pub protocol: u8,
}

/// A policy for packets that are forwarded, or that leave.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    /// `OUT` or `FORWARD`.
    direction: u8,
    source: IpNet,
    destination: IpNet,
    /// Ports with their masks, source first.
    ports: [(u16, u16); 2],
    /// 0 for all.
    protocol: u8,
    priority: u32,
    blocks: bool,
    /// Set if it changes packets, and does not only let them pass.
    transforms: bool,
}

/// Returns what IPsec does to packets, in words; `None` if nothing.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn obstacle() -> io::Result<Option<String>> {
    let asked = request(XFRM_MSG_GETSPDINFO, 0, &[0; SPD_FLAGS]);
    if ask(asked, has_policies)? == Some(true) {
        return Ok(Some("IPsec policies exist".into()));
    }
    Ok(blocks_by_default()?.then(|| "IPsec blocks packets without a policy".into()))
}

/// Returns whether packets without a policy are blocked on any of their ways.
fn blocks_by_default() -> io::Result<bool> {
    Ok(ask(request(XFRM_MSG_GETDEFAULT, 0, &[0; SPD_FLAGS]), blocks)? == Some(true))
}

/// Asks the kernel in the network namespace of the calling thread.
fn ask<T>(request: Vec<u8>, find: impl FnMut(&Message<'_>) -> Option<T>) -> io::Result<Option<T>> {
    Connection::open(NETLINK_XFRM)?.find(request, find)
}

/// Returns whether packets without a policy are blocked, from the kernel's answer: a byte for each way.
fn blocks(message: &Message<'_>) -> Option<bool> {
    let answer = message.kind == XFRM_MSG_GETDEFAULT;
    answer.then(|| message.payload.iter().take(3).any(|action| *action == XFRM_POLICY_BLOCK))
}

/// Returns whether there are policies, those of single sockets left out, from the kernel's answer.
fn has_policies(message: &Message<'_>) -> Option<bool> {
    if message.kind != XFRM_MSG_NEWSPDINFO {
        return None;
    }
    // The numbers of those for input, output and forwarding; then come those of sockets.
    let numbers =
        attribute(message.payload.get(SPD_FLAGS..)?, XFRMA_SPD_INFO)?.first_chunk::<12>()?;
    Some(numbers.iter().any(|byte| *byte != 0))
}

/// Returns what the policies of the calling thread's network namespace do to a packet, in words; `None`
/// if they let it pass as it is.
///
/// # Errors
///
/// If the kernel does not list them.
pub fn policy_of(packet: &Leaving) -> io::Result<Option<String>> {
    let mut first: [Option<Policy>; 2] = [None, None];
    let asked = request(XFRM_MSG_GETPOLICY, NLM_F_DUMP, &[]);
    ask(asked, |message| {
        let policy = parse(message).filter(|policy| policy.takes(packet))?;
        // Of equal ones, the kernel takes the one that was added first, and lists it first.
        let first = &mut first[usize::from(policy.direction == OUT)];
        if first.as_ref().is_none_or(|first| policy.priority < first.priority) {
            *first = Some(policy);
        }
        None::<()>
    })?;
    let has_none = first.iter().any(Option::is_none);
    // The policy for forwarded packets comes first.
    if let Some(words) = first.iter().flatten().find_map(Policy::words) {
        return Ok(Some(words));
    }
    let blocked = "IPsec blocks packets without a policy: this one, too";
    Ok((has_none && blocks_by_default()?).then(|| blocked.into()))
}

impl Policy {
    /// Returns whether it selects a packet (`__xfrm4_selector_match` in net/xfrm/xfrm_policy.c, Linux
    /// 6.1).
    fn takes(&self, packet: &Leaving) -> bool {
        let of_ports = self.ports.iter().zip(packet.ports).all(|((port, mask), of_packet)| {
            *mask == 0 || of_packet.is_some_and(|of_packet| (of_packet ^ port) & mask == 0)
        });
        self.source.contains(&packet.source)
            && self.destination.contains(&packet.destination)
            && (self.protocol == 0 || self.protocol == packet.protocol)
            && of_ports
    }

    fn words(&self) -> Option<String> {
        let Policy { source, destination, priority, .. } = self;
        let policy = format!("the IPsec policy {source} -> {destination} (priority {priority})");
        match (self.blocks, self.transforms) {
            (true, _) => Some(format!("{policy} drops it")),
            // `__xfrm_policy_check` in net/xfrm/xfrm_policy.c, Linux 6.1.
            (false, true) if self.direction == FORWARD => {
                Some(format!("{policy} drops it: it lets only packets pass that came by IPsec"))
            }
            (false, true) => Some(format!("{policy} takes it: its tunnel decides the way")),
            (false, false) => None,
        }
    }
}

/// Parses a policy for packets that are forwarded or leave; `None` if it is none, or one for a single
/// device.
fn parse(message: &Message<'_>) -> Option<Policy> {
    let info = message.payload.get(..INFO)?;
    let direction = info[DIRECTION];
    if message.kind != XFRM_MSG_NEWPOLICY || !matches!(direction, OUT | FORWARD) {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    if word(DEVICE)? != 0 {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(*info.get(at..)?.first_chunk()?));
    let family = u16::from_ne_bytes(*info.get(FAMILY..)?.first_chunk()?);
    let network = |at: usize, length: u8| {
        let bytes = info.get(at..)?;
        let address: IpAddr = match i32::from(family) {
            libc::AF_INET => bytes.first_chunk::<4>()?.to_owned().into(),
            libc::AF_INET6 => bytes.first_chunk::<16>()?.to_owned().into(),
            _ => return None,
        };
        IpNet::new(address, length).ok()
    };
    let attributes = message.payload.get(INFO..)?;
    Some(Policy {
        direction,
        destination: network(0, info[PREFIXES])?,
        source: network(SOURCE, info[PREFIXES + 1])?,
        ports: [(port(PORTS + 4)?, port(PORTS + 6)?), (port(PORTS)?, port(PORTS + 2)?)],
        protocol: info[PROTOCOL],
        priority: word(PRIORITY)?,
        blocks: info[ACTION] == XFRM_POLICY_BLOCK,
        transforms: attribute(attributes, XFRMA_TMPL).is_some_and(|all| !all.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::netlink::wire::{messages, nla};

    fn leaving(source: &str, destination: &str, port: Option<u16>) -> Leaving {
        let address = |text: &str| text.parse().expect("an address");
        let ports = [None, port];
        Leaving { source: address(source), destination: address(destination), ports, protocol: 6 }
    }

    fn policy(source: &str, destination: &str) -> Policy {
        Policy {
            direction: OUT,
            source: source.parse().expect("a network"),
            destination: destination.parse().expect("a network"),
            ports: [(0, 0); 2],
            protocol: 0,
            priority: 10,
            blocks: false,
            transforms: true,
        }
    }

    #[test]
    fn a_policy_takes_what_it_selects() {
        let of_port =
            Policy { ports: [(0, 0), (443, 0xffff)], ..policy("10.0.0.0/8", "0.0.0.0/0") };
        assert!(of_port.takes(&leaving("10.0.0.1", "192.0.2.1", Some(443))));
        assert!(!of_port.takes(&leaving("10.0.0.1", "192.0.2.1", Some(80))));
        assert!(!of_port.takes(&leaving("10.0.0.1", "192.0.2.1", None)));
        assert!(!of_port.takes(&leaving("11.0.0.1", "192.0.2.1", Some(443))));
        let of_udp = Policy { protocol: 17, ..policy("10.0.0.0/8", "0.0.0.0/0") };
        assert!(!of_udp.takes(&leaving("10.0.0.1", "192.0.2.1", Some(443))));
        let ipv6 = policy("fd77::/64", "2001:db8::/32");
        assert!(ipv6.takes(&leaving("fd77::5", "2001:db8::1", None)));
    }

    #[test]
    fn only_policies_that_change_or_drop_packets_are_told() {
        let policy = policy("10.0.0.0/8", "192.0.2.0/24");
        let words = "the IPsec policy 10.0.0.0/8 -> 192.0.2.0/24 (priority 10) takes it: its tunnel \
                     decides the way";
        assert_eq!(policy.words().as_deref(), Some(words));
        assert_eq!(Policy { transforms: false, ..policy.clone() }.words(), None);
        assert!(Policy { blocks: true, ..policy }.words().expect("words").ends_with("drops it"));
    }

    #[test]
    fn policies_of_sockets_alone_do_not_count() {
        let answer = |numbers: [u32; 6]| {
            let numbers = nla(XFRMA_SPD_INFO, &numbers.map(u32::to_ne_bytes).concat());
            let answer = request(XFRM_MSG_NEWSPDINFO, 0, &[vec![0; 4], numbers].concat());
            messages(&answer).next().and_then(|message| has_policies(&message))
        };
        assert_eq!(answer([0, 0, 0, 1, 1, 0]), Some(false));
        assert_eq!(answer([0, 0, 1, 0, 0, 0]), Some(true));
    }

    proptest! {
        /// Checks that no message of the kernel makes it panic.
        #[test]
        fn any_message_is_read(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut payload = payload;
            if let Some(direction) = payload.get_mut(DIRECTION) {
                *direction = OUT;
            }
            let bytes = request(XFRM_MSG_NEWPOLICY, 0, &payload);
            for message in messages(&bytes) {
                let _ = parse(&message);
            }
        }
    }
}
