//! Uplinks whose addresses and routes come from systemd-networkd.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;

use crate::fixture::{LIMIT, assert_undisturbed, is_ipv6, on};
use crate::leases::{
    OTHER_ROUTER, ROUTER, assert_survive, change_lease, is_up_by, servers, wait_for_new_address,
    wait_for_renewal,
};
use crate::machine::Machine;

/// The settings that the manual recommends.
const RESPECT: &str = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";

/// Returns a configuration as an administrator would write it: IPv4 by DHCP, IPv6 by hand.
fn network(lab: &Lab, index: usize) -> String {
    let interface = &lab.uplinks[index].spec.interface;
    let (own, next) = (plan::uplink_address(Family::V6, index), plan::nexthop(Family::V6, index));
    format!(
        "[Match]\nName={interface}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n\
         Address={own}/64\nGateway={next}\n"
    )
}

/// Waits until each uplink is up in IPv4, by these routers.
fn wait_for_routers(machine: &Machine, routers: [u8; 2]) {
    machine.wait_for("the uplinks up by their routers", |status| {
        let mut uplinks = machine.lab.uplinks.iter().zip(routers).enumerate();
        uplinks.all(|(index, (uplink, router))| {
            is_up_by(status, &uplink.spec.name, plan::pool(index, router))
        })
    });
}

/// Restarts networkd, which removes its own addresses and sets them again.
fn restart_networkd(machine: &Machine) {
    let leased = || machine.logged("DHCPv4 address");
    let earlier = leased();
    machine.systemctl_ok(&["restart", "systemd-networkd"]);
    let both = || Ok((leased() == earlier + 2).then_some(()));
    wait::until("new leases", LIMIT, both).unwrap();
    wait_for_routers(machine, [ROUTER; 2]);
}

/// Returns the number of repairs that linkbal reports.
fn repairs(machine: &Machine) -> usize {
    machine.run("linkbal", &["events"]).matches("in force again").count()
}

#[test]
fn networkd_renews_and_changes_leases_and_drops_foreign_routes() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut servers = servers(&lab);
    let machine = Machine::start(lab);
    for index in 0..2 {
        machine.add_network(&format!("wan-{index}.network"), &network(&machine.lab, index));
    }
    machine.systemctl_ok(&["start", "systemd-networkd", "linkbal"]);
    machine.wait_until_up();
    wait_for_routers(&machine, [ROUTER; 2]);
    let flows = machine.long_flows();
    let before = flows.reports();
    wait_for_renewal(&machine.lab, 0);
    assert_undisturbed(&flows, &before, 40, |_| true);

    // It drops the ip rules and the routes of its interfaces that it does not know. What is sent
    // before linkbal has put them back goes astray.
    restart_networkd(&machine);
    machine.wait_for("a report of the repair", |_| repairs(&machine) > 0);
    machine.wait_for("the advice", |_| machine.log().contains("ManageForeignRoutes=no"));
    machine.wait_for_spread();
    drop(flows);

    machine.run("mkdir", &["/etc/systemd/networkd.conf.d"]);
    machine.write("/etc/systemd/networkd.conf.d/linkbal.conf", RESPECT);
    let earlier = repairs(&machine);
    let flows = machine.long_flows();
    let before = flows.reports();
    restart_networkd(&machine);
    assert_eq!(repairs(&machine), earlier, "{}", machine.log());
    assert_undisturbed(&flows, &before, 20, is_ipv6);

    // With an address, the kernel forgets what it has translated to it: some connections of IPv4
    // are broken now.
    drop(flows);
    machine.wait_for_spread();
    let flows = machine.long_flows();
    let before = flows.reports();
    change_lease(&machine.lab, &mut servers);
    wait_for_routers(&machine, [OTHER_ROUTER, ROUTER]);
    wait_for_new_address(&flows, &before);
    assert_survive(&flows, &before, 20, |report| is_ipv6(report) || on(1)(report));
    machine.wait_for_spread();
    assert!(!machine.log().contains("-> down"), "{}", machine.log());
}
