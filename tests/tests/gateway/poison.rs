//! A host of the LAN that makes its gateway believe what no DNS server said.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use etherparse::PacketBuilder;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linkbal_tests::namespace::Namespace;
use linkbal_tests::oracle;
use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::topology::{CLIENT_INTERFACE, LAN_INTERFACE};
use linkbal_tests::traffic::own::Way;
use nix::net::if_::if_nametoindex;
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::domains::{extra, lab};
use crate::fixture::{Gateway, LIMIT, PLAIN};

/// Connections that somebody else opens to what was forged.
const VICTIMS: u16 = 60;
/// The client that forges, and the one that connects.
const FORGER: usize = 66;
const VICTIM: usize = 5;
/// The client that is a resolver, where one is in the LAN.
const RESOLVER: usize = 90;
/// The first port that queries come from.
const FIRST_PORT: u16 = 20_000;

/// Who is posed as.
#[derive(Clone, Copy, Debug)]
enum Posed {
    /// A host in the network of an uplink.
    OnUplink,
    /// A server on the internet.
    Outside,
    /// A host in the LAN of the forger.
    InLan,
    /// The gateway itself.
    Gateway,
}

impl Posed {
    const ALL: [Posed; 4] = [Posed::OnUplink, Posed::Outside, Posed::InLan, Posed::Gateway];

    fn address(self, family: Family) -> IpAddr {
        match self {
            Posed::OnUplink => plan::nexthop(family, 0),
            Posed::Outside => plan::server(family, 50),
            Posed::InLan => plan::client(family, RESOLVER),
            Posed::Gateway => plan::lan_gateway(family),
        }
    }
}

/// What the gateway does with the query: it must not answer, nor anybody else.
#[derive(Clone, Copy, Debug)]
enum Flaw {
    /// The checksum of the IP header, or of UDP where that has none.
    Checksum,
    /// It ends at the gateway.
    HopLimit,
    /// None: the answer comes late.
    None,
}

/// A socket that sends frames as they are.
struct Wire {
    socket: Socket,
    gateway: [u8; 6],
}

impl Wire {
    /// At the clients' end of the LAN.
    fn new(lan: &Namespace, gateway: &Namespace) -> Wire {
        let shown = oracle::ip_json(gateway, &["link", "show", "dev", LAN_INTERFACE]).unwrap();
        let text = shown[0]["address"].as_str().unwrap();
        let octets: Vec<u8> =
            text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        let _entered = lan.enter().unwrap();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        let ifindex = if_nametoindex(CLIENT_INTERFACE).unwrap();
        socket.bind(&link_address(ifindex)).unwrap();
        Wire { socket, gateway: octets.try_into().unwrap() }
    }

    /// Sends a datagram to the gateway, whoever it is for.
    fn send(&self, from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8], flaw: Flaw) {
        let hops = if matches!(flaw, Flaw::HopLimit) { 1 } else { 64 };
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x66], self.gateway);
        let ip = match (from.0, to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
            _ => panic!("two families"),
        };
        let mut frame = Vec::new();
        ip.udp(from.1, to.1).write(&mut frame, payload).unwrap();
        if matches!(flaw, Flaw::Checksum) {
            // In IPv4 that of the header; the one of UDP stands behind 14 and 40 bytes of headers.
            let at = if from.0.is_ipv4() { 24 } else { 60 };
            frame[at] ^= 0xff;
        }
        assert_eq!(self.socket.send(&frame).unwrap(), frame.len());
    }
}

/// The address of a packet socket at an interface (packet(7)).
fn link_address(ifindex: u32) -> SockAddr {
    // SAFETY: the storage is large enough for every kind of address, all of whose bytes may be zero;
    // the length is that of the one that is written.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            address.write_bytes(0, 1);
            (*address).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*address).sll_ifindex = ifindex as libc::c_int;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    made.unwrap().1
}

