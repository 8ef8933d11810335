//! Several gateways that are active at a time: the router of the LAN learns a default route of each
//! by BGP, as `examples/frr` sets it up, and of those alone that can carry packets.

mod daemons;

use std::process::Stdio;
use std::time::Instant;

use linkbal_lab::daemon;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol, open_flows};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use self::daemons::Frr;
use crate::fixture::{Gateway, LIMIT};
use crate::shipped::{Replacements, write_script};

const GATEWAY: &str = include_str!("../../../examples/frr/frr.conf");
const ROUTER: &str = include_str!("../../../examples/frr/router.conf");
const ANNOUNCE: &str = include_str!("../../../examples/frr/announce.sh");

/// The interface of a gateway towards the router.
const INTERFACE: &str = "rt0";
/// Number of gateways.
const GATEWAYS: usize = 3;
/// Number of hosts behind the router.
const HOSTS: u8 = 40;

/// A gateway with uplinks of its own, which announces a default route.
struct Member {
    announcer: Process,
    frr: Frr,
    gateway: Gateway,
}

impl Member {
    fn start(router: &Namespace, number: usize) -> Self {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        connect(router, &lab.gateway, number);
        let gateway = Gateway::start(lab, |config| {
            config.replace("interfaces = [\"lan0\"]", "interfaces = [\"lan0\", \"rt0\"]")
        });
        let namespace = &gateway.lab.gateway;
        let frr = Frr::start(namespace, GATEWAY);
        let announcer = announce(namespace, &frr);
        Self { announcer, frr, gateway }
    }

    /// Returns the number of connections of hosts behind the router.
    fn connections(&self) -> usize {
        let known = oracle_connections(&self.gateway.lab.gateway);
        known.lines().filter(|line| line.contains("src=192.168.50.")).count()
    }

    fn logs(&self) -> String {
        let namespace = &self.gateway.lab.gateway;
        let bgp = self.frr.ask(namespace, "show bgp summary");
        format!("{bgp}\n{}", self.gateway.daemon.log())
    }
}

fn oracle_connections(namespace: &Namespace) -> String {
    namespace.run("conntrack", &["-L"]).unwrap()
}

