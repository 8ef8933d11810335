//! The policy for connections from outside.

/// The policy for connections from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Hosts behind this machine that connections from an uplink may reach.
    pub inbound: Inbound,
    /// Set if connections from an uplink may leave by an uplink.
    pub transit: bool,
}

/// Hosts behind this machine that connections from an uplink may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// [`Inbound::Established`] where linkbal itself turned forwarding on, and no other firewall
    /// filters forwarded packets; else [`Inbound::Open`].
    #[default]
    Auto,
    /// Only connections that are forwarded on purpose (DNAT), and packets of connections from
    /// inside.
    Established,
    /// All hosts that routes lead to.
    Open,
}
