//! Prefixes of providers in the nft table: sources that are kept, translated address by address, or
//! refused.

use std::net::IpAddr;

use ipnet::IpNet;
use linkbal_common::mark::{MarkMask, REJECT};

use super::NftUplink;
use crate::config::Npt;

/// The families by the names of their headers, each with the ICMP error for a refused source: the
/// specific one in IPv6 (RFC 4443 section 3.1, code 5), and the general one that covers this case
/// in IPv4 (RFC 1812 section 5.2.7.1, code 13).
pub(super) const FAMILIES: [(&str, &str); 2] =
    [("ip", "icmp admin-prohibited"), ("ip6", "icmpv6 policy-fail")];

/// Returns the prefixes of a family as elements of a set; `None` if there are none.
pub(super) fn listed(family: &str, prefixes: &[IpNet]) -> Option<String> {
    let of_family = prefixes.iter().filter(|prefix| super::family(&prefix.addr()) == family);
    let of_family: Vec<String> = of_family.map(IpNet::to_string).collect();
    (!of_family.is_empty()).then(|| of_family.join(", "))
}

/// Returns the match for packets that leave by an uplink: on a shared interface, packets of this
/// uplink, or of none.
pub(super) fn leaving(uplink: &NftUplink, mask: MarkMask) -> String {
    let NftUplink { ifname, index, sole_on_interface, .. } = uplink;
    let (number, fwmark) = (mask.number(), mask.encode(*index));
    if *sole_on_interface {
        format!("oifname \"{ifname}\"")
    } else {
        format!("oifname \"{ifname}\" meta mark & {number:#010x} {{ 0x00000000, {fwmark:#010x} }}")
    }
}

/// Returns the rules for sources that are kept, or get the uplink's prefix in place of theirs.
pub(super) fn kept(uplink: &NftUplink, mask: MarkMask) -> String {
    let leaving = leaving(uplink, mask);
    let kept = FAMILIES.iter().filter_map(|(family, _)| {
        let prefixes = listed(family, &uplink.prefixes)?;
        Some(format!("    {leaving} {family} saddr {{ {prefixes} }} accept\n"))
    });
    let mapped = uplink.npt.map(|Npt { internal, external }| {
        format!("    {leaving} ip6 saddr {internal} snat ip6 prefix to {external}\n")
    });
    kept.chain(mapped).collect()
}

/// Returns the chain for connections from outside to prefixes that are translated address by
/// address. The uplink's own addresses stay the gateway's.
pub(super) fn inbound(uplinks: &[&NftUplink]) -> String {
    let rules: String = uplinks.iter().filter_map(|uplink| mapped_back(uplink)).collect();
    if rules.is_empty() {
        return rules;
    }
    format!(
        "  chain inbound {{
    type nat hook prerouting priority dstnat + 5; policy accept;
{rules}  }}
"
    )
}

fn mapped_back(uplink: &NftUplink) -> Option<String> {
    let Npt { internal, external } = uplink.npt?;
    let ifname = &uplink.ifname;
    let own = uplink.addresses.iter().filter(|address| matches!(address, IpAddr::V6(_)));
    let own = own.map(|address| format!("    iifname \"{ifname}\" ip6 daddr {address} accept\n"));
    let rule =
        format!("    iifname \"{ifname}\" ip6 daddr {external} dnat ip6 prefix to {internal}\n");
    Some(own.collect::<String>() + &rule)
}

