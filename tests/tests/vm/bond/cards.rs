//! A gateway with two network cards at one switch, where both providers' routers are, too.

use std::fmt::Write as _;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use serde_json::Value;

use crate::fixture::with_key;

/// The gateway's cards.
pub(crate) const NAMES: [&str; 2] = ["nic0", "nic1"];

/// The switch; port `NAME` leads to the card of that name.
pub(crate) struct Cards {
    switch: Namespace,
}

impl Cards {
    /// Connects cards and routers in place of a link for each provider. The first card is up and
    /// has an address, the second one is down.
    pub(crate) fn connect(lab: &Lab) -> Cards {
        let cards = Cards { switch: Namespace::new("switch").unwrap() };
        lab.gateway.ip_batch("link delete wan-a\nlink delete wan-b\n").unwrap();
        cards.switch.ip_batch("link add br0 type bridge\nlink set br0 up\n").unwrap();
        for (index, uplink) in lab.uplinks.iter().enumerate() {
            cards.add_port(&format!("isp{index}"), "cust0", &uplink.provider);
            let mut lines = String::from("link set cust0 up\n");
            for (family, length) in Family::ALL.into_iter().zip([30, 64]) {
                let nodad = if family == Family::V6 { " nodad" } else { "" };
                let own = plan::nexthop(family, index);
                let _ = writeln!(lines, "address add {own}/{length} dev cust0{nodad}");
            }
            uplink.provider.ip_batch(&lines).unwrap();
        }
        for name in NAMES {
            cards.add(lab, name);
        }
        lab.gateway.ip_batch("link set nic0 mtu 1480\nlink set nic0 up\naddress add 2001:db8:77::1/64 dev nic0\n").unwrap();
        cards
    }

    /// Puts a card into the gateway.
    pub(crate) fn add(&self, lab: &Lab, name: &str) {
        self.add_port(name, name, &lab.gateway);
    }

    fn add_port(&self, port: &str, peer: &str, of: &Namespace) {
        let of = of.name();
        self.switch
            .ip_batch(&format!(
                "link add {port} type veth peer name {peer} netns {of}\n\
                 link set {port} master br0\nlink set {port} up\n"
            ))
            .unwrap();
    }

    /// Pulls the cable of a card.
    pub(crate) fn pull(&self, name: &str) {
        self.switch.ip_batch(&format!("link set {name} down")).unwrap();
    }

    /// Plugs the cable of a card in again.
    pub(crate) fn plug(&self, name: &str) {
        self.switch.ip_batch(&format!("link set {name} up")).unwrap();
    }
}

/// Returns the section of a bond of both cards, with both providers' addresses.
pub(crate) fn bond(mode: &str, options: &str) -> String {
    let addresses = (0..2).flat_map(|index| {
        Family::ALL.into_iter().zip([30, 64]).map(move |(family, length)| {
            format!("\"{}/{length}\"", plan::uplink_address(family, index))
        })
    });
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    format!(
        "[bond.bond0]\nmode = \"{mode}\"\nmembers = [\"nic0\", \"nic1\"]\n\
         addresses = [{addresses}]\n{options}\n"
    )
}

/// Returns the configuration `base` of a lab, with both uplinks on a bond.
pub(crate) fn config(base: &str, bond: &str) -> String {
    let shared = base.replace("\"wan-a\"", "\"bond0\"").replace("\"wan-b\"", "\"bond0\"");
    let shared = (0..2).fold(shared, |config, index| {
        let [ipv4, ipv6] = Family::ALL.map(|family| plan::nexthop(family, index));
        let gateway = format!("gateway = {{ ipv4 = \"{ipv4}\", ipv6 = \"{ipv6}\" }}");
        with_key(&config, ["isp-a", "isp-b"][index], &gateway)
    });
    // A guest is slow: its own lateness shall not look like a dead uplink.
    format!("{bond}{shared}failure_count = 8\n")
}

/// Returns the kernel's state of the gateway's cards and bonds, without what changes by itself: the
/// active member, the states of members and of LACP, the operational state, and the queueing
/// discipline of a card.
pub(crate) fn facts(lab: &Lab) -> Value {
    let mut links = oracle::ip_json(&lab.gateway, &["-d", "address", "show"]).unwrap();
    let all = links.as_array_mut().unwrap();
    let ours =
        |link: &Value| link["ifname"] == "bond0" || NAMES.iter().any(|n| link["ifname"] == *n);
    all.retain(ours);
    for link in all {
        let link = link.as_object_mut().unwrap();
        link.remove("qdisc");
        link.remove("operstate");
        link.get_mut("linkinfo").and_then(Value::as_object_mut).map(|info| {
            info.remove("info_slave_data");
            info.get_mut("info_data").and_then(Value::as_object_mut).map(|data| {
                data.remove("active_slave");
                data.remove("ad_info")
            })
        });
        let addresses = link.get_mut("addr_info").and_then(Value::as_array_mut).unwrap();
        // In whatever order they came.
        addresses.sort_by_key(|address| address["local"].to_string());
    }
    links
}
