//! Prefixes of providers in the nft table: what is not translated, what is translated address by
//! address, and what is refused.

use std::net::IpAddr;

use ipnet::Ipv6Net;
use linkbal_common::mark::{BLOCKED, MarkMask};

use super::NftUplink;
use crate::config::{Ipv6, Npt};

/// The prefixes of an uplink.
pub(super) fn of(uplink: &NftUplink) -> &[Ipv6Net] {
    match &uplink.ipv6 {
        Ipv6::Prefix { prefixes, .. } => prefixes,
        Ipv6::Masquerade | Ipv6::Off => &[],
    }
}

const fn npt(uplink: &NftUplink) -> Option<Npt> {
    match uplink.ipv6 {
        Ipv6::Prefix { npt, .. } => npt,
        Ipv6::Masquerade | Ipv6::Off => None,
    }
}

/// Sources that leave as they are, or with the uplink's prefix in place of theirs. On a shared
/// interface this is for packets of this uplink, or of none.
pub(super) fn kept(uplink: &NftUplink, mask: MarkMask) -> String {
    let prefixes = of(uplink);
    if prefixes.is_empty() {
        return String::new();
    }
    let NftUplink { ifname, index, sole_on_interface, .. } = uplink;
    let (number, fwmark) = (mask.number(), mask.encode(*index));
    let leaving = if *sole_on_interface {
        format!("    oifname \"{ifname}\"")
    } else {
        format!(
            "    oifname \"{ifname}\" meta mark & {number:#010x} {{ 0x00000000, {fwmark:#010x} }}"
        )
    };
    let kept = format!("{leaving} ip6 saddr {{ {} }} accept\n", listed(prefixes));
    let mapped = npt(uplink).map(|Npt { internal, external }| {
        format!("{leaving} ip6 saddr {internal} snat ip6 prefix to {external}\n")
    });
    kept + &mapped.unwrap_or_default()
}

/// Connections from outside to what is translated address by address. The uplink's own addresses
/// stay the gateway's.
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
    let Npt { internal, external } = npt(uplink)?;
    let ifname = &uplink.ifname;
    let own = uplink.addresses.iter().filter(|address| matches!(address, IpAddr::V6(_)));
    let own = own.map(|address| format!("    iifname \"{ifname}\" ip6 daddr {address} accept\n"));
    let rule =
        format!("    iifname \"{ifname}\" ip6 daddr {external} dnat ip6 prefix to {internal}\n");
    Some(own.collect::<String>() + &rule)
}

/// A host whose source's uplink is down is told so in the words made for it (RFC 4443 section 3.1,
/// code 5), before the ip rules of sources lead its packet there.
pub(super) fn refusal(uplinks: &[&NftUplink], mask: MarkMask) -> Option<String> {
    let prefixes: Vec<Ipv6Net> = uplinks.iter().flat_map(|uplink| of(uplink)).copied().collect();
    let numbers = mask.number() | mask.proposal();
    let refused = mask.propose(0, BLOCKED[1]);
    (!prefixes.is_empty()).then(|| {
        format!(
            "    meta mark & {numbers:#010x} == {refused:#010x} ip6 saddr {{ {} }} \
             reject with icmpv6 policy-fail\n",
            listed(&prefixes)
        )
    })
}

fn listed(prefixes: &[Ipv6Net]) -> String {
    prefixes.iter().map(Ipv6Net::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::{
        super::{Nft, ruleset},
        *,
    };

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
            ipv6: Ipv6::Prefix { prefixes: vec![external], npt },
            virtual_addresses: Vec::new(),
        }
    }

    fn table(uplinks: Vec<NftUplink>) -> String {
        ruleset(&Nft { uplinks, mask: MarkMask(DEFAULT_MASK), lan: Vec::new(), others: false })
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
  chain postrouting {
    type nat hook postrouting priority srcnat + 5; policy accept;
    oifname "wan-a" ip6 saddr { 2001:db8:a:1::/64 } accept
    oifname "wan-a" ip6 saddr fd00::/64 snat ip6 prefix to 2001:db8:a:1::/64
    oifname "wan-b" ip6 saddr { 2001:db8:b:100::/56 } accept
    oifname "wan-a" ip6 saddr { 2001:db8:a::2 } accept
    oifname "wan-b" ip6 saddr { 2001:db8:b::2 } accept
    oifname { "wan-a", "wan-b" } masquerade
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
        let arrivals =
            "ip6 daddr vmap { 2001:db8::2 : goto from_0, 2001:db8:a::/64 : goto from_0 }";
        assert!(text.contains(arrivals), "{text}");
    }

    #[test]
    fn an_interface_without_ipv6_translates_ipv4_alone() {
        let off = NftUplink {
            ipv6: Ipv6::Off,
            ..uplink("wan-a", 0, "192.0.2.2", "2001:db8::/64", false)
        };
        let on =
            NftUplink { ifname: "wan-b".into(), index: 1, ipv6: Ipv6::Masquerade, ..off.clone() };
        let text = table(vec![off, on]);
        assert!(text.contains("oifname { \"wan-a\" } meta nfproto ipv4 masquerade\n"), "{text}");
        assert!(text.contains("oifname { \"wan-b\" } masquerade\n"), "{text}");
        assert!(!text.contains("inbound") && !text.contains("policy-fail"), "{text}");
    }
}
