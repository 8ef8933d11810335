//! NTP requests of a client (RFC 5905).
//!
//! An answer counts only if it comes from the server that was asked, to the port that the request
//! left by, and returns its random timestamp. A refusal (stratum 0, "kiss of death") is an answer,
//! too: the packets passed both ways.

use std::net::SocketAddr;

use anyhow::Result;
use socket2::SockRef;

use super::{
    ProbePath, ProbeResult,
    failure::{Call, Meaning, classified, meaning},
    random, socket,
};

/// Length of a packet without extensions.
const LENGTH: usize = 48;

/// First byte of a request: no leap second is known, version 4, mode 3 (client).
const CLIENT: u8 = 4 << 3 | 3;

/// Mode of a server, in the low three bits of the first byte.
const SERVER: u8 = 4;

/// Largest stratum of a server whose clock is right.
const MAX_STRATUM: u8 = 15;

/// Asks a server for the time, and waits for its answer.
///
/// # Errors
///
/// If there is no way to the server.
pub(super) async fn ask(path: ProbePath, server: SocketAddr) -> Result<ProbeResult> {
    let transmitted = random();
    let socket = socket::datagrams(path, server)?;
    // Not by tokio, which would wait until there is room again.
    if let Err(error) = SockRef::from(&socket).send(&request(transmitted))
        && meaning(Call::Send, error.raw_os_error()) != Meaning::Lost
    {
        return Err(classified(Call::Send, error, "failed to send a request"));
    }
    let heard = |error| classified(Call::Wait, error, "failed to ask");
    let mut buffer = [0; LENGTH];
    loop {
        // What is longer is cut off: extensions say nothing of the line.
        let length = socket.recv(&mut buffer).await.map_err(heard)?;
        if buffer.get(..length).is_some_and(|bytes| is_answer(bytes, transmitted)) {
            return Ok(ProbeResult::Answered);
        }
    }
}

/// Returns the request with a transmit timestamp. It need not be the time, and a random one cannot
/// be guessed.
fn request(transmitted: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = CLIENT;
    bytes[40..].copy_from_slice(&transmitted.to_be_bytes());
    bytes
}

/// Returns whether bytes are the answer of a server to the request with that timestamp.
pub(super) fn is_answer(bytes: &[u8], transmitted: u64) -> bool {
    let Some(header) = bytes.first_chunk::<LENGTH>() else { return false };
    header[0] & 7 == SERVER
        && header[1] <= MAX_STRATUM
        && header[24..32] == transmitted.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(transmitted: u64, first: u8, stratum: u8) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..2].copy_from_slice(&[first, stratum]);
        bytes[24..32].copy_from_slice(&transmitted.to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn only_a_server_s_answer_to_the_request_counts(
            ours: u64, other: u64, first: u8, stratum: u8, rest: Vec<u8>,
        ) {
            let wanted = first & 7 == 4 && stratum <= 15;
            let bytes = answer(ours, first, stratum);
            prop_assert_eq!(is_answer(&bytes, ours), wanted);
            prop_assert_eq!(is_answer(&[&bytes, &rest[..]].concat(), ours), wanted);
            prop_assert!(ours == other || !is_answer(&bytes, other));
            prop_assert!(!is_answer(&bytes[..47], ours));
        }

        #[test]
        fn a_request_that_comes_back_is_no_answer(ours: u64) {
            prop_assert!(!is_answer(&request(ours), ours));
            prop_assert_eq!(request(ours)[0], 0x23);
        }

        #[test]
        fn hostile_messages_are_harmless(bytes: Vec<u8>, ours: u64) {
            let _ = is_answer(&bytes, ours);
        }
    }
}
