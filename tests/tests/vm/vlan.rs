//! Uplinks on VLANs of one cable.

use linkbal_lab::topology::Lab;
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::flowtable;
use crate::lines::{PROVIDER, assert_fails_over, equal_lab, move_addresses, with_slow_probes};

/// Builds a lab whose first uplink is a VLAN, `wan-a.7`.
fn lab() -> Lab {
    let lab = equal_lab();
    lab.gateway.ip_batch("link add link wan-a name wan-a.7 type vlan id 7").unwrap();
    let provider = format!("link add link {PROVIDER} name {PROVIDER}.7 type vlan id 7");
    lab.uplinks[0].provider.ip_batch(&provider).unwrap();
    move_addresses(&lab, 0, "wan-a.7", &format!("{PROVIDER}.7"));
    lab
}

fn tagged(config: &str) -> String {
    with_slow_probes(config).replace("\"wan-a\"", "\"wan-a.7\"")
}

#[test]
fn a_vlan_is_an_uplink_like_any_other() {
    let mut gateway = Gateway::start(lab(), tagged);
    assert_fails_over(&mut gateway, 0);
    // A cable that is pulled takes the VLAN's carrier with it.
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
}

/// Checks that packets of VLANs, whose tags devices take off, are not taken for others at the driver.
#[test]
fn an_interface_with_vlans_has_no_program_at_its_driver() {
    let lab = equal_lab();
    lab.use_drivers().unwrap();
    let tune = |config: &str| {
        let (_, rest) = config.split_once("[lan]").unwrap();
        with_slow_probes(&format!("[accelerate]\nmode = \"xdp\"\n[lan]{rest}"))
    };
    let gateway = Gateway::start(lab, tune);
    let wait_for = |reason: Option<&str>, program: bool| {
        wait::until("programs", LIMIT, || {
            let status = gateway.daemon.status()?;
            let told = status["without_xdp"]["lan0"].as_str();
            let links = gateway.lab.gateway.run("ip", &["-d", "link", "show", "lan0"])?;
            Ok((told == reason && links.contains("prog/xdp") == program).then_some(()))
        })
        .unwrap();
    };
    wait_for(None, true);
    gateway.lab.gateway.ip_batch("link add link lan0 name lan0.7 type vlan id 7").unwrap();
    wait_for(Some("there are VLANs on it"), false);
    gateway.lab.gateway.ip_batch("link delete lan0.7").unwrap();
    wait_for(None, true);
}

#[test]
fn flows_by_a_vlan_are_in_the_flowtable() {
    let gateway = Gateway::start(lab(), |config| flowtable::offloading(&tagged(config)));
    flowtable::assert_offloads(&gateway);
}