/// Starts the shipped script of a gateway.
fn announce(namespace: &Namespace, frr: &Frr) -> Process {
    let program = daemon::find_program().unwrap().canonicalize().unwrap();
    let mut replacements = Replacements::default();
    let [health, vtysh] = ["/usr/sbin/linkbal", "/usr/bin/vtysh"];
    replacements.add(health, program.display().to_string());
    replacements.add(vtysh, frr.path("vtysh"));
    write_script(&frr.path("announce"), &replacements.apply(ANNOUNCE, &[health, vtysh]));
    let mut command = namespace.command(frr.path("announce"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    namespace.spawn(&mut command).unwrap()
}

/// Makes a router with hosts behind it.
fn router() -> Namespace {
    let router = Namespace::new("router").unwrap();
    for scope in ["all", "default"] {
        router.set_sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0").unwrap();
    }
    let mut lines = "link add lan type bridge\nlink set lan up\n\
        address add 192.168.1.254/24 dev lan\naddress add fd00:1::fe/64 dev lan nodad\n"
        .to_owned();
    for host in 1..=HOSTS {
        lines += &format!("address add 192.168.50.{host}/32 dev lo\n");
        lines += &format!("address add fd00:50::{host}/128 dev lo\n");
    }
    router.ip_batch(&lines).unwrap();
    router
}

/// Plugs a gateway into the router's network.
fn connect(router: &Namespace, gateway: &Namespace, number: usize) {
    let lines = format!(
        "link add gw{number} type veth peer name {INTERFACE} netns {}\n\
        link set gw{number} master lan\nlink set gw{number} up\n",
        gateway.name()
    );
    router.ip_batch(&lines).unwrap();
    let host = 2 + number;
    let lines = format!(
        "address add 192.168.1.{host}/24 dev {INTERFACE}\n\
        address add fd00:1::{host}/64 dev {INTERFACE} nodad\nlink set {INTERFACE} up\n"
    );
    gateway.ip_batch(&lines).unwrap();
}

/// Waits until the router has `count` ways out in both families.
fn wait_for_ways(router: &Namespace, members: &[Member], count: usize) {
    let ways = |family: Family| {
        let routes = oracle::ip_json(router, &[family.flag(), "route", "show", "default"])?;
        let ways = routes.as_array().into_iter().flatten().map(|route| {
            // One way alone is the route itself.
            route["nexthops"].as_array().map_or(1, Vec::len)
        });
        anyhow::Ok(ways.sum::<usize>())
    };
    let reached = || {
        let all = [ways(Family::V4)?, ways(Family::V6)?];
        Ok((all == [count; 2]).then_some(()))
    };
    wait::until("the ways of the router", LIMIT, reached).unwrap_or_else(|error| {
        let logs: Vec<_> = members.iter().map(Member::logs).collect();
        panic!("{error:#}\n{}", logs.join("\n---\n"))
    });
}

/// Opens a connection from each host behind the router, all of which must be answered.
fn assert_answered(router: &Namespace, members: &[Member]) {
    let flow = |host: u8, family: Family| FlowSpec {
        protocol: Protocol::Tcp,
        source: match family {
            Family::V4 => format!("192.168.50.{host}").parse().unwrap(),
            Family::V6 => format!("fd00:50::{host}").parse().unwrap(),
        },
        server: (plan::server(family, host.into()), HTTP).into(),
    };
    let hosts = (1..=HOSTS).flat_map(|host| Family::ALL.map(|family| flow(host, family)));
    let flows: Vec<_> = hosts.collect();
    let seen = open_flows(router, &flows).unwrap();
    let lost = seen.iter().filter(|seen| seen.uplink().is_none()).count();
    let logs = || members.iter().map(Member::logs).collect::<Vec<_>>().join("\n---\n");
    assert_eq!(lost, 0, "of {}\n{}", seen.len(), logs());
}

#[test]
fn a_router_uses_the_gateways_that_can_carry_packets() {
    let router = router();
    let mut members: Vec<_> = (0..GATEWAYS).map(|number| Member::start(&router, number)).collect();
    let frr = Frr::start(&router, ROUTER);
    wait_for_ways(&router, &members, GATEWAYS);
    assert_answered(&router, &members);
    for member in &members {
        assert!(member.connections() > 0, "one has none\n{}", member.logs());
    }

    // A gateway without a line that works withdraws itself, and comes back.
    for uplink in 0..2 {
        members[0].gateway.lab.cut_cable(uplink).unwrap();
    }
    let begun = Instant::now();
    wait_for_ways(&router, &members, GATEWAYS - 1);
    println!("a gateway without uplinks has withdrawn itself after {:?}", begun.elapsed());
    assert_answered(&router, &members);
    for uplink in 0..2 {
        members[0].gateway.lab.plug_cable(uplink).unwrap();
    }
    wait_for_ways(&router, &members, GATEWAYS);
    assert_answered(&router, &members);

    // One that hangs or loses its power says nothing: BFD notices.
    wait::until("BFD with all gateways", LIMIT, || {
        let peers = frr.ask(&router, "show bfd peers");
        Ok((peers.matches("Status: up").count() == 2 * members.len()).then_some(()))
    })
    .unwrap();
    let set = |state| router.run("bridge", &["link", "set", "dev", "gw0", "state", state]);
    set("disabled").unwrap();
    let begun = Instant::now();
    wait_for_ways(&router, &members, GATEWAYS - 1);
    println!("a silent gateway is found out after {:?}", begun.elapsed());
    assert_answered(&router, &members);
    set("forwarding").unwrap();
    wait_for_ways(&router, &members, GATEWAYS);

    // One whose daemon is dead withdraws itself, and so does one whose announcer is stopped.
    members[1].gateway.daemon.stop(Signal::SIGKILL).unwrap();
    wait_for_ways(&router, &members, GATEWAYS - 1);
    assert_answered(&router, &members);
    members[0].announcer.signal(Signal::SIGTERM).unwrap();
    wait_for_ways(&router, &members, GATEWAYS - 2);
    assert_answered(&router, &members);
    members[2].announcer.signal(Signal::SIGTERM).unwrap();
    wait_for_ways(&router, &members, 0);
}
