//! Exhausted file descriptors: what works goes on, an uplink that dies is still failed over, and no
//! healthy one is blamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::{RData, Record, RecordType};
use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family, SERVERS};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::local::Way;
use linkbal_lab::wait;
use serde_json::Value;
use socket2::Socket;

use crate::applications::server::nginx;
use crate::fixture::{Gateway, LIMIT, PLAIN, config, uplink_status};
use crate::kernel::{fwmark, tracked_by, up_mask};

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// Number of descriptors that the daemon reserves for what must not fail.
const RESERVE: usize = 96;
/// Number of connections of each family, for clients and for the gateway itself.
const CONNECTIONS: usize = 60;

/// Leaves the daemon no descriptor: its limit is set to the lowest number that is free.
fn fill_table(gateway: &Gateway) {
    let folder = PathBuf::from(format!("/proc/{}/fd", gateway.daemon.id()));
    // While the reserve is lent out, the lowest free number is one of its own.
    let used = wait::until("the reserve in its place", LIMIT, || {
        let used = numbers(&folder);
        let held = used.values().filter(|target| **target == Path::new("/")).count();
        Ok((held >= RESERVE).then_some(used))
    });
    let used = used.unwrap();
    let first_free = (0..).find(|number| !used.contains_key(number)).unwrap();
    limit_files(gateway, first_free);
}

/// Returns the numbers of the open descriptors, with their targets.
fn numbers(folder: &Path) -> BTreeMap<usize, PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    // Some are closed meanwhile.
    let open = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?))
    });
    open.collect()
}

/// Sets the soft limit of open files of the running daemon.
fn limit_files(gateway: &Gateway, limit: usize) {
    let status = Command::new("prlimit")
        .arg(format!("--nofile={limit}:"))
        .arg(format!("--pid={}", gateway.daemon.id()))
        .status();
    assert!(status.unwrap().success());
}

/// Opens connections that ask once and are silent from then on; returns them with their uplinks.
fn connect(mut socket: impl FnMut(Family, usize) -> (Socket, SocketAddr)) -> Vec<(Socket, usize)> {
    let each = Family::ALL.into_iter().flat_map(|f| (0..CONNECTIONS).map(move |n| (f, n)));
    each.map(|(family, number)| {
        let (socket, server) = socket(family, number);
        let seen = Way::Tcp.ask(&socket, server).unwrap();
        (socket, plan::uplink_of(seen.ip()).unwrap())
    })
    .collect()
}

fn clients(gateway: &Gateway) -> Vec<(Socket, usize)> {
    let _entered = gateway.lab.lan.enter().unwrap();
    connect(|family, number| {
        let server = SocketAddr::new(plan::server(family, number), PLAIN);
        let socket = Way::Tcp.socket(server).unwrap();
        let source = SocketAddr::new(plan::client(family, number / usize::from(SERVERS)), 0);
        socket.bind(&source.into()).unwrap();
        (socket, server)
    })
}

fn own(gateway: &Gateway) -> Vec<(Socket, usize)> {
    let _entered = gateway.lab.gateway.enter().unwrap();
    connect(|family, number| {
        let server = SocketAddr::new(plan::server(family, number), PLAIN);
        (Way::Tcp.socket(server).unwrap(), server)
    })
}

