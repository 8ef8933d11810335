//! TCP connections. The kernel takes only what fits the sequence numbers of the connection.

use std::{io::ErrorKind, net::SocketAddr};

use anyhow::{Context as _, Result};

use super::{Ended, Path, socket};

/// Opens a connection. A refusal is an answer, too: the packets passed both ways.
///
/// # Errors
///
/// If there is no way to the target.
pub(super) async fn ask(path: Path, address: SocketAddr) -> Result<Ended> {
    match socket::connect(path, address).await {
        Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
            Err(error).context("failed to connect")
        }
        Ok(_) | Err(_) => Ok(Ended::Answered),
    }
}
