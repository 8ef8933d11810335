//! A client's side of one flow.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::wire::{Answer, Request};
use super::{FlowSpec, Protocol};

static NEXT_FLOW: AtomicU64 = AtomicU64::new(1);

/// Returns a number for a flow, unique in this process.
pub(super) fn next_flow() -> u64 {
    NEXT_FLOW.fetch_add(1, Ordering::Relaxed)
}

/// An open flow.
pub(super) enum Connection {
    /// A TCP stream, and the bytes of the next answer that have arrived.
    Tcp(TcpStream, Vec<u8>),
    Udp(UdpSocket),
}

impl Connection {
    /// Opens the flow in the calling thread's namespace.
    pub(super) async fn open(spec: FlowSpec) -> Result<Self> {
        let source = SocketAddr::new(spec.source, 0);
        match spec.protocol {
            Protocol::Tcp => {
                let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.set_tcp_nodelay(true)?;
                socket.bind(&source.into())?;
                let stream = TcpSocket::from_std_stream(socket.into()).connect(spec.server).await?;
                Ok(Self::Tcp(stream, Vec::new()))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(source).await?;
                socket.connect(spec.server).await?;
                Ok(Self::Udp(socket))
            }
        }
    }

    pub(super) async fn send(&mut self, request: Request) -> Result<()> {
        let bytes = request.encode();
        match self {
            Self::Tcp(stream, _) => stream.write_all(&bytes).await,
            Self::Udp(socket) => socket.send(&bytes).await.map(drop),
        }
    }

    /// Receives the next answer. Nothing is lost when the future is dropped before it is ready.
    pub(super) async fn answer(&mut self) -> Result<Answer> {
        let mut datagram = [0; Answer::SIZE];
        let answer = match self {
            Self::Tcp(stream, buffer) => {
                while buffer.len() < Answer::SIZE {
                    if stream.read_buf(buffer).await? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                let answer = Answer::decode(buffer);
                buffer.drain(..Answer::SIZE);
                answer
            }
            Self::Udp(socket) => {
                let size = socket.recv(&mut datagram).await?;
                Answer::decode(&datagram[..size])
            }
        };
        answer.ok_or_else(|| Error::from(ErrorKind::InvalidData))
    }

    /// Sends a request and waits for its own answer; answers to earlier requests are skipped.
    pub(super) async fn exchange(&mut self, request: Request) -> Result<SocketAddr> {
        self.send(request).await?;
        loop {
            let answer = self.answer().await?;
            if answer.sequence == request.sequence {
                return Ok(answer.seen);
            }
        }
    }
}
