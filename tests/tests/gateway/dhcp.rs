//! Uplinks whose address and gateway come by DHCP, and change.

use std::time::Duration;

use linkbal_lab::dhcp::{Client, ClientBehaviour, Server};
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, HTTPS, LongFlows, Protocol};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{
    Gateway, LIMIT, TICK, assert_undisturbed, is_ipv6, is_udp, on, uplink_status, wait_for_answers,
};

/// Host numbers of the lease and of the router that the providers give out.
const LEASE: u8 = 10;
const ROUTER: u8 = 1;

/// Time for which linkbal keeps an address or a gateway that is gone.
const GRACE: Duration = Duration::from_secs(5);

/// A gateway whose IPv4 addresses come by DHCP.
struct Leased {
    gateway: Gateway,
    servers: Vec<Server>,
    clients: Vec<Client>,
}

impl Leased {
    /// Starts a gateway with DHCP on both uplinks; the metric of `behaviour` is that of the first
    /// one.
    fn new(behaviour: ClientBehaviour) -> Leased {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let lease = |index| {
            lab.use_pool(index).unwrap();
            server(&lab, index, LEASE, &[ROUTER])
        };
        let servers = (0..lab.uplinks.len()).map(lease).collect::<Vec<_>>();
        let client = |index: usize| {
            let interface = &lab.uplinks[index].spec.interface;
            let metric = behaviour.metric.map(|metric| metric * (1 + index as u32));
            let behaviour = ClientBehaviour { metric, ..behaviour };
            Client::start(&lab.gateway, interface, behaviour).unwrap()
        };
        let clients = (0..lab.uplinks.len()).map(client).collect::<Vec<_>>();
        let mut gateway = Gateway::start_degraded(lab, str::to_owned);
        let judged =
            |uplink: &Value| uplink["ipv4"]["state"].as_str().is_some_and(|state| state != "init");
        let started = |status: &Value| status["uplinks"].as_array().unwrap().iter().all(judged);
        gateway.daemon.wait_for("a verdict on each uplink", LIMIT, started).unwrap();
        for (uplink, client) in clients.iter().enumerate() {
            // A default route that was replaced before the start is not known.
            client.renew().unwrap();
            gateway.wait_for_state(uplink, "ipv4", "up");
        }
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        // A client may have been without its address until a moment ago.
        gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
        Leased { gateway, servers, clients }
    }

    /// Starts another server for `uplink` in place of the present one.
    fn serve(&mut self, uplink: usize, host: u8, routers: &[u8]) {
        self.servers[uplink] = server(&self.gateway.lab, uplink, host, routers);
    }

    fn ipv4(&self, uplink: usize) -> Value {
        let status = self.gateway.daemon.status().unwrap();
        uplink_status(&status, &self.gateway.lab.uplinks[uplink].spec.name)["ipv4"].clone()
    }

    /// Starts IPv4 flows that use both uplinks.
    fn flows(&self) -> LongFlows {
        let kinds = Protocol::ALL.into_iter();
        let flow = |kind, n| FlowSpec::new(Family::V4, kind, n % 10, n, HTTP);
        let flows: Vec<_> = kinds.flat_map(|kind| (0..100).map(move |n| flow(kind, n))).collect();
        LongFlows::start(&self.gateway.lab.lan, &flows, TICK).unwrap()
    }

    /// Waits until the status names `router` as the gateway of the uplink.
    fn wait_for_router(&self, uplink: usize, router: u8) {
        let wanted = plan::pool(uplink, router).to_string();
        let result = wait::until("the new router", LIMIT, || {
            Ok((self.ipv4(uplink)["gateway"] == wanted.as_str()).then_some(()))
        });
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.gateway.daemon.log()));
    }

    fn counter(&self, name: &str) -> u64 {
        self.gateway.daemon.status().unwrap()["counters"][name].as_u64().unwrap()
    }

    fn assert_never_down(&self) {
        let log = self.gateway.daemon.log();
        assert!(!log.contains("up -> down"), "{log}");
    }
}

