//! Lookups at a DNS server on the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::{
    config::ConnectionConfig,
    proto::{
        op::{Message, OpCode, ResponseCode},
        rr::{RData, rdata},
    },
};
use tokio::net::UdpSocket;

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const AAAA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Returns the server's answer for a name: `both` has all there is, `only4` a failure for IPv6,
/// `empty` nothing, `broken` failures, and no other name exists.
fn answer(query: &Message) -> Message {
    let question = query.queries[0].clone();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_query(question.clone());
    let (first, ipv4) = (question.name().to_ascii(), question.query_type() == RecordType::A);
    let record = |name: &Name, ttl, data| Record::from_rdata(name.clone(), ttl, data);
    let code = match (first.split('.').next().expect("a label"), ipv4) {
        ("both", true) => {
            let canonical = Name::from_ascii("other.example.").expect("a name");
            let alias = RData::CNAME(rdata::CNAME(canonical.clone()));
            reply.add_answer(record(question.name(), 30, alias));
            reply.add_answer(record(&canonical, 300, RData::A(A.into())));
            ResponseCode::NoError
        }
        ("both", false) => {
            reply.add_answer(record(question.name(), 7, RData::AAAA(AAAA.into())));
            ResponseCode::NoError
        }
        ("only4", true) => {
            reply.add_answer(record(question.name(), 60, RData::A(A.into())));
            ResponseCode::NoError
        }
        ("only4" | "broken", _) => ResponseCode::ServFail,
        ("empty", _) => ResponseCode::NoError,
        _ => ResponseCode::NXDomain,
    };
    reply.metadata.response_code = code;
    reply
}

async fn serve(socket: UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.expect("a query");
        let query = Message::from_vec(&buffer[..length]).expect("a DNS message");
        let reply = answer(&query).to_vec().expect("a reply");
        socket.send_to(&reply, client).await.expect("a way back");
    }
}

async fn ask(name: &str) -> Result<Vec<Lifetime>, String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let at = socket.local_addr().expect("an address");
    let server = tokio::spawn(serve(socket));
    let mut connection = ConnectionConfig::udp();
    connection.port = at.port();
    let server_at = NameServerConfig::new(at.ip(), true, vec![connection]);
    // A search list would turn the name that does not exist into one that does.
    let search = vec![Name::from_ascii("both.").expect("a name")];
    let config = ResolverConfig::from_parts(None, search, vec![server_at]);
    let found = look_up(name, config, ResolverOpts::default()).await;
    server.abort();
    found
}

#[tokio::test]
async fn both_families_with_their_ttls() {
    let found = ask("both.example").await.expect("addresses");
    let seconds = Duration::from_secs;
    assert_eq!(found, [(IpAddr::from(A), seconds(300)), (IpAddr::from(AAAA), seconds(7))]);
}

#[tokio::test]
async fn one_family_is_enough() {
    let found = ask("only4.example").await.expect("addresses");
    assert_eq!(found, [(IpAddr::from(A), Duration::from_secs(60))]);
}

#[test]
fn only_so_many_addresses_of_a_name_are_taken() {
    let name = Name::from_ascii("bank.example.").expect("a name");
    let all = (0..200).map(|last| Ipv4Addr::new(198, 51, 100, last));
    let records = all.clone().map(|a| Record::from_rdata(name.clone(), 60, RData::A(a.into())));
    let expected = all.take(MAX_ADDRESSES).map(|a| (IpAddr::from(a), Duration::from_secs(60)));
    assert!(addresses(&records.collect::<Vec<_>>()).into_iter().eq(expected));
}

#[tokio::test]
async fn a_name_without_addresses_is_no_failure() {
    assert_eq!(ask("empty.example").await, Ok(vec![]));
}

#[tokio::test]
async fn the_file_of_hosts_is_not_read() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = hosts.lines().filter(|line| !line.starts_with('#'));
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    // Nobody is asked for `localhost` (RFC 6761 section 6.3).
    for name in names.filter(|name| *name != "localhost") {
        assert_eq!(ask(name).await, Err("the name does not exist".into()), "{name}");
    }
}

#[tokio::test]
async fn failures_are_explained() {
    assert_eq!(ask("missing").await, Err("the name does not exist".into()));
    let reason = ask("broken.example").await.expect_err("a failure");
    assert!(reason.contains("Server Failure"), "{reason}");
}
