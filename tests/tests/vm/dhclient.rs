//! Uplinks whose addresses and routes come from dhclient, by the script that Debian gives it.

use std::fs;
use std::process::Stdio;

use linkbal_lab::namespace::Process;
use linkbal_lab::topology::plan;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, assert_undisturbed, is_ipv6, on, uplink_status};
use crate::leases::{
    OTHER_ROUTER, ROUTER, assert_survive, change_lease, is_up_by, servers, wait_for_new_address,
    wait_for_renewal,
};
use crate::lines::with_slow_probes;

/// A running dhclient; dropping it ends it, but leaves what it has set.
struct Client {
    _process: Process,
    _folder: TempDir,
}

/// Starts a dhclient as ifupdown does, which gives it the metric of an interface that has one.
fn client(lab: &Lab, index: usize, metric: Option<u32>) -> Client {
    let folder = TempDir::with_prefix("linkbal-dhclient-").unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("conf"), "request subnet-mask, routers;\ninitial-interval 1;\n").unwrap();
    fs::write(path("leases"), "").unwrap();
    let mut command = lab.gateway.command("dhclient");
    command.args(["-4", "-d", "-cf"]).arg(path("conf"));
    command.arg("-lf").arg(path("leases")).arg("-pf").arg(path("pid"));
    if let Some(metric) = metric {
        command.args(["-e", &format!("IF_METRIC={metric}")]);
    }
    command.arg(&lab.uplinks[index].spec.interface);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Client { _process: lab.gateway.spawn(&mut command).unwrap(), _folder: folder }
}

/// Waits until an uplink is up in IPv4, by the router `router`.
fn assert_up_by(gateway: &mut Gateway, index: usize, router: u8) {
    let name = gateway.lab.uplinks[index].spec.name.clone();
    let reached = |status: &Value| is_up_by(status, &name, plan::pool(index, router));
    gateway.daemon.wait_for("that router", LIMIT, reached).unwrap();
}

#[test]
fn dhclient_renews_and_changes_its_lease_and_other_flows_stay() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut servers = servers(&lab);
    let mut clients = vec![client(&lab, 0, None)];
    wait::until("a default route", LIMIT, || {
        let shown = lab.gateway.run("ip", &["-4", "route", "show", "default"])?;
        Ok((!shown.is_empty()).then_some(()))
    })
    .unwrap();
    clients.push(client(&lab, 1, None));
    let mut gateway = Gateway::start_degraded(lab, with_slow_probes);
    // Without metrics the second one finds a default route, and sets none.
    let advises = |status: &Value| {
        let reason = uplink_status(status, "isp-b")["ipv4"]["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("a metric of its own"))
    };
    gateway.daemon.wait_for("the reason with its advice", LIMIT, advises).unwrap();
    clients[1] = client(&gateway.lab, 1, Some(200));
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert_up_by(&mut gateway, 0, ROUTER);
    assert_up_by(&mut gateway, 1, ROUTER);

    let flows = gateway.long_flows(10);
    let before = flows.reports();
    wait_for_renewal(&gateway.lab, 0);
    assert_undisturbed(&flows, &before, 40, |_| true);
    change_lease(&gateway.lab, &mut servers);
    assert_up_by(&mut gateway, 0, OTHER_ROUTER);
    wait_for_new_address(&flows, &before);
    assert_survive(&flows, &before, 20, |report| is_ipv6(report) || on(1)(report));
    gateway.wait_for_uplinks(&[0, 1]);
}
