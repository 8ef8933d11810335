//! The nft table of the flowtable, by which the kernel forwards packets of established connections
//! at the ingress of an interface, past its chains and routes.
//!
//! It is a table of its own, written on its own: a kernel without flowtables, or an interface that
//! has just gone, costs nothing but the shortcuts. Several tables may have flowtables on one
//! interface (`nft_register_flowtable_net_hooks` in net/netfilter/nf_tables_api.c); the connection is
//! in the first one that adds it.

use std::collections::{BTreeMap, BTreeSet};

use linkbal_common::mark::MarkMask;

use super::{is_quotable, quoted};

/// Name of the table, of family `inet`.
pub const FLOWTABLE: &str = "linkbal_flowtable";

/// The input for the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftFlowtable {
    /// The interfaces by name, with their index.
    pub devices: BTreeMap<String, u32>,
    /// Indexes of the uplinks whose connections are added.
    pub uplinks: BTreeSet<u32>,
}

/// Returns a batch for `nft -f -` that replaces table `inet linkbal_flowtable` in one transaction. It
/// names the indexes of the interfaces, too: one that was made anew needs another hook.
///
/// - Behind all chains at the ingress of the interfaces, so that those of others see each packet; and
///   behind all chains of forwarded packets, so that nothing is added that one of them drops.
/// - The mark says which uplink a connection has.
/// - A packet of the side that began it, after an answer: what is over with one answer is not
///   added, nor is a TCP connection before its third packet. The way of that packet is the right one,
///   and the way back is found by the kernel (`nft_flow_route` in net/netfilter/nft_flow_offload.c).
///   The control connections of helpers are left out by the kernel.
pub fn ruleset(flowtable: &NftFlowtable, mask: MarkMask) -> String {
    let devices: BTreeMap<&String, u32> = flowtable
        .devices
        .iter()
        .filter(|(name, _)| is_quotable(name))
        .map(|(name, index)| (name, *index))
        .collect();
    let names = quoted(devices.keys().copied());
    let indexes: Vec<_> = devices.values().map(ToString::to_string).collect();
    let marks: Vec<_> =
        flowtable.uplinks.iter().map(|uplink| format!("{:#010x}", mask.encode(*uplink))).collect();
    // An empty set is an error of syntax.
    let (listed, rule) = if devices.is_empty() || marks.is_empty() {
        (String::new(), String::new())
    } else {
        (
            format!("    devices = {{ {names} }}\n"),
            format!(
                "    ct mark & {:#010x} {{ {} }} ct state established ct direction original \
                 iifname {{ {names} }} oifname {{ {names} }} meta l4proto {{ tcp, udp }} \
                 flow add @established\n",
                mask.number(),
                marks.join(", "),
            ),
        )
    };
    format!(
        "# interfaces {}
add table inet {FLOWTABLE}
delete table inet {FLOWTABLE}
table inet {FLOWTABLE} {{
  flowtable established {{
    hook ingress priority 10
{listed}  }}
  chain forward {{
    type filter hook forward priority 1000; policy accept;
{rule}  }}
}}
",
        indexes.join(" "),
    )
}

/// Returns the text without the names of interfaces of the flowtable, which can be tried where they
/// do not exist.
pub fn without_devices(text: &str) -> String {
    text.lines().filter(|line| !is_devices(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Returns the interfaces of the flowtable in a text, or in a listing of the table.
pub fn devices(text: &str) -> BTreeSet<String> {
    let line = text.lines().find(|line| is_devices(line)).unwrap_or_default();
    let listed = line.split(['{', '}']).nth(1).unwrap_or_default();
    let names = listed.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is_devices(line: &str) -> bool {
    line.trim_start().starts_with("devices = {")
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;

    fn text(devices: &[(&str, u32)], uplinks: &[u32]) -> String {
        let devices = devices.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect();
        let uplinks = uplinks.iter().copied().collect();
        ruleset(&NftFlowtable { devices, uplinks }, MarkMask(DEFAULT_MASK))
    }

    #[test]
    fn connections_of_the_uplinks_are_added_on_the_interfaces_that_exist() {
        let expected = r#"# interfaces 2 7 5
add table inet linkbal_flowtable
delete table inet linkbal_flowtable
table inet linkbal_flowtable {
  flowtable established {
    hook ingress priority 10
    devices = { "lan0", "ppp0", "wan-a" }
  }
  chain forward {
    type filter hook forward priority 1000; policy accept;
    ct mark & 0x1f000000 { 0x01000000, 0x03000000 } ct state established ct direction original iifname { "lan0", "ppp0", "wan-a" } oifname { "lan0", "ppp0", "wan-a" } meta l4proto { tcp, udp } flow add @established
  }
}
"#;
        let devices = [("lan0", 2), ("wan-a", 5), ("ppp0", 7), ("x\" }", 9)];
        assert_eq!(text(&devices, &[0, 2]), expected);
        assert_ne!(text(&[("lan0", 2)], &[0]), text(&[("lan0", 3)], &[0]));
    }

    #[test]
    fn without_interfaces_or_uplinks_nothing_is_added() {
        for text in [text(&[], &[0]), text(&[("lan0", 2)], &[])] {
            assert!(!text.contains("flow add") && !text.contains("devices"), "{text}");
        }
    }

    #[test]
    fn interfaces_are_read_from_text_and_listing() {
        let text = text(&[("lan0", 2), ("wan-a", 5)], &[0]);
        let both: BTreeSet<String> = ["lan0", "wan-a"].map(str::to_owned).into();
        assert_eq!(devices(&text), both);
        assert_eq!(devices("\tflowtable f {\n\t\tdevices = { lan0, wan-a }\n"), both);
        let bare = without_devices(&text);
        assert!(devices(&bare).is_empty());
        assert_eq!(bare.lines().count() + 1, text.lines().count());
    }
}
