//! More about interfaces than routing needs: their masters and further names.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkInfo, LinkMessage, Prop},
};

use super::Netlink;
use crate::engine::mistakes::Device;

impl Netlink {
    /// Returns what interfaces are part of, and how else they are called, by index.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer.
    pub async fn devices(&self) -> Result<BTreeMap<u32, Device>> {
        let messages = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await;
        let messages = messages.context("failed to list the interfaces")?;
        let devices = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some((message.header.index, device(message))),
            _ => None,
        });
        Ok(devices.collect())
    }
}

fn device(message: &LinkMessage) -> Device {
    let mut device = Device::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Controller(master) if *master != 0 => device.master = Some(*master),
            LinkAttribute::LinkInfo(info) => {
                let kind = info.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                device.kind = kind.unwrap_or_default();
            }
            LinkAttribute::Address(address) => device.mac = address.as_slice().try_into().ok(),
            LinkAttribute::PropList(list) => {
                let names = list.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                });
                device.alternative_names = names.collect();
            }
            _ => {}
        }
    }
    device
}
