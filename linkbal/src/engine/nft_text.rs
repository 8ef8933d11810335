//! The text of the nft table: connection marks, masquerading and protection of the uplinks.

mod prefixes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use linkbal_common::mark::{MarkMask, RESET};

use crate::config::Ipv6;

/// An uplink as the nft table sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftUplink {
    /// Interface; see [`is_quotable`].
    pub ifname: String,
    /// Its fwmark, a part of the mask.
    pub fwmark: u32,
    /// Whether no other uplink uses this interface.
    pub sole_on_interface: bool,
    /// Its own addresses, which packets may leave from. On a shared interface they tell it from
    /// the others.
    pub addresses: Vec<IpAddr>,
    /// How it carries IPv6.
    pub ipv6: Ipv6,
}

/// Whether nft can spell an interface name: its strings have no escapes, and a `*` at the end
/// matches all that begins so. The kernel's own limits (`dev_valid_name`) are kept, too.
pub fn is_quotable(ifname: &str) -> bool {
    (1..16).contains(&ifname.len())
        && ifname.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\*/:"#.contains(&byte))
}

/// A batch for `nft -f -` that replaces table `inet linkbal` in one transaction.
///
/// Uplinks whose interface [`is_quotable`] refuses are left out.
pub fn ruleset(uplinks: &[NftUplink], mask: u32) -> String {
    let uplinks: Vec<_> = uplinks.iter().filter(|uplink| is_quotable(&uplink.ifname)).collect();
    let marks: String = uplinks.iter().map(|uplink| connection_mark(uplink, mask)).collect();
    let sharing = || uplinks.iter().filter(|uplink| !uplink.sole_on_interface);
    let sources: String = sharing().filter_map(|uplink| ipv6_source(uplink, mask)).collect();
    let own = own_sources(&uplinks);
    let arrivals = sharing().flat_map(|uplink| arrival_marks(uplink, mask));
    let refusals = prefixes::refusal(&uplinks, mask).into_iter().chain([reset(mask)]);
    let arrivals = prerouting(&arrivals.chain(refusals).collect::<String>());
    let kept: String = uplinks.iter().map(|uplink| prefixes::kept(uplink, mask)).collect();
    let inbound = prefixes::inbound(&uplinks);
    let interfaces: BTreeSet<_> =
        uplinks.iter().map(|uplink| format!("\"{}\"", uplink.ifname)).collect();
    let interfaces = interfaces.into_iter().collect::<Vec<_>>().join(", ");
    // An empty set is an error of syntax.
    let (masquerade, protect) = if interfaces.is_empty() {
        (String::new(), String::new())
    } else {
        (masquerade(&uplinks), protection(&interfaces))
    };
    // The deletion needs a table, so one is added first.
    format!(
        "add table inet linkbal
delete table inet linkbal
table inet linkbal {{
{arrivals}{inbound}  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{marks}{kept}{sources}{own}{masquerade}  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{protect}  }}
}}
"
    )
}

/// A connection remembers its uplink. A nat chain sees only the first packet of each.
fn connection_mark(uplink: &NftUplink, mask: u32) -> String {
    let NftUplink { ifname, fwmark, sole_on_interface, .. } = uplink;
    let foreign = !mask;
    let rule = |carried: u32| {
        format!(
            "    oifname \"{ifname}\" meta mark & {mask:#010x} == {carried:#010x} \
             ct mark set ct mark & {foreign:#010x} | {fwmark:#010x}\n"
        )
    };
    // What carries no mark followed the routes: its interface tells the uplink.
    let unmarked = if *sole_on_interface { rule(0) } else { String::new() };
    rule(*fwmark) + &unmarked
}

/// Packets of connections that are over with their uplink, see `linkbal_common::mark::RESET`.
fn reset(mask: u32) -> String {
    let reset = MarkMask(mask).encode(RESET);
    format!(
        "    meta mark & {mask:#010x} == {reset:#010x} meta l4proto tcp reject with tcp reset\n"
    )
}

/// Before any other translation: there, packets still have the address that they were sent to.
fn prerouting(rules: &str) -> String {
    format!(
        "  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
{rules}  }}
"
    )
}

/// What comes in by a shared interface carries the mark of the uplink whose address, or prefix, it was
/// sent to, up to the datapath at the egress of the LAN.
fn arrival_marks(uplink: &NftUplink, mask: u32) -> impl Iterator<Item = String> {
    let NftUplink { ifname, fwmark, addresses, .. } = uplink;
    let foreign = !mask;
    let own = addresses.iter().map(|address| (family(address), address.to_string()));
    let given = prefixes::of(uplink).iter().map(|prefix| ("ip6", prefix.to_string()));
    own.chain(given).map(move |(family, destination)| {
        format!(
            "    iifname \"{ifname}\" {family} daddr {destination} \
             meta mark set meta mark & {foreign:#010x} | {fwmark:#010x}\n"
        )
    })
}

/// Masquerading takes an interface's IPv6 address by the destination alone
/// (`nf_nat_masquerade_ipv6` in net/netfilter/nf_nat_masquerade.c), whatever the gateway: it cannot
/// tell the uplinks of one interface apart.
fn ipv6_source(uplink: &NftUplink, mask: u32) -> Option<String> {
    let NftUplink { ifname, fwmark, addresses, .. } = uplink;
    addresses.iter().find(|address| address.is_ipv6()).map(|address| {
        format!(
            "    oifname \"{ifname}\" meta mark & {mask:#010x} == {fwmark:#010x} \
             snat ip6 to {address}\n"
        )
    })
}

