//! Requests to the kernel over one socket, each with its whole answer.

use std::{io, ops::ControlFlow};

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr};

use super::wire::{Message, SEQUENCE, messages};

/// A netlink socket that belongs to one thread, for one request after the other.
pub(in crate::sys) struct Connection {
    socket: Socket,
    /// Sequence number of the last request.
    sequence: u32,
}

impl Connection {
    /// Opens a socket of a netlink protocol in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// If the kernel has no socket, or not of this protocol.
    pub(in crate::sys) fn open(protocol: isize) -> io::Result<Connection> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Connection { socket, sequence: 0 })
    }

    /// Sends a request that is to be acknowledged or lists something, and hands each message of the
    /// answer to `each`. Blocks until the kernel has answered.
    ///
    /// # Errors
    ///
    /// As the kernel answers, and as `each` fails first.
    pub(in crate::sys) fn exchange(
        &mut self,
        request: Vec<u8>,
        mut each: impl FnMut(&Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.find(request, |message| each(message).err())?.map_or(Ok(()), Err)
    }

    /// Sends a request and returns what `find` finds first in the messages of the answer; `None` if
    /// nothing. Blocks until the kernel has answered.
    ///
    /// # Errors
    ///
    /// As the kernel answers.
    pub(in crate::sys) fn find<T>(
        &mut self,
        mut request: Vec<u8>,
        mut find: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(number) = request.get_mut(SEQUENCE) {
            number.copy_from_slice(&self.sequence.to_ne_bytes());
        }
        self.socket.send(&request, 0)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            // What is left of an answer that was found in comes first.
            let own = messages(&answer).filter(|message| message.sequence == self.sequence);
            if let ControlFlow::Break(found) = read(own, &mut find)? {
                return Ok(found);
            }
        }
    }
}

/// Returns what `find` finds in a part of an answer; `None` in its place at the end of the answer.
pub(in crate::sys) fn read<'a, T>(
    answer: impl Iterator<Item = Message<'a>>,
    find: &mut impl FnMut(&Message<'a>) -> Option<T>,
) -> io::Result<ControlFlow<Option<T>>> {
    for message in answer {
        // Both have the error in their first word, or zero.
        if let NLMSG_DONE | NLMSG_ERROR = message.kind {
            let code = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            return match code.saturating_neg() {
                0 => Ok(ControlFlow::Break(None)),
                errno => Err(io::Error::from_raw_os_error(errno)),
            };
        }
        if let Some(found) = find(&message) {
            return Ok(ControlFlow::Break(Some(found)));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::wire::request;

    fn outcome(kind: u16, code: i32) -> io::Result<ControlFlow<Option<()>>> {
        read(messages(&request(kind, 0, &code.to_ne_bytes())), &mut |_| Some(()))
    }

    #[test]
    fn refusals_are_errors_and_acknowledgements_are_not() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let error = outcome(kind, -libc::EPERM).expect_err("an error");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            assert_eq!(outcome(kind, 0).expect("an end"), ControlFlow::Break(None));
        }
        assert_eq!(outcome(16, 7).expect("a message"), ControlFlow::Break(Some(())));
    }
}
