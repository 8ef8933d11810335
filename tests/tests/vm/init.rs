//! `linkbal init` on machines with bonds, VLANs, bridges, tunnels and dialled lines.

use std::fs;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::{FlowResult, FlowSpec, HTTP, Protocol};
use linkbal_lab::wait;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, linkbal, text};
use crate::lines::{PROVIDER, equal_lab, move_addresses, with_slow_probes};
use crate::pppoe::line::{self, Client, Concentrator, PPP};

/// Writes the proposal, and returns it. `check --machine` finds nothing wrong with it.
fn proposal(lab: &Lab) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("linkbal.toml");
    let path = path.to_str().unwrap();
    for args in [["init", "--yes", "--output", path], ["check", "--machine", "--config", path]] {
        let output = linkbal(lab, &args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    }
    fs::read_to_string(path).unwrap()
}

/// Starts linkbal with a proposal, but with targets of the lab.
fn start(lab: Lab, proposal: &str) -> Gateway {
    let targets = Family::ALL.map(|family| format!("\"{}\"", plan::server(family, 0)));
    let probe = format!("\n[probe]\ntargets = [{}]\nhold = \"500ms\"\n", targets.join(", "));
    let daemon = Daemon::start(&lab, &with_slow_probes(&(proposal.to_owned() + &probe))).unwrap();
    let mut gateway = Gateway::with(daemon, lab);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway
}

/// Returns whether flows leave by the dialled line, with its address of the pool, and by the other uplink.
fn flows_by_line(seen: &[FlowResult]) -> bool {
    let [own, other] = [plan::pool(0, 10).into(), plan::uplink_address(Family::V4, 1)];
    [own, other]
        .iter()
        .all(|address| seen.iter().any(|flow| flow.peer.is_some_and(|peer| peer.ip() == *address)))
}

fn assert_says(proposal: &str, wanted: &[&str]) {
    for words in wanted {
        assert!(proposal.contains(words), "{words:?} in\n{proposal}");
    }
}

#[test]
fn what_interfaces_are_made_of_decides_their_role() {
    let lab = equal_lab();
    // The uplinks are a VLAN and a bond, the LAN is a bridge, and there is a tunnel.
    let [lan4, lan6] = Family::ALL.map(plan::lan_gateway);
    let interfaces = format!(
        "link add link wan-a name wan-a.7 type vlan id 7
         link add bond0 type bond mode active-backup miimon 100
         link set wan-b down
         link set wan-b master bond0
         link add br0 type bridge
         address flush dev lan0 scope global
         link set lan0 master br0
         link set br0 up
         address add {lan4}/24 dev br0
         address add {lan6}/64 dev br0 nodad
         link add wg0 type wireguard
         address add 10.9.0.1/24 dev wg0
         link set wg0 up\n"
    );
    lab.gateway.ip_batch(&interfaces).unwrap();
    let provider = format!("link add link {PROVIDER} name {PROVIDER}.7 type vlan id 7");
    lab.uplinks[0].provider.ip_batch(&provider).unwrap();
    move_addresses(&lab, 0, "wan-a.7", &format!("{PROVIDER}.7"));
    move_addresses(&lab, 1, "bond0", PROVIDER);
    let proposal = proposal(&lab);
    let wanted = [
        "interfaces = [\"br0\"]",
        "interface = \"wan-a.7\"",
        "interface = \"bond0\"",
        "# - wan-a: ",
        "# - wg0: a tunnel (WireGuard)",
    ];
    assert_says(&proposal, &wanted);
    assert_eq!(proposal.matches("[uplink.").count(), 2, "{proposal}");
    // The kernel needs a while until the addresses of a bridge are usable.
    start(lab, &proposal).wait_for_uplinks(&[0, 1]);
}

#[test]
fn a_dialled_line_is_an_uplink_and_its_card_is_none() {
    let lab = equal_lab();
    line::clear(&lab);
    let _concentrator = Concentrator::start(&lab, 10);
    let client = Client::start(&lab, "defaultroute\n");
    client.wait_for_line(&lab, 10);
    let proposal = proposal(&lab);
    assert_says(
        &proposal,
        &[&format!("interface = \"{PPP}\""), "interface = \"wan-b\"", "# - wan-a: "],
    );
    assert_eq!(proposal.matches("[uplink.").count(), 2, "{proposal}");
    let gateway = start(lab, &proposal);
    // Nobody advertises a prefix on the line.
    wait::until("flows by both", LIMIT, || {
        let seen = gateway.try_open(&FlowSpec::spread(Family::V4, Protocol::Tcp, HTTP, 20));
        Ok(flows_by_line(&seen).then_some(()))
    })
    .unwrap();
    client.end();
}
