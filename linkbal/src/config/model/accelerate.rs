//! The way of established flows through this machine.

/// The way of established flows through this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerate {
    /// Each packet is forwarded by the kernel.
    #[default]
    Off,
    /// The kernel's flowtable forwards the packets.
    Flowtable,
    /// The datapath itself forwards the packets, but one a second and way.
    Ebpf,
    /// The same, and at the drivers of interfaces where they can.
    Xdp,
}

impl Accelerate {
    /// Returns whether flows take the shortcuts of the datapath.
    pub fn takes_shortcuts(self) -> bool {
        matches!(self, Accelerate::Ebpf | Accelerate::Xdp)
    }
}
