//! Servers that send and receive as much as they can.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{copy, repeat, sink};
use tokio::net::{TcpListener, TcpStream};

use super::worker::Worker;
use crate::namespace::Namespace;

/// The running servers; dropping this ends them.
#[derive(Debug)]
pub struct BulkServers {
    _worker: Worker,
}

impl BulkServers {
    /// Starts servers at `addresses` of a namespace: they send for ever, and discard what they
    /// receive.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn start(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Self> {
        let entered = namespace.enter()?;
        let listen = |address: &SocketAddr| {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            std::io::Result::Ok(listener)
        };
        let listeners: Vec<_> = addresses.iter().map(listen).collect::<std::io::Result<_>>()?;
        drop(entered);
        let worker = Worker::start(|| (), move || serve(listeners));
        Ok(Self { _worker: worker.context("failed to start servers")? })
    }
}

async fn serve(listeners: Vec<std::net::TcpListener>) {
    for listener in listeners {
        let listener =
            TcpListener::from_std(listener).expect("a non-blocking listener in a runtime");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(stream_both_ways(stream));
            }
        });
    }
    std::future::pending::<()>().await;
}

async fn stream_both_ways(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    // Either ends with the connection.
    let (mut zeroes, mut nowhere) = (repeat(0), sink());
    let (sent, taken) = (copy(&mut zeroes, &mut writer), copy(&mut reader, &mut nowhere));
    let _ = tokio::join!(sent, taken);
}