/// Waits until all connections by `uplink` have ended.
fn wait_for_end(gateway: &Gateway, what: &str, all: &[(Socket, usize)], uplink: usize) {
    let mut open: Vec<&Socket> = all.iter().filter(|each| each.1 == uplink).map(|e| &e.0).collect();
    let count = open.len();
    assert!(count > 10, "{count} connections");
    open.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let result = wait::until(what, LIMIT, || {
        open.retain(|socket| {
            let mut socket = *socket;
            let read = socket.read(&mut [0]);
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        Ok(open.is_empty().then_some(()))
    });
    result.unwrap_or_else(|error| {
        panic!("{error:#}: {} of {count} open\n{}", open.len(), gateway.daemon.log())
    });
}

fn states(status: &Value, uplink: &str) -> [String; 2] {
    FAMILIES.map(|family| uplink_status(status, uplink)[family]["state"].as_str().unwrap().into())
}

/// Returns the lab's configuration with TCP targets, whose probes take a socket each.
fn asking_by_tcp(lab: &Lab) -> String {
    let text = config(lab);
    let line = text.lines().find(|line| line.starts_with("targets = ")).unwrap().to_owned();
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    let targets = format!("targets = [\"tcp://{ipv4}:{PLAIN}\", \"tcp://[{ipv6}]:{PLAIN}\"]");
    text.replace(&line, &targets)
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let program = daemon::find_program().unwrap();
    let mut command = lab.gateway.command("prlimit");
    command.arg("--nofile=1024:8192").arg(&program);
    let daemon = Daemon::start_command(command, &program, &lab, &config(&lab));
    let mut daemon = daemon.unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("8192"), "{line}");
}

/// Checks a verdict by probes, and one by the carrier.
#[test]
fn failover_needs_no_free_descriptor() {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    let mut gateway = Gateway::start(Lab::new(&specs).unwrap(), str::to_owned);
    let clients = clients(&gateway);
    let own = own(&gateway);
    let tracked = |family| tracked_by(&gateway.lab.gateway, family, fwmark(0)).len();
    assert!(Family::ALL.into_iter().all(|family| tracked(family) > 10));
    fill_table(&gateway);

    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    wait_for_end(&gateway, "the clients reset", &clients, 0);
    wait_for_end(&gateway, "the gateway's own connections ended", &own, 0);
    wait::until("conntrack forgets the uplink", LIMIT, || {
        let left = Family::ALL.map(|family| tracked_by(&gateway.lab.gateway, family, fwmark(0)));
        Ok(left.iter().all(BTreeSet::is_empty).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    // Repairs of what others undo need nft, which has to be started.
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "linkbal"]).unwrap();
    wait::until("the nft table back", LIMIT, || {
        let listed = gateway.lab.gateway.run("nft", &["list", "table", "inet", "linkbal"]);
        Ok(listed.is_ok().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    gateway.wait_for_uplinks(&[1]);
    gateway.lab.restore(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    // Again, with a cut cable.
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    wait_for_end(&gateway, "the clients of the other reset", &clients, 1);
    gateway.wait_for_uplinks(&[0]);
    let log = gateway.daemon.log();
    assert!(!log.contains("os error 24"), "{log}");
}

#[test]
fn probes_that_cannot_be_sent_blame_no_uplink_and_are_told() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let asking = asking_by_tcp(&lab);
    let mut gateway = Gateway::start(lab, |_| asking);
    let unprobed = |status: &Value| {
        let told = status["refused"].as_object().unwrap().len() == 4;
        told && ["isp-a", "isp-b"].iter().all(|name| {
            FAMILIES.iter().all(|family| {
                uplink_status(status, name)[family]["reason"]
                    .as_str()
                    .is_some_and(|text| text.contains("not probed") && text.contains("os error 24"))
            })
        })
    };
    let status = wait::until("all uplinks unprobed", LIMIT, || {
        // A probe that was under way may have left its number free.
        fill_table(&gateway);
        Ok(gateway.daemon.status().ok().filter(unprobed))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    assert_eq!(["isp-a", "isp-b"].map(|name| states(&status, name)), [["up", "up"]; 2]);
    assert!(uplink_status(&status, "isp-a")["ipv6"]["not_probed_since"].is_string(), "{status}");
    // The kernel still reports the carrier.
    gateway.lab.cut_cable(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    gateway.lab.plug_cable(0).unwrap();

    limit_files(&gateway, 4096);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let all_probed = |status: &Value| status["refused"].as_object().unwrap().is_empty();
    gateway.daemon.wait_for("all uplinks probed", LIMIT, all_probed).unwrap();
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events: Vec<Value> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let told = |to: &str| {
        let to = |event: &&Value| event["kind"] == "trouble" && event["to"] == to;
        events.iter().filter(to).count()
    };
    assert!(told("refused") >= 4 && told("granted") >= 4, "{events:#?}");
    let blamed = |event: &&Value| {
        event["kind"] == "uplink" && event["uplink"] == "isp-b" && event["to"] == "down"
    };
    assert!(!events.iter().any(|event| blamed(&event)), "{events:#?}");
}

/// Checks that probes that the machine's own firewall drops are not taken for a fault of the line.
#[test]
fn the_firewall_of_this_machine_blames_no_uplink() {
    let mut gateway = Gateway::pair();
    let drop = "table inet strict { chain output { type filter hook output priority 0; \
                icmp type echo-request drop; icmpv6 type echo-request drop; }\n}\n";
    gateway.lab.gateway.run_with_input("nft", &["-f", "-"], drop).unwrap();
    let told = |status: &Value| status["refused"].as_object().unwrap().len() == 4;
    let status = gateway.daemon.wait_for("probes refused", LIMIT, told).unwrap();
    assert_eq!(["isp-a", "isp-b"].map(|name| states(&status, name)), [["up", "up"]; 2]);
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "strict"]).unwrap();
    let probed = |status: &Value| status["refused"].as_object().unwrap().is_empty();
    gateway.daemon.wait_for("probes sent", LIMIT, probed).unwrap();
    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
}

/// Asks for the status without a pause in 32 threads, each of which returns the number of answers.
fn flood(gateway: &Gateway, ended: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<usize>> {
    let socket = api(gateway);
    let ask = move |socket: &Path| {
        let mut stream = UnixStream::connect(socket).ok()?;
        stream
            .write_all(b"GET /status HTTP/1.1\r\nhost: linkbal\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    let each = (0..32).map(|_| {
        let (socket, ended) = (socket.clone(), Arc::clone(ended));
        thread::spawn(move || {
            let asked =
                std::iter::from_fn(|| (!ended.load(Ordering::Relaxed)).then(|| ask(&socket)));
            asked.flatten().count()
        })
    });
    each.collect()
}

/// Checks that clients of the API cannot keep the daemon from its work.
#[test]
fn a_flood_of_questions_hides_no_outage() {
    let mut gateway = Gateway::pair();
    let ended = Arc::new(AtomicBool::new(false));
    let flood = flood(&gateway, &ended);
    gateway.lab.blackhole(0).unwrap();
    wait::until("the outage found out", LIMIT, || {
        Ok((up_mask(&gateway.lab.gateway, Family::V4) == 0b10).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    ended.store(true, Ordering::Relaxed);
    let answered: usize = flood.into_iter().map(|each| each.join().unwrap()).sum();
    assert!(answered > 32, "{answered} answers");
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
}

fn api(gateway: &Gateway) -> PathBuf {
    let cookie = gateway.lab.gateway.cookie();
    format!("/run/linkbal/netns-{cookie}/linkbal.sock").into()
}

#[test]
fn idle_connections_to_the_api_leave_room_for_all_else() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let asking = asking_by_tcp(&lab);
    let mut gateway = Gateway::start(lab, |_| asking);
    let files = || fs::read_dir(format!("/proc/{}/fd", gateway.daemon.id())).unwrap().count();
    let before = files();
    let socket = api(&gateway);
    let idle: Vec<_> = (0..1100).map(|_| UnixStream::connect(&socket)).collect();
    assert!(idle.iter().all(Result::is_ok));
    // The API still answers.
    gateway.daemon.status().unwrap();
    assert!(files() <= before + 64 + 10, "{} files, {before} before", files());
    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    gateway.wait_for_uplinks(&[1]);
    wait::until("all idle connections closed", LIMIT, || {
        let closed = idle.iter().flatten().all(|client| {
            client.set_nonblocking(true).unwrap();
            let read = { client }.read(&mut [0; 64]);
            !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        Ok(closed.then_some(()))
    })
    .unwrap();
}

/// Number of addresses of a name, as many as fit; the first one answers.
const ADDRESSES: u16 = 100;
const DNS: u16 = 53;

/// Starts a resolver in the lab that answers each query with [`ADDRESSES`] addresses.
fn lavish_resolver(lab: &Lab) -> [thread::JoinHandle<()>; 2] {
    let _entered = lab.net.enter().unwrap();
    Family::ALL.map(|family| {
        let socket = UdpSocket::bind(SocketAddr::new(plan::server(family, 0), DNS)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 512];
            // The loop ends when no more queries arrive.
            while let Ok((length, client)) = socket.recv_from(&mut bytes) {
                if let Ok(query) = Message::from_vec(&bytes[..length]) {
                    let _ = socket.send_to(&lavish_reply(&query), client);
                }
            }
        })
    })
}

fn lavish_reply(query: &Message) -> Vec<u8> {
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
    let _server = nginx(&lab.net, 8080);
    let _resolvers = lavish_resolver(&lab);
    let provider = &lab.uplinks[0].provider;
    provider.run_with_input("nft", &["-f", "-"], COUNT).unwrap();
    let text = config(&lab);
    let line = text.lines().find(|line| line.starts_with("targets = ")).unwrap().to_owned();
    let [ipv4, ipv6] = Family::ALL.map(|family| plan::server(family, 0));
    let asking = text.replace(&line, "targets = [\"http://lavish.test:8080/\"]")
        + &format!("\n[dns]\nresolvers = [\"{ipv4}\", \"{ipv6}\"]\n");
    let mut gateway = Gateway::start(lab, |_| asking);
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
