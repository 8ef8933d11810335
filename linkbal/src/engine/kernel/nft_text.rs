//! The text of the nft table: connection marks, masquerading and protection of the uplinks. There is
//! no chain that all forwarded packets pass but `prerouting`.
//!
//! A connection's mark says which uplink it has (see [`linkbal_common::mark`]). It is set by nat
//! chains that translate nothing: they see the first packet of a connection only, and come before
//! all chains that translate, whose verdict would end them. `arrivals` is for connections that come
//! in by an uplink, `departures` for all others. From there on every packet that asks for the mark
//! gets it: `prerouting` ends at once for the packets of known flows. Our own translation comes
//! last, so that others' prevails.

mod exempt;
mod firewall;
pub mod flowtable;
mod marks;
mod mss;
mod prefixes;
mod source_validation;
mod virtual_addresses;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, uplink::Family};

pub use self::{exempt::NftExempt, firewall::NftFirewall, source_validation::NftValidation};
use crate::config::Npt;

/// The input for the nft table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nft {
    /// The uplinks.
    pub uplinks: Vec<NftUplink>,
    /// The bits of fwmarks and of connections' marks that are linkbal's.
    pub mask: MarkMask,
    /// Interfaces of the LAN.
    pub lan: Vec<String>,
    /// Indexes of the same interfaces.
    pub lan_indexes: Vec<u32>,
    /// Set if there are interfaces that are neither of the LAN nor uplinks.
    pub others: bool,
    /// Set if packets of bridges pass the table before the datapath sees them: there are bridges,
    /// and `bridge-nf-call-iptables` is on (Documentation/networking/ip-sysctl.rst).
    pub bridged: bool,
    /// Set if the kernel has IPsec.
    pub ipsec: bool,
    /// Exemptions from translation.
    pub exempt: Vec<NftExempt>,
    /// The firewall for connections that come in by the uplinks.
    pub firewall: NftFirewall,
    /// The interfaces whose IPv4 sources the table validates.
    pub validation: NftValidation,
}

/// An uplink as the nft table sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftUplink {
    /// Interface name; see [`is_quotable`].
    pub ifname: String,
    /// Index of the interface, if it exists.
    pub ifindex: Option<u32>,
    /// Index of the uplink.
    pub index: u32,
    /// Set if no other uplink uses this interface.
    pub sole_on_interface: bool,
    /// Addresses of the uplink, which packets may leave from. On a shared interface they tell it
    /// from the others.
    pub addresses: Vec<IpAddr>,
    /// Prefixes of hosts that its provider routes here, which are not translated.
    pub prefixes: Vec<IpNet>,
    /// Prefix that is translated address by address, if any.
    pub npt: Option<Npt>,
    /// The families in which all other sources are translated to its address.
    pub translates: Vec<Family>,
    /// MTU to which the MSS of TCP connections is clamped, if any.
    pub mtu: Option<u32>,
    /// Addresses that move between two gateways.
    pub virtual_addresses: Vec<IpAddr>,
    /// Networks of other uplinks' interfaces.
    pub foreign: Vec<IpNet>,
    /// Interfaces of uplinks in other networks, by which no packets to its addresses come.
    pub strangers: Vec<String>,
}

/// Returns whether nft can spell an interface name: its strings have no escapes, and a `*` at the
/// end is a wildcard. The kernel's own limits (`dev_valid_name`) apply, too.
pub fn is_quotable(ifname: &str) -> bool {
    (1..16).contains(&ifname.len())
        && ifname.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\*/:"#.contains(&byte))
}

