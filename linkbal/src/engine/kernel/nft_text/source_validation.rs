//! Source validation of IPv4 for interfaces where the kernel leaves it to the nft table: no packet
//! has an address of this machine as its source (a martian source, RFC 1812 section 5.3.7), and, if
//! it is loose, there is a route to the source (RFC 3704 section 2.4).
//!
//! Packets of known flows are not asked. Who asks: the first packets of flows of the LAN and all
//! that the flow table does not know (`proposal`), what is not led by an uplink's mark
//! (`unmarked`), and what is for this machine (`input`). For connections that come in by an uplink
//! `anti_spoofing` does.

use std::collections::BTreeSet;

use linkbal_common::mark::MarkMask;

use super::{is_quotable, quoted};

/// The interfaces whose IPv4 sources are validated here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftValidation {
    /// Interfaces of the LAN.
    pub lan: BTreeSet<String>,
    /// Interfaces of uplinks.
    pub uplinks: BTreeSet<String>,
    /// Interfaces among them that want a route to the source.
    pub loose: BTreeSet<String>,
}

/// The text of the parts of the table.
#[derive(Default)]
pub(super) struct Parts {
    /// The chains.
    pub(super) chains: String,
    /// The first rule for what the flow table does not know.
    pub(super) proposal: String,
    /// The last rule for what has no mark.
    pub(super) unmarked: String,
    /// The rule for connections that come in by an uplink.
    pub(super) anti_spoofing: String,
}

/// Returns the parts of the table; empty if the kernel validates all sources. `lan` are the interfaces
/// of the LAN: proposals come from no others.
///
/// A multicast or broadcast datagram of a program here also comes back to other programs here, as a
/// copy that seems to have come in by the interface (`ip_mc_output` in net/ipv4/ip_output.c). It keeps
/// the route that it left by, which nothing that really comes in has yet; no route has that class. The
/// inbound bit alone, which nothing else has, tells it to `input`.
pub(super) fn parts(validation: &NftValidation, lan: &[String], mask: MarkMask) -> Parts {
    let names =
        |interfaces: &BTreeSet<String>| quoted(interfaces.iter().filter(|name| is_quotable(name)));
    let all = names(&validation.lan.union(&validation.uplinks).cloned().collect());
    if all.is_empty() {
        return Parts::default();
    }
    let rule = |interfaces: &BTreeSet<String>, statement: &str| {
        let listed = names(interfaces);
        let rule = format!("    meta nfproto ipv4 iifname {{ {listed} }} {statement}\n");
        if listed.is_empty() { String::new() } else { rule }
    };
    let loose = rule(&validation.loose, "fib saddr oif missing counter drop");
    let loose_uplinks = validation.loose.intersection(&validation.uplinks).cloned().collect();
    let ask = format!("meta nfproto ipv4 iifname {{ {all} }} jump source_validation\n");
    let (bits, copy) = (mask.0, mask.inbound());
    Parts {
        chains: format!(
            "  chain source_validation {{
    fib saddr type local counter drop
{loose}  }}
  chain input {{
    type filter hook input priority mangle; policy accept;
    meta mark & {bits:#010x} != {copy:#010x} {ask}  }}
"
        ),
        proposal: if lan.iter().all(|name| validation.lan.contains(name)) {
            "    meta nfproto ipv4 jump source_validation\n".into()
        } else {
            rule(&validation.lan, "jump source_validation")
        },
        unmarked: format!(
            "    meta nfproto ipv4 meta pkttype {{ broadcast, multicast }} rt classid != 4294967295 \
             meta mark set meta mark | {copy:#010x} accept\n    {ask}"
        ),
        anti_spoofing: rule(&loose_uplinks, "fib saddr oif missing counter drop"),
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_interfaces_there_is_nothing() {
        let parts = parts(&NftValidation::default(), &["lan0".to_owned()], MarkMask(DEFAULT_MASK));
        let all = [parts.chains, parts.proposal, parts.unmarked, parts.anti_spoofing];
        assert_eq!(all, [const { String::new() }; 4]);
    }

    #[test]
    fn only_loose_interfaces_want_a_route() {
        let validation = NftValidation {
            lan: set(&["lan0", "lan1"]),
            uplinks: set(&["wan0", "wan1"]),
            loose: set(&["lan1", "wan1"]),
        };
        let lan = ["lan0", "lan1", "strict0"].map(str::to_owned);
        let all_of_the_lan = parts(&validation, &lan[..2], MarkMask(DEFAULT_MASK)).proposal;
        assert_eq!(all_of_the_lan, "    meta nfproto ipv4 jump source_validation\n");
        let parts = parts(&validation, &lan, MarkMask(DEFAULT_MASK));
        let ask = |listed: &str| {
            format!("meta nfproto ipv4 iifname {{ {listed} }} jump source_validation\n")
        };
        let all = ask(r#""lan0", "lan1", "wan0", "wan1""#);
        let chains = format!(
            r#"  chain source_validation {{
    fib saddr type local counter drop
    meta nfproto ipv4 iifname {{ "lan1", "wan1" }} fib saddr oif missing counter drop
  }}
  chain input {{
    type filter hook input priority mangle; policy accept;
    meta mark & 0x7f000000 != 0x40000000 {all}  }}
"#
        );
        assert_eq!(parts.chains, chains);
        let copies = "meta mark set meta mark | 0x40000000 accept\n    ";
        assert!(parts.unmarked.ends_with(&format!("{copies}{all}")), "{}", parts.unmarked);
        assert_eq!(parts.proposal, format!("    {}", ask(r#""lan0", "lan1""#)));
        let missing = "fib saddr oif missing counter drop";
        let loose = format!("    meta nfproto ipv4 iifname {{ \"wan1\" }} {missing}\n");
        assert_eq!(parts.anti_spoofing, loose);
    }
}
