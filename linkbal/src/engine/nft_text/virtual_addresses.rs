//! The translation to addresses that move between two gateways.
//!
//! When a masqueraded connection loses its address or its interface, the kernel deletes it
//! (`masq_device_event` and `masq_inet_event` in net/netfilter/nf_nat_masquerade.c), and conntrackd
//! tells the partner. `snat` keeps it; and it knows the address before it is here.

use linkbal_common::mark::MarkMask;

use super::{NftUplink, family};
use crate::config::Ipv6;

/// Returns the rules that translate to the first virtual address of each family.
pub(super) fn translation(uplink: &NftUplink, mask: MarkMask) -> String {
    let NftUplink { ifname, index, sole_on_interface, .. } = uplink;
    // Others may share the interface.
    let marked = match sole_on_interface {
        true => String::new(),
        false => {
            format!(" meta mark & {:#010x} == {:#010x}", mask.number(), mask.encode(*index))
        }
    };
    let first = |is_ipv4: bool| {
        uplink.virtual_addresses.iter().find(|address| address.is_ipv4() == is_ipv4)
    };
    let ipv6 = first(false).filter(|_| uplink.ipv6 != Ipv6::Off);
    let each = first(true).into_iter().chain(ipv6).map(|address| {
        let (family, protocol) = (family(address), if address.is_ipv4() { "ipv4" } else { "ipv6" });
        format!(
            "    oifname \"{ifname}\"{marked} meta nfproto {protocol} snat {family} to {address}\n"
        )
    });
    each.collect()
}
