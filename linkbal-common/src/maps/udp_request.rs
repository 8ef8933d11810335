//! Requests to the gateway's own UDP servers.

use crate::{map_struct, maps::key::Address};

/// Maximum number of clients that are remembered.
pub const UDP_REQUEST_ENTRIES: usize = 16_384;

/// The last request of one client to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UdpRequest {
    /// The address that the datagram was sent to.
    pub address: Address,
    /// Cookie of the socket that received the datagram.
    pub socket: u64,
    /// The uplink that the datagram came in by, or `u32::MAX`.
    pub uplink: u32,
    /// Time of the last datagram or its answer, in seconds since boot.
    pub last_seen_s: u32,
}
map_struct!(UdpRequest, 32);
