//! Helpers of the tests of DHCP clients.

use std::net::Ipv4Addr;

use linkbal_lab::dhcp::Server;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan;
use linkbal_lab::topology::{CUSTOMER_INTERFACE, Lab};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{LIMIT, is_udp, on, uplink_status, wait_for_answers};

/// The address and the router that the providers give out at first, as numbers in their pools.
pub(crate) const LEASE: u8 = 10;
pub(crate) const ROUTER: u8 = 1;

/// The address and the router that one of them gives out later.
pub(crate) const OTHER_LEASE: u8 = 20;
pub(crate) const OTHER_ROUTER: u8 = 2;

/// Starts a provider's server for one lease, which clients renew after 3 s (dnsmasq takes no less:
/// it would set T1 a second before T2); after 20 s they ask any server, and networkd hears a refusal
/// only then. It moves both times by up to a second, and does not renew again for a minute if both
/// have come when it looks.
pub(crate) fn server(lab: &Lab, index: usize, host: u8, router: u8) -> Server {
    let (address, router) = (plan::pool(index, host), plan::pool(index, router));
    let lines = format!(
        "dhcp-range={address},{address},255.255.255.0,10m\ndhcp-option=option:router,{router}\n\
         dhcp-option=option:T1,3\ndhcp-option=option:T2,20\n"
    );
    Server::start(&lab.uplinks[index].provider, &lines).unwrap()
}

/// Starts servers in place of the IPv4 addresses and routes that the lab has set.
pub(crate) fn servers(lab: &Lab) -> Vec<Server> {
    let serve = |index| {
        lab.use_pool(index).unwrap();
        server(lab, index, LEASE, ROUTER)
    };
    (0..lab.uplinks.len()).map(serve).collect()
}

/// Gives the first uplink another address by another router when it renews its lease.
pub(crate) fn change_lease(lab: &Lab, servers: &mut [Server]) {
    let own = format!("{}/24", plan::pool(0, OTHER_ROUTER));
    let provider = &lab.uplinks[0].provider;
    provider.run("ip", &["address", "add", &own, "dev", CUSTOMER_INTERFACE]).unwrap();
    servers[0] = server(lab, 0, OTHER_LEASE, OTHER_ROUTER);
}

/// Waits until the lease of an uplink has been renewed: its remaining time is longer than a moment
/// ago.
pub(crate) fn wait_for_renewal(lab: &Lab, index: usize) {
    let left = || -> anyhow::Result<u64> {
        let args = ["-4", "address", "show", "dev", &lab.uplinks[index].spec.interface];
        let shown = oracle::ip_json(&lab.gateway, &args)?;
        Ok(shown[0]["addr_info"][0]["valid_life_time"].as_u64().unwrap_or(0))
    };
    let mut last = left().unwrap();
    wait::until("a renewed lease", LIMIT, || {
        let now = left()?;
        let renewed = now > last;
        last = now;
        Ok(renewed.then_some(()))
    })
    .unwrap();
}

/// Returns whether an uplink of a status is up in IPv4, by that router.
pub(crate) fn is_up_by(status: &Value, name: &str, router: Ipv4Addr) -> bool {
    let ipv4 = &uplink_status(status, name)["ipv4"];
    ipv4["state"] == "up" && ipv4["gateway"] == router.to_string()
}

/// Checks that each of the chosen flows goes on where it was, even if it lost some answers.
pub(crate) fn assert_survive(
    flows: &LongFlows,
    before: &[FlowReport],
    least: usize,
    chosen: impl Fn(&FlowReport) -> bool,
) {
    wait_for_answers(flows, &flows.reports(), 5, &chosen);
    let now = flows.reports();
    let pairs: Vec<_> = before.iter().zip(&now).filter(|(old, _)| chosen(old)).collect();
    assert!(pairs.len() >= least, "only {} flows to look at", pairs.len());
    for (old, new) in pairs {
        assert!(!new.closed && new.peer == old.peer, "before: {old:?}\nnow: {new:?}");
    }
}

/// Waits until the flows with the former address of the first uplink are over: TCP is reset, UDP
/// has another address, that of the other uplink if it sent while this one had none.
pub(crate) fn wait_for_new_address(flows: &LongFlows, before: &[FlowReport]) {
    let address = std::net::IpAddr::from(plan::pool(0, LEASE));
    let former = |report: &FlowReport| report.spec.source.is_ipv4() && on(0)(report);
    assert!(before.iter().any(former), "no flow to look at");
    let over = |(old, new): &(&FlowReport, &FlowReport)| match is_udp(old) {
        true => new.peer.is_some_and(|peer| peer.ip() != address),
        false => new.closed,
    };
    let ended = wait::until("the end of the flows of the former address", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now).filter(|(old, _)| former(old));
        Ok(pairs.all(|pair| over(&pair)).then_some(()))
    });
    let now = flows.reports();
    let left: Vec<_> = before
        .iter()
        .zip(&now)
        .filter(|pair| former(pair.0) && !over(pair))
        .map(|(_, new)| new)
        .collect();
    assert!(ended.is_ok(), "these go on by the former address: {left:#?}");
}
