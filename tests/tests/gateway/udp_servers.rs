//! Servers of the gateway itself that listen on all addresses, and answer from the one that was
//! asked.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::Servers;
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::wait;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::fixture::Gateway;

/// Ports of the servers at 0.0.0.0 and at `::`; the latter takes IPv4, too.
const PORTS: [(Family, u16); 2] = [(Family::V4, 5100), (Family::V6, 5200)];
const QUERIES: usize = 20;
/// Longest wait for an answer of OpenVPN, which repeats its pings, but never from another address.
const ANSWER: Duration = Duration::from_secs(20);
/// An additional address of each uplink, by family.
const ALIASES: [[&str; 2]; 2] =
    [["203.0.113.41", "203.0.113.42"], ["2001:db8:a::99", "2001:db8:b::99"]];

/// A lab whose gateway has a second LAN, and a second address on each uplink. The servers start
/// before linkbal.
struct Bed {
    gateway: Gateway,
    second_lan: Namespace,
    _servers: Servers,
}

impl Bed {
    fn new() -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let second_lan = Namespace::new("lan2").unwrap();
        connect_second_lan(&lab, &second_lan);
        for (number, uplink) in lab.uplinks.iter().enumerate() {
            let interface = &uplink.spec.interface;
            for family in [0, 1] {
                let alias = ALIASES[family][number];
                let add = ["address", "add", alias, "dev", interface];
                lab.gateway.run("ip", &add).unwrap();
                let next = plan::uplink_address(Family::ALL[family], number).to_string();
                uplink.provider.run("ip", &["route", "add", alias, "via", &next]).unwrap();
                if family == 0 {
                    // The provider's address towards the servers is the next hop.
                    let provider = format!("192.0.2.{}", 4 * number + 2);
                    lab.net.run("ip", &["route", "add", alias, "via", &provider]).unwrap();
                }
            }
        }
        let any = PORTS.map(|(family, port)| {
            let any = if family == Family::V4 { "0.0.0.0" } else { "::" };
            SocketAddr::new(any.parse().unwrap(), port)
        });
        let servers = Servers::start_at(&lab.gateway, &any).unwrap();
        let gateway = Gateway::start(lab, |config| {
            config.replace("interfaces = [\"lan0\"]", "interfaces = [\"lan0\", \"lan1\"]")
        });
        Self { gateway, second_lan, _servers: servers }
    }

    /// Asks each server that takes the family of `target`, from each of `sources`; each must be
    /// answered.
    fn ask(&self, clients: &Namespace, sources: &[IpAddr], target: IpAddr) {
        let served = PORTS.iter().filter(|(family, _)| target.is_ipv4() || *family == Family::V6);
        for (_, port) in served {
            let target = SocketAddr::new(target, *port);
            let answered = sources.iter().filter(|source| is_answered(clients, **source, target));
            let (answered, all) = (answered.count(), sources.len());
            assert_eq!(answered, all, "{target} asked from {}", sources[0]);
        }
    }
}

pub(crate) fn connect_second_lan(lab: &Lab, second_lan: &Namespace) {
    let name = second_lan.name();
    let commands = [
        format!("link add lan1 type veth peer name eth0 netns {name}"),
        "address add 10.78.0.1/24 dev lan1".into(),
        "address add fd78::1/64 dev lan1 nodad".into(),
        "link set lan1 up".into(),
    ];
    lab.gateway.ip_batch(&(commands.join("\n") + "\n")).unwrap();
    let mut commands: Vec<_> = (10..10 + QUERIES)
        .flat_map(|host| {
            [
                format!("address add 10.78.0.{host}/24 dev eth0"),
                format!("address add fd78::{host}/64 dev eth0 nodad"),
            ]
        })
        .collect();
    let routes = ["link set eth0 up", "route add default via 10.78.0.1"];
    commands.extend(routes.map(str::to_owned));
    commands.push("route add default via fd78::1".into());
    second_lan.ip_batch(&(commands.join("\n") + "\n")).unwrap();
}

/// Returns whether `target` answers from the address that was asked: a connected socket takes no
/// other.
fn is_answered(clients: &Namespace, source: IpAddr, target: SocketAddr) -> bool {
    let _entered = clients.enter().unwrap();
    let socket = SocketKind::ConnectedUdp.socket(target).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    SocketKind::ConnectedUdp
        .ask(&socket, target)
        .is_ok_and(|seen| seen.ip().to_canonical() == source)
}

fn servers_of_net(family: Family) -> Vec<IpAddr> {
    (0..QUERIES).map(|number| plan::server(family, number)).collect()
}

#[test]
fn datagrams_from_outside_are_answered_from_the_address_that_was_asked() {
    let bed = Bed::new();
    for (number, family) in Family::ALL.into_iter().enumerate() {
        for (uplink, alias) in ALIASES[number].iter().enumerate() {
            for target in [plan::uplink_address(family, uplink), alias.parse().unwrap()] {
                bed.ask(&bed.gateway.lab.net, &servers_of_net(family), target);
            }
        }
    }
}

