//! The outer packets of tunnels, as the kernel describes them.

pub(in crate::sys) mod wireguard;

use std::{collections::BTreeMap, net::IpAddr};

use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute,
    LinkInfo, LinkMessage,
};

use crate::engine::kernel::network::Tunnel;

/// Returns the tunnels among interfaces, by index. A WireGuard interface that does not answer
/// counts as a tunnel without endpoints: it may just have gone.
pub(in crate::sys) fn tunnels<'a>(
    links: impl Iterator<Item = &'a LinkMessage>,
) -> BTreeMap<u32, Tunnel> {
    let found = links.filter_map(|message| {
        let ifindex = message.header.index;
        let info = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        })?;
        if info.contains(&LinkInfo::Kind(InfoKind::Wireguard)) {
            let asked = wireguard::tunnel(ifindex);
            let tunnel = asked.unwrap_or_else(|error| {
                tracing::debug!("failed to read the peers of interface {ifindex}: {error}");
                Tunnel::default()
            });
            return Some((ifindex, tunnel));
        }
        let data = info.iter().find_map(|info| match info {
            LinkInfo::Data(data) => Some(data),
            _ => None,
        })?;
        Some((ifindex, from_data(data)?))
    });
    found.collect()
}

/// One property of a tunnel.
enum Said {
    Remote(IpAddr),
    Local(IpAddr),
    Device(u32),
    Fwmark(u32),
    External,
}

fn from_data(data: &InfoData) -> Option<Tunnel> {
    let said: Vec<Said> = match data {
        InfoData::Vxlan(all) => all.iter().filter_map(vxlan).collect(),
        InfoData::Geneve(all) => all.iter().filter_map(geneve).collect(),
        InfoData::GreTun(all) | InfoData::GreTap(all) => all.iter().filter_map(gre).collect(),
        InfoData::GreTun6(all) | InfoData::GreTap6(all) => all.iter().filter_map(gre6).collect(),
        InfoData::IpTunnel(all) => all.iter().filter_map(ip_tunnel).collect(),
        _ => return None,
    };
    // Where there is an Ethernet header, the driver knows the peers by their MAC addresses.
    let by_mac = matches!(data, InfoData::Vxlan(_) | InfoData::Geneve(_));
    let mut tunnel = Tunnel::default();
    for said in said {
        match said {
            Said::Remote(address) if is_endpoint(&address) => {
                tunnel.endpoints.insert(address);
            }
            Said::Local(address) if !address.is_unspecified() => tunnel.local = Some(address),
            Said::Device(device) if device != 0 => tunnel.device = Some(device),
            Said::Fwmark(fwmark) => tunnel.fwmark = fwmark,
            Said::External => tunnel.by_route = true,
            Said::Remote(_) | Said::Local(_) | Said::Device(_) => {}
        }
    }
    tunnel.by_route |= tunnel.endpoints.is_empty() && !by_mac;
    Some(tunnel)
}

/// Returns whether an address is an endpoint. A tunnel may have none, or a whole group.
fn is_endpoint(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

fn vxlan(info: &InfoVxlan) -> Option<Said> {
    Some(match info {
        InfoVxlan::Group(address) => Said::Remote((*address).into()),
        InfoVxlan::Group6(address) => Said::Remote((*address).into()),
        InfoVxlan::Local(address) => Said::Local((*address).into()),
        InfoVxlan::Local6(address) => Said::Local((*address).into()),
        InfoVxlan::Link(device) => Said::Device(*device),
        InfoVxlan::CollectMetadata(true) => Said::External,
        _ => return None,
    })
}

fn geneve(info: &InfoGeneve) -> Option<Said> {
    Some(match info {
        InfoGeneve::Remote(address) => Said::Remote((*address).into()),
        InfoGeneve::Remote6(address) => Said::Remote((*address).into()),
        InfoGeneve::CollectMetadata => Said::External,
        _ => return None,
    })
}

fn gre(info: &InfoGre) -> Option<Said> {
    Some(match info {
        InfoGre::Remote(address) => Said::Remote((*address).into()),
        InfoGre::Local(address) => Said::Local((*address).into()),
        InfoGre::Link(device) => Said::Device(*device),
        InfoGre::FwMask(fwmark) => Said::Fwmark(*fwmark),
        InfoGre::CollectMetadata => Said::External,
        _ => return None,
    })
}

fn gre6(info: &InfoGre6) -> Option<Said> {
    Some(match info {
        InfoGre6::Remote(address) => Said::Remote((*address).into()),
        InfoGre6::Local(address) => Said::Local((*address).into()),
        InfoGre6::Link(device) => Said::Device(*device),
        InfoGre6::FwMask(fwmark) => Said::Fwmark(*fwmark),
        InfoGre6::CollectMetadata => Said::External,
        _ => return None,
    })
}

/// Reads a property of `ipip`, `sit` or `ip6tnl`.
fn ip_tunnel(info: &InfoIpTunnel) -> Option<Said> {
    Some(match info {
        InfoIpTunnel::Remote(address) => Said::Remote(*address),
        InfoIpTunnel::Local(address) => Said::Local(*address),
        InfoIpTunnel::Link(device) => Said::Device(*device),
        InfoIpTunnel::FwMark(fwmark) => Said::Fwmark(*fwmark),
        InfoIpTunnel::CollectMetadata => Said::External,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_a_tunnel_is_tied_to_is_read_and_what_it_is_not_tied_to_is_not() {
        let (near, far) = (Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(198, 51, 100, 1));
        let none = Ipv4Addr::UNSPECIFIED;
        let tied = InfoData::GreTun(vec![
            InfoGre::Link(7),
            InfoGre::Local(near),
            InfoGre::Remote(far),
            InfoGre::FwMask(9),
        ]);
        let tunnel = Tunnel {
            endpoints: [far.into()].into(),
            local: Some(near.into()),
            device: Some(7),
            fwmark: 9,
            by_route: false,
        };
        assert_eq!(from_data(&tied), Some(tunnel));
        let free = InfoData::GreTun(vec![
            InfoGre::Link(0),
            InfoGre::Local(none),
            InfoGre::Remote(none),
            InfoGre::FwMask(0),
        ]);
        assert_eq!(from_data(&free), Some(Tunnel { by_route: true, ..Tunnel::default() }));
        let group = InfoData::Vxlan(vec![InfoVxlan::Group(Ipv4Addr::new(239, 1, 1, 1))]);
        assert_eq!(from_data(&group), Some(Tunnel::default()), "a group is no endpoint");
        assert_eq!(from_data(&InfoData::MacVlan(vec![])), None);
    }

    #[test]
    fn drivers_that_need_the_route_of_each_packet_are_known() {
        let (near, far) = (Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(198, 51, 100, 1));
        let by_route = |data: &InfoData| from_data(data).expect("a tunnel").by_route;
        let local = || InfoIpTunnel::Local(near.into());
        let sixrd =
            InfoData::IpTunnel(vec![local(), InfoIpTunnel::Remote(Ipv4Addr::UNSPECIFIED.into())]);
        let fixed = InfoData::IpTunnel(vec![local(), InfoIpTunnel::Remote(far.into())]);
        assert_eq!([&sixrd, &fixed].map(by_route), [true, false]);
        let external = InfoData::GreTun(vec![InfoGre::Remote(far), InfoGre::CollectMetadata]);
        assert!(by_route(&external));
        let vxlan = |external| InfoData::Vxlan(vec![InfoVxlan::CollectMetadata(external)]);
        assert_eq!([true, false].map(|external| by_route(&vxlan(external))), [true, false]);
    }
}
