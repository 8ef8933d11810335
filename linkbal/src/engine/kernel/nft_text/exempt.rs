//! Exemptions from translation.

use std::collections::BTreeSet;

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{NftUplink, prefixes, quoted};

/// Packets that are not translated: those that satisfy every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftExempt {
    /// Source prefixes; empty: all.
    pub source: Vec<IpNet>,
    /// Destination prefixes; empty: all.
    pub destination: Vec<IpNet>,
    /// Indexes of the uplinks that they leave by; `None`: any.
    pub uplinks: Option<Vec<u32>>,
}

impl NftExempt {
    /// Returns whether IPsec policies may lead to the destinations.
    pub(in crate::engine) const fn follows_routes(&self) -> bool {
        self.uplinks.is_none() && !self.destination.is_empty()
    }
}

/// Returns the rule that ends the chain of marks for connections that leave in IPsec tunnels: they
/// leave by the uplink of the tunnel, but do not end with it, since the tunnel may move. Empty if
/// no entry asks for it.
pub(super) fn tunnelled(exempt: &[NftExempt]) -> &'static str {
    if exempt.iter().any(NftExempt::follows_routes) { "    rt ipsec exists return\n" } else { "" }
}

/// Returns the rules, one for each entry and family; one more for each uplink that shares its
/// interface. Only the first packet of a connection meets them.
pub(super) fn rules(exempt: &[NftExempt], uplinks: &[&NftUplink], mask: MarkMask) -> String {
    exempt.iter().flat_map(|exempt| of_entry(exempt, uplinks, mask)).collect()
}

fn of_entry(exempt: &NftExempt, uplinks: &[&NftUplink], mask: MarkMask) -> Vec<String> {
    let [source, destination] = [&exempt.source, &exempt.destination].map(IpNet::aggregate);
    let ends = prefixes::FAMILIES.iter().filter_map(|(family, _)| {
        let end = |word: &str, prefixes: &[IpNet]| {
            if prefixes.is_empty() {
                return Some(String::new());
            }
            let listed = prefixes::listed(family, prefixes)?;
            Some(format!("{family} {word} {{ {listed} }} "))
        };
        Some(end("saddr", &source)? + &end("daddr", &destination)?)
    });
    let leaving = leaving(exempt, uplinks, mask);
    ends.flat_map(|ends| leaving.iter().map(move |by| format!("    {by}{ends}accept\n"))).collect()
}

/// Returns the matches for packets that leave by the uplinks of an entry.
fn leaving(exempt: &NftExempt, uplinks: &[&NftUplink], mask: MarkMask) -> Vec<String> {
    let Some(indexes) = &exempt.uplinks else { return vec![String::new()] };
    let named = uplinks.iter().filter(|uplink| indexes.contains(&uplink.index));
    let (sole, sharing): (Vec<&NftUplink>, Vec<_>) =
        named.partition(|uplink| uplink.sole_on_interface);
    let sole: BTreeSet<_> = sole.into_iter().map(|uplink| &uplink.ifname).collect();
    let sole = (!sole.is_empty()).then(|| format!("oifname {{ {} }} ", quoted(sole.into_iter())));
    let sharing = sharing.iter().map(|uplink| prefixes::leaving(uplink, mask) + " ");
    sole.into_iter().chain(sharing).collect()
}

/// Returns the rules for uplinks that translate less than others on their interface.
pub(super) fn of_untranslated(uplinks: &[&NftUplink], mask: MarkMask) -> String {
    let rule = |uplink: &NftUplink, family: Family| {
        let NftUplink { ifname, index, .. } = uplink;
        let (number, fwmark) = (mask.number(), mask.encode(*index));
        format!(
            "    oifname \"{ifname}\" meta mark & {number:#010x} == {fwmark:#010x} \
             meta nfproto {} accept\n",
            family.name()
        )
    };
    let sharing = uplinks.iter().filter(|uplink| !uplink.sole_on_interface);
    let rules = sharing.flat_map(|uplink| {
        let kept = Family::ALL.into_iter().filter(|family| !uplink.translates.contains(family));
        kept.map(move |family| rule(uplink, family))
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;
    use crate::engine::kernel::nft_text::tests::uplink;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn text(source: &[&str], destination: &[&str], uplinks: Option<Vec<u32>>) -> String {
        let [a, b, c] =
            [uplink("wan-a", 0, true), uplink("wan", 1, false), uplink("wan-c", 2, true)];
        let (source, destination) = (nets(source), nets(destination));
        let entry = NftExempt { source, destination, uplinks };
        rules(&[entry], &[&a, &b, &c], MarkMask(DEFAULT_MASK))
    }

    #[test]
    fn each_family_that_both_ends_have_gets_its_rule() {
        assert_eq!(
            text(&["10.0.0.0/24", "fd00::/64"], &["192.168.50.0/24", "10.9.0.0/16"], None),
            "    ip saddr { 10.0.0.0/24 } ip daddr { 10.9.0.0/16, 192.168.50.0/24 } accept\n"
        );
        assert_eq!(
            text(&[], &["192.168.50.0/24", "fd50::/64"], None),
            "    ip daddr { 192.168.50.0/24 } accept\n    ip6 daddr { fd50::/64 } accept\n"
        );
        assert_eq!(
            text(&["10.0.0.0/8", "10.1.0.0/16"], &[], None),
            "    ip saddr { 10.0.0.0/8 } accept\n",
            "overlapping prefixes are one"
        );
    }

    #[test]
    fn uplinks_that_share_an_interface_are_told_by_the_mark() {
        assert_eq!(
            text(&[], &["192.168.50.0/24"], Some(vec![0, 1, 2])),
            "    oifname { \"wan-a\", \"wan-c\" } ip daddr { 192.168.50.0/24 } accept
    oifname \"wan\" meta mark & 0x1f000000 { 0x00000000, 0x02000000 } ip daddr { 192.168.50.0/24 } accept
"
        );
        assert_eq!(text(&[], &["192.168.50.0/24"], Some(Vec::new())), "", "none of them is there");
    }

    #[test]
    fn connections_in_tunnels_get_no_mark_where_policies_may_lead() {
        let destination = nets(&["192.168.50.0/24"]);
        let entry = NftExempt { destination, ..NftExempt::default() };
        assert!(tunnelled(std::slice::from_ref(&entry)).contains("rt ipsec exists"));
        let by_source = NftExempt { source: entry.destination.clone(), ..NftExempt::default() };
        let by_uplink = NftExempt { uplinks: Some(vec![0]), ..entry };
        assert_eq!(tunnelled(&[by_source, by_uplink]), "");
    }

    #[test]
    fn one_of_two_on_an_interface_may_translate_nothing() {
        let mut routed = uplink("wan", 1, false);
        routed.translates = vec![Family::Ipv6];
        let uplinks = [&routed, &uplink("wan", 2, false), &uplink("wan-c", 3, true)];
        assert_eq!(
            of_untranslated(&uplinks, MarkMask(DEFAULT_MASK)),
            "    oifname \"wan\" meta mark & 0x1f000000 == 0x02000000 meta nfproto ipv4 accept\n"
        );
    }
}