#[test]
fn datagrams_from_a_lan_are_answered_from_the_address_that_was_asked() {
    let bed = Bed::new();
    let lan = &*bed.gateway.lab.lan;
    for (number, family) in Family::ALL.into_iter().enumerate() {
        let clients: Vec<_> = (0..QUERIES).map(|client| plan::client(family, client)).collect();
        let prefix = ["10.78.0.", "fd78::"][number];
        let others: Vec<IpAddr> =
            (10..10 + QUERIES).map(|host| format!("{prefix}{host}").parse().unwrap()).collect();
        let second_gateway: IpAddr = format!("{prefix}1").parse().unwrap();
        let alias: IpAddr = ALIASES[number][1].parse().unwrap();
        for target in
            [plan::lan_gateway(family), second_gateway, plan::uplink_address(family, 1), alias]
        {
            bed.ask(lan, &clients, target);
            bed.ask(&bed.second_lan, &others, target);
        }
    }
}

/// Creates a socket on all addresses that leaves the port to others, too.
fn any(family: Family, port: u16) -> Socket {
    let address: IpAddr = if family == Family::V4 { "0.0.0.0" } else { "::" }.parse().unwrap();
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

#[test]
fn a_server_that_connects_a_socket_to_each_client_answers_by_the_uplink_that_was_asked() {
    let gateway = Gateway::pair();
    for family in Family::ALL {
        let listener: UdpSocket = {
            let _entered = gateway.lab.gateway.enter().unwrap();
            any(family, 5300).into()
        };
        let answered = |source: IpAddr, target: IpAddr| {
            let client: UdpSocket = {
                let _entered = gateway.lab.net.enter().unwrap();
                let client =
                    SocketKind::ConnectedUdp.socket(SocketAddr::new(target, 5300)).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                client.bind(&SocketAddr::new(source, 0).into()).unwrap();
                client.connect(&SocketAddr::new(target, 5300).into()).unwrap();
                client.into()
            };
            client.send(b"?").unwrap();
            let (_, peer) = listener.recv_from(&mut [0; 8]).unwrap();
            let session: UdpSocket = {
                let _entered = gateway.lab.gateway.enter().unwrap();
                let session = any(family, 5300);
                session.connect(&peer.into()).unwrap();
                session.into()
            };
            session.send(b"!").unwrap();
            client.recv(&mut [0; 8]).is_ok()
        };
        for uplink in 0..2 {
            let target = plan::uplink_address(family, uplink);
            let all = servers_of_net(family);
            let count = all.iter().filter(|source| answered(**source, target)).count();
            assert_eq!(count, QUERIES, "{target}");
        }
    }
}

/// Starts one of two OpenVPN peers, which share a key and carry nothing but their own pings.
fn openvpn(namespace: &Namespace, key: &Path, log: &Path, args: &[&str]) -> Process {
    let own = ["--dev", "null", "--cipher", "AES-256-CBC", "--ping", "1", "--secret"];
    let mut command = namespace.command("openvpn");
    command.args(own).arg(key).args(args).arg("--log").arg(log);
    namespace.spawn(&mut command).unwrap()
}

#[test]
fn openvpn_answers_from_the_address_that_was_asked() {
    let gateway = Gateway::pair();
    let folder = TempDir::with_prefix("linkbal-openvpn-").unwrap();
    let key = folder.path().join("key");
    gateway.lab.gateway.run("openvpn", &["--genkey", "secret", key.to_str().unwrap()]).unwrap();
    for family in Family::ALL {
        let protocol = if family == Family::V4 { "udp4" } else { "udp6" };
        for (client, uplink) in (0..6).map(|number| (number, number % 2)) {
            let log = |who: &str| folder.path().join(format!("{protocol}-{client}-{who}"));
            let listen = ["--proto", protocol, "--lport", "1194"];
            let _server = openvpn(&gateway.lab.gateway, &key, &log("server"), &listen);
            let [target, own] =
                [plan::uplink_address(family, uplink), plan::server(family, client)];
            let [target, own] = [target.to_string(), own.to_string()];
            let call = ["--proto", protocol, "--remote", &target, "1194", "--local", &own];
            let _client = openvpn(&gateway.lab.net, &key, &log("client"), &call);
            wait::until(&format!("an answer of {target}"), ANSWER, || {
                let said = fs::read_to_string(log("client")).unwrap_or_default();
                Ok(said.contains("Peer Connection Initiated").then_some(()))
            })
            .unwrap_or_else(|error| {
                panic!("{error:#}\n{}", fs::read_to_string(log("client")).unwrap_or_default())
            });
        }
    }
}