/// Returns a batch for `nft -f -` that replaces table `inet linkbal` in one transaction.
///
/// Uplinks whose interface [`is_quotable`] refuses are left out.
pub fn ruleset(nft: &Nft) -> String {
    let mask = nft.mask;
    let uplinks: Vec<_> = nft.uplinks.iter().filter(|uplink| is_quotable(&uplink.ifname)).collect();
    let sharing = || uplinks.iter().filter(|uplink| !uplink.sole_on_interface);
    let sources: String = sharing().filter_map(|uplink| ipv6_source(uplink, mask)).collect();
    let kept: String = uplinks.iter().map(|uplink| prefixes::kept(uplink, mask)).collect();
    // What this chain translates would count as forwarded on purpose.
    let closed = nft.firewall.established.contains(&Family::Ipv6);
    let inbound = if closed { String::new() } else { prefixes::inbound(&uplinks) };
    let exempt =
        exempt::rules(&nft.exempt, &uplinks, mask) + &exempt::of_untranslated(&uplinks, mask);
    let interfaces = quoted(uplinks.iter().map(|uplink| &uplink.ifname));
    // An empty set is an error of syntax.
    let marks = if interfaces.is_empty() { String::new() } else { marks::chains(nft, &uplinks) };
    let [translations, translation] = translations(&uplinks, mask);
    let mss = mss::chains(&uplinks, mask);
    // The deletion needs a table, so one is added first.
    format!(
        "add table inet linkbal
delete table inet linkbal
table inet linkbal {{
{marks}{inbound}{translations}  chain postrouting {{
    type nat hook postrouting priority srcnat + 5; policy accept;
{exempt}{kept}{sources}{translation}  }}
{mss}}}
"
    )
}

/// Returns names of interfaces for a set, each once and in order.
fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: BTreeSet<_> = names.map(|name| format!("\"{name}\"")).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Returns the rule that translates IPv6 sources of an uplink on a shared interface. Masquerading
/// takes an interface's IPv6 address by the destination alone (`nf_nat_masquerade_ipv6` in
/// net/netfilter/nf_nat_masquerade.c), whatever the gateway: it cannot tell the uplinks of one
/// interface apart.
fn ipv6_source(uplink: &NftUplink, mask: MarkMask) -> Option<String> {
    let NftUplink { ifname, index, addresses, virtual_addresses, .. } = uplink;
    let (number, fwmark) = (mask.number(), mask.encode(*index));
    if !uplink.translates.contains(&Family::Ipv6) {
        return None;
    }
    virtual_addresses.iter().chain(addresses).find(|address| address.is_ipv6()).map(|address| {
        format!(
            "    oifname \"{ifname}\" meta mark & {number:#010x} == {fwmark:#010x} \
             snat ip6 to {address}\n"
        )
    })
}

/// Returns a chain for each interface of uplinks, and the rule that leads there. It masquerades, in
/// the families that an uplink there translates, all but sources which are an address of the
/// interface: masquerading would turn a secondary address into the primary one.
fn translations(uplinks: &[&NftUplink], mask: MarkMask) -> [String; 2] {
    let (mut chains, mut targets) = (String::new(), Vec::new());
    for (ifname, on) in marks::by_interface(uplinks) {
        let mut own: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for address in on.iter().flat_map(|uplink| &uplink.addresses) {
            own.entry(family(address)).or_default().insert(address.to_string());
        }
        let own = own.into_iter().map(|(family, addresses)| {
            let listed = addresses.into_iter().collect::<Vec<_>>().join(", ");
            format!("    {family} saddr {{ {listed} }} accept\n")
        });
        let moving = on.iter().map(|uplink| virtual_addresses::translation(uplink, mask));
        let translates = |family| on.iter().any(|uplink| uplink.translates.contains(&family));
        let masquerade = match Family::ALL.map(translates) {
            [true, true] => "    masquerade\n",
            [true, false] => "    meta nfproto ipv4 masquerade\n",
            [false, true] => "    meta nfproto ipv6 masquerade\n",
            [false, false] => "",
        };
        let first = on[0].index;
        let rules = own.chain(moving).collect::<String>() + masquerade;
        chains += &format!("  chain translation_{first} {{\n{rules}  }}\n");
        targets.push(Target {
            ifname,
            ifindex: on[0].ifindex,
            chain: format!("translation_{first}"),
        });
    }
    [chains, branch("oif", &targets)]
}

/// The chain for the packets of an interface.
struct Target<'a> {
    ifname: &'a str,
    ifindex: Option<u32>,
    chain: String,
}

