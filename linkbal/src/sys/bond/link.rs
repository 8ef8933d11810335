//! Requests that change bonds and their members.

use std::{io, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        BondArpValidate, InfoBond, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
};

use super::super::netlink::Netlink;
use crate::{
    engine::kernel::bond::{BondChange, BondOption},
    sys::host::child::{self, Invocation, NoAnswer},
};

impl Netlink {
    /// Creates a bond that is down and has no members; an existing one gets the mode, if possible.
    pub(super) async fn create_bond(&self, name: &str, mode: u8) -> Result<()> {
        load_module().await;
        let message = bond_message(name, vec![InfoBond::Mode(mode.into())]);
        let request = RouteNetlinkMessage::NewLink(message.clone());
        let created = self.change(request, NLM_F_CREATE | NLM_F_EXCL).await;
        let created = match created.as_ref().err().and_then(io::Error::raw_os_error) {
            // The module made it when it was loaded just now.
            Some(libc::EEXIST) => self.change(RouteNetlinkMessage::NewLink(message), 0).await,
            _ => created,
        };
        let unknown = created.as_ref().err().and_then(io::Error::raw_os_error);
        created.with_context(|| match unknown {
            Some(libc::EOPNOTSUPP) => format!(
                "failed to create bond {name}: this kernel has no bonding driver (CONFIG_BONDING); \
                 install the kernel's modules, or take the bond out of the configuration"
            ),
            _ => format!("failed to create bond {name}"),
        })
    }

    /// Sends a request for a change of an interface; one that is gone is a success.
    pub(super) async fn set_link(
        &self,
        change: &BondChange,
        request: RouteNetlinkMessage,
    ) -> Result<()> {
        let done = self.change(request, 0).await;
        match done.as_ref().err().and_then(io::Error::raw_os_error) {
            Some(libc::ENODEV) => Ok(()),
            _ => done.with_context(|| format!("failed to carry out a change of {change}")),
        }
    }

    /// Adds an address if it is to be `present`, otherwise deletes it.
    pub(super) async fn set_address(
        &self,
        name: &str,
        address: IpNet,
        present: bool,
    ) -> Result<()> {
        let Some(ifindex) = self.ifindex(name).await? else { return Ok(()) };
        let message = address_message(ifindex, address);
        let (done, verb) = if present {
            let request = RouteNetlinkMessage::NewAddress(message);
            (self.change(request, NLM_F_CREATE | NLM_F_EXCL).await, "add")
        } else {
            (self.change(RouteNetlinkMessage::DelAddress(message), 0).await, "delete")
        };
        match done.as_ref().err().and_then(io::Error::raw_os_error) {
            Some(libc::EEXIST) if present => Ok(()),
            Some(libc::EADDRNOTAVAIL | libc::ENODEV) if !present => Ok(()),
            _ => done.with_context(|| format!("failed to {verb} address {address} of {name}")),
        }
    }

    /// Returns an option as the kernel wants it.
    pub(super) async fn info(&self, option: &BondOption) -> Result<InfoBond> {
        Ok(match option {
            BondOption::Mode(mode) => InfoBond::Mode((*mode).into()),
            BondOption::Miimon(interval) => InfoBond::MiiMon(*interval),
            BondOption::ArpInterval(interval) => InfoBond::ArpInterval(*interval),
            BondOption::ArpTargets(targets) => {
                InfoBond::ArpIpTarget(targets.iter().copied().collect())
            }
            BondOption::ArpValidate(validate) => {
                InfoBond::ArpValidate(BondArpValidate::from(u32::from(*validate)))
            }
            // Index 0: none.
            BondOption::Primary(None) => InfoBond::Primary(0),
            BondOption::Primary(Some(member)) => {
                InfoBond::Primary(self.ifindex(member).await?.unwrap_or(0))
            }
            BondOption::LacpRate(rate) => InfoBond::AdLacpRate((*rate).into()),
            BondOption::XmitHashPolicy(policy) => InfoBond::XmitHashPolicy((*policy).into()),
        })
    }
}

/// Loads the bonding module without its default bond0. If this fails, the kernel tries by itself
/// when it is asked for a bond.
async fn load_module() {
    if !Path::new("/sys/module/bonding").exists() {
        let invocation = Invocation::new("modprobe", &["-q", "bonding", "max_bonds=0"]);
        match child::run(invocation, |_| {}).await {
            Err(error) if error.is::<NoAnswer>() => tracing::warn!("{error}"),
            loaded => tracing::debug!("modprobe bonding: {loaded:?}"),
        }
    }
}

/// Builds a message about the interface of that name.
pub(super) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

pub(super) fn bond_message(name: &str, options: Vec<InfoBond>) -> LinkMessage {
    let mut message = named(name);
    let info = vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(options))];
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}

pub(super) fn with(name: &str, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = named(name);
    message.attributes.push(attribute);
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn flag(name: &str, flag: LinkFlags, on: bool) -> RouteNetlinkMessage {
    let mut message = named(name);
    message.header.change_mask = flag;
    message.header.flags = if on { flag } else { LinkFlags::empty() };
    RouteNetlinkMessage::SetLink(message)
}

/// Builds a message about an address, with the broadcast address that `ip address add .. brd +`
/// gives an IPv4 address.
fn address_message(ifindex: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    let attributes = &mut message.attributes;
    attributes.extend([
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ]);
    match address.broadcast() {
        IpAddr::V4(broadcast) if address.prefix_len() < 31 => {
            attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        _ => {}
    }
    message
}