fn server(lab: &Lab, index: usize, host: u8, routers: &[u8]) -> Server {
    let routers: Vec<_> = routers.iter().map(|host| plan::pool(index, *host)).collect();
    Server::lease(&lab.uplinks[index].provider, plan::pool(index, host), &routers).unwrap()
}

/// Returns the behaviour of clients that give each interface a metric of its own.
fn behaviour(removes_address: bool, pause_tenths: u32) -> ClientBehaviour {
    ClientBehaviour { metric: Some(100), removes_address, pause_tenths }
}

fn default_routes(gateway: &Gateway) -> usize {
    let routes = oracle::ip_json(&gateway.lab.gateway, &["-4", "route", "show", "default"]);
    routes.unwrap().as_array().unwrap().len()
}

fn is_tcp(report: &FlowReport) -> bool {
    !is_udp(report)
}

#[test]
fn a_renewed_lease_touches_no_flow() {
    let leased = Leased::new(behaviour(false, 5));
    let flows = leased.flows();
    let before = flows.reports();
    for _ in 0..3 {
        leased.clients.iter().for_each(|client| client.renew().unwrap());
    }
    assert_undisturbed(&flows, &before, 200, |_| true);
    assert_eq!((leased.counter("flow_reset"), leased.counter("flow_moved")), (0, 0));
    leased.assert_never_down();
}

/// Checks that an uplink without its address for a while loses packets, but no connections: these
/// are not ended while they may go on.
#[test]
fn an_address_that_is_missing_for_a_moment_ends_no_flow() {
    let leased = Leased::new(behaviour(true, 10));
    let flows = leased.flows();
    let before = flows.reports();
    leased.clients[0].renew().unwrap();
    leased.wait_for_router(0, ROUTER);
    assert_undisturbed(&flows, &before, 80, on(1));
    wait_for_answers(&flows, &flows.reports(), 5, |_| true);
    assert_eq!((leased.counter("flow_reset"), leased.counter("flow_moved")), (0, 0));
    let now = flows.reports();
    let all: Vec<_> = before.iter().zip(&now).filter(|(old, _)| on(0)(old)).collect();
    let ended: Vec<_> =
        all.iter().filter(|(old, new)| new.closed || new.peer != old.peer).collect();
    assert!(all.len() > 30 && ended.is_empty(), "of {}: {ended:#?}", all.len());
    leased.assert_never_down();
}

#[test]
fn a_changed_lease_ends_flows_of_the_old_address_only() {
    let mut leased = Leased::new(behaviour(false, 0));
    let flows = leased.flows();
    let before = flows.reports();
    leased.serve(0, 20, &[2]);
    let provider = &leased.gateway.lab.uplinks[0].provider;
    let own = format!("{}/24", plan::pool(0, 2));
    provider.run("ip", &["address", "add", &own, "dev", "cust0"]).unwrap();
    leased.clients[0].renew().unwrap();
    leased.wait_for_router(0, 2);
    let address = std::net::IpAddr::from(plan::pool(0, 20));
    // UDP that is sent while this uplink has no address goes by the other one.
    let other = std::net::IpAddr::from(plan::pool(1, LEASE));
    let is_over = |(old, new): &(&FlowReport, &FlowReport)| match is_tcp(old) {
        true => new.closed && new.errors == 1,
        false => new.peer.is_some_and(|peer| [address, other].contains(&peer.ip())),
    };
    let ended = wait::until("the end of the flows of the former address", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| on(0)(old));
        Ok(pairs.all(|pair| is_over(&pair)).then_some(()))
    });
    let now = flows.reports();
    let on_first = before.iter().zip(&now).filter(|(old, _)| on(0)(old));
    let left: Vec<_> = on_first.filter(|pair| !is_over(pair)).collect();
    assert!(ended.is_ok(), "{left:#?}\n{}", leased.gateway.daemon.log());
    assert_undisturbed(&flows, &before, 80, on(1));
    leased.assert_never_down();
    // New flows use the new address.
    let seen = leased.gateway.try_open(&FlowSpec::spread(Family::V4, Protocol::Tcp, HTTPS, 60));
    let on_first = seen.iter().filter(|seen| seen.uplink() == Some(0));
    let addresses: Vec<_> = on_first.map(|seen| seen.peer.unwrap().ip()).collect();
    assert!(addresses.len() > 5 && addresses.iter().all(|seen| *seen == address), "{addresses:?}");
    let events = leased.gateway.daemon.run(&["events", "--json"]).unwrap();
    let told = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<_> = told.filter(|event| event["kind"] == "address").collect();
    assert_eq!(told.len(), 1, "{events}");
    assert_eq!(
        (&told[0]["uplink"], &told[0]["from"], &told[0]["to"]),
        (&"isp-a".into(), &"100.64.0.10".into(), &"100.64.0.20".into())
    );
}

