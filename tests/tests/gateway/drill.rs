//! A drill, which shows the effects of an outage, and ends whatever happens.

use std::process::Stdio;

use linkbal_lab::namespace::Process;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::turn;
use linkbal_lab::{daemon, oracle, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{
    Gateway, LIMIT, assert_undisturbed, is_udp, linkbal, on, text, uplink_status, wait_for_move,
};
use crate::topologies::{put_on_one_hub, share_wan_a};

/// Number of long flows of each of the four kinds.
const FLOWS: usize = 25;

/// Starts `linkbal drill isp-a` for longer than any test takes.
pub(crate) fn endless_drill(lab: &Lab) -> Process {
    let mut command = lab.gateway.command(daemon::find_program().unwrap());
    command.args(["drill", "isp-a", "--for", "10m"]).stdout(Stdio::null());
    let process = lab.gateway.spawn(&mut command).unwrap();
    let on = || Ok((drilling(lab) == 2).then_some(()));
    wait::until("the drill", LIMIT, on).unwrap();
    process
}

/// Returns the number of links of drills. `bpftool` lists those of the whole machine, without their
/// place.
fn drilling(lab: &Lab) -> usize {
    // bpftool fails if a program or link vanishes while it lists them.
    let show = |what| {
        let listing = || Ok(oracle::bpftool_json(&lab.gateway, &[what, "show"]).ok());
        wait::until("a listing", LIMIT, listing).unwrap()
    };
    let is_drill = |program: &&Value| {
        program["name"].as_str().is_some_and(|name| name.starts_with("linkbal_drill_"))
    };
    let programs = show("prog");
    let drills: Vec<_> = programs.as_array().unwrap().iter().filter(is_drill).collect();
    let links = show("link");
    let links = links.as_array().unwrap().iter();
    links.filter(|link| drills.iter().any(|drill| drill["id"] == link["prog_id"])).count()
}

#[test]
fn a_drill_is_detected_moves_flows_and_measures_the_outage() {
    let _turn = turn::alone();
    let mut gateway = Gateway::pair();
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    let tcp_on_a = before.iter().filter(|report| on(0)(report) && !is_udp(report)).count();
    let drill = linkbal(&gateway.lab, &["drill", "isp-a", "--for", "4s", "--json"]);
    assert!(drill.status.success(), "{}\n{}", text(&drill.stderr), gateway.daemon.log());
    let said = text(&drill.stdout);
    let steps: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["began", "changed", "changed", "over", "changed", "changed", "done"],
        "{said}"
    );
    assert_eq!(steps[0]["time_ms"], 4000);
    assert_eq!(steps[0]["families"], serde_json::json!(["ipv4", "ipv6"]));
    assert!(steps[1..3].iter().all(|step| step["from"] == "up" && step["to"] == "down"), "{said}");
    assert!(steps[4..6].iter().all(|step| step["to"] == "up"), "{said}");
    let done = &steps[6];
    let found = done["found_down_ms"].as_array().unwrap();
    assert!(found.iter().all(|family| (1..4000).contains(&family[1].as_u64().unwrap())), "{said}");
    assert!(done["up_again_ms"].as_u64().unwrap() >= 4000, "{said}");
    let count = |key: &str| done[key].as_u64().unwrap() as usize;
    assert!(
        count("flows_moved") >= before.iter().filter(|r| on(0)(r) && is_udp(r)).count(),
        "{said}"
    );
    assert_eq!(count("connections_reset"), tcp_on_a, "{said}");
    assert_eq!(count("connections_silent"), 0, "{said}");
    assert!(count("packets_dropped") > 0, "{said}");

    wait_for_move(&flows, &before, |report| is_udp(report) && on(0)(report), 1);
    assert_undisturbed(&flows, &before, FLOWS, on(1));
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    assert_eq!(drilling(&gateway.lab), 0);
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(events.contains("uplink isp-a: drill on: nothing passes it for 4s"), "{events}");
    assert!(events.contains("uplink isp-a: drill off: its time is over"), "{events}");
}

#[test]
fn a_drill_ends_with_its_client_and_with_the_daemon() {
    let _turn = turn::alone();
    let mut gateway = Gateway::pair();
    let drill = endless_drill(&gateway.lab);
    let refused = linkbal(&gateway.lab, &["drill", "isp-b"]);
    assert!(text(&refused.stderr).contains("there is a drill of isp-a already"));
    let status = gateway.wait_until_down(0);
    assert_eq!(status["drill"], "isp-a");
    let table = gateway.daemon.run(&["status"]).unwrap();
    assert!(table.contains("drill active on isp-a"), "{table}");
    drop(drill);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert_eq!(drilling(&gateway.lab), 0);
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(events.contains("drill off: its client disconnected"), "{events}");

    let _drill = endless_drill(&gateway.lab);
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    let gone = || Ok((drilling(&gateway.lab) == 0).then_some(()));
    wait::until("the black hole is gone with the daemon", LIMIT, gone).unwrap();
}

#[test]
fn a_drill_that_would_harm_or_show_nothing_is_refused() {
    let _turn = turn::alone();
    let mut gateway = Gateway::pair();
    let refused = |lab: &Lab, args: &[&str], why: &str| {
        let output = linkbal(lab, &[&["drill"], args].concat());
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    refused(&gateway.lab, &["isp-x"], "there is no uplink \"isp-x\": did you mean");
    refused(&gateway.lab, &["isp-a", "--for", "11m"], "a drill takes from 1s to 10m");
    refused(&gateway.lab, &["isp-a", "--for", "30"], "not a time like 30s or 2m");
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    refused(&gateway.lab, &["isp-b"], "isp-b is not up: a drill would show nothing");
    refused(
        &gateway.lab,
        &["isp-a"],
        "no other uplink is up for ipv4 and ipv6: users would have none",
    );
    // A family that has yet to come back would not be shown.
    gateway.lab.plug_cable(1).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let provider = &gateway.lab.uplinks[1].provider;
    provider
        .load_nft(
            "table ip6 closed {\nchain c {\ntype filter hook forward priority 0; policy drop;\n}\n}\n",
        )
        .unwrap();
    let lost = |status: &Value| uplink_status(status, "isp-b")["ipv6"]["state"] == "down";
    gateway.daemon.wait_for("an uplink without IPv6", LIMIT, lost).unwrap();
    refused(
        &gateway.lab,
        &["isp-b"],
        "isp-b is not up for ipv6, so that a drill would show ipv4 alone",
    );
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    assert_eq!(drilling(&gateway.lab), 0);
    let forced = linkbal(&gateway.lab, &["drill", "isp-a", "--for", "3s", "--force"]);
    let said = text(&forced.stdout);
    assert!(forced.status.success(), "{said}{}", text(&forced.stderr));
    assert!(said.contains("found out: ipv4 after"), "{said}");
}

#[test]
fn of_two_uplinks_on_one_interface_only_one_is_drilled() {
    let _turn = turn::alone();
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let hub = put_on_one_hub(&lab);
    let mut gateway = Gateway::start(lab, share_wan_a);
    let drill = endless_drill(&gateway.lab);
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-b")["state"], "up");
    drop(drill);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    drop(gateway);
    drop(hub);
}
