//! What kind of flow this is: does it stick, and to what.

use network_types::ip::IpProto;

use crate::{flow::FlowKey, tables::Tables};

/// Key of `STICKY_PORTS`: the protocol number in the high half, the destination port in network
/// byte order in the low one.
pub type PortKey = u32;

/// Builds a [`PortKey`]; `port` in network byte order.
#[inline(always)]
pub const fn port_key(protocol: u8, port: u16) -> PortKey {
    (protocol as u32) << 16 | port as u32
}

/// The sticky class of a flow. Only TCP and UDP have ports to stick by.
#[inline(always)]
pub fn sticky_class<T: Tables>(tables: &T, key: &FlowKey) -> Option<u32> {
    if key.protocol != IpProto::Tcp as u8 && key.protocol != IpProto::Udp as u8 {
        return None;
    }
    tables.sticky_port(key.protocol, key.destination_port)
}
