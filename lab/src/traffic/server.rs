//! The servers: TCP and UDP, both families, all server addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::raise_socket_limit;
use super::wire::{Answer, Request};
use super::worker::Worker;
use crate::namespace::Namespace;
use crate::topology::plan::{self, Family, SERVERS};

/// The port of HTTP, which no sticky class has by default.
pub const HTTP: u16 = 80;
/// The port of HTTPS, whose sessions linkbal keeps together by default.
pub const HTTPS: u16 = 443;
/// The ports on which servers answer.
pub const PORTS: [u16; 3] = [HTTP, HTTPS, 5001];

/// The running servers; dropping this ends them.
#[derive(Debug)]
pub struct Servers {
    _worker: Worker,
}

impl Servers {
    /// Starts the servers of the lab in `net`. They answer when this returns.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn start(net: &Namespace) -> Result<Self> {
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let numbers = 0..usize::from(SERVERS);
        let own: Vec<_> = Family::ALL
            .into_iter()
            .flat_map(|family| numbers.clone().map(move |number| plan::server(family, number)))
            .collect();
        let on = |addresses: &[IpAddr]| -> Vec<_> {
            let all = addresses.iter();
            all.flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port))).collect()
        };
        Self::listen(net, &on(&everywhere), &on(&own))
    }

    /// Starts servers at `addresses` of any namespace, for TCP and for UDP.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn start_at(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Self> {
        Self::listen(namespace, addresses, addresses)
    }

    /// Listens at the addresses. UDP has one socket per address, so that the answer leaves from the
    /// address that was asked.
    fn listen(namespace: &Namespace, tcp: &[SocketAddr], udp: &[SocketAddr]) -> Result<Self> {
        raise_socket_limit()?;
        let entered = namespace.enter()?;
        let listeners = tcp.iter().copied().map(listen).collect::<Result<_>>()?;
        let sockets = udp.iter().copied().map(bind).collect::<Result<_>>()?;
        drop(entered);
        let worker = Worker::start(|| (), move || serve(listeners, sockets))?;
        Ok(Self { _worker: worker })
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        std::io::Result::Ok(socket.into())
    };
    open().with_context(|| format!("failed to listen on {address}"))
}

fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind(address).with_context(|| format!("failed to bind UDP {address}"))?;
    socket.set_nonblocking(true).context("failed to set a socket non-blocking")?;
    Ok(socket)
}

async fn serve(listeners: Vec<TcpListener>, sockets: Vec<UdpSocket>) {
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)
            .expect("a non-blocking listener in a runtime");
        tokio::spawn(accept(listener));
    }
    for socket in sockets {
        let socket =
            tokio::net::UdpSocket::from_std(socket).expect("a non-blocking socket in a runtime");
        tokio::spawn(answer_datagrams(socket));
    }
    std::future::pending::<()>().await;
}

async fn accept(listener: tokio::net::TcpListener) {
    loop {
        // A connection that dies before it is accepted concerns its client only.
        if let Ok((stream, seen)) = listener.accept().await {
            tokio::spawn(answer_stream(stream, seen));
        }
    }
}

async fn answer_stream(mut stream: tokio::net::TcpStream, seen: SocketAddr) {
    let mut bytes = [0; Request::SIZE];
    while stream.read_exact(&mut bytes).await.is_ok() {
        let Some(Request { sequence, .. }) = Request::decode(&bytes) else {
            return answer_browser(stream, seen).await;
        };
        if stream.write_all(&Answer { sequence, seen }.encode()).await.is_err() {
            return;
        }
    }
}

/// Tells a client like `curl` its address. Reads to the end, since closing earlier would reset.
async fn answer_browser(mut stream: tokio::net::TcpStream, seen: SocketAddr) {
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}\n", seen.ip().to_canonical());
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

async fn answer_datagrams(socket: tokio::net::UdpSocket) {
    let mut bytes = [0; Request::SIZE];
    loop {
        // Errors are ICMP's about earlier answers: the client counts what it misses.
        let Ok((size, seen)) = socket.recv_from(&mut bytes).await else { continue };
        if let Some(Request { sequence, .. }) = Request::decode(&bytes[..size]) {
            let _ = socket.send_to(&Answer { sequence, seen }.encode(), seen).await;
        }
    }
}
