//! A host of the LAN that forges replies of DNS servers, for its gateway to believe.

mod wire;

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::HTTP;
use linkbal_lab::traffic::dns::Dnsmasq;
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::wait;
use serde_json::{Value, json};

use self::wire::{Flaw, Wire};
use crate::domains::{extra, lab, records, resolve_and_connect};
use crate::fixture::{Gateway, LIMIT};
use crate::kernel::map;
use crate::udp_servers::connect_second_lan;

/// Number of connections that another client opens to forged addresses.
const VICTIMS: u16 = 60;
/// The client that forges, and the one that connects.
const FORGER: usize = 66;
const VICTIM: usize = 5;
/// The client that poses as a resolver of the LAN, or is one.
const RESOLVER: usize = 90;
/// The first source port of queries.
const FIRST_PORT: u16 = 20_000;

/// The server that the forger poses as.
#[derive(Clone, Copy, Debug)]
enum Impersonated {
    /// A host in the network of an uplink.
    OnUplink,
    /// A server on the internet.
    Outside,
    /// A host in the LAN of the forger.
    InLan,
    /// The gateway itself.
    Gateway,
}

impl Impersonated {
    const ALL: [Impersonated; 4] =
        [Impersonated::OnUplink, Impersonated::Outside, Impersonated::InLan, Impersonated::Gateway];

    fn address(self, family: Family) -> IpAddr {
        match self {
            Impersonated::OnUplink => plan::nexthop(family, 0),
            Impersonated::Outside => plan::server(family, 50),
            Impersonated::InLan => plan::client(family, RESOLVER),
            Impersonated::Gateway => plan::lan_gateway(family),
        }
    }
}

/// Returns the reply that name `id` of the bank has an address of `family`, or the query for it.
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

/// Sends queries that no server answers, and answers them in the server's place.
fn forge(wire: &Wire, server: impl Fn(Family) -> IpAddr, flaw: Flaw, first: u16) {
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

/// Returns how many of `VICTIMS` connections of another client to forged addresses follow the rule.
fn followers(gateway: &Gateway, family: Family, first: u16) -> u16 {
    let _entered = gateway.lab.lan.enter().unwrap();
    let follows = |n: &u16| {
        let server = SocketAddr::new(extra(family, *n), HTTP);
        let socket = SocketKind::Tcp.socket(server).unwrap();
        socket.bind(&SocketAddr::new(plan::client(family, VICTIM), 0).into()).unwrap();
        plan::uplink_of(SocketKind::Tcp.ask(&socket, server).unwrap().ip()) == Some(0)
    };
    (first..first + VICTIMS).filter(follows).count().try_into().unwrap()
}

/// Starts a gateway that sends traffic for the bank by isp-a, which gets a twentieth of all else,
/// and that believes the servers. It does not check sources with a reverse path filter.
fn gateway(lab: Lab, lan: &[&str], servers: &[IpAddr]) -> Gateway {
    for interface in lan {
        lab.gateway.set_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0").unwrap();
    }
    Gateway::start(lab, |config| {
        let config = config.replace("weight = 30", "weight = 5");
        let config = config.replace("weight = 70", "weight = 95");
        let config = config.replace("[\"lan0\"]", &json!(lan).to_string());
        format!(
            "{config}\n[[rule]]\nmatch = {{ domain = \"bank.test\" }}\nuse = \"isp-a\"\n\
             [dns]\nresolvers = {}\n",
            json!(servers)
        )
    })
}

/// Fails if more connections follow the rule than by chance: of 60 with a probability of 1 in 20
/// each, 16 or more do less than once in 10^7 runs.
fn assert_unharmed(gateway: &Gateway, what: &str, first: u16) {
    let counts = Family::ALL.map(|family| followers(gateway, family, first));
    println!("{what}: {counts:?} of {VICTIMS} connections follow the rule");
    assert!(counts.iter().all(|count| *count < 16), "{what}: {counts:?} of {VICTIMS}");
}

/// Checks that clients that ask a server for names and connect at once all follow the rule.
fn assert_trusted(gateway: &Gateway, server: impl Fn(Family) -> IpAddr, domain: &str, what: &str) {
    for transport in Family::ALL {
        for n in 0..40u16 {
            let family = Family::ALL[usize::from(n % 2)];
            let source = |family| plan::client(family, n.into());
            let name = format!("n{n}.{domain}.");
            let lan = &gateway.lab.lan;
            let uplink = resolve_and_connect(lan, source, server(transport), &name, family);
            assert_eq!(uplink, 0, "{what}: {name} by {transport}");
        }
    }
}

#[test]
fn a_client_alone_cannot_forge_addresses_of_a_domain() {
    let servers = Impersonated::ALL.iter().flat_map(|posed| Family::ALL.map(|f| posed.address(f)));
    let gateway = gateway(lab(), &["lan0"], &servers.collect::<Vec<_>>());
    let wire = Wire::new(&gateway.lab.lan, &gateway.lab.gateway, "lan0", 0x66);
    let mut first = 0;
    for posed in Impersonated::ALL {
        for flaw in [Flaw::Checksum, Flaw::HopLimit, Flaw::None] {
            forge(&wire, |family| posed.address(family), flaw, first);
            assert_unharmed(&gateway, &format!("as {posed:?}, query with flaw {flaw:?}"), first);
            first += VICTIMS;
        }
    }
}

#[test]
fn a_resolver_in_the_network_of_an_uplink_is_trusted() {
    let lab = lab();
    let servers: Vec<_> =
        [0, 1].iter().flat_map(|n| Family::ALL.map(|f| plan::nexthop(f, *n))).collect();
    let running: Vec<_> = (0..2)
        .flat_map(|n| Family::ALL.map(|family| (n, family)))
        .map(|(n, family)| {
            let lines = records("bank.test", 100 * n);
            let at = plan::nexthop(family, n.into());
            Dnsmasq::start(&lab.uplinks[usize::from(n)].provider, Some(at), &lines).unwrap()
        })
        .collect();
    let gateway = gateway(lab, &["lan0"], &servers);
    for n in [0, 1] {
        let server = |family| plan::nexthop(family, n);
        assert_trusted(&gateway, server, "bank.test", &format!("on uplink {n}"));
    }
    drop(running);
}

/// Returns the address of a resolver in the network behind `lan1`.
fn behind(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.78.0.10".parse().unwrap(),
        Family::V6 => "fd78::10".parse().unwrap(),
    }
}

