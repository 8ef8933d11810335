//! Observation of Ethernet interfaces, bonds and their members.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressFlags, AddressMessage},
    link::{
        BondPortState, InfoBond, InfoBondPort, InfoData, InfoPortData, LinkAttribute, LinkFlags,
        LinkInfo, LinkLayerType, LinkMessage, MiiStatus,
    },
};

use super::super::netlink::{Netlink, address_and_flags};
use crate::engine::kernel::bond::{Membership, Options, Port};

/// Names of interfaces by index.
pub(in crate::sys) type LinkNames = BTreeMap<u32, String>;

impl Netlink {
    /// Lists the Ethernet interfaces by name.
    pub(super) async fn ports(&self) -> Result<BTreeMap<String, Port>> {
        let links = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await;
        let links = links.context("failed to list the interfaces")?;
        let links = links.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some((name(&message)?, message)),
            _ => None,
        });
        let links: Vec<(String, LinkMessage)> = links.collect();
        let names = links.iter().map(|(name, link)| (link.header.index, name.clone())).collect();
        let mut ports: BTreeMap<String, Port> = links
            .iter()
            .filter_map(|(name, link)| Some((name.clone(), port(link, &names)?)))
            .collect();
        for (ifindex, address) in self.lasting_addresses().await? {
            let port = names.get(&ifindex).and_then(|name| ports.get_mut(name));
            port.map(|port| port.addresses.insert(address));
        }
        Ok(ports)
    }

    /// Returns the index of an Ethernet interface; `None` if there is none of that name.
    pub(super) async fn ifindex(&self, wanted: &str) -> Result<Option<u32>> {
        Ok(self.ports().await?.get(wanted).map(|port| port.ifindex))
    }

    async fn lasting_addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let messages = self.dump(request).await.context("failed to list the addresses")?;
        let addresses = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => lasting_address(message),
            _ => None,
        });
        Ok(addresses.collect())
    }
}

pub(in crate::sys) fn name(message: &LinkMessage) -> Option<String> {
    // A bridge tells of its ports, too.
    let is_link = message.header.interface_family == AddressFamily::Unspec;
    message.attributes.iter().filter(|_| is_link).find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

pub(in crate::sys) fn port(message: &LinkMessage, names: &LinkNames) -> Option<Port> {
    let flags = message.header.flags;
    let mut port = Port {
        ifindex: message.header.index,
        up: flags.contains(LinkFlags::Up),
        promisc: flags.contains(LinkFlags::Promisc),
        ..Port::default()
    };
    let name = |index: &u32| names.get(index).cloned();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(mac) => port.mac = mac.as_slice().try_into().ok()?,
            LinkAttribute::Mtu(mtu) => port.mtu = *mtu,
            LinkAttribute::Controller(index) => port.master = name(index),
            LinkAttribute::LinkInfo(info) => read_info(&mut port, info, names),
            _ => {}
        }
    }
    (message.header.link_layer_type == LinkLayerType::Ether).then_some(port)
}

fn read_info(port: &mut Port, info: &[LinkInfo], names: &LinkNames) {
    for info in info {
        match info {
            LinkInfo::Data(InfoData::Bond(options)) => {
                let mut read = Options::default();
                options.iter().for_each(|option| read_option(&mut read, option, names));
                port.bond = Some(read);
                port.active = options.iter().find_map(|option| match option {
                    InfoBond::ActivePort(index) => names.get(index).cloned(),
                    _ => None,
                });
            }
            LinkInfo::PortData(InfoPortData::BondPort(facts)) => {
                port.member = Some(Membership {
                    alive: facts.contains(&InfoBondPort::MiiStatus(MiiStatus::Up)),
                    active: facts.contains(&InfoBondPort::BondPortState(BondPortState::Active)),
                });
            }
            _ => {}
        }
    }
}

fn read_option(options: &mut Options, option: &InfoBond, names: &LinkNames) {
    match option {
        InfoBond::Mode(mode) => options.mode = (*mode).into(),
        InfoBond::MiiMon(interval) => options.miimon = *interval,
        InfoBond::ArpInterval(interval) => options.arp_interval = *interval,
        InfoBond::ArpIpTarget(targets) => options.arp_targets = targets.iter().copied().collect(),
        InfoBond::ArpValidate(validate) => {
            // There are seven.
            options.arp_validate = u32::from(*validate) as u8;
        }
        InfoBond::Primary(index) => options.primary = names.get(index).cloned(),
        InfoBond::AdLacpRate(rate) => options.lacp_rate = (*rate).into(),
        InfoBond::XmitHashPolicy(policy) => options.xmit_hash_policy = (*policy).into(),
        _ => {}
    }
}

/// Returns the address in a message, with its interface, if it is permanent and not IPv6
/// link-local.
pub(in crate::sys) fn lasting_address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let (address, flags) = address_and_flags(message)?;
    let address = IpNet::new(address, message.header.prefix_len).ok()?;
    let link_local = matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let lasting = flags.contains(AddressFlags::Permanent) && !link_local;
    lasting.then_some((message.header.index, address))
}
