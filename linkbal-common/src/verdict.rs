//! What becomes of a packet.

use crate::counter::Counter;

/// The end of the packet path; never a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Set the packet's fwmark to this value.
    Mark(u32),
    /// Set the packet's fwmark to this value, whose proposal bit is set, and its hash: the flow is not
    /// in the table yet.
    Propose {
        /// The fwmark.
        fwmark: u32,
        /// The hash of the flow's key.
        hash: u32,
    },
    /// Leave the packet alone.
    Skip(Reason),
}

/// Why a packet is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The datapath is not set up.
    Off,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A header is cut short or contradicts itself.
    Malformed,
    /// More IPv6 extension headers than are followed.
    HeaderChain,
    /// A later fragment, without ports.
    Fragment,
    /// To a multicast or broadcast address.
    Multicast,
    /// From or to a link-local, loopback or unspecified address.
    LinkLocal,
    /// To the gateway itself or a network that the main table routes.
    Bypass,
    /// linkbal's bits were already set.
    AlreadyMarked,
    /// No uplink is usable.
    NoUplink,
}

impl Reason {
    /// The counter of packets skipped for this reason.
    #[inline(always)]
    pub const fn counter(self) -> Counter {
        match self {
            Reason::Off => Counter::Off,
            Reason::NotIp => Counter::NotIp,
            Reason::Malformed => Counter::Malformed,
            Reason::HeaderChain => Counter::HeaderChain,
            Reason::Fragment => Counter::Fragment,
            Reason::Multicast => Counter::Multicast,
            Reason::LinkLocal => Counter::LinkLocal,
            Reason::Bypass => Counter::Bypass,
            Reason::AlreadyMarked => Counter::AlreadyMarked,
            Reason::NoUplink => Counter::NoUplink,
        }
    }
}