/// Checks a resolver in another network behind the gateway, of the LAN or not, as behind a tunnel.
#[test]
fn a_resolver_in_another_network_is_trusted_but_not_its_impostor() {
    for lan in [&["lan0", "lan1"][..], &["lan0"]] {
        let lab = lab();
        let second = Namespace::new("lan2").unwrap();
        connect_second_lan(&lab, &second);
        let lines = records("bank.test", 1000);
        let running =
            Family::ALL.map(|f| Dnsmasq::start(&second, Some(behind(f)), &lines).unwrap());
        lab.gateway.set_sysctl("net.ipv4.conf.lan1.rp_filter", "0").unwrap();
        let gateway = gateway(lab, lan, &Family::ALL.map(behind));
        assert_trusted(&gateway, behind, "bank.test", &format!("LAN {lan:?}"));
        drop(running);
        let near = Wire::new(&gateway.lab.lan, &gateway.lab.gateway, "lan0", 0x66);
        let far = Wire::new(&second, &gateway.lab.gateway, "lan1", 0x67);
        for (from, wire, first) in [("the client's", &near, 0), ("its own", &far, VICTIMS)] {
            forge(wire, behind, Flaw::Checksum, first);
            assert_unharmed(&gateway, &format!("LAN {lan:?}, from {from} network"), first);
        }
    }
}

/// Checks that clients that ask another resolver get the gateway's answer all the same.
#[test]
fn the_gateways_resolver_is_trusted_under_any_address() {
    let lab = lab();
    let table = "table inet dns { chain prerouting { type nat hook prerouting priority dstnat;\n\
                 iifname lan0 udp dport 53 redirect\n}\n}\n";
    lab.gateway.load_nft(table).unwrap();
    let _dns = Dnsmasq::start(&lab.gateway, None, &records("bank.test", 0)).unwrap();
    let gateway = gateway(lab, &["lan0"], &[]);
    assert_trusted(&gateway, |family| plan::server(family, 50), "bank.test", "redirected");
}

/// Number of queries of one client, more than the table of queries holds.
const FLOOD: u16 = 20_000;

