//! OpenWrt's /etc/config/network: the devices and gateways of interfaces.

use std::net::IpAddr;

use crate::import::{
    model::Draft,
    uci::{self, Section},
    values,
};

/// The interfaces of the file.
pub(super) struct Network {
    interfaces: Vec<Interface>,
}

/// An interface.
pub(super) struct Interface {
    pub(super) name: String,
    /// The device; `None` if it is not known before it is up.
    pub(super) device: Option<String>,
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
    Network { interfaces }
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
    Interface { name: name.into(), device, gateway: gateway.or(gateway6), inside }
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
        let inside = self.interfaces.iter().filter(|interface| interface.inside);
        let devices = inside.filter_map(|interface| interface.device.clone());
        devices.filter(|device| !uplinks.contains(&&**device)).collect()
    }
}
