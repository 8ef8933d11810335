//! A target by a name with a hundred addresses, of which few are probed at a time.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::{RData, Record, RecordType};
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;

use super::{HTTP, config_with};
use crate::applications::server::nginx;
use crate::fixture::{Gateway, LIMIT, states};

/// Number of addresses of a name, as many as fit; the first one answers.
const ADDRESSES: u16 = 100;
const DNS: u16 = 53;

/// Starts a resolver in the lab that answers each query with [`ADDRESSES`] addresses.
fn start_resolver(lab: &Lab) -> [thread::JoinHandle<()>; 2] {
    let _entered = lab.net.enter().unwrap();
    Family::ALL.map(|family| {
        let socket = UdpSocket::bind(SocketAddr::new(plan::server(family, 0), DNS)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 512];
            // The loop ends when no more queries arrive.
            while let Ok((length, client)) = socket.recv_from(&mut bytes) {
                if let Ok(query) = Message::from_vec(&bytes[..length]) {
                    let _ = socket.send_to(&reply(&query), client);
                }
            }
        })
    })
}

fn reply(query: &Message) -> Vec<u8> {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_queries(query.queries.clone());
    let asked = &query.queries[0];
    for number in 0..ADDRESSES {
        let data = match (asked.query_type(), number) {
            (RecordType::A, 0) => RData::A(Ipv4Addr::new(198, 51, 100, 1).into()),
            (RecordType::A, _) => {
                RData::A(Ipv4Addr::from_bits(0xcb00_7100 + u32::from(number)).into())
            }
            (_, 0) => RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1).into()),
            (..) => RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, number).into()),
        };
        reply.add_answer(Record::from_rdata(asked.name().clone(), 0, data));
    }
    reply.to_vec().unwrap()
}

/// A table that collects the addresses to which connections are tried.
const COUNT: &str = "table inet asked {
    set v4 { type ipv4_addr; size 1000; flags dynamic; }
    set v6 { type ipv6_addr; size 1000; flags dynamic; }
    chain prerouting {
        type filter hook prerouting priority -250;
        tcp dport 8080 tcp flags syn / syn,ack update @v4 { ip daddr }
        tcp dport 8080 tcp flags syn / syn,ack update @v6 { ip6 daddr }
    }
}
";

#[test]
fn a_name_with_many_addresses_takes_few_sockets() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _server = nginx(&lab.net, HTTP);
    let _resolvers = start_resolver(&lab);
    let provider = &lab.uplinks[0].provider;
    provider.load_nft(COUNT).unwrap();
    let config = config_with(&lab, "\"http://lavish.test:8080/\"");
    let mut gateway = Gateway::start(lab, |_| config);
    let asked = |gateway: &Gateway| {
        let rules = oracle::nft_json(&gateway.lab.uplinks[0].provider).unwrap();
        let sets = rules["nftables"].as_array().unwrap().iter();
        let sizes = sets.filter_map(|item| Some(item["set"]["elem"].as_array()?.len()));
        sizes.collect::<Vec<_>>()
    };
    let sizes = wait::until("both families asked", LIMIT, || {
        let sizes = asked(&gateway);
        Ok((sizes.len() == 2).then_some(sizes))
    });
    let sizes = sizes.unwrap();
    assert!(sizes.iter().all(|size| (1..=4).contains(size)), "{sizes:?}");
    // A failure of the service on one uplink is still detected.
    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    let sizes = asked(&gateway);
    assert!(sizes.iter().all(|size| *size <= 4), "{sizes:?}");
}