/// Returns the rules that continue in the chain of the packet's interface, `iif` or `oif`. The index
/// is quicker to find than the name, which counts for an interface that was made anew, until the
/// table has its index.
fn branch(interface: &str, targets: &[Target<'_>]) -> String {
    let rule = |suffix: &str, elements: Vec<String>| {
        let rule = format!("    {interface}{suffix} vmap {{ {} }}\n", elements.join(", "));
        if elements.is_empty() { String::new() } else { rule }
    };
    // nft refuses a key that comes twice.
    let by_index: BTreeMap<u32, &str> = targets
        .iter()
        .filter_map(|target| target.ifindex.map(|ifindex| (ifindex, target.chain.as_str())))
        .collect();
    let by_index = by_index.iter().map(|(ifindex, chain)| format!("{ifindex} : goto {chain}"));
    let by_name =
        targets.iter().map(|target| format!("\"{}\" : goto {}", target.ifname, target.chain));
    rule("", by_index.collect()) + &rule("name", by_name.collect())
}

/// Returns the keyword for the header that holds an address.
const fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;

    pub(in crate::engine) fn uplink(
        ifname: &str,
        index: u32,
        sole_on_interface: bool,
    ) -> NftUplink {
        NftUplink {
            ifname: ifname.into(),
            ifindex: None,
            index,
            sole_on_interface,
            addresses: Vec::new(),
            prefixes: Vec::new(),
            npt: None,
            mtu: None,
            translates: Family::ALL.into(),
            virtual_addresses: Vec::new(),
            foreign: Vec::new(),
            strangers: Vec::new(),
        }
    }

    fn table(uplinks: Vec<NftUplink>) -> String {
        let (mask, lan) = (MarkMask(DEFAULT_MASK), vec!["lan0".into()]);
        let firewall = NftFirewall::default();
        let (others, bridged, ipsec) = (false, false, false);
        let (exempt, validation) = (Vec::new(), NftValidation::default());
        let lan_indexes = Vec::new();
        ruleset(&Nft {
            uplinks,
            mask,
            lan,
            lan_indexes,
            others,
            bridged,
            ipsec,
            exempt,
            firewall,
            validation,
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_uplink_has_its_translation_and_each_interface_its_protection() {
        let uplinks = vec![
            uplink("ppp0", 0, true),
            NftUplink {
                addresses: ["192.0.2.2", "192.0.2.3", "2001:db8::2"].map(address).into(),
                ifindex: Some(5),
                ..uplink("eth1", 1, false)
            },
            NftUplink {
                addresses: [address("198.51.100.2")].into(),
                ifindex: Some(5),
                ..uplink("eth1", 2, false)
            },
        ];
        let expected = r#"  chain translation_1 {
    ip saddr { 192.0.2.2, 192.0.2.3, 198.51.100.2 } accept
    ip6 saddr { 2001:db8::2 } accept
    masquerade
  }
  chain translation_0 {
    masquerade
  }
  chain postrouting {
    type nat hook postrouting priority srcnat + 5; policy accept;
    oifname "eth1" meta mark & 0x1f000000 == 0x02000000 snat ip6 to 2001:db8::2
    oif vmap { 5 : goto translation_1 }
    oifname vmap { "eth1" : goto translation_1, "ppp0" : goto translation_0 }
  }
}
"#;
        let text = table(uplinks);
        assert!(text.ends_with(expected), "{text}");
        let begin = "add table inet linkbal\ndelete table inet linkbal\ntable inet linkbal {\n";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn names_that_would_mean_something_else_are_left_out() {
        for name in ["", "wan\"", "wan*", "a\\b", "a b", "a\nb", "sixteen-letters-", "wän"] {
            assert!(!is_quotable(name), "{name:?}");
        }
        assert!(is_quotable("eth0.5@x{$;#"));
        let text = table(vec![uplink("x\" accept", 1, true)]);
        assert_eq!(text, table(Vec::new()));
        assert!(!text.contains("oifname"));
    }
}
