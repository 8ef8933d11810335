//! The verdict on a packet.

use crate::maps::counter::Counter;

/// The result of the packet path; never a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet's fwmark is set to this value.
    Mark(u32),
    /// The packet's fwmark, with the proposal bit, and its hash are set: its uplink is only
    /// proposed.
    Propose {
        /// The fwmark.
        fwmark: u32,
        /// The hash of the flow's key.
        hash: u32,
    },
    /// The packet is left alone.
    Skip(SkipReason),
}

/// The reason to leave a packet alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The datapath is not set up.
    Off,
    /// The packet is neither IPv4 nor IPv6.
    NotIp,
    /// A header is cut short or contradicts itself.
    Malformed,
    /// The packet has more IPv6 extension headers than are followed.
    HeaderChain,
    /// The packet is a later fragment, without ports.
    Fragment,
    /// The destination is a multicast or broadcast address.
    Multicast,
    /// The source or destination is a link-local, loopback or unspecified address.
    LinkLocal,
    /// The destination is the gateway itself or in a network that the main table routes.
    Bypass,
    /// linkbal's bits are already set.
    AlreadyMarked,
    /// No uplink is usable.
    NoUplink,
}

impl SkipReason {
    /// Returns the counter of packets skipped for this reason.
    #[inline(always)]
    pub const fn counter(self) -> Counter {
        match self {
            SkipReason::Off => Counter::Off,
            SkipReason::NotIp => Counter::NotIp,
            SkipReason::Malformed => Counter::Malformed,
            SkipReason::HeaderChain => Counter::HeaderChain,
            SkipReason::Fragment => Counter::Fragment,
            SkipReason::Multicast => Counter::Multicast,
            SkipReason::LinkLocal => Counter::LinkLocal,
            SkipReason::Bypass => Counter::Bypass,
            SkipReason::AlreadyMarked => Counter::AlreadyMarked,
            SkipReason::NoUplink => Counter::NoUplink,
        }
    }
}
