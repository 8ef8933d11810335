//! Anti-spoofing (BCP 38, RFC 2827), and the firewall for connections that come in by an uplink:
//! none from our own addresses, none to another uplink's address, and no more than is wanted to
//! hosts behind this machine.
//!
//! Loose source validation, which several uplinks need, accepts any source that has a route. What
//! it lets pass is checked here, once for each connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{NftUplink, family, is_quotable, prefixes, quoted};

/// The limits for connections that come in by an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftFirewall {
    /// Families in which hosts behind this machine are reached by forwarded ports alone.
    pub established: Vec<Family>,
    /// Set if such connections may leave by an uplink.
    pub transit: bool,
    /// Interfaces of others that have routes to the internet: any source may come from there.
    pub wide: Vec<String>,
}

/// Returns the rules for the first packets of connections that come in by an uplink: no source is
/// an address of this machine, or of a network that is reached by another interface. `more` are
/// further rules.
pub(super) fn sources(firewall: &NftFirewall, uplinks: &[&NftUplink], more: &str) -> String {
    let wide = firewall.wide.iter().filter(|name| is_quotable(name));
    let outside = quoted(uplinks.iter().map(|uplink| &uplink.ifname).chain(wide));
    // `fib` finds routes whose rules ask for no mark; if there is none, it matches nothing.
    let mut text = format!(
        "  chain anti_spoofing {{
    fib saddr type local counter drop
    fib saddr oif exists fib saddr oifname != {{ {outside} }} counter drop
{more}"
    );
    for uplink in uplinks {
        for (word, _) in prefixes::FAMILIES {
            let ifname = &uplink.ifname;
            let [private, public] = by_reach(&uplink.foreign);
            if let Some(listed) = prefixes::listed(word, &private) {
                text +=
                    &format!("    iifname \"{ifname}\" {word} saddr {{ {listed} }} counter drop\n");
            }
            let own = uplink.addresses.iter().chain(&uplink.virtual_addresses);
            let own = own.filter(|address| family(address) == word).map(ToString::to_string);
            let own: BTreeSet<String> = own.collect();
            if let Some(listed) = prefixes::listed(word, &public)
                && !own.is_empty()
            {
                let own = own.into_iter().collect::<Vec<_>>().join(", ");
                text += &format!(
                    "    iifname \"{ifname}\" {word} saddr {{ {listed} }} {word} daddr != {{ {own} }} \
                     counter drop\n"
                );
            }
        }
    }
    text + "  }\n"
}

