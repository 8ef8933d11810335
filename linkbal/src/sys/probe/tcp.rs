//! TCP connections. The kernel accepts only segments that fit the sequence numbers of the
//! connection.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use anyhow::Result;

use super::{ProbePath, ProbeResult, socket};

/// Opens a connection. A reset is an answer, too: the packets passed both ways. An ICMP error is none, see
/// [`icmp`](super::icmp).
///
/// # Errors
///
/// If there is no way to the target.
pub(super) async fn ask(path: ProbePath, address: SocketAddr) -> Result<ProbeResult> {
    let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
    match socket::connect(path, address).await {
        Err(error) if !error.downcast_ref().is_some_and(refused) => Err(error),
        Ok(_) | Err(_) => Ok(ProbeResult::Answered),
    }
}
