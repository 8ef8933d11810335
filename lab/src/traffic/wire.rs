//! The messages between clients and servers, of fixed size; integers in network byte order.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The start of every request, by which a capture tells it from other packets.
const MAGIC: [u8; 8] = *b"lb-flow?";

/// A request: `MAGIC`, flow, sequence number, 8 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The number of the flow, unique in the process.
    pub(super) flow: u64,
    /// The number of the request in its flow.
    pub(super) sequence: u64,
}

impl Request {
    pub(super) const SIZE: usize = 24;

    pub(super) fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.flow.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// Reads a request from the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (flow, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, _) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC).then(|| Self {
            flow: u64::from_be_bytes(*flow),
            sequence: u64::from_be_bytes(*sequence),
        })
    }
}

/// An answer: sequence number (8 bytes), the client's address as the server sees it (16, IPv4 as
/// mapped IPv6), its port (2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) sequence: u64,
    pub(super) seen: SocketAddr,
}

impl Answer {
    pub(super) const SIZE: usize = 26;

    pub(super) fn encode(self) -> [u8; Self::SIZE] {
        let address = match self.seen.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..24].copy_from_slice(&address.octets());
        bytes[24..].copy_from_slice(&self.seen.port().to_be_bytes());
        bytes
    }

    /// Reads an answer from the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let (port, _) = rest.split_first_chunk::<2>()?;
        let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            seen: SocketAddr::new(address, u16::from_be_bytes(*port)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let request = Request { flow: 7, sequence: u64::MAX };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        assert_eq!(Request::decode(&request.encode()[..Request::SIZE - 1]), None);
        for seen in ["203.0.113.2:4000", "[2001:db8:a::2]:65535"] {
            let answer = Answer { sequence: 1, seen: seen.parse().expect("an address") };
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }
}