/// Splits networks into private ones, whose hosts never come by the internet, and public ones,
/// whose hosts may come to the uplink's own address: neighbours of one uplink that ask another one.
fn by_reach(networks: &[IpNet]) -> [Vec<IpNet>; 2] {
    let is_private = |network: &&IpNet| match network.addr() {
        IpAddr::V4(address) => {
            // RFC 6598.
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(address) => address.is_unique_local(),
    };
    let (private, public): (Vec<&IpNet>, Vec<_>) = networks.iter().partition(is_private);
    [private, public]
        .map(|networks| IpNet::aggregate(&networks.into_iter().copied().collect::<Vec<_>>()))
}

/// Most addresses of a family that have a rule each: up to so many, rules cost a packet less than a
/// look-up in a set.
const FEW: usize = 4;

/// Returns the rules for packets to an uplink's address that come in by its interface, which are most
/// of all: they end here. An interface is told by its index, which is quicker than its name; after
/// it has been made anew, packets go on until the table has the new index.
pub(super) fn own_interface(uplinks: &[&NftUplink]) -> String {
    let mut by_family: BTreeMap<&str, BTreeSet<(u32, String)>> = BTreeMap::new();
    for uplink in uplinks {
        let Some(ifindex) = uplink.ifindex else { continue };
        for address in &uplink.addresses {
            by_family.entry(family(address)).or_default().insert((ifindex, address.to_string()));
        }
    }
    by_family.into_iter().map(|(family, places)| accepted(family, &places)).collect()
}

/// Returns the rules that accept packets of a family to these addresses, each by its interface.
fn accepted(family: &str, places: &BTreeSet<(u32, String)>) -> String {
    let each = places.iter();
    if places.len() <= FEW {
        return each
            .map(|(ifindex, address)| {
                format!("    iif {ifindex} {family} daddr {address} accept\n")
            })
            .collect();
    }
    let elements: Vec<_> =
        each.map(|(ifindex, address)| format!("{ifindex} . {address}")).collect();
    format!("    iif . {family} daddr {{ {} }} accept\n", elements.join(", "))
}

/// Returns chains, and the rules that lead to them: packets to an uplink's address come in by that
/// uplink alone. Otherwise a host at another one could answer for servers.
pub(super) fn destinations(uplinks: &[&NftUplink]) -> [String; 2] {
    let mut chains = String::new();
    let mut known: BTreeMap<&str, BTreeMap<String, Vec<&NftUplink>>> = BTreeMap::new();
    for uplink in uplinks.iter().filter(|uplink| !uplink.strangers.is_empty()) {
        for address in uplink.addresses.iter().chain(&uplink.virtual_addresses) {
            let of = known.entry(family(address)).or_default();
            let of = of.entry(address.to_string()).or_default();
            if !of.contains(uplink) {
                of.push(uplink);
            }
        }
        chains += &format!(
            "  chain at_{} {{
    iifname {{ {} }} counter drop
  }}
",
            uplink.index,
            quoted(uplink.strangers.iter()),
        );
    }
    let rule = |(family, addresses): (&str, BTreeMap<String, Vec<&NftUplink>>)| {
        // An address that two uplinks have is at both.
        let sole = addresses.into_iter().filter(|(_, of)| of.len() == 1);
        let targets: Vec<String> =
            sole.map(|(address, of)| format!("{address} : goto at_{}", of[0].index)).collect();
        let rule = format!("    {family} daddr vmap {{ {} }}\n", targets.join(", "));
        if targets.is_empty() { String::new() } else { rule }
    };
    let rules = known.into_iter().map(rule).collect();
    [chains, rules]
}

/// Returns a chain for forwarded packets that came in by an uplink, and the rule that leads there.
/// Only the first packets of connections meet it.
pub(super) fn transit(
    firewall: &NftFirewall,
    uplinks: &[&NftUplink],
    mask: MarkMask,
) -> [String; 2] {
    let outside = quoted(uplinks.iter().map(|uplink| &uplink.ifname));
    let mut rules = String::new();
    if !firewall.transit {
        rules += &format!("    oifname {{ {outside} }} counter drop\n");
    }
    for family in &firewall.established {
        rules += &format!(
            "    meta nfproto {} oifname != {{ {outside} }} counter drop\n",
            family.name()
        );
    }
    if rules.is_empty() {
        return [String::new(), String::new()];
    }
    let inbound = mask.inbound();
    [
        // What was translated to another host was forwarded on purpose, and so was what a multicast
        // router (igmpproxy, smcroute) sends on.
        format!(
            "  chain from_outside {{
    ct state related return
    ct status dnat return
    fib daddr type multicast return
{rules}  }}
"
        ),
        format!("    ct mark & {inbound:#010x} != 0x00000000 jump from_outside\n"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_addresses_have_a_rule_each_and_many_a_set() {
        let places = |count| (1..=count).map(|at| (at, format!("192.0.2.{at}"))).collect();
        let few = accepted("ip", &places(FEW as u32));
        assert_eq!(few.lines().count(), FEW);
        assert!(few.starts_with("    iif 1 ip daddr 192.0.2.1 accept\n"), "{few}");
        let many = accepted("ip", &places(FEW as u32 + 1));
        let wanted = "    iif . ip daddr { 1 . 192.0.2.1, 2 . 192.0.2.2, ";
        assert!(many.starts_with(wanted) && many.lines().count() == 1, "{many}");
    }

    #[test]
    fn who_can_come_by_the_internet() {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().expect("a prefix")).collect()
        };
        let private = ["192.168.1.0/24", "100.127.0.0/16", "169.254.0.0/16", "fd00:1::/64"];
        let public = ["100.128.0.0/16", "203.0.113.0/30", "2001:db8::/64"];
        let all = nets(&[&private[..], &public[..]].concat());
        let sorted = |mut networks: Vec<IpNet>| {
            networks.sort();
            networks
        };
        assert_eq!(by_reach(&all).map(sorted), [nets(&private), nets(&public)].map(sorted));
    }
}