/// The reply that number `n` of the bank has an address of `family`, or the query for it.
fn message(id: u16, kind: MessageType, family: Family, address: IpAddr) -> Vec<u8> {
    let name = Name::from_str(&format!("n{id}.bank.test.")).unwrap();
    let asked = if family == Family::V4 { RecordType::A } else { RecordType::AAAA };
    let mut message = Message::new(id, kind, OpCode::Query);
    message.add_query(Query::query(name.clone(), asked));
    if kind == MessageType::Response {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        message.add_answer(Record::from_rdata(name, 300, data));
    }
    message.to_vec().unwrap()
}

/// The client asks a server for what nobody answers, and answers in its place.
fn forge(gateway: &Gateway, server: impl Fn(Family) -> IpAddr, flaw: Flaw, first: u16) {
    let wire = Wire::new(&gateway.lab.lan, &gateway.lab.gateway);
    for family in Family::ALL {
        let (forger, server) = (plan::client(family, FORGER), server(family));
        for n in first..first + VICTIMS {
            let client = (forger, FIRST_PORT + n);
            let address = extra(family, n);
            let query = message(n, MessageType::Query, family, address);
            wire.send(client, (server, 53), &query, flaw);
            let reply = message(n, MessageType::Response, family, address);
            wire.send((server, 53), client, &reply, Flaw::None);
        }
    }
}

/// How many connections of another client, of `VICTIMS` to forged addresses, follow the rule.
fn followers(gateway: &Gateway, family: Family, first: u16) -> u16 {
    let _entered = gateway.lab.lan.enter().unwrap();
    let follows = |n: &u16| {
        let server = SocketAddr::new(extra(family, *n), PLAIN);
        let socket = Way::Tcp.socket(server).unwrap();
        socket.bind(&SocketAddr::new(plan::client(family, VICTIM), 0).into()).unwrap();
        plan::uplink_of(Way::Tcp.ask(&socket, server).unwrap().ip()) == Some(0)
    };
    (first..first + VICTIMS).filter(follows).count().try_into().unwrap()
}

/// A gateway that sends what is for the bank by isp-a, which gets a twentieth of all else, and believes
/// everybody who is posed as. It does not check where sources of the LAN come from.
fn gateway() -> Gateway {
    let servers = Posed::ALL.iter().flat_map(|posed| Family::ALL.map(|f| posed.address(f)));
    let servers = json!(servers.collect::<Vec<_>>());
    let lab = lab();
    let own = format!("net.ipv4.conf.{LAN_INTERFACE}.rp_filter");
    lab.gateway.set_sysctl(&own, "0").unwrap();
    let mut gateway = Gateway::start(lab, |config| {
        let config = config.replace("weight = 30", "weight = 5");
        let config = config.replace("weight = 70", "weight = 95");
        format!(
            "{config}\n[[rule]]\nmatch = {{ domain = \"bank.test\" }}\nuse = \"isp-a\"\n\
             [dns]\nresolvers = {servers}\n"
        )
    });
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway
}

/// Fails if more connections follow the rule than by chance: 60 of which each does in 1 of 20 cases
/// are 16 or more once in 10^7 runs.
fn assert_unharmed(gateway: &Gateway, what: &str, first: u16) {
    let counts = Family::ALL.map(|family| followers(gateway, family, first));
    println!("{what}: {} and {} of {VICTIMS} connections follow the rule", counts[0], counts[1]);
    assert!(counts.iter().all(|count| *count < 16), "{what}: {counts:?} of {VICTIMS}");
}

#[test]
fn a_client_alone_cannot_teach_addresses_of_a_domain() {
    let gateway = gateway();
    let mut first = 0;
    let mut failed = Vec::new();
    for posed in Posed::ALL {
        for flaw in [Flaw::Checksum, Flaw::HopLimit, Flaw::None] {
            forge(&gateway, |family| posed.address(family), flaw, first);
            let counts = Family::ALL.map(|family| followers(&gateway, family, first));
            let what = format!("as {posed:?}, query with flaw {flaw:?}: {counts:?} of {VICTIMS}");
            println!("{what}");
            if counts.iter().any(|count| *count >= 16) {
                failed.push(what);
            }
            first += VICTIMS;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
