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
use socket2::SockRef;

use super::{
    ProbePath, ProbeResult,
    failure::{Call, Meaning, WrongAnswer, classified, meaning},
    random, socket,
};
use crate::engine::health::FailureKind;

/// Maximum size of a reply that is read, in bytes. Without EDNS, a reply by UDP has at most 512
/// bytes; servers that send more are heard, too.
const MAX_REPLY: usize = 4096;

/// Maximum number of addresses of a name that are asked at a time. Each takes a socket, and the
/// server says how many there are: it must not use up the sockets of this machine.
const MAX_ADDRESSES: usize = 4;

/// Asks a server for the addresses of a name. That the name does not exist is an answer, too.
///
/// # Errors
///
/// If there is no way to the server, or it answers with an error of its own.
pub(super) async fn ask(path: ProbePath, server: SocketAddr, name: String) -> Result<ProbeResult> {
    let reply = exchange(path, server, &name).await?;
    match reply.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(ProbeResult::Answered),
        code => {
            let text = format!("the server answers: {code}");
            Err(WrongAnswer::error(FailureKind::WrongAnswer, text))
        }
    }
}

/// Returns the addresses of a name in the family of `path`, and how long they are valid; none if
/// the name has none.
///
/// # Errors
///
/// If there is no way to the server, the name does not exist or the server cannot tell.
pub(super) async fn addresses(
    path: ProbePath,
    server: SocketAddr,
    name: &str,
) -> Result<(Vec<IpAddr>, Duration)> {
    let reply = exchange(path, server, name).await?;
    match reply.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => bail!("the name does not exist"),
        code => bail!("the server answers: {code}"),
    }
    Ok(addresses_in(&reply, path.family))
}

/// Returns the first addresses of a family in a reply, and how long they are valid.
fn addresses_in(reply: &Message, family: Family) -> (Vec<IpAddr>, Duration) {
    let mut addresses = Vec::new();
    let mut ttl: Option<u32> = None;
    for record in &reply.answers {
        let address = record.data.ip_addr();
        let Some(address) = address.filter(|it| it.is_ipv4() == (family == Family::Ipv4)) else {
            continue;
        };
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
            ttl = Some(ttl.map_or(record.ttl, |least| least.min(record.ttl)));
        }
    }
    (addresses, Duration::from_secs(ttl.unwrap_or_default().into()))
}

/// Asks once and waits for the reply.
async fn exchange(path: ProbePath, server: SocketAddr, name: &str) -> Result<Message> {
    let query = query(path.family, name, random() as u16)?;
    let socket = socket::datagrams(path, server)?;
    let query_bytes = query.to_vec()?;
    // Not by tokio, which would wait until there is room again.
    if let Err(error) = SockRef::from(&socket).send(&query_bytes)
        && meaning(Call::Send, error.raw_os_error()) != Meaning::Lost
    {
        return Err(classified(Call::Send, error, "failed to send a query"));
    }
    let heard = |error| classified(Call::Wait, error, "failed to ask");
    let mut buffer = [0; MAX_REPLY];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(heard)?;
        if let Some(reply) = read_reply(&buffer[..length], &query) {
            return Ok(reply);
        }
    }
}

pub(super) fn query(family: Family, name: &str, id: u16) -> Result<Message> {
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

/// Reads the reply to `query`; `None` if `bytes` are not one.
pub(super) fn read_reply(bytes: &[u8], query: &Message) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let fits = reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == query.metadata.id
        && reply.queries == query.queries;
    fits.then_some(reply)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use hickory_proto::rr::{RData, Record};
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

    #[test]
    fn a_server_does_not_decide_how_many_sockets_a_probe_takes() {
        let mut reply = Message::response(7, OpCode::Query);
        let name = Name::from_ascii("example.com.").expect("a name");
        let [ipv4, ipv6] = [0xc000_0200u32, 0x2001_0db8].map(|base| move |n: u32| base + n);
        for number in 0..220u32 {
            let ttl = 300 - number;
            let a = RData::A(Ipv4Addr::from_bits(ipv4(number)).into());
            let aaaa = RData::AAAA(Ipv6Addr::from_bits(u128::from(ipv6(number)) << 96).into());
            for data in [a.clone(), a, aaaa] {
                reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
            }
        }
        for family in Family::ALL {
            let (addresses, ttl) = addresses_in(&reply, family);
            assert_eq!(addresses.len(), MAX_ADDRESSES, "{addresses:?}");
            assert!(addresses.iter().all(|it| it.is_ipv4() == (family == Family::Ipv4)));
            assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), MAX_ADDRESSES);
            assert_eq!(ttl, Duration::from_secs(297));
        }
        assert!(addresses_in(&Message::response(7, OpCode::Query), Family::Ipv4).0.is_empty());
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
