//! Uplinks whose addresses and routes come from systemd-networkd.

use linkbal_tests::dhcp::Server;
use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::topology::{Lab, UplinkSpec};

use crate::machine::Machine;

/// A provider that gives out `host`, and has it renewed after 3 s.
fn server(lab: &Lab, index: usize, host: u8, router: u8) -> Server {
    let (address, router) = (plan::pool(index, host), plan::pool(index, router));
    let lines = format!(
        "dhcp-range={address},{address},255.255.255.0,10m\ndhcp-option=option:router,{router}\n\
         dhcp-option=option:T1,3\n"
    );
    Server::start(&lab.uplinks[index].provider, &lines).unwrap()
}

/// As an administrator would write it: IPv4 by DHCP, IPv6 by hand.
fn network(lab: &Lab, index: usize) -> String {
    let interface = &lab.uplinks[index].spec.interface;
    let (own, next) =
        (plan::uplink_address(Family::V6, index), plan::nexthop(Family::V6, index));
    format!(
        "[Match]\nName={interface}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n\
         Address={own}/64\nGateway={next}\n"
    )
}

#[test]
fn explore() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut servers = Vec::new();
    for index in 0..2 {
        lab.use_pool(index).unwrap();
        servers.push(server(&lab, index, 10, 1));
    }
    let machine = Machine::start(lab, &[("systemd-networkd.service.d/debug.conf", "[Service]\nEnvironment=SYSTEMD_LOG_LEVEL=debug\n")]);
    for index in 0..2 {
        machine.add_network(&format!("10-wan-{index}.network"), &network(&machine.lab, index));
    }
    machine.systemctl_well(&["start", "systemd-networkd"]);
    let mut log = String::new();
    let mut look = |machine: &Machine, what: &str| {
        log += &format!("=== {what}\n");
        for cmd in ["-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule", "address show"] {
            let words: Vec<_> = cmd.split(' ').collect();
            log += &format!("--- {cmd}\n{}", machine.run("ip", &words));
        }
        log += &format!("--- events\n{}", crate::fixture::text(&machine.command("linkbal").arg("events").output().unwrap().stdout));
        let folder = std::env::var("LINKBAL_RESULTS").unwrap();
        std::fs::write(format!("{folder}/networkd.txt"), machine.log() + &log).unwrap();
    };
    look(&machine, "started");
    std::thread::sleep(std::time::Duration::from_secs(5));
    look(&machine, "5 s later");
    machine.systemctl_well(&["start", "linkbal"]);
    std::thread::sleep(std::time::Duration::from_secs(10));
    look(&machine, "with linkbal");
    let flows = machine.long_flows();
    let before = flows.reports();
    machine.systemctl_well(&["restart", "systemd-networkd"]);
    look(&machine, "networkd restarted");
    std::thread::sleep(std::time::Duration::from_secs(8));
    look(&machine, "networkd restarted, 8 s later");
    let now = flows.settle().unwrap();
    for (old, new) in before.iter().zip(&now) {
        if new.closed || new.disturbed_since(old) {
            println!("{old:?}\n  {new:?}");
        }
    }
    panic!();
}
