//! DNS queries over UDP (RFC 1035).
//!
//! A reply counts only if it comes from the server that was asked, to the port that the query left
//! by, with its random identifier and its question.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use linkbal_common::uplink::Family;

use super::{Ended, Path, random, socket};

/// Longest reply by UDP without EDNS is 512 bytes; servers that send more are heard, too.
const LONGEST: usize = 4096;

/// Asks a server for the addresses of a name. That the name does not exist is an answer, too.
///
/// # Errors
///
/// If there is no way to the server, or it answers with an error of its own.
pub(super) async fn ask(path: Path, server: SocketAddr, name: String) -> Result<Ended> {
    let reply = exchange(path, server, &name).await?;
    match reply.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(Ended::Answered),
        code => bail!("the server answers: {code}"),
    }
}

/// The addresses of a name in the family of `path`, and how long they are valid; none if the name
/// has none.
///
/// # Errors
///
/// If there is no way to the server, the name does not exist or the server cannot tell.
pub(super) async fn addresses(
    path: Path,
    server: SocketAddr,
    name: &str,
) -> Result<(Vec<IpAddr>, Duration)> {
    let reply = exchange(path, server, name).await?;
    match reply.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => bail!("the name does not exist"),
        code => bail!("the server answers: {code}"),
    }
    let is_ipv4 = path.family == Family::Ipv4;
    let found = reply.answers.iter().filter_map(|record| {
        let address = record.data.ip_addr().filter(|address| address.is_ipv4() == is_ipv4)?;
        Some((address, record.ttl))
    });
    let (addresses, ttls): (Vec<_>, Vec<_>) = found.unzip();
    let ttl = ttls.into_iter().min().unwrap_or_default();
    Ok((addresses, Duration::from_secs(ttl.into())))
}

/// Asks once and waits for the reply.
async fn exchange(path: Path, server: SocketAddr, name: &str) -> Result<Message> {
    let query = query(path.family, name, random() as u16)?;
    let socket = socket::datagrams(path, server)?;
    socket.send(&query.to_vec()?).await.context("failed to send a query")?;
    let mut buffer = [0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await.context("failed to ask")?;
        if let Some(reply) = read_reply(&buffer[..length], &query) {
            return Ok(reply);
        }
    }
}

fn query(family: Family, name: &str, id: u16) -> Result<Message> {
    let kind = match family {
        Family::Ipv4 => RecordType::A,
        Family::Ipv6 => RecordType::AAAA,
    };
    let name = Name::from_ascii(format!("{name}.")).context("failed to read the name")?;
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind));
    Ok(query)
}

/// The reply to `query` that `bytes` are, if they are one.
fn read_reply(bytes: &[u8], query: &Message) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let fits = reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == query.metadata.id
        && reply.queries == query.queries;
    fits.then_some(reply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(name: &str, family: Family, id: u16) -> Message {
        query(family, name, id).expect("a valid name")
    }

    fn reply(query: &Message) -> Vec<u8> {
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.add_queries(query.queries.clone());
        reply.to_vec().expect("a valid message")
    }

    proptest! {
        #[test]
        fn only_a_reply_to_the_query_counts(id: u16, other: u16) {
            let ours = asked("example.com", Family::Ipv4, id);
            prop_assert!(read_reply(&reply(&ours), &ours).is_some());
            let own_query = ours.to_vec().expect("a valid message");
            prop_assert!(read_reply(&own_query, &ours).is_none());
            let strangers = [
                asked("example.com", Family::Ipv4, id.wrapping_add(other.max(1))),
                asked("example.com", Family::Ipv6, id),
                asked("example.org", Family::Ipv4, id),
            ];
            for stranger in strangers {
                prop_assert!(read_reply(&reply(&stranger), &ours).is_none());
            }
        }

        #[test]
        fn hostile_messages_are_harmless(bytes: Vec<u8>, cut in 0usize..40, id: u16) {
            let ours = asked("example.com", Family::Ipv6, id);
            let _ = read_reply(&bytes, &ours);
            let honest = reply(&ours);
            let cut = &honest[..cut.min(honest.len())];
            let _ = read_reply(&[cut, &bytes].concat(), &ours);
        }
    }
}
