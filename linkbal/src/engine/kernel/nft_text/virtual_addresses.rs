//! The translation to addresses that move between two gateways.
//!
//! When a masqueraded connection loses its address or its interface, the kernel deletes it
//! (`masq_device_event` and `masq_inet_event` in net/netfilter/nf_nat_masquerade.c), and conntrackd
//! tells the partner. `snat` keeps the connection, and can use the address before it is here.

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{NftUplink, family};

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
    let first = |translated: &Family| {
        let is_ipv4 = *translated == Family::Ipv4;
        uplink.virtual_addresses.iter().find(|address| address.is_ipv4() == is_ipv4)
    };
    let each = uplink.translates.iter().filter_map(first).map(|address| {
        let (family, protocol) = (family(address), if address.is_ipv4() { "ipv4" } else { "ipv6" });
        format!(
            "    oifname \"{ifname}\"{marked} meta nfproto {protocol} snat {family} to {address}\n"
        )
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;
    use crate::engine::kernel::nft_text::tests;

    fn uplink(sole_on_interface: bool, translates: &[Family]) -> NftUplink {
        let addresses = ["203.0.113.2", "203.0.113.3", "2001:db8:a::2"];
        NftUplink {
            ifname: "wan-a".into(),
            index: 0,
            sole_on_interface,
            addresses: Vec::new(),
            prefixes: Vec::new(),
            npt: None,
            translates: translates.into(),
            virtual_addresses: addresses.map(|text| text.parse().expect("an address")).into(),
            ..tests::uplink("wan-a", 0, sole_on_interface)
        }
    }

    #[test]
    fn the_first_virtual_address_of_each_family_is_translated_to() {
        let mask = MarkMask(DEFAULT_MASK);
        let [ipv4, ipv6] = [
            "    oifname \"wan-a\" meta nfproto ipv4 snat ip to 203.0.113.2\n",
            "    oifname \"wan-a\" meta nfproto ipv6 snat ip6 to 2001:db8:a::2\n",
        ];
        let text = translation(&uplink(true, &Family::ALL), mask);
        assert_eq!(text, [ipv4, ipv6].concat());
        assert_eq!(translation(&uplink(true, &[Family::Ipv4]), mask), ipv4);
        let marked = " meta mark & 0x1f000000 == 0x01000000 meta";
        let shared = [ipv4, ipv6].concat().replace(" meta", marked);
        assert_eq!(translation(&uplink(false, &Family::ALL), mask), shared);
    }
}
