//! Mistakes that only the machine shows: each is named at its line, and the advice mends it.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use linkbal_lab::topology::UplinkSpec;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UpstreamOutage};
use linkbal_lab::wait;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{
    Gateway, LIMIT, config, linkbal, text, uplink_status, with_key, with_targets,
};

/// A gateway without linkbal, and a configuration.
struct Machine {
    lab: Lab,
    folder: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        Machine { lab, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, config: &str) -> PathBuf {
        let path = self.folder.path().join("linkbal.toml");
        fs::write(&path, config).unwrap();
        path
    }

    /// Returns the exit code and the output of `check --machine`.
    fn check(&self, config: &str) -> (i32, String) {
        let path = self.write(config);
        let args = ["check", "--machine", "--config", path.to_str().unwrap()];
        let output = linkbal(&self.lab, &args);
        let printed = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap(), printed)
    }

    /// Checks that a mistake is found at the line with a text, by `check` and by `plan`.
    fn assert_found(&self, config: &str, line: &str, words: &str) {
        let (code, printed) = self.check(config);
        assert_eq!(code, 4, "{printed}");
        let number = 1 + config.lines().position(|each| each.contains(line)).unwrap();
        let place = format!("linkbal.toml:{number}:");
        assert!(printed.contains(&place), "{place} in {printed}");
        // The text is wrapped.
        let words_of = |text: &str| {
            text.replace(['│', '×', '⚠'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(words_of(&printed).contains(words), "{words} in {printed}");
        let path = self.write(config);
        let output = linkbal(&self.lab, &["plan", "--json", "--config", path.to_str().unwrap()]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mistakes = json["mistakes"].as_array().unwrap();
        let is_it = |mistake: &Value| {
            mistake["line"] == number
                && format!("{} {}", mistake["message"], mistake["help"])
                    .replace('\\', "")
                    .contains(words)
        };
        assert!(mistakes.iter().any(is_it), "{json}");
    }

    fn assert_fine(&self, config: &str) {
        let (code, printed) = self.check(config);
        assert!(code == 0 && printed.contains("fine"), "{printed}");
    }
}

/// Returns an address near another one, which nobody has.
fn unused(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ 0xc).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) ^ 0xcc0).into()),
    }
}

#[test]
fn what_the_configuration_names_is_looked_for() {
    let machine = Machine::new();
    let good = config(&machine.lab);
    machine.assert_fine(&good);

    machine.assert_found(&good.replace("wan-a", "wan_a"), "wan_a", "did you mean \"wan-a\"?");
    machine.assert_found(&good.replace("lan0", "lan1"), "lan1", "interface lan1 does not exist");
    let own = plan::lan_gateway(Family::V4);
    let targets = with_targets(&good, &format!("\"{own}\", \"{}\"", plan::server(Family::V4, 0)));
    machine.assert_found(&targets, "targets", "this machine's own address, on lan0");
    let client = plan::client(Family::V6, 3);
    let targets =
        with_targets(&good, &format!("\"{client}\", \"{}\"", plan::server(Family::V4, 0)));
    machine.assert_found(&targets, "targets", "inside of the LAN");
    let mtu = with_key(&good, "isp-b", "mtu = 9000");
    machine.assert_found(&mtu, "mtu", "more than wan-b carries");
    let none = good.replace("[lan]\ninterfaces = [\"lan0\"]\n", "");
    let (code, printed) = machine.check(&none);
    assert!(code == 4 && printed.contains("no LAN is named"), "{printed}");
}

#[test]
fn gateways_are_asked_in_both_families() {
    let machine = Machine::new();
    let good = config(&machine.lab);
    for (family, key) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        let [a, b] = [0, 1].map(|index| plan::nexthop(family, index));
        let gateway = |gateway: IpAddr| format!("gateway = {{ {key} = \"{gateway}\" }}");
        let of_a = |address| with_key(&good, "isp-a", &gateway(address));
        machine.assert_fine(&of_a(a));
        let words = match family {
            // There are no others in so small a network.
            Family::V4 => "is outside of the networks of wan-a",
            Family::V6 => "does not answer neighbour solicitations on wan-a",
        };
        machine.assert_found(&of_a(unused(a)), "gateway", words);
        let own = plan::uplink_address(family, 0);
        machine.assert_found(&of_a(own), "gateway", "this machine's own address, on wan-a");
        machine.assert_found(&of_a(b), "gateway", "its network is that of uplink isp-b");
        let swapped = with_key(&of_a(b), "isp-b", &gateway(a));
        machine.assert_found(&swapped, "gateway", "the gateways of isp-a and isp-b are swapped");
        let client = plan::client(family, 9);
        machine.assert_found(&of_a(client), "gateway", "is not on wan-a");
    }
    // The provider's router takes the address of this machine.
    let own = format!("{}/32", plan::uplink_address(Family::V4, 1));
    let provider = &machine.lab.uplinks[1].provider;
    provider.run("ip", &["address", "add", &own, "dev", "cust0"]).unwrap();
    let (code, printed) = machine.check(&good);
    assert!(code == 4 && printed.contains("another host on wan-b has"), "{printed}");
    provider.run("ip", &["address", "delete", &own, "dev", "cust0"]).unwrap();
    machine.assert_fine(&good);

    machine.lab.silence_nexthop(0).unwrap();
    machine.assert_found(&good, "interface = \"wan-a\"", "does not answer ARP on wan-a");
    machine.lab.restore_nexthop(0).unwrap();
    wait::until(
        "a gateway that answers",
        LIMIT,
        || Ok((machine.check(&good).0 == 0).then_some(())),
    )
    .unwrap();
    let gateway = &machine.lab.gateway;
    gateway.run("ip", &["-4", "route", "flush", "default"]).unwrap();
    machine.assert_found(&good, "interface = \"wan-a\"", "no ipv4 gateway known on wan-a");
}