#[test]
fn a_client_that_floods_queries_does_not_evict_those_of_others() {
    let lab = lab();
    let second = Namespace::new("lan2").unwrap();
    connect_second_lan(&lab, &second);
    let gateway = gateway(lab, &["lan0", "lan1"], &Family::ALL.map(behind));
    let [forger, victim] =
        [0x66, 0x05].map(|host| Wire::new(&gateway.lab.lan, &gateway.lab.gateway, "lan0", host));
    let resolver = Wire::new(&second, &gateway.lab.gateway, "lan1", 0x10);
    for family in Family::ALL {
        let server = (behind(family), 53);
        let client = |n| (plan::client(family, VICTIM), FIRST_PORT + n);
        let text = |n, kind| message(n, kind, family, extra(family, n));
        for n in 0..VICTIMS {
            victim.send(client(n), server, &text(n, MessageType::Query), Flaw::None);
        }
        for id in 0..FLOOD {
            let query = text(id, MessageType::Query);
            forger.send((plan::client(family, FORGER), 5353), server, &query, Flaw::None);
        }
        for n in 0..VICTIMS {
            resolver.send(server, client(n), &text(n, MessageType::Response), Flaw::None);
        }
        assert_eq!(followers(&gateway, family, 0), VICTIMS, "{family}");
    }
}

/// Returns the MAC address in the entry of a client's flow, if there is one.
fn learned_mac(gateway: &Gateway, client: (IpAddr, u16)) -> Option<Vec<u64>> {
    let entry = flow_entry(gateway, client)?;
    let mac = entry["formatted"]["value"]["mac"].as_array().unwrap();
    Some(mac.iter().map(|byte| byte.as_u64().unwrap()).take(6).collect())
}

fn flow_entry(gateway: &Gateway, client: (IpAddr, u16)) -> Option<Value> {
    let port = u64::from(client.1.to_be());
    let family = if client.0.is_ipv4() { 4 } else { 6 };
    let entries = map(&gateway.lab.gateway, "FLOWS");
    let is_it = |entry: &&Value| {
        let key = &entry["formatted"]["key"];
        key["source_port"] == port
            && key["family"] == family
            && key["protocol"] == libc::IPPROTO_UDP
    };
    entries.as_array().unwrap().iter().find(is_it).cloned()
}

/// Checks that a lost entry comes back with the host's next packet, not with an error from another
/// host.
#[test]
fn an_icmp_error_that_quotes_the_flow_of_another_host_changes_no_entry() {
    let gateway = Gateway::pair();
    let lan = &gateway.lab.lan;
    let wire = Wire::new(lan, &gateway.lab.gateway, "lan0", 0x66);
    for family in Family::ALL {
        let client = (plan::client(family, VICTIM), 40_123);
        let server = SocketAddr::new(plan::server(family, 9), HTTP);
        let _entered = lan.enter().unwrap();
        let socket = SocketKind::ConnectedUdp.socket(server).unwrap();
        socket.bind(&SocketAddr::from(client).into()).unwrap();
        SocketKind::ConnectedUdp.ask(&socket, server).unwrap();
        let own = learned_mac(&gateway, client).unwrap();
        let entry = flow_entry(&gateway, client).unwrap();
        let key = entry["key"].as_array().unwrap().iter().map(|byte| byte.as_str().unwrap());
        let pin = gateway.lab.gateway.bpf_dir().join("FLOWS").display().to_string();
        let delete = ["map", "delete", "pinned", &pin, "key"].into_iter().chain(key);
        gateway.lab.gateway.run("bpftool", &delete.collect::<Vec<_>>()).unwrap();
        assert_eq!(learned_mac(&gateway, client), None);
        let forger = plan::client(family, FORGER);
        for _ in 0..10 {
            wire.send_error(forger, (server.ip(), server.port()), client);
        }
        let stranger = learned_mac(&gateway, client);
        assert_eq!(stranger, None, "{family}: from the error of {forger}");
        // An answer that takes a shortcut does not count as the first one.
        wait::until("the entry again", LIMIT, || {
            SocketKind::ConnectedUdp.ask_again(&socket, server).unwrap();
            Ok(learned_mac(&gateway, client).filter(|mac| *mac == own))
        })
        .unwrap();
    }
}
