//! A small NTP server, which answers as one of stratum 10 does.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;

/// The port of NTP servers.
const PORT: u16 = 123;
/// Length of a packet without extensions (RFC 5905 section 7.3).
const LENGTH: usize = 48;
/// Time between two checks whether to end.
const TURN: Duration = Duration::from_millis(50);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct NtpServer {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NtpServer {
    /// Starts a server at port 123 of each of `addresses`.
    ///
    /// # Errors
    /// When an address is not there or its port is taken.
    pub fn start(namespace: &Namespace, addresses: &[IpAddr]) -> Result<Self> {
        let _entered = namespace.enter()?;
        let mut server = Self { ended: Arc::default(), threads: Vec::new() };
        for address in addresses {
            let socket = UdpSocket::bind((*address, PORT))
                .with_context(|| format!("failed to listen at {address}"))?;
            socket.set_read_timeout(Some(TURN))?;
            let ended = Arc::clone(&server.ended);
            server.threads.push(thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    serve(&socket);
                }
            }));
        }
        Ok(server)
    }
}

impl Drop for NtpServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers one request, if one comes.
fn serve(socket: &UdpSocket) {
    let mut buffer = [0; LENGTH];
    if let Ok((length, peer)) = socket.recv_from(&mut buffer)
        && let Some(answer) = answer(&buffer[..length])
    {
        let _ = socket.send_to(&answer, peer);
    }
}

/// Returns the answer to a request of a client; `None` if it is none.
fn answer(request: &[u8]) -> Option<[u8; LENGTH]> {
    let request = request.first_chunk::<LENGTH>().filter(|bytes| bytes[0] & 7 == 3)?;
    let mut answer = [0; LENGTH];
    // The version of the request, mode 4 (server); stratum 10, its own clock as the reference.
    answer[0] = request[0] & 0o70 | 4;
    answer[1] = 10;
    answer[12..16].copy_from_slice(&[127, 127, 1, 1]);
    answer[24..32].copy_from_slice(&request[40..]);
    Some(answer)
}