#[test]
fn the_advice_mends_what_is_found() {
    let machine = Machine::new();
    let gateway = &machine.lab.gateway;
    let good = config(&machine.lab);
    gateway
        .run("ip", &["link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
        .unwrap();
    gateway.run("ip", &["link", "set", "spare1", "up"]).unwrap();
    gateway.run("ip", &["address", "add", "172.20.7.1/24", "dev", "spare0"]).unwrap();
    let lan = good.replace("[\"lan0\"]", "[\"lan0\", \"spare0\"]");
    machine.assert_found(&lan, "spare0", "interface spare0 is down");
    gateway.run("ip", &["link", "set", "spare0", "up"]).unwrap();
    machine.assert_fine(&lan);

    let vlan = good.replace("[\"lan0\"]", "[\"lan0\", \"lan0.7\"]");
    let command = "ip link add link lan0 name lan0.7 type vlan id 7";
    machine.assert_found(&vlan, "lan0.7", command);

    gateway.run("ip", &["link", "add", "br0", "type", "bridge"]).unwrap();
    gateway.run("ip", &["link", "set", "spare0", "master", "br0"]).unwrap();
    gateway.run("ip", &["link", "set", "br0", "up"]).unwrap();
    gateway.run("ip", &["address", "add", "172.20.9.1/24", "dev", "br0"]).unwrap();
    machine.assert_found(&lan, "spare0", "interface spare0 is part of br0");
    machine.assert_fine(&lan.replace("spare0", "br0"));

    gateway.run("ip", &["link", "property", "add", "dev", "wan-a", "altname", "enp9s0"]).unwrap();
    machine.assert_found(&good.replace("wan-a", "enp9s0"), "enp9s0", "write \"wan-a\"");

    let own = format!("{}/30", plan::uplink_address(Family::V4, 1));
    gateway.run("ip", &["address", "add", &own, "dev", "lan0"]).unwrap();
    machine.assert_found(&good, "interfaces", "is on lan0 of the LAN and on wan-b of uplink isp-b");
    gateway.run("ip", &["address", "delete", &own, "dev", "lan0"]).unwrap();
    machine.assert_fine(&good);
}

/// Waits until the reason of an uplink's state has some words.
fn wait_for_reason(gateway: &mut Gateway, uplink: &str, words: &str) {
    let says = |status: &Value| {
        let reason = uplink_status(status, uplink)["ipv4"]["reason"].as_str().unwrap_or_default();
        reason.contains(words)
    };
    gateway.daemon.wait_for(words, LIMIT, says).unwrap();
}

#[test]
fn an_outage_says_whether_the_gateway_or_the_internet_is_gone() {
    let mut gateway = Gateway::pair();
    gateway.lab.cut_upstream(0, UpstreamOutage::Silent).unwrap();
    wait_for_reason(&mut gateway, "isp-a", "none of 2 targets answered (1 needed)");
    wait_for_reason(&mut gateway, "isp-a", "the gateway answers, but nothing behind it");
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let diagnosis = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let diagnosis = diagnosis.filter(|event| event["kind"] == "diagnosis");
    assert!(
        diagnosis.clone().any(|event| event["to"] == "internet" && event["uplink"] == "isp-a"),
        "{events}"
    );

    gateway.lab.silence_nexthop(1).unwrap();
    wait_for_reason(&mut gateway, "isp-b", "the gateway does not answer on the link");
    gateway.lab.cut_cable(1).unwrap();
    wait_for_reason(&mut gateway, "isp-b", "no carrier on wan-b");
}
