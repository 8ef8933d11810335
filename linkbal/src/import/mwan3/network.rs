//! OpenWrt's /etc/config/network: the devices and gateways of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::import::{
    excluded::MainTable,
    model::Draft,
    uci::{self, Section},
    values,
};

/// The interfaces of the file.
pub(super) struct Network {
    interfaces: Vec<Interface>,
    /// Destinations of static routes.
    routes: Vec<IpNet>,
}

/// An interface.
pub(super) struct Interface {
    pub(super) name: String,
    /// The device; `None` if it is not known before it is up.
    pub(super) device: Option<String>,
    /// The device that is written there: the lower one of a session.
    written: Option<String>,
    /// Lower ones have the default route.
    metric: u32,
    /// A gateway that is written there.
    pub(super) gateway: Option<IpAddr>,
    inside: bool,
}

/// Reads the file; what is not understood is left out.
pub(super) fn read(text: &str) -> Network {
    let file = uci::parse(text);
    let sections = file.sections.iter().filter(|section| section.kind == "interface");
    let mut interfaces: Vec<Interface> = sections.map(interface).collect();
    // An alias has the device of another interface.
    for at in 0..interfaces.len() {
        let alias = interfaces[at].device.as_deref().and_then(|device| device.strip_prefix('@'));
        if let Some(of) = alias.map(str::to_owned) {
            let device =
                interfaces.iter().find(|one| one.name == of).and_then(|one| one.device.clone());
            interfaces[at].device = device.filter(|device| !device.starts_with('@'));
        }
    }
    let routes =
        file.sections.iter().filter(|section| matches!(&*section.kind, "route" | "route6"));
    Network { interfaces, routes: routes.flat_map(destinations).collect() }
}

fn interface(section: &Section) -> Interface {
    let get = |key| section.get(key).map(|option| option.value.as_str());
    let proto = get("proto").unwrap_or("none");
    let written = get("device").or(get("ifname")).filter(|device| !device.is_empty());
    let name = section.name.as_str();
    let device = match proto {
        "pppoe" | "pppoa" | "pptp" | "l2tp" => Some(format!("{proto}-{name}")),
        "3g" => Some(format!("3g-{name}")),
        "wireguard" => Some(name.to_owned()),
        "qmi" | "mbim" | "modemmanager" | "wwan" => None,
        _ if get("type") == Some("bridge") => Some(format!("br-{name}")),
        _ => written.and_then(|device| device.split_whitespace().next()).map(str::to_owned),
    };
    let gateway = get("gateway").and_then(values::host);
    let gateway6 = get("ip6gw").and_then(values::host);
    let device = device.filter(|device| device.starts_with('@') || values::is_device(device));
    let local = device.as_deref() == Some("lo") || written == Some("lo");
    let inside = proto == "static" && gateway.is_none() && gateway6.is_none() && !local;
    Interface {
        name: name.into(),
        device,
        written: written.map(str::to_owned),
        metric: get("metric").and_then(|text| text.parse().ok()).unwrap_or(0),
        gateway: gateway.or(gateway6),
        inside,
    }
}

/// Returns the destinations of a static route, but those of a default route.
fn destinations(section: &Section) -> Vec<IpNet> {
    let get = |key| section.get(key).map(|option| option.value.as_str());
    let target = get("target").unwrap_or("any");
    let text = match get("netmask") {
        Some(mask) => format!("{target}/{mask}"),
        None => target.to_owned(),
    };
    let nets = values::prefixes(&text).unwrap_or_default();
    nets.into_iter().filter(|net| !values::is_whole_family(net)).collect()
}

impl Network {
    /// Returns the interface that is called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// Returns the devices of the LAN: those with an address of their own that are no uplink.
    pub(super) fn lan(&self, draft: &Draft) -> Vec<String> {
        let uplinks: Vec<&str> =
            draft.uplinks.iter().filter_map(|uplink| uplink.device.name()).collect();
        // A modem's own page may have a network of its own below a PPPoE session.
        let named = |interface: &&Interface| draft.uplink(&interface.name).is_some();
        let lower = self.interfaces.iter().filter(named);
        let lower: Vec<&str> = lower.filter_map(|one| one.written.as_deref()).collect();
        let inside = self.interfaces.iter().filter(|interface| interface.inside);
        let devices = inside.filter_map(|interface| interface.device.clone());
        let taken = |device: &str| uplinks.contains(&device) || lower.contains(&device);
        devices.filter(|device| !taken(device)).collect()
    }

    /// Returns what the main table has: static routes, and the default route of the uplink with the
    /// least metric. Several with it are none.
    pub(super) fn main_table(&self, draft: &Draft) -> MainTable {
        let mut metrics: Vec<(u32, &str)> = Vec::new();
        for uplink in &draft.uplinks {
            metrics.extend(self.get(&uplink.id).map(|known| (known.metric, &*uplink.id)));
        }
        let least = metrics.iter().map(|(metric, _)| *metric).min();
        let mut first = metrics.iter().filter(|(metric, _)| Some(*metric) == least);
        let uplink =
            first.next().filter(|_| first.next().is_none()).map(|(_, id)| (*id).to_owned());
        MainTable { uplink, routes: self.routes.clone() }
    }
}