/// What already has an address of its interface keeps it; masquerading would turn a secondary
/// address into the primary one.
fn own_sources(uplinks: &[&NftUplink]) -> String {
    let mut by_interface: BTreeMap<(&str, &str), BTreeSet<IpAddr>> = BTreeMap::new();
    for uplink in uplinks {
        for address in &uplink.addresses {
            by_interface.entry((&uplink.ifname, family(address))).or_default().insert(*address);
        }
    }
    let rule = |((ifname, family), addresses): ((&str, &str), BTreeSet<IpAddr>)| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("    oifname \"{ifname}\" {family} saddr {{ {} }} accept\n", addresses.join(", "))
    };
    by_interface.into_iter().map(rule).collect()
}

/// Interfaces without IPv6 translate IPv4 alone.
fn masquerade(uplinks: &[&NftUplink]) -> String {
    let (ipv4, both): (Vec<_>, Vec<_>) =
        uplinks.iter().partition(|uplink| uplink.ipv6 == Ipv6::Off);
    let names = |uplinks: Vec<&&NftUplink>| -> BTreeSet<String> {
        uplinks.iter().map(|uplink| format!("\"{}\"", uplink.ifname)).collect()
    };
    let both = names(both);
    let ipv4 = &names(ipv4) - &both;
    let rule = |interfaces: BTreeSet<String>, family: &str| {
        let listed = interfaces.into_iter().collect::<Vec<_>>().join(", ");
        let rule = format!("    oifname {{ {listed} }} {family}masquerade\n");
        if listed.is_empty() { String::new() } else { rule }
    };
    rule(both, "") + &rule(ipv4, "meta nfproto ipv4 ")
}

/// The word for the header that holds an address.
const fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// A packet that connection tracking does not know would leave with its private address.
fn protection(interfaces: &str) -> String {
    format!(
        "    oifname {{ {interfaces} }} ct state invalid counter drop
    oifname {{ {interfaces} }} tcp flags syn / syn,rst tcp option maxseg size set rt mtu
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(ifname: &str, fwmark: u32, sole_on_interface: bool) -> NftUplink {
        NftUplink {
            ifname: ifname.into(),
            fwmark,
            sole_on_interface,
            addresses: Vec::new(),
            ipv6: Ipv6::Masquerade,
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_uplink_has_its_mark_and_each_interface_its_protection() {
        let uplinks = [
            uplink("ppp0", 0x0100_0000, true),
            NftUplink {
                addresses: ["192.0.2.2", "192.0.2.3", "2001:db8::2"].map(address).into(),
                ..uplink("eth1", 0x0200_0000, false)
            },
            NftUplink {
                addresses: [address("198.51.100.2")].into(),
                ..uplink("eth1", 0x0300_0000, false)
            },
        ];
        let expected = r#"add table inet linkbal
delete table inet linkbal
table inet linkbal {
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname "eth1" ip daddr 192.0.2.2 meta mark set meta mark & 0xc0ffffff | 0x02000000
    iifname "eth1" ip daddr 192.0.2.3 meta mark set meta mark & 0xc0ffffff | 0x02000000
    iifname "eth1" ip6 daddr 2001:db8::2 meta mark set meta mark & 0xc0ffffff | 0x02000000
    iifname "eth1" ip daddr 198.51.100.2 meta mark set meta mark & 0xc0ffffff | 0x03000000
    meta mark & 0x3f000000 == 0x13000000 meta l4proto tcp reject with tcp reset
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "ppp0" meta mark & 0x3f000000 == 0x01000000 ct mark set ct mark & 0xc0ffffff | 0x01000000
    oifname "ppp0" meta mark & 0x3f000000 == 0x00000000 ct mark set ct mark & 0xc0ffffff | 0x01000000
    oifname "eth1" meta mark & 0x3f000000 == 0x02000000 ct mark set ct mark & 0xc0ffffff | 0x02000000
    oifname "eth1" meta mark & 0x3f000000 == 0x03000000 ct mark set ct mark & 0xc0ffffff | 0x03000000
    oifname "eth1" meta mark & 0x3f000000 == 0x02000000 snat ip6 to 2001:db8::2
    oifname "eth1" ip saddr { 192.0.2.2, 192.0.2.3, 198.51.100.2 } accept
    oifname "eth1" ip6 saddr { 2001:db8::2 } accept
    oifname { "eth1", "ppp0" } masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname { "eth1", "ppp0" } ct state invalid counter drop
    oifname { "eth1", "ppp0" } tcp flags syn / syn,rst tcp option maxseg size set rt mtu
  }
}
"#;
        assert_eq!(ruleset(&uplinks, 0x3f00_0000), expected);
    }

    #[test]
    fn names_that_would_mean_something_else_are_left_out() {
        for name in ["", "wan\"", "wan*", "a\\b", "a b", "a\nb", "sixteen-letters-", "wän"] {
            assert!(!is_quotable(name), "{name:?}");
        }
        assert!(is_quotable("eth0.5@x{$;#"));
        let text = ruleset(&[uplink("x\" accept", 1, true)], 1);
        assert_eq!(text, ruleset(&[], 1));
        assert!(!text.contains("oifname"));
    }
}