/// Returns the rules that refuse packets whose source's uplink is down, before the ip rules of
/// sources lead them there; `None` if there are no such sources.
pub(super) fn refusal(uplinks: &[&NftUplink], mask: MarkMask) -> Option<String> {
    let prefixes: Vec<IpNet> =
        uplinks.iter().flat_map(|uplink| &uplink.prefixes).copied().collect();
    let numbers = mask.number() | mask.proposal();
    let refused = mask.propose(0, REJECT);
    let rules = FAMILIES.iter().filter_map(|(family, reason)| {
        let prefixes = listed(family, &prefixes)?;
        Some(format!(
            "    meta mark & {numbers:#010x} == {refused:#010x} {family} saddr {{ {prefixes} }} \
             reject with {reason}\n"
        ))
    });
    Some(rules.collect()).filter(|rules: &String| !rules.is_empty())
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv6Net;
    use linkbal_common::{mark::DEFAULT_MASK, uplink::Family};

    use super::{
        super::{Nft, NftFirewall, NftValidation, ruleset},
        *,
    };
    use crate::engine::kernel::nft_text;

    fn net(text: &str) -> Ipv6Net {
        text.parse().expect("a prefix")
    }

    fn uplink(ifname: &str, index: u32, address: &str, prefix: &str, npt: bool) -> NftUplink {
        let external = net(prefix);
        let npt = npt.then(|| Npt { internal: net("fd00::/64"), external });
        NftUplink {
            ifname: ifname.into(),
            index,
            sole_on_interface: true,
            addresses: vec![address.parse().expect("an address")],
            prefixes: vec![external.into()],
            npt,
            translates: Family::ALL.into(),
            ..nft_text::tests::uplink(ifname, index, true)
        }
    }

    fn table(uplinks: Vec<NftUplink>) -> String {
        ruleset(&Nft {
            uplinks,
            mask: MarkMask(DEFAULT_MASK),
            lan: Vec::new(),
            lan_indexes: Vec::new(),
            others: false,
            bridged: false,
            ipsec: false,
            exempt: Vec::new(),
            firewall: NftFirewall::default(),
            validation: NftValidation::default(),
        })
    }

    #[test]
    fn a_providers_sources_are_kept_the_inner_ones_mapped_and_all_others_translated() {
        let text = table(vec![
            uplink("wan-a", 0, "2001:db8:a::2", "2001:db8:a:1::/64", true),
            uplink("wan-b", 1, "2001:db8:b::2", "2001:db8:b:100::/56", false),
        ]);
        for expected in [
            r#"
    meta mark & 0x3f000000 == 0x32000000 ip6 saddr { 2001:db8:a:1::/64, 2001:db8:b:100::/56 } reject with icmpv6 policy-fail
"#,
            r#"
  chain inbound {
    type nat hook prerouting priority dstnat + 5; policy accept;
    iifname "wan-a" ip6 daddr 2001:db8:a::2 accept
    iifname "wan-a" ip6 daddr 2001:db8:a:1::/64 dnat ip6 prefix to fd00::/64
  }
  chain translation_0 {
    ip6 saddr { 2001:db8:a::2 } accept
    masquerade
  }
  chain translation_1 {
    ip6 saddr { 2001:db8:b::2 } accept
    masquerade
  }
  chain postrouting {
    type nat hook postrouting priority srcnat + 5; policy accept;
    oifname "wan-a" ip6 saddr { 2001:db8:a:1::/64 } accept
    oifname "wan-a" ip6 saddr fd00::/64 snat ip6 prefix to 2001:db8:a:1::/64
    oifname "wan-b" ip6 saddr { 2001:db8:b:100::/56 } accept
    oifname vmap { "wan-a" : goto translation_0, "wan-b" : goto translation_1 }
  }
"#,
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn on_a_shared_interface_the_mark_says_whose_sources_are_kept() {
        let shared = NftUplink {
            sole_on_interface: false,
            ..uplink("wan", 0, "2001:db8::2", "2001:db8:a::/64", true)
        };
        let text = table(vec![shared]);
        let both = "oifname \"wan\" meta mark & 0x1f000000 { 0x00000000, 0x01000000 } ip6 saddr";
        assert!(text.contains(&format!("{both} {{ 2001:db8:a::/64 }} accept\n")), "{text}");
        let mapped = format!("{both} fd00::/64 snat ip6 prefix to 2001:db8:a::/64\n");
        assert!(text.contains(&mapped), "{text}");
        let arrivals = "    ip6 daddr vmap { 2001:db8::2 : goto from_0 }
    ip6 daddr vmap { 2001:db8:a::/64 : goto from_0 }\n";
        assert!(text.contains(arrivals), "{text}");
    }

    #[test]
    fn sources_of_ipv4_are_kept_and_refused_in_its_own_words() {
        let mut both = uplink("wan-a", 0, "203.0.113.2", "2001:db8:a::/56", false);
        both.prefixes.push("198.51.100.64/28".parse().expect("a prefix"));
        let text = table(vec![both]);
        for expected in [
            r#"
    meta mark & 0x3f000000 == 0x32000000 ip saddr { 198.51.100.64/28 } reject with icmp admin-prohibited
    meta mark & 0x3f000000 == 0x32000000 ip6 saddr { 2001:db8:a::/56 } reject with icmpv6 policy-fail
"#,
            r#"
    oifname "wan-a" ip saddr { 198.51.100.64/28 } accept
    oifname "wan-a" ip6 saddr { 2001:db8:a::/56 } accept
    oifname vmap { "wan-a" : goto translation_0 }
"#,
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn each_interface_is_masqueraded_in_the_families_that_it_translates() {
        let with = |ifname: &str, index, translates: &[Family]| NftUplink {
            translates: translates.to_vec(),
            prefixes: Vec::new(),
            ..uplink(ifname, index, "192.0.2.2", "2001:db8::/64", false)
        };
        let text = table(vec![
            with("wan-a", 0, &[Family::Ipv4]),
            with("wan-b", 1, &Family::ALL),
            with("wan-c", 2, &[Family::Ipv6]),
            with("wan-d", 3, &[]),
        ]);
        let rules = [
            "    meta nfproto ipv4 masquerade\n",
            "    masquerade\n",
            "    meta nfproto ipv6 masquerade\n",
            "",
        ];
        for (index, rule) in rules.iter().enumerate() {
            let chain = format!(
                "  chain translation_{index} {{\n    ip saddr {{ 192.0.2.2 }} accept\n{rule}  }}\n"
            );
            assert!(text.contains(&chain), "{chain} in {text}");
        }
        assert!(!text.contains("chain inbound") && !text.contains("policy-fail"), "{text}");
    }
}
