//! Properties of interfaces that matter for programs at their drivers, as the kernel tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use nix::ifaddrs::getifaddrs;

use crate::sys::netlink::generic::{dump, nlas};

/// Constants of include/uapi/linux/netdev.h.
const FAMILY: &[u8] = b"netdev\0";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 1 << 2;

/// Drivers of Linux 6.1 that send frames for others once they run a program themselves; later kernels
/// tell.
const SENDERS: [&str; 10] =
    ["bnxt_en", "ena", "i40e", "ice", "igb", "igc", "ixgbe", "mlx5_core", "mvneta", "virtio_net"];

/// The driver of pairs of interfaces, which send if the other end is ready.
pub(super) const VETH: &str = "veth";

/// The interfaces as they are now.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// MAC addresses by name.
    addresses: BTreeMap<String, [u8; 6]>,
    /// The interfaces whose drivers send frames of others; `None` if this kernel does not tell.
    senders: Option<BTreeSet<u32>>,
    /// Names of the interfaces with VLANs on them.
    with_vlans: BTreeSet<String>,
}

impl Devices {
    /// Looks at all interfaces, in the network namespace of the calling thread.
    pub(super) fn observe() -> Devices {
        let addresses = getifaddrs().into_iter().flatten().filter_map(|interface| {
            let address = interface.address?.as_link_addr()?.addr()?;
            Some((interface.interface_name, address))
        });
        let vlans = fs::read_to_string("/proc/thread-self/net/vlan/config");
        Devices {
            addresses: addresses.collect(),
            senders: senders().ok(),
            with_vlans: parents(&vlans.unwrap_or_default()),
        }
    }

    /// Returns the MAC address of an interface.
    pub(super) fn address(&self, name: &str) -> Option<[u8; 6]> {
        self.addresses.get(name).copied()
    }

    /// Returns whether an interface has VLANs on it.
    pub(super) fn has_vlans(&self, name: &str) -> bool {
        self.with_vlans.contains(name)
    }

    /// Returns whether the driver of an interface, which runs a program, sends frames of others; `None`
    /// if one has to try.
    pub(super) fn sends(&self, ifindex: u32, driver: &str) -> Option<bool> {
        match &self.senders {
            Some(senders) => Some(senders.contains(&ifindex)),
            None if driver == VETH => None,
            None => Some(SENDERS.contains(&driver)),
        }
    }
}

/// Asks which interfaces send frames of others.
///
/// # Errors
///
/// As the kernel answers: before Linux 6.3 it does not know.
fn senders() -> io::Result<BTreeSet<u32>> {
    let mut senders = BTreeSet::new();
    dump(FAMILY, NETDEV_CMD_DEV_GET, &[], |body| senders.extend(sender(body)))?;
    Ok(senders)
}

/// Returns the index of the interface that a message is about, if it sends frames of others.
fn sender(body: &[u8]) -> Option<u32> {
    let value = |kind| nlas(body).find(|nla| nla.kind() == kind).map(|nla| nla.value().to_vec());
    let features = value(NETDEV_A_DEV_XDP_FEATURES)?.try_into().map(u64::from_ne_bytes).ok()?;
    let ifindex = value(NETDEV_A_DEV_IFINDEX)?.try_into().map(u32::from_ne_bytes).ok()?;
    (features & NETDEV_XDP_ACT_NDO_XMIT != 0).then_some(ifindex)
}

/// Returns the last column of the list of VLANs: name, number, and the interface below.
fn parents(list: &str) -> BTreeSet<String> {
    let columns = list.lines().map(|line| line.split('|').collect::<Vec<_>>());
    let parents = columns.filter_map(|columns| match columns[..] {
        [_, number, parent] if number.trim().parse::<u16>().is_ok() => Some(parent.trim().into()),
        _ => None,
    });
    parents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::wire::nla;

    #[test]
    fn interfaces_that_send_frames_are_told_from_others() {
        let message = |features: u64| {
            let parts = [
                nla(NETDEV_A_DEV_IFINDEX, &7u32.to_ne_bytes()),
                nla(NETDEV_A_DEV_XDP_FEATURES, &features.to_ne_bytes()),
            ];
            parts.concat()
        };
        assert_eq!(sender(&message(0b111)), Some(7));
        assert_eq!(sender(&message(0b011)), None);
        assert_eq!(sender(&message(0b111)[..8]), None);
    }

    #[test]
    fn interfaces_below_vlans_are_read() {
        let list = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    wan.10         | 10  | eth0\nlan7           | 7  | eth1\n";
        assert_eq!(parents(list), ["eth0", "eth1"].map(str::to_owned).into());
    }
}
