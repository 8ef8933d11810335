//! Local traffic: programs on the gateway itself, whose sockets ask a server once.

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::connection::next_flow;
use super::wire::{Answer, Request};

/// Time that an answer may take. Nothing is sent again by datagram sockets.
const LIMIT: Duration = Duration::from_secs(10);

/// The kind of socket by which a program talks to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// A TCP connection.
    Tcp,
    /// A UDP socket that is connected first.
    ConnectedUdp,
    /// A UDP socket that is not connected.
    UnconnectedUdp,
}

impl SocketKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::ConnectedUdp, Self::UnconnectedUdp];

    /// Creates a socket for `server`, in the namespace that the calling thread is in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn socket(self, server: SocketAddr) -> Result<Socket> {
        let kind = if self == Self::Tcp { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(server), kind, None)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    }

    /// Asks `server` by a socket; returns the address and port that the server saw.
    ///
    /// # Errors
    /// When the connection fails, or no answer comes within 10 s.
    pub fn ask(self, socket: &Socket, server: SocketAddr) -> Result<SocketAddr> {
        if self != Self::UnconnectedUdp {
            socket.connect(&server.into())?;
        }
        self.ask_again(socket, server)
    }

    /// Asks by a socket that is connected already, unless it is [`SocketKind::UnconnectedUdp`].
    ///
    /// # Errors
    /// As [`SocketKind::ask`].
    pub fn ask_again(self, mut socket: &Socket, server: SocketAddr) -> Result<SocketAddr> {
        let request = Request { flow: next_flow(), sequence: next_flow() };
        if self == Self::UnconnectedUdp {
            socket.send_to(&request.encode(), &server.into())?;
        } else {
            socket.write_all(&request.encode())?;
        }
        let mut bytes = [0; Answer::SIZE];
        socket.read_exact(&mut bytes)?;
        let answer = Answer::decode(&bytes).filter(|answer| answer.sequence == request.sequence);
        answer.map(|answer| answer.seen).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}