#[test]
fn another_gateway_with_the_same_address_moves_no_flow() {
    let mut leased = Leased::new(behaviour(false, 0));
    let provider = &leased.gateway.lab.uplinks[0].provider;
    let own = format!("{}/24", plan::pool(0, 2));
    provider.run("ip", &["address", "add", &own, "dev", "cust0"]).unwrap();
    let flows = leased.flows();
    let before = flows.reports();
    leased.serve(0, LEASE, &[2]);
    leased.clients[0].renew().unwrap();
    leased.wait_for_router(0, 2);
    assert_undisturbed(&flows, &before, 200, |_| true);
    assert_eq!((leased.counter("flow_reset"), leased.counter("flow_moved")), (0, 0));
}

/// Checks that linkbal remembers the default route that the last client to renew has replaced.
#[test]
fn dhcp_clients_with_one_default_route_leave_both_uplinks_up() {
    let leased = Leased::new(ClientBehaviour::default());
    let flows = leased.flows();
    let before = flows.reports();
    for turn in 0..4 {
        leased.clients[turn % 2].renew().unwrap();
        assert_eq!(default_routes(&leased.gateway), 1);
    }
    // Longer than the grace period.
    wait_for_answers(&flows, &before, 2 * GRACE.as_secs() * 5, |_| true);
    assert_undisturbed(&flows, &before, 200, |_| true);
    for uplink in [0, 1] {
        assert_eq!(leased.ipv4(uplink)["gateway"], plan::pool(uplink, ROUTER).to_string());
    }
    leased.assert_never_down();
}

#[test]
fn a_lost_lease_costs_no_new_flow_and_ends_old_ones_after_a_delay() {
    let mut leased = Leased::new(behaviour(false, 0));
    let flows = leased.flows();
    let before = flows.reports();
    leased.clients[0].release().unwrap();
    leased.gateway.wait_for_uplinks_of(Family::V4, &[1]);
    let status = leased.gateway.wait_for_state(0, "ipv4", "down");
    assert_eq!(uplink_status(&status, "isp-a")["ipv4"]["reason"], "no ipv4 address on wan-a");
    wait::until("the end of the connections", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| on(0)(old) && is_tcp(old));
        Ok(pairs.all(|(_, new)| new.closed).then_some(()))
    })
    .unwrap();
    assert_undisturbed(&flows, &before, 80, on(1));
    assert!(!before.iter().any(is_ipv6));
    leased.clients[0].renew().unwrap();
    leased.gateway.daemon.wait_until_up(LIMIT).unwrap();
    leased.gateway.wait_for_uplinks_of(Family::V4, &[0, 1]);
}

#[test]
fn a_lease_without_a_gateway_is_reported() {
    let mut leased = Leased::new(behaviour(false, 0));
    leased.serve(0, LEASE, &[]);
    leased.clients[0].renew().unwrap();
    let status = leased.gateway.wait_for_state(0, "ipv4", "down");
    let reason = &uplink_status(&status, "isp-a")["ipv4"]["reason"];
    assert!(reason.as_str().unwrap().starts_with("no ipv4 gateway known on wan-a: "), "{reason}");
}
